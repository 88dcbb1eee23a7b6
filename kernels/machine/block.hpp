// The vocabulary a kernel body may use, whatever the machine.
//
// A Block is a group of kLanes lanes with shared storage. A body is a function template over it, compiled for
//   CudaBlock   a thread block; a lane is a thread                           (cuda_block.cuh)
//   CpuBlock    one core; kPackLanes lanes at a time in a SIMD register      (cpu_block.hpp)
//   FiberBlock  tests: a lane is a fiber that runs until the next collective (fiber_block.hpp)
//
// What every Block has is said below, by the concept.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

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

/// A block's part of n lanes' worth of work: whole units of kUnit lanes, divided as evenly as they go.
struct BlockRange {
  int first;
  int count;

  /// The numbers of the lane's environments, or whatever lanes are, among all n. An inactive lane has that of the last
  /// active one (Block::repeated_numbers).
  template <class B>
  PERILUNE_DEVICE UInt<typename B::Real> numbers(const B& block, typename B::Lane lane) const {
    return block.repeated_numbers(lane) + UInt<typename B::Real>(static_cast<std::uint32_t>(first));
  }
};
template <int Unit, class B>
PERILUNE_DEVICE BlockRange block_range(const B& block, int n) {
  const std::int64_t units = (n + Unit - 1) / Unit;
  const int first = static_cast<int>(units * block.index() / block.count()) * Unit;
  const int last = static_cast<int>(units * (block.index() + 1) / block.count()) * Unit;
  return {first, (last < n ? last : n) - first};
}
template <class B>
PERILUNE_DEVICE BlockRange block_range(const B& block, int n) {
  return block_range<B::kUnit>(block, n);
}

/// Stands for a function that a block calls.
struct AnyFunction {
  template <class... T>
  PERILUNE_DEVICE void operator()(T&&...) const {}
};

// Collectives are called by all lanes, in the same order. Rows are of a compile-time count; those of a multiple of four
// floats are aligned to 16 bytes.
//
// fp32 blocks also have the collective matrix verbs, found by argument lookup (dense_cpu.hpp, dense_simt.hpp); rows are
// features, columns are samples, weights are [out, in] row-major:
//   dense<In, Out>(block, weight, bias, x, y, activation)            y = activation(W x + b)
//   dense_backward_weights<In, Out>(block, x, dy, dweight, dbias)    dW += dy x^T, db += sum(dy)
//   dense_backward_input<In, Out>(block, weight, dy, x, activation)  x <- (W^T dy) * activation'(x), in place
// A verb needs a sync() before it (its inputs are other lanes' writes) and one after it before its output is read.
// Inactive lanes must hold dy = 0 and finite x in dense_backward_weights. Blocks for tensor cores have sync_warp() and
// the warp collectives mma() and load_matrices() instead (tensor_operands.hpp, network_tensor.hpp).
// clang-format off
template <class B>
concept Block = requires(B& block, const B& view, typename B::Lane lane, typename B::Real x,
                         UInt<typename B::Real> index, Mask<typename B::Real> mask, PerLane<B, typename B::Real>& value,
                         PerLane<B, typename B::Real> (&values)[2], PerLane<B, Mask<typename B::Real>>& masks,
                         typename B::Real (&row)[4], float* floats, std::uint32_t* counts, std::uint8_t* flags,
                         std::uint64_t& lowest, std::uint32_t& ticket, const std::int32_t* choices) {
  { B::kLanes } -> std::convertible_to<int>;
  { B::kStride } -> std::convertible_to<int>;          // floats from one feature of a tile to the next
  { B::kPrecision } -> std::convertible_to<Precision>; // what its networks multiply in; all else is the same in each
  { B::kThreads } -> std::convertible_to<bool>;        // a lane is a thread, which branches for itself
  { B::kTeams } -> std::convertible_to<int>;           // 2: another team() of threads, for collectives alone
  { B::kUnit } -> std::convertible_to<int>;            // lanes are dealt to blocks in multiples of this
  { B::kOwned } -> std::convertible_to<int>;           // Reals that hold a value of all lanes, where the caller is
  { B::kCopiesAhead } -> std::convertible_to<bool>;    // whether it has copy_ahead (prefetched_rows.hpp)

  // The grid, and which lanes are in use.
  { view.index() } -> std::convertible_to<int>;        // this block's place in the grid
  { view.count() } -> std::convertible_to<int>;        // and the grid's size
  block.activate(1);                                   // lanes 0..n-1 are in use from here on; uniform
  { view.active(lane) } -> std::convertible_to<Mask<typename B::Real>>;
  { view.numbers(lane) } -> std::convertible_to<UInt<typename B::Real>>;           // 0..kLanes-1
  { view.repeated_numbers(lane) } -> std::convertible_to<UInt<typename B::Real>>;  // inactive: as the last active one

  // Several lanes may share one element: lane numbers are split into kColumns columns and kSplit parts (CPU: one part).
  { B::kSplit } -> std::convertible_to<int>;
  { B::kColumns } -> std::convertible_to<int>;
  { B::column(lane) } -> std::convertible_to<typename B::Lane>;
  { B::part(lane) } -> std::convertible_to<int>;

  // Work.
  view.lanes(AnyFunction{});                           // f(lane) for every lane (CPU: each pack with an active one)
  view.one(AnyFunction{});                             // f() in exactly one lane; not collective
  view.each(lane, mask, AnyFunction{});                // f(number) for each active lane where mask is true

  // Collectives.
  block.sync();                                        // all writes to storage are visible to all lanes after it
  { block.any(masks) } -> std::convertible_to<bool>;   // true in some active lane; the same answer in every lane
  { block.sum(value) } -> std::convertible_to<float>;  // over active lanes, in an order fixed by kLanes; in every lane
  block.sums(values);                                  // of up to kMaxSums at once, which on a GPU meet at one barrier
  { block.last_of_grid(ticket) } -> std::convertible_to<bool>;  // in the last block to come here, which sees all writes
                                                       // of the others; ticket is 0 before the launch, and again after
  block.fill_zero(floats, 16);                         // n floats of an array (n, to: multiples of kTensorAlignment)

  // Memory. Inactive lanes read 0 and write nothing.
  { view.load(floats, lane) } -> std::convertible_to<typename B::Real>;
  { view.load(counts, lane) } -> std::convertible_to<UInt<typename B::Real>>;
  { view.load(flags, lane) } -> std::convertible_to<Mask<typename B::Real>>;
  { view.load_repeated(floats, lane) } -> std::convertible_to<typename B::Real>;  // inactive: what the last active has
  view.store(floats, lane, x);
  view.store(counts, lane, index);
  view.store(flags, lane, mask);
  view.store_where(floats, lane, x, mask);
  // A caller's arrays, without padding: inactive lanes read what the last active one does. A choice that is negative or
  // needs more than 32 bits reads as the largest UInt.
  { view.load_choice(choices, lane) } -> std::convertible_to<UInt<typename B::Real>>;
  view.load_row(floats, lane, row);
  view.store_row(floats, lane, row);
  view.store_row(floats, lane, row, mask);
  // By index; inactive lanes read element 0.
  { view.gather(floats, index, lane) } -> std::convertible_to<typename B::Real>;
  view.gather_rows(floats, index, lane, row);
  view.scatter_rows(floats, index, lane, row);
  view.template prefetch_rows<4>(floats, index, lane);  // a hint; nothing on a GPU, which copies ahead
  // x <- min(x, value) and flag <- 1, whoever else does; not collective.
  view.lower(lowest, lowest);
  view.raise(ticket);

  // Block storage, 64-byte aligned; its size is chosen at launch.
  { view.storage() } -> std::convertible_to<float*>;
};
// clang-format on

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
