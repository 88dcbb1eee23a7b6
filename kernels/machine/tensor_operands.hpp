// Operands of a warp's matrix multiply, sixteen deep, gathered from block storage or from accumulators.
//
// A step of sixteen is one bf16 multiply or two tf32 ones. Elements are taken in the order in which accumulators hold them
// (fragments.hpp), and must have been rounded to the precision before, but for those of fp32 tiles, which are rounded to
// tf32 here.
#pragma once

#include "kernels/machine/dense_simt.hpp"
#include "kernels/machine/fragments.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A block whose networks run on tensor cores: round_tf32, round_bf16, pack_bf16, network_tanh, mma, sync_warp.
template <class B>
concept TensorBlock = SimtBlock<B> && B::kPrecision != Precision::kFp32;

template <Precision P>
struct Format;
template <>
struct Format<Precision::kTf32> {
  using Fragment = Tf32Fragment;
  static constexpr int kMultiplies = 2;
};
template <>
struct Format<Precision::kBf16> {
  using Fragment = Bf16Fragment;
  static constexpr int kMultiplies = 1;
};

struct alignas(8) Float2 {
  float x, y;
};
PERILUNE_DEVICE Float2 load_pair(const float* from) {
  return *reinterpret_cast<const Float2*>(from);
}
PERILUNE_DEVICE void store_pair(float* to, float x, float y) {
  *reinterpret_cast<Float2*>(to) = {x, y};
}

/// Rounds to what block B's multiplies take.
template <TensorBlock B>
PERILUNE_DEVICE float round_operand(float x) {
  return B::kPrecision == Precision::kBf16 ? B::round_bf16(x) : B::round_tf32(x);
}

/// 16 rows by 16 of A; 16 by 8 columns of B.
template <Precision P>
struct OperandA {
  std::uint32_t word[Format<P>::kMultiplies][4];
};
template <Precision P>
struct OperandB {
  std::uint32_t word[Format<P>::kMultiplies][2];
};

/// low and high: as accumulators of columns 0..7 and 8..15.
template <Precision P, TensorBlock B>
PERILUNE_DEVICE OperandA<P> operand_a(const float (&low)[4], const float (&high)[4]) {
  if constexpr (P == Precision::kBf16) {
    return {{{B::pack_bf16(low[0], low[1]), B::pack_bf16(low[2], low[3]),
              B::pack_bf16(high[0], high[1]), B::pack_bf16(high[2], high[3])}}};
  } else {
    return {{{as_uint(low[0]), as_uint(low[2]), as_uint(low[1]), as_uint(low[3])},
             {as_uint(high[0]), as_uint(high[2]), as_uint(high[1]), as_uint(high[3])}}};
  }
}
/// low: rows 2t and 2t + 1 of column g; high: rows 2t + 8 and 2t + 9.
template <Precision P, TensorBlock B>
PERILUNE_DEVICE OperandB<P> operand_b(Float2 low, Float2 high) {
  if constexpr (P == Precision::kBf16) {
    return {{{B::pack_bf16(low.x, low.y), B::pack_bf16(high.x, high.y)}}};
  } else {
    return {{{as_uint(low.x), as_uint(low.y)}, {as_uint(high.x), as_uint(high.y)}}};
  }
}
template <Precision P, TensorBlock B>
PERILUNE_DEVICE OperandA<P> ones_a() {
  const float ones[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  return operand_a<P, B>(ones, ones);
}
template <Precision P, TensorBlock B>
PERILUNE_DEVICE OperandB<P> ones_b() {
  return operand_b<P, B>({1.0f, 1.0f}, {1.0f, 1.0f});
}

/// c += a b.
template <Precision P, TensorBlock B>
PERILUNE_DEVICE void multiply(B& block, float (&c)[4], const OperandA<P>& a, const OperandB<P>& b) {
  PERILUNE_UNROLL
  for (int i = 0; i < Format<P>::kMultiplies; ++i) {
    block.mma(typename Format<P>::Fragment{}, c, a.word[i], b.word[i]);
  }
}

/// Of swizzled matrices with rows of Width words (fragments.hpp), for the lane with this number in its warp. Rows and columns
/// that functions are given are multiples of 8.
template <int Width, TensorBlock B>
struct SwizzledOperands {
  static constexpr Precision kPrecision = B::kPrecision;
  int pair;          // row g, columns 2t and 2t + 1
  int even, odd;     // rows 2t and 2t + 1, column g
  int first, fifth;  // rows t and t + 4, column g

  PERILUNE_DEVICE explicit SwizzledOperands(int lane)
      : pair(lane_word<Width>(lane / 4, lane % 4 * 2)),
        even(lane_word<Width>(lane % 4 * 2, lane / 4)),
        odd(lane_word<Width>(lane % 4 * 2 + 1, lane / 4)),
        first(lane_word<Width>(lane % 4, lane / 4)),
        fifth(lane_word<Width>(lane % 4 + 4, lane / 4)) {}

  /// Rows row..row+15, columns column..column+15 as A.
  PERILUNE_DEVICE OperandA<kPrecision> rows_a(const float* matrix, int row, int column) const {
    float v[2][4];
    PERILUNE_UNROLL
    for (int half = 0; half < 2; ++half) {
      PERILUNE_UNROLL
      for (int r = 0; r < 4; r += 2) {
        const Float2 two =
            load_pair(matrix + swizzled<Width>(pair, row + 4 * r, column + 8 * half));
        v[half][r] = two.x;
        v[half][r + 1] = two.y;
      }
    }
    return operand_a<kPrecision, B>(v[0], v[1]);
  }
  /// Columns column..column+15, rows row..row+15 as A: the matrix transposed.
  template <Precision P = kPrecision>
  PERILUNE_DEVICE OperandA<P> columns_a(const float* matrix, int row, int column) const {
    float v[2][4];
    PERILUNE_UNROLL
    for (int half = 0; half < 2; ++half) {
      PERILUNE_UNROLL
      for (int r = 0; r < 4; ++r) {
        v[half][r] = matrix[swizzled<Width>(r % 2 == 0 ? even : odd, row + 8 * half,
                                            column + r / 2 * 8)];
      }
    }
    return operand_a<P, B>(v[0], v[1]);
  }
  /// Rows row..row+7, columns column..column+15, transposed, as B.
  PERILUNE_DEVICE OperandB<kPrecision> rows_b(const float* matrix, int row, int column) const {
    return operand_b<kPrecision, B>(load_pair(matrix + swizzled<Width>(pair, row, column)),
                                    load_pair(matrix + swizzled<Width>(pair, row, column + 8)));
  }
  /// Rows row..row+15, columns column..column+7 as B.
  PERILUNE_DEVICE OperandB<kPrecision> columns_b(const float* matrix, int row, int column) const {
    const auto at = [&](int word, int i) { return matrix[swizzled<Width>(word, row + i, column)]; };
    return operand_b<kPrecision, B>({at(even, 0), at(odd, 0)}, {at(even, 8), at(odd, 8)});
  }
};

/// Samples sample..sample+15 (rows) of features feature..feature+7 (columns) of an fp32 tile with `Features` of them, as B.
template <int Features, TensorBlock B>
PERILUNE_DEVICE OperandB<Precision::kTf32> samples_b(Tile<B> tile, int lane, int sample, int feature) {
  if (feature + lane / 4 >= Features) return {};
  const float* at = tile.data + (feature + lane / 4) * B::kStride + sample + lane % 4 * 2;
  const auto rounded = [](Float2 pair) {
    return Float2{B::round_tf32(pair.x), B::round_tf32(pair.y)};
  };
  return operand_b<Precision::kTf32, B>(rounded(load_pair(at)), rounded(load_pair(at + 8)));
}

/// Samples sample..sample+15 (rows) of features feature..feature+7 (columns) as the A of one tf32 multiply.
template <int Features, TensorBlock B>
PERILUNE_DEVICE void samples_a(Tile<B> tile, int lane, int sample, int feature,
                               std::uint32_t (&a)[4]) {
  PERILUNE_UNROLL
  for (int r = 0; r < 4; ++r) {
    const int row = feature + Tf32Fragment::a_column(lane, r, 0);
    const int column = sample + Tf32Fragment::a_row(lane, r, 0);
    a[r] = row < Features ? as_uint(B::round_tf32(tile.data[row * B::kStride + column])) : 0u;
  }
}

}  // namespace perilune::inline PERILUNE_LEVEL
