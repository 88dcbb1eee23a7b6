// The CPU machine's launchers of one environment, for the translation units that CMake makes of
// kernels/environments.def: one for each environment and instruction-set level. cpu.cpp has what knows no environment.
#pragma once

#include "kernels/machine/dense_cpu.hpp"
#include "kernels/machine/mlp_bf16_cpu.hpp"

#include "kernels/act.hpp"
#include "kernels/evaluate.hpp"
#include "kernels/kernel_list.hpp"
#include "kernels/layerwise_launch.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/rollout.hpp"
#include "kernels/simulate.hpp"
#include "kernels/step.hpp"
#include "kernels/update.hpp"

namespace perilune::inline PERILUNE_LEVEL {

// 96 = 6 packs of 16: the register block of the matrix verbs (dense_cpu.hpp). Element-wise kernels take more lanes, so
// that a block is worth handing to another thread.
inline constexpr int kTileLanes = 96;
inline constexpr int kScanLanes = 64;
inline constexpr int kElementLanes = 1024;
inline constexpr int kStepLanes = 4096;
inline constexpr int kCheckLanes = 32768;
// Enough blocks for sixteen cores; each costs a pass over its partial gradient.
inline constexpr int kPartials = 16;

using TileBlock = CpuBlock<kTileLanes>;
template <Precision P>
using NetworkBlock = CpuBlock<kTileLanes, P>;
using ScanBlock = CpuBlock<kScanLanes>;
using ElementBlock = CpuBlock<kElementLanes>;
using StepBlock = CpuBlock<kStepLanes>;
using CheckBlock = CpuBlock<kCheckLanes>;

constexpr int divide_up(int x, int by) { return (x + by - 1) / by; }

/// Blocks for kernels whose lanes are independent: results do not depend on the number, so it follows the threads.
inline int lane_blocks(int lanes, const Queue& queue) {
  const int packs = divide_up(lanes, kPackLanes), threads = queue.pool->threads();
  const int needed = divide_up(packs, kTileLanes / kPackLanes);
  const int even = divide_up(needed, threads) * threads;
  return even < packs ? even : packs;
}

/// Blocks for one step of n environments: as many as are worth handing to a thread, which is some microseconds of work;
/// how much that is, is taken from the size of a state.
template <class E>
int step_blocks(int n, const Queue& queue) {
  constexpr int kWorth = 4096 / E::template State<float>::kFields;
  const int worth = divide_up(n, kWorth > kPackLanes ? kWorth : kPackLanes);
  const int fitting = divide_up(n, kStepLanes);
  const int blocks = worth < 4 * queue.pool->threads() ? worth : 4 * queue.pool->threads();
  return blocks > fitting ? blocks : fitting;
}

/// What instances of every width have.
template <class E>
constexpr Kernels make_environment() {
  Kernels kernels{};
  kernels.environment = E::kId;
  kernels.continuous = E::Action::kContinuous;
  kernels.field_names = E::kFieldNames.data();
  kernels.observation_dim = E::kObsDim;
  kernels.num_actions = E::Action::kCount;
  kernels.state_fields = E::template State<float>::kFields;
  kernels.record_floats = Record<E>::kFloats;
  kernels.update_tile = kTileLanes;
  kernels.max_partials = [](std::int32_t) { return kPartials; };
  kernels.reset = [](const ResetArgs& args, Queue& queue) {
    launch_cpu<Reset<E>, TileBlock>(args, lane_blocks(args.environments.count, queue), queue);
  };
  kernels.simulate = [](const SimulateArgs& args, Queue& queue) {
    launch_cpu<Simulate<E>, TileBlock>(args, lane_blocks(args.environments.count, queue), queue);
  };
  kernels.restart = [](const RestartArgs& args, Queue& queue) {
    launch_cpu<RestartEnvironments<E>, StepBlock>(args, step_blocks<E>(args.environments.count, queue), queue);
  };
  kernels.check_step = [](const StepArgs& args, Queue& queue) {
    launch_cpu<CheckStep<E>, CheckBlock>(args, divide_up(args.environments.count, kCheckLanes), queue);
  };
  kernels.step = [](const StepArgs& args, Queue& queue) {
    launch_cpu<StepEnvironments<E>, StepBlock>(args, step_blocks<E>(args.environments.count, queue), queue);
  };
  return kernels;
}

template <class E, int Width, Precision P = Precision::kFp32>
constexpr Kernels fused_kernels() {
  Kernels kernels = make_environment<E>();
  kernels.precision = P;
  kernels.width = Width;
  kernels.rollout = [](const RolloutArgs& args, Queue& queue) {
    launch_cpu<Rollout<E, Width>, NetworkBlock<P>>(args, lane_blocks(args.environments.count, queue), queue);
  };
  kernels.update = [](const UpdateArgs& args, Queue& queue) {
    const int networks = args.losses == Losses::kBoth ? 2 : 1;
    launch_cpu<Update<InterfaceOf<E>, Width>, NetworkBlock<P>>(args, networks * args.partials, queue);
  };
  kernels.evaluate = [](const EvaluateArgs& args, Queue& queue) {
    launch_cpu<Evaluate<E, Width>, TileBlock>(args, lane_blocks(args.episodes, queue), queue);
  };
  kernels.act = [](const ActArgs& args, Queue& queue) {
    // One tile's worth is not handed to another thread.
    const int blocks = args.count <= kTileLanes ? 1 : lane_blocks(args.count, queue);
    launch_cpu<Act<InterfaceOf<E>, Width>, TileBlock>(args, blocks, queue);
  };
  kernels.block_storage = [](int depth) -> std::size_t {
    int floats = Update<InterfaceOf<E>, Width>::template storage_floats<NetworkBlock<P>>(depth);
    for (const int other : {Rollout<E, Width>::template storage_floats<NetworkBlock<P>>(depth),
                            Evaluate<E, Width>::template storage_floats<TileBlock>(depth)}) {
      if (floats < other) floats = other;
    }
    return static_cast<std::size_t>(TileBlock::kTransposedFloats + floats) * sizeof(float);
  };
  return kernels;
}

template <class K, class Args>
void launch_single(const Args& args, Queue& queue) {
  launch_cpu<K, ScanBlock>(args, 1, queue);
}

/// See layerwise_launch.hpp.
struct CpuLauncher {
  template <class K, class Args>
  static void lanes(const Args& args, int lanes, Queue& queue) {
    launch_cpu<K, TileBlock>(args, lane_blocks(lanes, queue), queue);
  }
  template <class K, class Args>
  static void rows(const Args& args, int rows, Queue& queue) {
    // Each worth the price of handing it to a thread, and enough of them for any number of cores.
    constexpr std::int64_t kLeast = 8192;
    constexpr int kMost = 64;
    const std::int64_t worth = 1 + std::int64_t{rows} * args.columns / kLeast;
    const int most = rows < kMost ? rows : kMost;
    launch_cpu<K, ElementBlock>(args, worth < most ? static_cast<int>(worth) : most, queue);
  }
  template <class K, class Args>
  static void single(const Args& args, Queue& queue) {
    launch_single<K>(args, queue);
  }
  static float read(const float* value, Queue&) { return *value; }
  static bool skips(const Control* control, Losses losses) { return skipped(*control, losses); }
};

/// Adds E's instances: of each width in fp32, and in bf16 where this level has such networks.
template <class E, int... Widths>
void add_kernels(KernelList& table) {
  const auto add = [&]<int Width>() {
    table.add(fused_kernels<E, Width>());
    if constexpr (has_bf16_networks(Width)) table.add(fused_kernels<E, Width, Precision::kBf16>());
  };
  (add.template operator()<Widths>(), ...);
  table.add_layerwise(layerwise_kernels<E, CpuLauncher>(make_environment<E>()));
}

}  // namespace perilune::inline PERILUNE_LEVEL
