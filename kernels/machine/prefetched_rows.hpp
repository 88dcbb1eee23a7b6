// Rows of an array in random order, asked for while others are worked on: what a memory's latency would cost is hidden.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A row of Floats numbers of one array and a number of another for each lane, both at the index that it asked for
/// last. A GPU's tensor-core blocks copy them to block storage meanwhile, a CPU brings them into its cache, and where
/// many blocks of few registers take turns nothing is needed. Lanes touch their own alone, so that no sync() is.
template <class B, int Floats>
class PrefetchedRows {
  static_assert(Floats % 4 == 0);

 public:
  using Real = typename B::Real;
  using Lane = typename B::Lane;

  /// What the constructor carves.
  static constexpr int storage_floats() { return B::kCopiesAhead ? (Floats + 1) * B::kLanes : 0; }

  /// rows: [n][Floats], aligned to 16 bytes; numbers: [n].
  PERILUNE_DEVICE PrefetchedRows(B& block, Carver<B>& carver, const float* rows, const float* numbers)
      : block_(block), rows_(rows), numbers_(numbers), copies_(carver.floats(storage_floats())) {}

  /// Asks for those at `index`, which must exist in inactive lanes as well. What was asked for before must have been
  /// read.
  PERILUNE_DEVICE void ask(Lane lane, UInt<Real> index) {
    if constexpr (B::kCopiesAhead) {
      const float* const row = rows_ + static_cast<std::size_t>(index) * Floats;
      PERILUNE_UNROLL
      for (int k = 0; k < Floats; k += 4) block_.template copy_ahead<4>(four(k, lane), row + k);
      block_.template copy_ahead<1>(number(lane), numbers_ + index);
    } else {
      index_[lane] = index;
      block_.template prefetch_rows<Floats>(rows_, index, lane);
      block_.template prefetch_rows<1>(numbers_, index, lane);
    }
  }

  /// Waits for the row, and returns the number.
  PERILUNE_DEVICE Real read(Lane lane, Real (&row)[Floats]) {
    if constexpr (B::kCopiesAhead) {
      block_.wait_for_copies();
      PERILUNE_UNROLL
      for (int k = 0; k < Floats; k += 4) B::load_four(four(k, lane), row + k);
      return *number(lane);
    } else {
      block_.gather_rows(rows_, index_[lane], lane, row);
      return block_.gather(numbers_, index_[lane], lane);
    }
  }

 private:
  /// Numbers k .. k + 3 of the lane's row: beside those of its neighbours, so that lanes read from different banks.
  PERILUNE_DEVICE float* four(int k, Lane lane) const { return copies_ + k * B::kLanes + lane.number * 4; }
  PERILUNE_DEVICE float* number(Lane lane) const { return copies_ + Floats * B::kLanes + lane.number; }

  B& block_;
  const float *rows_, *numbers_;
  float* copies_;
  PerLane<B, UInt<Real>> index_;
};

}  // namespace perilune::inline PERILUNE_LEVEL
