// Where the elements of matrices lie for a warp's matrix multiply: in the registers of mma.sync, and in block storage.
//
// Registers, as in the PTX ISA, "Matrix fragments for mma.m16n8k8 with .tf32" and "for mma.m16n8k16 with .bf16": lane l is
// number t = l % 4 in group g = l / 4. An accumulator lane holds columns 2t and 2t + 1 of rows g and g + 8. A k x n product
// is free to number k as it likes, if A and B agree: with k index t standing for column 2t and t + 4 for 2t + 1, the lane
// that holds an element of the tf32 A operand is the one that holds it as an accumulator, so that one layer's output is
// the next one's input without leaving its registers. For bf16 that is so by itself.
//
// Block storage: rows of Width words without padding, and bits 3 and 4 of the column are exclusive-ored with a function of
// the row, so that every access below falls into 32 different banks (64-bit ones: each half of the warp):
//   64 bit at row g, columns 2t and 2t + 1       weights forward, activations in and out
//   32 bit at row 2t or 2t + 1, column g         weights backward; activations where samples are summed over
//   32 bit at row t or t + 4, column g           the first layer's weights, stored transposed
// tests/kernels/fragments_test.cpp counts conflicts with these very functions.
#pragma once

#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

inline constexpr int kWarpLanes = 32;

/// mma.m16n8k8 over tf32: A 16 x 8 in 4 registers, B 8 x 8 in 2.
struct Tf32Fragment {
  static constexpr int kDepth = 8;
  static constexpr int kPerRegister = 1;
  PERILUNE_HD static constexpr int a_row(int lane, int r, int) { return lane / 4 + r % 2 * 8; }
  PERILUNE_HD static constexpr int a_column(int lane, int r, int) { return lane % 4 + r / 2 * 4; }
  PERILUNE_HD static constexpr int b_row(int lane, int r, int) { return lane % 4 + r * 4; }
  PERILUNE_HD static constexpr int b_column(int lane) { return lane / 4; }
};

/// mma.m16n8k16 over bf16: A 16 x 16 in 4 registers, B 16 x 8 in 2; element e = 0 is the low half of a register.
struct Bf16Fragment {
  static constexpr int kDepth = 16;
  static constexpr int kPerRegister = 2;
  PERILUNE_HD static constexpr int a_row(int lane, int r, int) { return lane / 4 + r % 2 * 8; }
  PERILUNE_HD static constexpr int a_column(int lane, int r, int e) {
    return lane % 4 * 2 + e + r / 2 * 8;
  }
  PERILUNE_HD static constexpr int b_row(int lane, int r, int e) {
    return lane % 4 * 2 + e + r * 8;
  }
  PERILUNE_HD static constexpr int b_column(int lane) { return lane / 4; }
};

/// The accumulator, 16 x 8 in 4 registers, of both.
PERILUNE_HD constexpr int c_row(int lane, int r) { return lane / 4 + r / 2 * 8; }
PERILUNE_HD constexpr int c_column(int lane, int r) { return lane % 4 * 2 + r % 2; }

/// Words of a matrix with rows of Width words. Element (row, column) lies at swizzled(lane_word(row % 8, column % 8), row,
/// column), whatever row and column are in their groups of 8 for that second use: a lane computes its own word once, and all
/// others it needs are that word, exclusive-ored and added to by constants.
template <int Width>
PERILUNE_HD constexpr int lane_word(int row, int column) {
  const int turn = ((row & 3) ^ (row >> 2)) << 3;
  if constexpr (Width == 16) {
    // Two rows share a line of 32 banks. Rows 2t, for one, would share half of it: bit 1 of the row chooses the half.
    return ((row >> 1 & 2) | (row & 1)) * 32 + (row >> 1 & 1) * 16 + (turn & 8) + column;
  } else {
    static_assert(Width % 32 == 0);
    return row * Width + turn + column;
  }
}
template <int Width>
PERILUNE_HD constexpr int swizzled(int word, int row, int column) {
  constexpr int kTurned = Width == 16 ? 8 : 24;
  return (row & ~7) * Width + (column & ~7 & ~kTurned) + (word ^ (column & kTurned));
}

/// The head's outputs in the order in which its weights are stored: accumulator columns 2t and 2t + 1 are outputs t and
/// t + 4 of a group of eight, which makes both the lanes' writes of outputs and reads of their gradients conflict-free.
PERILUNE_HD constexpr int head_output(int row) {
  return (row & ~7) | (row & 7) >> 1 | (row & 1) << 2;
}

}  // namespace perilune::inline PERILUNE_LEVEL
