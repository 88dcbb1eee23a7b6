// A tensor core's arithmetic in plain C++, for the test machine: the same roundings, and products summed in fp32.
//
// Real ones sum in another order and cut sums off at a few bits more than fp32's, so results agree to rounding, not in
// bits.
#pragma once

#include "kernels/machine/fragments.hpp"
#include "sims/math.hpp"

namespace perilune::inline PERILUNE_LEVEL {

struct EmulatedTensorCore {
  /// To 10 bits of mantissa, to nearest, ties away from zero: cvt.rna.tf32.
  static float round_tf32(float x) { return x != x ? x : as_float((as_uint(x) + 0x1000u) & ~0x1FFFu); }
  /// To 7 bits of mantissa, to nearest, ties to even: cvt.rn.bf16.
  static float round_bf16(float x) {
    if (x != x) return x;
    const std::uint32_t bits = as_uint(x);
    return as_float((bits + 0x7FFFu + (bits >> 16 & 1u)) & ~0xFFFFu);
  }
  static std::uint32_t pack_bf16(float low, float high) {
    return as_uint(round_bf16(low)) >> 16 | as_uint(round_bf16(high));
  }
  static float network_tanh(float x) { return math::tanh(x); }

  /// Element e of an operand's register. The instruction looks at no more bits than the format has.
  static float element(Tf32Fragment, std::uint32_t word, int) { return as_float(word & ~0x1FFFu); }
  static float element(Bf16Fragment, std::uint32_t word, int e) {
    return as_float(e == 0 ? word << 16 : word & ~0xFFFFu);
  }
};

/// What one warp's multiply or load of matrices takes from its lanes.
struct EmulatedOperands {
  float a[16][16];
  float b[16][8];
  std::uint32_t rows[kWarpLanes][4];  // that the lanes named

  template <class Fragment>
  void put(int lane, const std::uint32_t (&a_words)[4], const std::uint32_t (&b_words)[2]) {
    for (int e = 0; e < Fragment::kPerRegister; ++e) {
      for (int r = 0; r < 4; ++r) {
        a[Fragment::a_row(lane, r, e)][Fragment::a_column(lane, r, e)] =
            EmulatedTensorCore::element(Fragment{}, a_words[r], e);
      }
      for (int r = 0; r < 2; ++r) {
        b[Fragment::b_row(lane, r, e)][Fragment::b_column(lane)] =
            EmulatedTensorCore::element(Fragment{}, b_words[r], e);
      }
    }
  }
  /// This lane's elements of the product, added to c.
  template <class Fragment>
  void add_product(int lane, float (&d)[4], const float (&c)[4]) const {
    for (int r = 0; r < 4; ++r) {
      const float* row = a[c_row(lane, r)];
      const int column = c_column(lane, r);
      float sum = c[r];
      for (int k = 0; k < Fragment::kDepth; ++k) sum += row[k] * b[k][column];
      d[r] = sum;
    }
  }
  /// This lane's word of a matrix that was loaded.
  template <bool Transposed>
  std::uint32_t matrix_word(int lane, int matrix) const {
    const int g = lane / 4, t = lane % 4;
    if constexpr (!Transposed) return rows[8 * matrix + g][t];
    const auto half = [&](int row) { return rows[8 * matrix + row][g / 2] >> g % 2 * 16 & 0xFFFFu; };
    return half(2 * t) | half(2 * t + 1) << 16;
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
