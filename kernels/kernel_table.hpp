// The table of kernels, filled once for every machine: each pointer of Kernels and Machine (api.hpp) is given the
// launch of the body that it names.
//
// A machine is a Launcher, a type with these static members:
//   kTensorCores                      whether networks in tf32 and bf16 run on tensor cores
//   Block<K, P, Teams>                the block that runs kernel K; its lanes follow from K::kGrid (machine/grid.hpp)
//   blocks<K, P>(work, queue)         how many of them so much work takes: lanes, whatever they are to K. Not asked for
//                                     Grid::kTiles, kRows, kScan and kColumns, where it follows from something else
//   row_blocks(rows, columns)         the same of Grid::kRows
//   moment_chunks(minibatch size)     blocks of AdvantageMoments for each minibatch
//   kUpdateTile<P>                    samples that a block of an update takes at a time
//   max_partials<K, P>()              the most blocks of update K for each network
//   team_blocks<P>()                  up to how many blocks a rollout has a team of threads for each network; 0: never
//   launch<K, P, Teams>(args, blocks, storage_floats, queue)
//   storage_bytes(floats)             of a block's storage, given what its kernel asks for
//   read(pointer, queue)              the float there once everything launched has run; not while a graph is captured
//   skips(control, losses)            whether an update is known now to be skipped; false where that shows only later
//   samples(control, most)            of a batch of whole episodes, where they are known now; else the most there may
//   be
// All launches go through launch_blocks below: one place for whoever gives a launch several arguments at once.
#pragma once

#include "kernels/act.hpp"
#include "kernels/evaluate.hpp"
#include "kernels/gae.hpp"
#include "kernels/launch.hpp"
#include "kernels/layerwise_launch.hpp"
#include "kernels/normalization.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/rollout.hpp"
#include "kernels/simulate.hpp"
#include "kernels/statistics.hpp"
#include "kernels/step.hpp"
#include "kernels/update.hpp"

namespace perilune::inline PERILUNE_LEVEL {

// ---- of an environment ----

template <Env E>
constexpr Kernels describe() {
  Kernels kernels{};
  kernels.environment = &kInfoOf<E>;
  kernels.record_floats = Record<E>::kFloats;
  kernels.policy_outputs = kPolicyOutputs<E>;
  return kernels;
}

template <class Launcher, Env E>
constexpr void set_simulator(Kernels& kernels) {
  kernels.reset = [](const ResetArgs& args, Queue& queue) {
    launch<Launcher, Reset<E>>(args, args.environments.count, queue);
  };
  kernels.simulate = [](const SimulateArgs& args, Queue& queue) {
    launch<Launcher, Simulate<E>>(args, args.environments.count, queue);
  };
}

/// What a caller steps environments with.
template <class Launcher, Env E>
constexpr void set_steps(Kernels& kernels) {
  kernels.restart = [](const RestartArgs& args, Queue& queue) {
    launch<Launcher, RestartEnvironments<E>>(args, args.environments.count, queue);
  };
  kernels.check_step = [](const StepArgs& args, Queue& queue) {
    launch<Launcher, CheckStep<E>>(args, args.environments.count, queue);
  };
  kernels.step = [](const StepArgs& args, Queue& queue) {
    launch<Launcher, StepEnvironments<E>>(args, args.environments.count, queue);
  };
}

/// All that needs no network.
template <class Launcher, Env E>
constexpr Kernels environment_kernels() {
  Kernels kernels = describe<E>();
  set_simulator<Launcher, E>(kernels);
  set_steps<Launcher, E>(kernels);
  return kernels;
}

// ---- of a fused network ----

/// Always in fp32.
template <class Launcher, Env E, int Width>
constexpr void set_inference(Kernels& kernels) {
  kernels.evaluate = [](const EvaluateArgs& args, Queue& queue) {
    launch<Launcher, Evaluate<E, Width>>(args, args.episodes, queue, args.actor.depth);
  };
  kernels.act = [](const ActArgs& args, Queue& queue) {
    launch<Launcher, Act<InterfaceOf<E>, Width>>(args, args.count, queue, args.actor.depth);
  };
}

inline int depth_of(const Network& actor, const Network& critic) {
  return actor.depth > critic.depth ? actor.depth : critic.depth;
}

/// What depends on the precision; all else is the same in each of them.
template <class Launcher, Env E, int Width, Precision P>
constexpr void set_training(Kernels& kernels) {
  kernels.width = Width;
  kernels.precision = P;
  kernels.rollout = [](const RolloutArgs& args, Queue& queue) {
    using K = Rollout<E, Width>;
    const int depth = depth_of(args.actor, args.critic);
    const int blocks = Launcher::template blocks<K, P>(args.environments.count, queue);
    if constexpr (Launcher::kTensorCores && K::template kHasTeams<P>) {
      if (blocks <= Launcher::template team_blocks<P>())
        return launch_blocks<Launcher, K, P, 2>(args, blocks, queue, depth);
    }
    launch_blocks<Launcher, K, P>(args, blocks, queue, depth);
  };
  kernels.update = [](const UpdateArgs& args, Queue& queue) {
    const int networks = args.losses == Losses::kBoth ? 2 : 1, depth = depth_of(args.actor, args.critic);
    with_update<Launcher, InterfaceOf<E>, Width, P>(depth, [&](auto kernel) {
      launch_blocks<Launcher, decltype(kernel), P>(args, networks * args.partials, queue, depth);
    });
  };
  kernels.update_tile = Launcher::template kUpdateTile<P>;
  kernels.max_partials = [](std::int32_t depth) -> std::int32_t {
    return with_update<Launcher, InterfaceOf<E>, Width, P>(
        depth, [](auto kernel) { return Launcher::template max_partials<decltype(kernel), P>(); });
  };
  kernels.kernel_storage = [](int depth) -> KernelStorage {
    return {.rollout = storage_bytes<Launcher, Rollout<E, Width>, P>(depth),
            .update = storage_bytes<Launcher, Update<InterfaceOf<E>, Width>, P>(depth),
            .evaluate = storage_bytes<Launcher, Evaluate<E, Width>>(depth)};
  };
}

template <class Launcher, Env E, int Width, Precision P = Precision::kFp32>
constexpr Kernels fused_kernels() {
  Kernels kernels = environment_kernels<Launcher, E>();
  set_inference<Launcher, E, Width>(kernels);
  set_training<Launcher, E, Width, P>(kernels);
  return kernels;
}

// ---- of a network of any size ----

template <class Launcher, Env E>
constexpr Kernels layerwise_kernels() {
  using Layerwise = LayerwiseLaunch<Launcher, E>;
  Kernels kernels = environment_kernels<Launcher, E>();
  kernels.rollout = Layerwise::rollout;
  kernels.begin_episodes = Layerwise::begin_episodes;
  kernels.run_episodes = Layerwise::run_episodes;
  kernels.end_episodes = Layerwise::end_episodes;
  kernels.update = Layerwise::update;
  kernels.evaluate = Layerwise::evaluate;
  kernels.act = Layerwise::act;
  kernels.update_tile = 1;
  kernels.max_partials = [](std::int32_t) { return 1; };
  kernels.kernel_storage = [](int) -> KernelStorage { return {}; };
  kernels.rollout_workspace = Layerwise::rollout_floats;
  kernels.update_workspace = Layerwise::update_floats;
  kernels.evaluate_workspace = Layerwise::evaluate_floats;
  kernels.act_workspace = Layerwise::act_floats;
  return kernels;
}

// ---- of a machine ----

template <class Launcher>
constexpr Machine make_machine(const char* name, const KernelTable& table) {
  Machine machine{};
  machine.name = name;
  machine.table = table;
  machine.gae_blocks = column_blocks<Launcher, Gae>;
  machine.moment_chunks = [](std::int32_t minibatch_size) { return Launcher::moment_chunks(minibatch_size); };
  machine.reduce_blocks = column_blocks<Launcher, ReduceGradients>;
  machine.normalize_observations = [](const NormalizeObservationsArgs& args, Queue& queue) {
    launch_blocks<Launcher, NormalizeObservations>(args, column_blocks<Launcher, Gae>(args.count), queue);
  };
  machine.discount_rewards = [](const DiscountRewardsArgs& args, Queue& queue) {
    launch_blocks<Launcher, DiscountRewards>(args, column_blocks<Launcher, Gae>(args.count), queue);
  };
  machine.scale_rewards = [](const ScaleRewardsArgs& args, Queue& queue) {
    launch<Launcher, ScaleRewards>(args, args.batch_size, queue);
  };
  machine.gae = [](const GaeArgs& args, Queue& queue) {
    const int blocks = column_blocks<Launcher, Gae>(args.count);
    if (args.lengths != nullptr) return launch_blocks<Launcher, EpisodeGae>(args, blocks, queue);
    launch_blocks<Launcher, Gae>(args, blocks, queue);
  };
  machine.advantage_moments = [](const AdvantageMomentsArgs& args, Queue& queue) {
    const int chunks = Launcher::moment_chunks(args.sampling.minibatch_size);
    launch_blocks<Launcher, AdvantageMoments>(args, args.num_epochs * args.num_minibatches * chunks, queue);
  };
  machine.reduce_gradients = [](const ReduceGradientsArgs& args, Queue& queue) {
    launch_blocks<Launcher, ReduceGradients>(args, column_blocks<Launcher, ReduceGradients>(args.end - args.begin),
                                             queue);
  };
  machine.apply_gradients = [](const ApplyGradientsArgs& args, Queue& queue) {
    launch<Launcher, ApplyGradients>(args, args.end - args.begin, queue);
  };
  machine.begin_iteration = [](const BeginIterationArgs& args, Queue& queue) {
    launch_blocks<Launcher, BeginIteration>(args, 1, queue);
  };
  machine.end_iteration = [](const EndIterationArgs& args, Queue& queue) {
    launch_blocks<Launcher, EndIteration>(args, 1, queue);
  };
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
