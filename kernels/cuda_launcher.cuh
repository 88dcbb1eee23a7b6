// The CUDA machine (kernel_table.hpp): its blocks' lanes, and how many blocks there are. Included by the translation
// units that CMake makes of kernels/environments.def, one for each environment and precision, and by cuda.cu, which has
// what knows no environment.
#pragma once

#include <algorithm>

#include "kernels/kernel_list.hpp"
#include "kernels/machine/cuda_block.cuh"

#include "kernels/kernel_table.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// `per_processor` blocks for each multiprocessor of the current device.
int device_blocks(int per_processor);

struct CudaLauncher {
  static constexpr bool kTensorCores = true;
  // 64 lanes: the tiles of a 64-wide, two-layer fp32 network then take 36 KB of shared memory, so that several blocks
  // share a multiprocessor, and 64-wide three-layer networks fit the 64 KB of sm_75.
  static constexpr int kTileLanes = 64;
  // Tensor-core updates take four warps, each of which then has a quarter of a weight gradient in its registers.
  // Rollouts need no more than whole warps, and few environments then still spread over many multiprocessors.
  template <Precision P>
  static constexpr int kUpdateTile = P == Precision::kFp32 ? kTileLanes : 128;

  template <class K, Precision P>
  static constexpr int lanes() {
    switch (K::kGrid) {
      case Grid::kSteps:
      case Grid::kChecks:
        return is_uneven<K>() ? kWarpLanes : kTileLanes;
      case Grid::kSimulation:
        return is_uneven<K>() ? kWarpLanes : 128;
      case Grid::kEnvironments:
      case Grid::kSamples:
      case Grid::kLanes:
        return kTileLanes;
      case Grid::kTiles:
        return kUpdateTile<P>;
      case Grid::kScan:
      case Grid::kColumns:
      case Grid::kElements:
      case Grid::kRows:
      case Grid::kOneBlock:
        break;
    }
    return 256;
  }
  template <class K, Precision P, int Teams>
  using Block = CudaBlock<lanes<K, P>(), P, Teams>;

  template <class K, Precision P>
  static int blocks(int work, const Queue&) {
    if constexpr (K::kGrid == Grid::kSimulation) {
      return simulate_blocks<K>(work);
    } else if constexpr (requires { typename K::Environment; }) {
      return environment_blocks<K, P>(work);
    } else {
      return divide_up(work, lanes<K, P>());
    }
  }
  static int row_blocks(int rows, int) { return rows; }
  /// As many as leave each lane what it gathers at a time, but no more than 64: four epochs of four minibatches are
  /// then 1024 blocks, enough for 132 multiprocessors that hold four or five of them each, and the last block has few
  /// to combine.
  static int moment_chunks(int minibatch_size) {
    using B = Block<AdvantageMoments, Precision::kFp32, 1>;
    return std::min(64, divide_up(minibatch_size, B::kLanes * AdvantageMoments::kAhead<B>));
  }

  /// Two networks' blocks fill the machine once, as each block more would stage its weights again.
  template <class K, Precision P>
  static int max_partials() {
    return device_blocks(P == Precision::kFp32 ? 4 : register_budget<K, P>() / kUpdateTile<P>) / 2;
  }
  /// Those that a multiprocessor has registers for. While all run at once both networks' chains of dependent multiplies
  /// side by side beat one after the other; with more blocks these fill each other's gaps.
  template <Precision P>
  static int team_blocks() {
    return device_blocks(P == Precision::kBf16 ? 3 : 2);
  }

  template <class K, Precision P, int Teams, class Args>
  static void launch(const Args& args, int blocks, std::size_t storage_floats, Queue& queue) {
    launch_cuda<K, lanes<K, P>(), P, Teams>(args, blocks, storage_bytes(storage_floats), queue);
  }
  static constexpr std::size_t storage_bytes(std::size_t floats) { return floats * sizeof(float); }
  static float read(const float* value, Queue& queue) {
    const auto stream = static_cast<cudaStream_t>(queue.stream);
    float result = 0.0f;
    check_cuda(cudaMemcpyAsync(&result, value, sizeof result, cudaMemcpyDeviceToHost, stream), "reading a result");
    check_cuda(cudaStreamSynchronize(stream), "running kernels");
    queue.after_kernel = false;
    return result;
  }
  static bool skips(const Control*, Losses) { return false; }
  static int samples(const Control*, int most) { return most; }

 private:
  // Where steps are uneven, blocks are warps, so that none waits for another.
  template <class K>
  static constexpr bool is_uneven() {
    if constexpr (requires { typename K::Environment; }) {
      return UnevenEnv<typename K::Environment>;
    } else {
      return false;
    }
  }

  /// Of uneven environments a warp takes few while schedulers have no other work: alone it is slow because each
  /// instruction waits for the one before, however many of its lanes carry it out, and with few lanes it has fewer to
  /// carry out: for a step of 32 landers with random actions 124 k with the exact solver and 61 k with the fast one, of
  /// 8 landers 68 k and 21 k, of one 43 k and 7 k. So they are spread over kSpreadThreads of each multiprocessor: two
  /// warps for each of its schedulers.
  template <class K, Precision P>
  static int environment_blocks(int n) {
    constexpr int kSpreadThreads = 256;
    const int full = divide_up(n, lanes<K, P>());
    if constexpr (is_uneven<K>()) {
      return std::max(full, std::min(n, device_blocks(kSpreadThreads / lanes<K, P>())));
    } else {
      return full;
    }
  }

  /// Blocks take more environments than lanes once they have all of a multiprocessor's registers.
  template <class K>
  static int simulate_blocks(int n) {
    constexpr Precision kFp32 = Precision::kFp32;
    if constexpr (is_uneven<K>()) {
      constexpr int kLanes = lanes<K, kFp32>(), kMost = Rounds<Block<K, kFp32, 1>>::kMost;
      const int rounds = divide_up(n, device_blocks(kRegisterBudget<kFp32> / kLanes) * kLanes);
      if (rounds > 1) return divide_up(n, kLanes * std::min(rounds, kMost));
    }
    return environment_blocks<K, kFp32>(n);
  }
};

/// Adds E's kernels in fp32, and for networks of any size.
template <class E, int... Widths>
void add_kernels(KernelList& list) {
  (list.add(fused_kernels<CudaLauncher, E, Widths>()), ...);
  list.add_layerwise(layerwise_kernels<CudaLauncher, E>());
}

/// Makes those of E in another precision of its kernels in fp32, one for each width.
template <class E, Precision P, int... Widths>
void set_precision(Kernels* kernels) {
  (set_training<CudaLauncher, E, Widths, P>(*kernels++), ...);
}

}  // namespace perilune::inline PERILUNE_LEVEL
