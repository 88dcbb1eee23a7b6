// Where the elements of matrices lie for a warp's matrix multiply: in the registers of mma.sync, and in block storage.
//
// Registers, as in the PTX ISA, "Matrix fragments for mma.m16n8k8 with .tf32" and "for mma.m16n8k16 with .bf16": lane l
// is number t = l % 4 in group g = l / 4. An accumulator lane holds columns 2t and 2t + 1 of rows g and g + 8. A k x n
// product is free to number k as it likes, if A and B agree: with k index t standing for column 2t and t + 4 for 2t +
// 1, the lane that holds an element of the tf32 A operand is the one that holds it as an accumulator, so that one
// layer's output is the next one's input without leaving its registers. For bf16 that is so by itself.
//
// Block storage: matrices are kept as fragments of 8 x 8, each of them contiguous, so that no access depends on a
// width.
//   bf16  A row is 16 bytes, as ldmatrix takes it, and the fragment is one line of all 32 banks. Lane l's words as an
//         accumulator are word l.
//   tf32  A row is two chunks of 16 bytes, a chunk to each of two lines. To ldmatrix a word is two numbers, so that it
//   reads
//         chunks; where an operand is the matrix transposed lanes read single words. A row's place in its line is
//         chosen so that no access below has two words in a bank:
//           16 bytes at every row of one chunk              ldmatrix; writing rows
//           a word at row 2t (or 2t + 1), column g          accumulators of the transposed matrix
//           a word at row t (or t + 4), column g            B, where k is counted as ldmatrix does
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
  PERILUNE_HD static constexpr int a_column(int lane, int r, int e) { return lane % 4 * 2 + e + r / 2 * 8; }
  PERILUNE_HD static constexpr int b_row(int lane, int r, int e) { return lane % 4 * 2 + e + r * 8; }
  PERILUNE_HD static constexpr int b_column(int lane) { return lane / 4; }
};

/// The accumulator, 16 x 8 in 4 registers, of both.
PERILUNE_HD constexpr int c_row(int lane, int r) { return lane / 4 + r / 2 * 8; }
PERILUNE_HD constexpr int c_column(int lane, int r) { return lane % 4 * 2 + r % 2; }

/// Words of an 8 x 8 fragment in block storage.
inline constexpr int kBf16FragmentWords = 32, kTf32FragmentWords = 64;

/// The first word of a row of a bf16 fragment, of four.
PERILUNE_HD constexpr int bf16_row(int row) { return row * 4; }
/// The first word of a chunk (0 or 1) of a row of a tf32 fragment, of four.
PERILUNE_HD constexpr int tf32_chunk(int row, int chunk) {
  const int place = (row >> 1 ^ (row & 1) << 1) | (row & 1) << 2;
  return chunk * 32 + (place ^ chunk << 2) * 4;
}
/// Of its elements in the order in which they are numbered; and of one whose even columns are the first chunk, which
/// makes ldmatrix read columns 2t and 2t + 1 as accumulators have them.
PERILUNE_HD constexpr int tf32_word(int row, int column) { return tf32_chunk(row, column >> 2) + (column & 3); }
PERILUNE_HD constexpr int tf32_parity_word(int row, int column) { return tf32_chunk(row, column & 1) + (column >> 1); }

}  // namespace perilune::inline PERILUNE_LEVEL
