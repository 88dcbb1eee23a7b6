// The vocabulary a kernel body may use, whatever the machine.
//
// A Block is a group of kLanes lanes with shared storage. A body is a function template over it, compiled for
//   CudaBlock   a thread block; a lane is a thread                           (cuda_block.cuh)
//   CpuBlock    one core; kPackLanes lanes at a time in a SIMD register      (cpu_block.hpp)
//   FiberBlock  tests: a lane is a fiber that runs until the next collective (fiber_block.hpp)
//
// Members every Block has:
//   Real, Lane; kLanes; kStride (floats from one feature of a tile to the next)
//   kPrecision                    what its networks multiply in (network.hpp); all else is the same in every precision
//   kThreads                      whether a lane is a thread, which branches for itself while those of its warp wait
//   kTeams                        1, or 2: another team() of as many threads takes part in nothing but collectives, so
//   that it
//                                 runs a network beside the first one's
//   kUnit                         lanes are dealt to blocks in multiples of this
//   index(), count()              this block's place in the grid, and the grid's size
//   activate(n)                   lanes 0..n-1 are in use from here on (n <= kLanes; uniform)
//   active(lane) -> Mask<Real>    is this lane in use
//   numbers(lane) -> UInt<Real>   the lane's number, 0..kLanes-1
//   lanes(f)                      calls f(lane) for every lane (CPU: for every pack that has an active lane)
//   sync()                        collective: all lanes' writes to storage are visible to all lanes after it
//   any(PerLane<Mask>)            collective: is it true in some active lane; the same answer in every lane
//   sum(PerLane<Real>)            collective: sum over active lanes in an order fixed by kLanes; valid in every lane
//   sums(PerLane<Real>[N])        collective: the same of up to kMaxSums values at once, which on a GPU meet at one
//   barrier last_of_grid(ticket)          collective: true in the last block of the grid to come here, for whom all
//   writes of the
//                                 others are visible; ticket is 0 before the launch, and again after it
//   kSplit, column(lane), part(lane)  several lanes may share one element: lane numbers are split into kColumns columns
//                                 and kSplit parts (CPU: one part, as there are no idle lanes to employ)
//   one(f)                        collective-free: exactly one lane calls f() (CPU: called once)
//   load, store                   lane l's element of an array; inactive lanes read 0 and write nothing
//   load_repeated, repeated_numbers   as load and numbers, but inactive lanes have what the last active one has: what
//   steps an
//                                 environment there then does the same once more, and never waits for another
//   gather, gather_rows, scatter_rows   by index, one element or a row of a compile-time count; inactive lanes read
//   element 0
//                                 and write nothing. Rows of a multiple of four floats are aligned to 16 bytes
//   prefetch_rows                 a hint before gather_rows; does nothing on a GPU, which copies ahead or has other
//   lanes to run kCopiesAhead                  whether it has copy_ahead<Count>(to, from), which starts to copy 4 or 1
//   floats of an array to
//                                 block storage, both aligned to that size, and wait_for_copies(), after which a lane
//                                 may read what it copied itself (prefetched_rows.hpp)
//   load_choice, load_row, store_row   lane l's element or row of a caller's array, which has no padding; inactive
//   lanes
//                                 read what the last active one does and write nothing. A choice that is negative or
//                                 needs more than 32 bits reads as the largest UInt
//   store_where(to, lane, x, mask), store_row(to, lane, x, mask)   the same for lanes where mask is true
//   each(lane, mask, f)           calls f(number) for each active lane where mask is true
//   lower(x, value), raise(flag)  collective-free: x <- min(x, value), flag <- 1, whoever else does
//   fill_zero(to, n)              collective: n floats of an array (n, to: multiples of kTensorAlignment)
//   storage()                     the block's storage, 64-byte aligned; its size is chosen at launch
// and, in fp32 blocks, the collective matrix verbs, found by argument lookup (dense_cpu.hpp, dense_simt.hpp); rows are
// features, columns are samples, weights are [out, in] row-major:
//   dense<In, Out>(block, weight, bias, x, y, activation)            y = activation(W x + b)
//   dense_backward_weights<In, Out>(block, x, dy, dweight, dbias)    dW += dy x^T, db += sum(dy)
//   dense_backward_input<In, Out>(block, weight, dy, x, activation)  x <- (W^T dy) * activation'(x), in place
// A verb needs a sync() before it (its inputs are other lanes' writes) and one after it before its output is read.
// Inactive lanes must hold dy = 0 and finite x in dense_backward_weights.
// Blocks for tensor cores have sync_warp() and the warp collectives mma() and load_matrices() instead
// (tensor_operands.hpp, network_tensor.hpp).
#pragma once

#include <cstddef>

#include "kernels/api.hpp"
#include "kernels/machine/grid.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A value that each lane keeps across lanes() calls and collectives: value[lane]. Registers on a GPU, an array of
/// packs on the CPU.
template <class B, class T>
struct PerLane {
  T value[B::kOwned];
  PERILUNE_DEVICE T& operator[](typename B::Lane lane) { return value[B::owned(lane)]; }
  PERILUNE_DEVICE const T& operator[](typename B::Lane lane) const { return value[B::owned(lane)]; }
};

/// A matrix of features by lanes in block storage.
template <class B>
struct Tile {
  float* data;
  using Real = typename B::Real;
  PERILUNE_DEVICE Real load(int feature, typename B::Lane lane) const {
    return B::load_lane(data + feature * B::kStride, lane);
  }
  PERILUNE_DEVICE void store(int feature, typename B::Lane lane, Real x) const {
    B::store_lane(data + feature * B::kStride, lane, x);
  }
};

/// What a block sums at once.
inline constexpr int kMaxSums = 8;
template <int N, class Real = float>
struct Sums {
  Real value[N];
  PERILUNE_DEVICE Real& operator[](int k) { return value[k]; }
  PERILUNE_DEVICE const Real& operator[](int k) const { return value[k]; }
};

/// Carves tiles and other arrays out of the block's storage, in call order.
template <class B>
struct Carver {
  float* next;
  /// count: a multiple of 4, so that all that is carved stays aligned to 16 bytes.
  PERILUNE_DEVICE float* floats(int count) {
    float* result = next;
    next += count;
    return result;
  }
  PERILUNE_DEVICE Tile<B> tile(int features) { return {floats(features * B::kStride)}; }
};

PERILUNE_HD constexpr int round_up(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

/// A block's share of n lanes' worth of work: whole units of kUnit lanes, divided as evenly as they go.
struct BlockRange {
  int first;
  int count;
};
template <int Unit, class B>
PERILUNE_DEVICE BlockRange block_share(const B& block, int n) {
  const std::int64_t units = (n + Unit - 1) / Unit;
  const int first = static_cast<int>(units * block.index() / block.count()) * Unit;
  const int last = static_cast<int>(units * (block.index() + 1) / block.count()) * Unit;
  return {first, (last < n ? last : n) - first};
}
template <class B>
PERILUNE_DEVICE BlockRange block_share(const B& block, int n) {
  return block_share<B::kUnit>(block, n);
}

/// N sums of n terms each, in an order fixed by kLanes: f(number of the block's first, lane, terms) sets a lane's N
/// terms, to 0 if it is inactive. Collective; valid in every lane, which are all active after it.
template <int N, class B, class F>
PERILUNE_DEVICE Sums<N> sums_over(B& block, int n, F&& f) {
  using Real = typename B::Real;
  using Lane = typename B::Lane;
  PerLane<B, Real> total[N];
  const int used = n < B::kLanes ? n : B::kLanes;  // a CPU block is mostly wider than the arrays summed here
  block.activate(used);
  block.lanes([&](Lane lane) {
    PERILUNE_UNROLL
    for (int k = 0; k < N; ++k) total[k][lane] = Real(0.0f);
  });
  for (int first = 0; first < n; first += B::kLanes) {
    block.activate(n - first < B::kLanes ? n - first : B::kLanes);
    block.lanes([&](Lane lane) {
      Real terms[N];
      f(first, lane, terms);
      PERILUNE_UNROLL
      for (int k = 0; k < N; ++k) total[k][lane] = total[k][lane] + terms[k];
    });
  }
  block.activate(used);
  const Sums<N> sums = block.sums(total);
  block.activate(B::kLanes);
  return sums;
}

/// The sums of N arrays of n[k] floats, as sums_over.
template <int N, class B>
PERILUNE_DEVICE Sums<N> sum_arrays(B& block, const float* const (&from)[N], const int (&n)[N]) {
  using Real = typename B::Real;
  using Lane = typename B::Lane;
  PerLane<B, Real> total[N];
  int longest = 0;
  PERILUNE_UNROLL
  for (int k = 0; k < N; ++k) longest = n[k] > longest ? n[k] : longest;
  const int used = longest < B::kLanes ? longest : B::kLanes;
  block.activate(used);
  block.lanes([&](Lane lane) {
    PERILUNE_UNROLL
    for (int k = 0; k < N; ++k) total[k][lane] = Real(0.0f);
  });
  for (int first = 0; first < longest; first += B::kLanes) {
    PERILUNE_UNROLL
    for (int k = 0; k < N; ++k) {
      const int rest = n[k] > first ? n[k] - first : 0;
      block.activate(rest < B::kLanes ? rest : B::kLanes);
      block.lanes([&](Lane lane) { total[k][lane] = total[k][lane] + block.load(from[k] + first, lane); });
    }
  }
  block.activate(used);
  const Sums<N> sums = block.sums(total);
  block.activate(B::kLanes);
  return sums;
}

}  // namespace perilune::inline PERILUNE_LEVEL
