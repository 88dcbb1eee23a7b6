// One launch of a kernel on a machine, which a Launcher stands for (kernel_table.hpp says what it has).
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

constexpr int divide_up(int x, int by) { return (x + by - 1) / by; }

/// Floats of block storage that kernel K asks for; `depth`: hidden layers, where it has networks.
template <class Launcher, class K, Precision P, int Teams = 1, class... Depth>
constexpr std::size_t storage_floats(Depth... depth) {
  using B = typename Launcher::template Block<K, P, Teams>;
  if constexpr (requires { K::template storage_floats<B>(depth...); }) {
    return static_cast<std::size_t>(K::template storage_floats<B>(depth...));
  } else {
    return 0;
  }
}

/// Bytes of block storage that a launch of kernel K takes.
template <class Launcher, class K, Precision P = Precision::kFp32>
constexpr std::size_t storage_bytes(int depth) {
  return Launcher::storage_bytes(storage_floats<Launcher, K, P>(depth));
}

template <class Launcher, class K, Precision P = Precision::kFp32, int Teams = 1, class Args, class... Depth>
void launch_blocks(const Args& args, int blocks, Queue& queue, Depth... depth) {
  Launcher::template launch<K, P, Teams>(args, blocks, storage_floats<Launcher, K, P, Teams>(depth...), queue);
}

/// In as many blocks as so much work takes (kernel_table.hpp).
template <class Launcher, class K, class Args, class... Depth>
void launch(const Args& args, int work, Queue& queue, Depth... depth) {
  const int blocks = Launcher::template blocks<K, Precision::kFp32>(work, queue);
  launch_blocks<Launcher, K>(args, blocks, queue, depth...);
}

/// Blocks of a kernel whose lanes are split into columns, for n of what a column is.
template <class Launcher, class K>
constexpr std::int32_t column_blocks(std::int32_t n) {
  return divide_up(n, Launcher::template Block<K, Precision::kFp32, 1>::kColumns);
}

}  // namespace perilune::inline PERILUNE_LEVEL
