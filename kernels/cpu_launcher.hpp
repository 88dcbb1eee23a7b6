// The CPU machine (kernel_table.hpp): its blocks' lanes, and how many blocks there are. Included by the translation
// units that CMake makes of kernels/environments.def, one for each environment and instruction-set level, and by
// cpu.cpp, which has what knows no environment.
#pragma once

#include "kernels/machine/dense_cpu.hpp"
#include "kernels/machine/mlp_bf16_cpu.hpp"

#include "kernels/kernel_list.hpp"
#include "kernels/kernel_table.hpp"

namespace perilune::inline PERILUNE_LEVEL {

struct CpuLauncher {
  static constexpr bool kTensorCores = false;
  // 96 = 6 packs of 16: the register block of the matrix verbs (dense_cpu.hpp).
  static constexpr int kTileLanes = 96;

  // Element-wise kernels take more lanes, so that a block is worth handing to another thread.
  template <class K>
  static constexpr int lanes() {
    switch (K::kGrid) {
      case Grid::kSteps:
        return 4096;
      case Grid::kChecks:
        return 32768;
      case Grid::kScan:
      case Grid::kOneBlock:
        return 64;
      case Grid::kColumns:
      case Grid::kElements:
      case Grid::kRows:
        return 1024;
      case Grid::kSimulation:
      case Grid::kEnvironments:
      case Grid::kSamples:
      case Grid::kLanes:
      case Grid::kTiles:
        break;
    }
    return kTileLanes;
  }
  template <class K, Precision P, int Teams>
  using Block = CpuBlock<lanes<K>(), P>;

  template <class K, Precision P>
  static int blocks(int work, const Queue& queue) {
    if constexpr (K::kGrid == Grid::kSteps) {
      return step_blocks<typename K::Environment>(work, queue);
    } else if constexpr (K::kGrid == Grid::kChecks || K::kGrid == Grid::kElements) {
      return divide_up(work, lanes<K>());
    } else {
      // One tile's worth of rows is not handed to another thread.
      return K::kGrid == Grid::kSamples && work <= kTileLanes ? 1 : lane_blocks(work, queue);
    }
  }
  /// Each worth the price of handing it to a thread, and enough of them for any number of cores.
  static int row_blocks(int rows, int columns) {
    constexpr std::int64_t kLeast = 8192;
    constexpr int kMost = 64;
    const std::int64_t worth = 1 + std::int64_t{rows} * columns / kLeast;
    const int most = rows < kMost ? rows : kMost;
    return worth < most ? static_cast<int>(worth) : most;
  }
  static int moment_chunks(int) { return 8; }

  template <Precision P>
  static constexpr int kUpdateTile = kTileLanes;
  /// Enough blocks for sixteen cores; each costs a pass over its partial gradient.
  template <class K, Precision P>
  static int max_partials() {
    return 16;
  }

  template <class K, Precision P, int Teams, class Args>
  static void launch(const Args& args, int blocks, std::size_t, Queue& queue) {
    launch_cpu<K, Block<K, P, Teams>>(args, blocks, queue);
  }
  static constexpr std::size_t storage_bytes(std::size_t floats) {
    return (CpuBlock<kTileLanes>::kTransposedFloats + floats) * sizeof(float);
  }
  static float read(const float* value, Queue&) { return *value; }
  static bool skips(const Control* control, Losses losses) { return skipped(*control, losses); }
  static int samples(const Control* control, int) { return static_cast<int>(control->samples); }

 private:
  /// Of kernels whose lanes are independent: results do not depend on the number, so it follows the threads.
  static int lane_blocks(int lanes, const Queue& queue) {
    const int packs = divide_up(lanes, kPackLanes), threads = queue.pool->threads();
    const int needed = divide_up(packs, kTileLanes / kPackLanes);
    const int even = divide_up(needed, threads) * threads;
    return even < packs ? even : packs;
  }

  /// Of one step of n environments: as many as are worth handing to a thread, which is some microseconds of work; how
  /// much that is, is taken from the size of a state.
  template <class E>
  static int step_blocks(int n, const Queue& queue) {
    constexpr int kWorth = 4096 / E::template State<float>::kFields;
    const int worth = divide_up(n, kWorth > kPackLanes ? kWorth : kPackLanes);
    const int fitting = divide_up(n, lanes<StepEnvironments<E>>());
    const int blocks = worth < 4 * queue.pool->threads() ? worth : 4 * queue.pool->threads();
    return blocks > fitting ? blocks : fitting;
  }
};

/// Adds E's kernels: of each width in fp32, and in bf16 where this level has such networks.
template <class E, int... Widths>
void add_kernels(KernelList& list) {
  const auto add = [&]<int Width>() {
    list.add(fused_kernels<CpuLauncher, E, Width>());
    if constexpr (has_bf16_networks(Width)) list.add(fused_kernels<CpuLauncher, E, Width, Precision::kBf16>());
  };
  (add.template operator()<Widths>(), ...);
  list.add_layerwise(layerwise_kernels<CpuLauncher, E>());
}

}  // namespace perilune::inline PERILUNE_LEVEL
