// The fiber machine (kernels/kernel_table.hpp): small blocks, of lanes that run in ascending or descending order. For
// the files that instantiate it: fiber_machine.cpp (fp32), fiber_machine_tensor.cpp, fiber_machine_continuous.cpp and
// fiber_machine_landers.cpp.
#pragma once

#include <vector>

#include "kernels/kernel_table.hpp"
#include "kernels/machine/fiber_block.hpp"
#include "sims/cartpole.hpp"

namespace perilune::test {

template <LaneOrder Order>
struct FiberLauncher {
  static constexpr bool kTensorCores = true;
  // Updates on tensor cores are for four warps, as on a GPU; rollouts for two, so that warps meet as well.
  template <Precision P>
  static constexpr int kUpdateTile = P == Precision::kFp32 ? 32 : 128;

  template <class K, Precision P>
  static constexpr int lanes() {
    if (K::kGrid == Grid::kTiles) return kUpdateTile<P>;
    return K::kGrid == Grid::kEnvironments && P != Precision::kFp32 ? 64 : 32;
  }
  template <class K, Precision P, int Teams>
  using Block = FiberBlock<lanes<K, P>(), P, Teams>;

  /// Uneven environments are begun by few lanes of a block, and stepped in four rounds.
  template <class K, Precision P>
  static int blocks(int work, const Queue&) {
    int of = lanes<K, P>();
    if constexpr (requires { typename K::Environment; }) {
      if constexpr (UnevenEnv<typename K::Environment>) of = K::kGrid == Grid::kSimulation ? 4 * of : 5;
    }
    return divide_up(work, of);
  }
  static int row_blocks(int rows, int) { return rows < 3 ? rows : 3; }
  /// Not a multiple of the parts that lanes split them into, and more than small minibatches have samples.
  static int moment_chunks(int) { return 11; }
  template <class K, Precision P>
  static int max_partials() {
    return 4;
  }
  template <Precision P>
  static int team_blocks() {
    return 2;
  }

  template <class K, Precision P, int Teams, class Args>
  static void launch(const Args& args, int blocks, std::size_t storage_floats, Queue&) {
    launch_fibers<K, lanes<K, P>(), P, Teams>(args, blocks, storage_floats, Order);
  }
  static constexpr std::size_t storage_bytes(std::size_t floats) { return floats * sizeof(float); }
  static float read(const float* value, Queue&) { return *value; }
  static bool skips(const Control*, Losses) { return false; }  // as on a GPU: kernels must see it themselves
  static int samples(const Control*, int most) { return most; }
};

/// What trains in another precision than fp32, and does not evaluate.
template <class Launcher, Env E, int Width, Precision P>
Kernels tensor_kernels() {
  Kernels kernels = environment_kernels<Launcher, E>();
  set_training<Launcher, E, Width, P>(kernels);
  return kernels;
}

/// make(launcher), for the launcher of this order.
template <class F>
auto in_order(LaneOrder order, F&& make) {
  return order == LaneOrder::kForward ? make(FiberLauncher<LaneOrder::kForward>{})
                                      : make(FiberLauncher<LaneOrder::kReverse>{});
}

/// Widths 16, 32 and 64 in tf32 and bf16; they do not evaluate.
std::vector<Kernels> tensor_fiber_kernels(LaneOrder order);
/// The test environment with continuous actions, at width 32 in every precision.
std::vector<Kernels> continuous_fiber_kernels(LaneOrder order);
/// The landers and the walker, without networks.
std::vector<Kernels> box2d_fiber_simulators(LaneOrder order);

}  // namespace perilune::test
