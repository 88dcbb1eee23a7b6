// Operands of a warp's matrix multiplies: what they are in registers, and how they are read from block storage.
//
// A step is sixteen deep: one bf16 multiply or two tf32 ones. Three kinds of matrices lie in block storage as fragments
// (fragments.hpp):
//   layer   [samples][Width], what hidden layers give. tf32 has it transposed: only sums over samples need operands of
//   it that
//           ldmatrix cannot read, and those it can read from the transposed one.
//   weight  [Width][Width], outputs by inputs. tf32 has even columns first.
//   thin    [rows][8], of observations and of gradients of outputs (rows are samples) or of a first layer's and a
//   head's
//           weights (rows are hidden units), filled up with zeros; more columns are more of these matrices one after
//           another. In bf16 a sample's numbers are kept as the sum of two, in a fragment each: 16 bits of mantissa,
//           and the multiply is sixteen deep anyway.
// Rows and columns that functions are given are multiples of 8, or of 16 where they read or write as many.
#pragma once

#include "kernels/machine/dense_simt.hpp"
#include "kernels/machine/fragments.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A block whose networks run on tensor cores: round_tf32, pack_bf16, network_tanh, mma, load_matrices, sync_warp.
template <class B>
concept TensorBlock = SimtBlock<B> && B::kPrecision != Precision::kFp32;

struct alignas(8) Float2 {
  float x, y;
};
PERILUNE_DEVICE Float2 load_pair(const float* from) { return *reinterpret_cast<const Float2*>(from); }
PERILUNE_DEVICE void store_pair(float* to, float x, float y) { *reinterpret_cast<Float2*>(to) = {x, y}; }
struct Words4 {
  std::uint32_t word[4];
};
PERILUNE_DEVICE void store_words(float* to, const Words4& words) {
  *reinterpret_cast<Float4*>(to) = {
      {as_float(words.word[0]), as_float(words.word[1]), as_float(words.word[2]), as_float(words.word[3])}};
}

/// 16 rows by 16 of A; 16 by 8 columns of B. Of one multiply: its words.
template <Precision P>
struct OperandA {
  static constexpr int kMultiplies = P == Precision::kBf16 ? 1 : 2;
  std::uint32_t word[kMultiplies][4];
};
template <Precision P>
struct OperandB {
  std::uint32_t word[OperandA<P>::kMultiplies][2];
};
using WordsA = std::uint32_t[4];
using WordsB = std::uint32_t[2];

/// What writers of thin matrices of samples need, whatever the width of the networks.
template <TensorBlock B, Precision P = B::kPrecision>
struct Thin;

template <int Width, TensorBlock B, Precision P = B::kPrecision>
struct Operands;

template <TensorBlock B>
struct Thin<B, Precision::kBf16> {
  static constexpr int kParts = 2;  // operands B of its columns; their products are added
  static constexpr int kFloats = B::kLanes / 8 * kParts * kBf16FragmentWords;

  /// thin[row] = values, of a sample.
  PERILUNE_DEVICE static void store(float* thin, int row, const float (&values)[8]) {
    float* to = thin + row / 8 * kParts * kBf16FragmentWords + bf16_row(row % 8);
    const Words4 high = packed(values);
    float rest[8];
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t word = high.word[i / 2];
      rest[i] = values[i] - as_float(i % 2 == 0 ? word << 16 : word & ~0xFFFFu);
    }
    store_words(to, high);
    store_words(to + kBf16FragmentWords, packed(rest));
  }
  /// A row of a fragment, rounded.
  PERILUNE_DEVICE static Words4 packed(const float (&values)[8]) {
    return {{B::pack_bf16(values[0], values[1]), B::pack_bf16(values[2], values[3]), B::pack_bf16(values[4], values[5]),
             B::pack_bf16(values[6], values[7])}};
  }
};
template <TensorBlock B>
struct Thin<B, Precision::kTf32> {
  static constexpr int kParts = 1;
  static constexpr int kFloats = B::kLanes / 8 * kTf32FragmentWords;

  PERILUNE_DEVICE static void store(float* thin, int row, const float (&values)[8]) {
    float* to = thin + row / 8 * kTf32FragmentWords;
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) {
      store_words(to + tf32_chunk(row % 8, i),
                  rounded(values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]));
    }
  }
  PERILUNE_DEVICE static Words4 rounded(float a, float b, float c, float d) {
    return {
        {as_uint(B::round_tf32(a)), as_uint(B::round_tf32(b)), as_uint(B::round_tf32(c)), as_uint(B::round_tf32(d))}};
  }
};

template <int Width, TensorBlock B>
struct Operands<Width, B, Precision::kBf16> {
  static constexpr Precision kPrecision = Precision::kBf16;
  using Fragment = Bf16Fragment;
  using A = OperandA<kPrecision>;
  using Bs = OperandB<kPrecision>;
  static constexpr int kWords = kBf16FragmentWords;
  static constexpr int kLayerFloats = B::kLanes * Width / 2, kWeightFloats = Width * Width / 2;
  static constexpr int kThinWeightFloats = Width / 8 * kWords, kThinParts = Thin<B>::kParts;

  B& block;
  int lane;
  // Rows for ldmatrix of 2 x 2 fragments: down first, across first, and down in a thin matrix; of two below each other.
  int down, across, thin_down, below;

  PERILUNE_DEVICE Operands(B& b, int lane_number)
      : block(b),
        lane(lane_number),
        down(square(lane_number / 8 % 2, lane_number / 16, Width / 8) + bf16_row(lane_number % 8)),
        across(square(lane_number / 16, lane_number / 8 % 2, Width / 8) + bf16_row(lane_number % 8)),
        thin_down(square(lane_number / 8 % 2, lane_number / 16, kThinParts) + bf16_row(lane_number % 8)),
        below(square(lane_number / 8 % 2, 0, 1) + bf16_row(lane_number % 8)) {}

  // ---- registers ----

  /// low and high: accumulators of columns 0..7 and 8..15. Rounds them.
  PERILUNE_DEVICE static A rounded(const float (&low)[4], const float (&high)[4]) {
    return {{{B::pack_bf16(low[0], low[1]), B::pack_bf16(low[2], low[3]), B::pack_bf16(high[0], high[1]),
              B::pack_bf16(high[2], high[3])}}};
  }
  /// Back to numbers where accumulators have them.
  PERILUNE_DEVICE static void unpack(const A& a, float (&low)[4], float (&high)[4]) {
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 4; ++i) {
      float* to = i < 2 ? low + 2 * i : high + 2 * (i - 2);
      to[0] = as_float(a.word[0][i] << 16);
      to[1] = as_float(a.word[0][i] & ~0xFFFFu);
    }
  }
  /// B of ones: columns of it are sums of A's rows.
  PERILUNE_DEVICE static Bs ones() { return {{{0x3F803F80u, 0x3F803F80u}}}; }

  // ---- layers ----

  PERILUNE_DEVICE void store(float* layer, int sample, int feature, const A& a) const {
    float* to = at(layer, sample, feature) + lane;
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 4; ++i) to[square(i % 2, i / 2, Width / 8)] = as_float(a.word[0][i]);
  }
  PERILUNE_DEVICE A load(const float* layer, int sample, int feature) const {
    A a;
    block.template load_matrices<false>(a.word[0], at(layer, sample, feature) + down);
    return a;
  }
  /// Features by samples.
  PERILUNE_DEVICE A columns_a(const float* layer, int sample, int feature) const {
    A a;
    block.template load_matrices<true>(a.word[0], at(layer, sample, feature) + across);
    return a;
  }
  /// Samples by features, eight and eight.
  PERILUNE_DEVICE void columns_b(const float* layer, int sample, int feature, Bs (&b)[2]) const {
    split(b, [&](auto& words) { block.template load_matrices<true>(words, at(layer, sample, feature) + down); });
  }

  // ---- weights ----

  /// weight[output][input .. input+7] = values, rounded.
  PERILUNE_DEVICE static void stage(float* weight, int output, int input, const float (&values)[8]) {
    store_words(at(weight, output & ~7, input) + bf16_row(output & 7), Thin<B>::packed(values));
  }
  /// Inputs by outputs, eight and eight.
  PERILUNE_DEVICE void forward_b(const float* weight, int input, int output, Bs (&b)[2]) const {
    split(b, [&](auto& words) { block.template load_matrices<false>(words, at(weight, output, input) + across); });
  }
  /// Outputs by inputs.
  PERILUNE_DEVICE void backward_b(const float* weight, int output, int input, Bs (&b)[2]) const {
    split(b, [&](auto& words) { block.template load_matrices<true>(words, at(weight, output, input) + down); });
  }

  // ---- thin matrices ----

  /// weight[unit] = values, rounded.
  PERILUNE_DEVICE static void stage_thin(float* weight, int unit, const float (&values)[8]) {
    store_words(weight + unit * 4, Thin<B>::packed(values));
  }
  /// Samples by columns.
  PERILUNE_DEVICE void thin_a(const float* thin, int sample, WordsA& a) const {
    block.template load_matrices<false>(a, thin + sample / 8 * kThinParts * kWords + thin_down);
  }
  /// Samples by columns, the sums' parts.
  PERILUNE_DEVICE void thin_columns_b(const float* thin, int sample, Bs (&b)[kThinParts]) const {
    const float* from = thin + sample / 8 * kThinParts * kWords + thin_down;
    split(b, [&](auto& words) { block.template load_matrices<true>(words, from); });
  }
  /// Columns by units, eight and eight.
  PERILUNE_DEVICE void thin_forward_b(const float* weight, int unit, WordsB (&b)[2]) const {
    WordsB words;
    block.template load_matrices<false>(words, weight + unit * 4 + below);
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) b[i][0] = b[i][1] = words[i];  // of both parts of a number
  }
  /// Units by columns.
  PERILUNE_DEVICE Bs thin_rows_b(const float* weight, int unit) const {
    Bs b;
    block.template load_matrices<true>(b.word[0], weight + unit * 4 + below);
    return b;
  }

 private:
  PERILUNE_DEVICE static constexpr int square(int i, int j, int columns) { return (i * columns + j) * kWords; }
  template <class Float>
  PERILUNE_DEVICE static Float* at(Float* matrix, int row, int column) {
    return matrix + square(row / 8, column / 8, Width / 8);
  }
  template <class F>
  PERILUNE_DEVICE static void split(Bs (&b)[2], F&& load) {
    WordsA words;
    load(words);
    b[0] = {{{words[0], words[1]}}};
    b[1] = {{{words[2], words[3]}}};
  }
};

template <int Width, TensorBlock B>
struct Operands<Width, B, Precision::kTf32> {
  static constexpr Precision kPrecision = Precision::kTf32;
  using Fragment = Tf32Fragment;
  using A = OperandA<kPrecision>;
  using Bs = OperandB<kPrecision>;
  static constexpr int kWords = kTf32FragmentWords;
  static constexpr int kLayerFloats = B::kLanes * Width, kWeightFloats = Width * Width;
  static constexpr int kThinWeightFloats = Width / 8 * kWords, kThinParts = Thin<B>::kParts;

  B& block;
  // Words of an accumulator of the transposed matrix: rows 2t and 2t + 1, column g; where even columns come first; and
  // of B's rows t and t + 4.
  int even, odd, parity_even, parity_odd, first, fifth;
  // Rows for ldmatrix: two fragments below each other in a layer and in a thin matrix, and each's second chunk; both
  // chunks of a fragment and of the next one.
  int layer_down, thin_down, chunks;

  PERILUNE_DEVICE Operands(B& b, int lane)
      : block(b),
        even(tf32_word(lane % 4 * 2, lane / 4)),
        odd(tf32_word(lane % 4 * 2 + 1, lane / 4)),
        parity_even(tf32_parity_word(lane % 4 * 2, lane / 4)),
        parity_odd(tf32_parity_word(lane % 4 * 2 + 1, lane / 4)),
        first(tf32_word(lane % 4, lane / 4)),
        fifth(tf32_word(lane % 4 + 4, lane / 4)),
        layer_down(lane / 8 % 2 * (B::kLanes / 8) * kWords + tf32_chunk(lane % 8, lane / 16)),
        thin_down(lane / 8 % 2 * kWords + tf32_chunk(lane % 8, lane / 16)),
        chunks(lane / 16 * kWords + tf32_chunk(lane % 8, lane / 8 % 2)) {}

  // ---- registers ----

  PERILUNE_DEVICE static A rounded(const float (&low)[4], const float (&high)[4]) {
    A a;
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) {
      const float(&c)[4] = i == 0 ? low : high;
      a.word[i][0] = round(c[0]);
      a.word[i][1] = round(c[2]);
      a.word[i][2] = round(c[1]);
      a.word[i][3] = round(c[3]);
    }
    return a;
  }
  PERILUNE_DEVICE static void unpack(const A& a, float (&low)[4], float (&high)[4]) {
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) {
      float(&c)[4] = i == 0 ? low : high;
      c[0] = as_float(a.word[i][0]);
      c[2] = as_float(a.word[i][1]);
      c[1] = as_float(a.word[i][2]);
      c[3] = as_float(a.word[i][3]);
    }
  }
  PERILUNE_DEVICE static Bs ones() {
    const std::uint32_t one = as_uint(1.0f);
    return {{{one, one}, {one, one}}};
  }

  // ---- layers ----

  PERILUNE_DEVICE void store(float* layer, int sample, int feature, const A& a) const {
    each_word(layer, sample, feature, [&](int i, int r, float& at) { at = as_float(a.word[i][r]); });
  }
  PERILUNE_DEVICE A load(const float* layer, int sample, int feature) const {
    A a;
    each_word(layer, sample, feature, [&](int i, int r, const float& at) { a.word[i][r] = as_uint(at); });
    return a;
  }
  PERILUNE_DEVICE A columns_a(const float* layer, int sample, int feature) const {
    A a;
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) {
      block.template load_matrices<false>(a.word[i], layer_at(layer, sample + 8 * i, feature) + layer_down);
    }
    return a;
  }
  PERILUNE_DEVICE void columns_b(const float* layer, int sample, int feature, Bs (&b)[2]) const {
    PERILUNE_UNROLL_ON_GPU
    for (int n = 0; n < 2; ++n) b[n] = load_b(layer_at(layer, sample, feature + 8 * n));
  }

  // ---- weights ----

  PERILUNE_DEVICE static void stage(float* weight, int output, int input, const float (&values)[8]) {
    float* to = weight_at(weight, output & ~7, input);
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) {
      store_words(to + tf32_chunk(output & 7, i),
                  Thin<B>::rounded(values[i], values[i + 2], values[i + 4], values[i + 6]));
    }
  }
  PERILUNE_DEVICE void forward_b(const float* weight, int input, int output, Bs (&b)[2]) const {
    PERILUNE_UNROLL_ON_GPU
    for (int n = 0; n < 2; ++n) b[n] = load_b(weight_at(weight, output + 8 * n, input));
  }
  PERILUNE_DEVICE void backward_b(const float* weight, int output, int input, Bs (&b)[2]) const {
    PERILUNE_UNROLL_ON_GPU
    for (int n = 0; n < 2; ++n) {
      PERILUNE_UNROLL_ON_GPU
      for (int i = 0; i < 2; ++i) {
        const float* from = weight_at(weight, output + 8 * i, input + 8 * n);
        b[n].word[i][0] = as_uint(from[parity_even]);
        b[n].word[i][1] = as_uint(from[parity_odd]);
      }
    }
  }

  // ---- thin matrices ----

  PERILUNE_DEVICE static void stage_thin(float* weight, int unit, const float (&values)[8]) {
    Thin<B>::store(weight, unit, values);
  }
  PERILUNE_DEVICE void thin_a(const float* thin, int sample, WordsA& a) const {
    block.template load_matrices<false>(a, thin + sample / 8 * kWords + thin_down);
  }
  PERILUNE_DEVICE void thin_columns_b(const float* thin, int sample, Bs (&b)[kThinParts]) const {
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) {
      const float* from = thin + (sample / 8 + i) * kWords;
      b[0].word[i][0] = as_uint(from[first]);
      b[0].word[i][1] = as_uint(from[fifth]);
    }
  }
  PERILUNE_DEVICE void thin_forward_b(const float* weight, int unit, WordsB (&b)[2]) const {
    const Bs both = load_b(weight + unit / 8 * kWords);
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) b[i][0] = both.word[i][0], b[i][1] = both.word[i][1];
  }
  PERILUNE_DEVICE Bs thin_rows_b(const float* weight, int unit) const {
    Bs b;
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) {
      const float* from = weight + (unit / 8 + i) * kWords;
      b.word[i][0] = as_uint(from[even]);
      b.word[i][1] = as_uint(from[odd]);
    }
    return b;
  }

 private:
  /// To nearest for finite numbers; the bits that a multiply does not look at are anything. A carry may make a zero of
  /// a NaN, so that parameters and what environments say are rounded by round_tf32 instead.
  PERILUNE_DEVICE static std::uint32_t round(float x) { return as_uint(x) + 0x1000u; }

  template <class Float>
  PERILUNE_DEVICE static Float* layer_at(Float* layer, int sample, int feature) {
    return layer + (feature / 8 * (B::kLanes / 8) + sample / 8) * kWords;
  }
  template <class Float>
  PERILUNE_DEVICE static Float* weight_at(Float* weight, int output, int input) {
    return weight + (output / 8 * (Width / 8) + input / 8) * kWords;
  }
  /// Calls f(multiply, word of it, its place).
  template <class Float, class F>
  PERILUNE_DEVICE void each_word(Float* layer, int sample, int feature, F&& f) const {
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < 2; ++i) {
      PERILUNE_UNROLL_ON_GPU
      for (int r = 0; r < 4; ++r) {
        f(i, r, layer_at(layer, sample + r % 2 * 8, feature + 8 * i)[r < 2 ? even : odd]);
      }
    }
  }
  /// Both chunks of a fragment and of the next one: sixteen deep.
  PERILUNE_DEVICE Bs load_b(const float* fragment) const {
    WordsA words;
    block.template load_matrices<false>(words, fragment + chunks);
    return {{{words[0], words[1]}, {words[2], words[3]}}};
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
