// The launchers of one network on fibers, for the files that instantiate them: fiber_machine.cpp (fp32),
// fiber_machine_tensor.cpp and fiber_machine_continuous.cpp.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/act.hpp"
#include "kernels/evaluate.hpp"
#include "kernels/machine/fiber_block.hpp"
#include "kernels/rollout.hpp"
#include "kernels/simulate.hpp"
#include "kernels/step.hpp"
#include "kernels/update.hpp"
#include "sims/cartpole.hpp"

namespace perilune::test {

inline constexpr int kFiberLanes = 32;

/// Launches K over as many lanes as it is asked for.
template <class K, LaneOrder Order, int Lanes = kFiberLanes, Precision P = Precision::kFp32, class Args>
void launch(const Args& args, int blocks, int storage_floats = 0) {
  launch_fibers<K, Lanes, P>(args, blocks, static_cast<std::size_t>(storage_floats), Order);
}

constexpr int blocks_for(int lanes, int of = kFiberLanes) { return (lanes + of - 1) / of; }

inline int depth_of(const Network& actor, const Network& critic) { return std::max(actor.depth, critic.depth); }

/// What all instances of the environment have in common.
template <class E, LaneOrder Order>
Kernels make_environment() {
  Kernels kernels{};
  kernels.environment = E::kId;
  kernels.observation_dim = E::kObsDim;
  kernels.num_actions = E::Action::kCount;
  kernels.state_fields = E::template State<float>::kFields;
  kernels.record_floats = Record<E>::kFloats;
  kernels.reset = [](const ResetArgs& args, Queue&) {
    launch<Reset<E>, Order>(args, blocks_for(args.environments.count));
  };
  kernels.simulate = [](const SimulateArgs& args, Queue&) {
    launch<Simulate<E>, Order>(args, blocks_for(args.environments.count));
  };
  kernels.continuous = E::Action::kContinuous;
  kernels.field_names = E::kFieldNames.data();
  kernels.restart = [](const RestartArgs& args, Queue&) {
    launch<RestartEnvironments<E>, Order>(args, blocks_for(args.environments.count));
  };
  kernels.check_step = [](const StepArgs& args, Queue&) {
    launch<CheckStep<E>, Order>(args, blocks_for(args.environments.count));
  };
  kernels.step = [](const StepArgs& args, Queue&) {
    launch<StepEnvironments<E>, Order>(args, blocks_for(args.environments.count));
  };
  return kernels;
}

template <class E, int Width, LaneOrder Order, Precision P = Precision::kFp32>
Kernels fused_kernels() {
  // Updates on tensor cores are for four warps, as on a GPU; rollouts for two, so that warps meet as well.
  static constexpr int kUpdateLanes = P == Precision::kFp32 ? kFiberLanes : 128;
  static constexpr int kRolloutLanes = P == Precision::kFp32 ? kFiberLanes : 64;
  using UpdateBlock = FiberBlock<kUpdateLanes, P>;
  using RolloutBlock = FiberBlock<kRolloutLanes, P>;
  using EvaluateBlock = FiberBlock<kFiberLanes>;
  Kernels kernels = make_environment<E, Order>();
  kernels.precision = P;
  kernels.width = Width;
  kernels.update_tile = kUpdateLanes;
  kernels.max_partials = [](std::int32_t) { return 4; };
  kernels.rollout = [](const RolloutArgs& args, Queue&) {
    using K = Rollout<E, Width>;
    const int blocks = blocks_for(args.environments.count, kRolloutLanes);
    const int storage = K::template storage_floats<RolloutBlock>(depth_of(args.actor, args.critic));
    if constexpr (P != Precision::kFp32 && Width == 64) {
      // Few environments have a team for each network, as on a GPU.
      if (blocks <= 2) {
        launch_fibers<K, kRolloutLanes, P, 2>(args, blocks, static_cast<std::size_t>(storage), Order);
        return;
      }
    }
    launch<K, Order, kRolloutLanes, P>(args, blocks, storage);
  };
  kernels.update = [](const UpdateArgs& args, Queue&) {
    const int networks = args.losses == Losses::kBoth ? 2 : 1, depth = depth_of(args.actor, args.critic);
    with_update<InterfaceOf<E>, Width, P>(depth, [&](auto kernel) {
      using K = decltype(kernel);
      launch<K, Order, kUpdateLanes, P>(args, networks * args.partials, K::template storage_floats<UpdateBlock>(depth));
    });
  };
  if constexpr (P == Precision::kFp32) {
    kernels.evaluate = [](const EvaluateArgs& args, Queue&) {
      using K = Evaluate<E, Width>;
      launch<K, Order>(args, blocks_for(args.episodes), K::template storage_floats<EvaluateBlock>(args.actor.depth));
    };
    kernels.act = [](const ActArgs& args, Queue&) {
      using K = Act<InterfaceOf<E>, Width>;
      launch<K, Order>(args, blocks_for(args.count), K::template storage_floats<EvaluateBlock>(args.actor.depth));
    };
  }
  kernels.block_storage = [](int depth) -> std::size_t {
    return sizeof(float) *
           static_cast<std::size_t>(Update<InterfaceOf<E>, Width>::template storage_floats<UpdateBlock>(depth));
  };
  return kernels;
}

/// Widths 16, 32 and 64 in tf32 and bf16; they do not evaluate.
std::vector<Kernels> tensor_fiber_kernels(LaneOrder order);
/// The test environment with continuous actions, at width 32 in every precision.
std::vector<Kernels> continuous_fiber_kernels(LaneOrder order);
/// The landers, without networks.
std::vector<Kernels> lander_fiber_simulators(LaneOrder order);

}  // namespace perilune::test
