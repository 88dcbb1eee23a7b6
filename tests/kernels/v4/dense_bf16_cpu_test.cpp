// The bf16 matrix kernels, one by one, against sums in double over the same bf16 numbers. What stays fp32 must be right
// to fp32's rounding, what is stored as bf16 to half a step of that.
#include "kernels/machine/dense_bf16_cpu.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/subject.hpp"
#include "tests/kernels/v4/bf16_reference.hpp"

namespace perilune::test {
namespace {

constexpr int kStride = 96;

/// A float sum of n products below 1 has rounding errors of about 6e-8 sqrt(n) times its size, itself sqrt(n).
double rounding(int n) { return 2e-7 * n + 1e-7; }

Vector values_of(const Aligned<float>& x) {
  Vector result;
  for (int i = 0; i < x.size(); ++i) result.push_back(x[i]);
  return result;
}
Vector values_of(const Aligned<std::uint16_t>& x) {
  Vector result;
  for (int i = 0; i < x.size(); ++i) result.push_back(from_bits(x[i]));
  return result;
}
Aligned<float> floats(int n, Draws& draws) {
  Aligned<float> result(n);
  for (int i = 0; i < n; ++i) result[i] = draws.uniform(-1.0, 1.0);
  return result;
}
/// [rows][columns] in the order of pairs.
Vector in_pairs(const Vector& x, int columns) {
  Vector result(x.size());
  for (int i = 0; i < static_cast<int>(x.size()); ++i) {
    const int r = i / columns, c = i % columns;
    result[at(r / 2 * 2 * columns + 2 * c + r % 2)] = x[at(i)];
  }
  return result;
}
double derivative(Activation activation, double h) {
  return activation == Activation::kTanh ? 1.0 - h * h : h > 0.0 ? 1.0 : 0.0;
}
double activated(Activation activation, double x) {
  return activation == Activation::kTanh ? std::tanh(x) : std::max(0.0, x);
}

TEST(DenseBf16, TanhIsWithinItsBound) {
  double worst = 0.0;
  for (int i = -200000; i <= 200000; ++i) {
    const float x = static_cast<float>(i) * 5e-5f;
    const double y = short_tanh(Pack(x))[0];
    // Beyond the clamp the last 0.0017 round away in bf16.
    const double exact = std::abs(x) <= 3.6 ? std::tanh(double{x}) : std::tanh(std::copysign(3.6, x));
    worst = std::max(worst, std::abs(y - exact) / std::max(std::abs(exact), 0.25));
    ASSERT_LE(std::abs(y), 1.0);
  }
  EXPECT_LE(worst, 2.5e-4);
  EXPECT_EQ(round_to_bf16(short_tanh(Pack(1e30f))[0]), 1.0);
  EXPECT_EQ(round_to_bf16(short_tanh(Pack(-std::numeric_limits<float>::infinity()))[0]), -1.0);
  EXPECT_TRUE(std::isnan(short_tanh(Pack(std::nanf("")))[0]));
}

template <int Width>
void check_staging() {
  Draws draws(Width);
  Aligned<float> weight(Width * Width);
  for (int i = 0; i < weight.size(); ++i) {
    // Ties between two bf16 numbers, too: an eighth of them 9 significant bits.
    weight[i] = i % 8 == 0 ? static_cast<float>(draws.below(512)) / 256.0f + 2.0f : draws.normal();
  }
  Aligned<std::uint16_t> rows(Width * Width), row_pairs(Width * Width), column_pairs(Width * Width),
      scratch(Width * Width);
  bf16::round_rows<Width, Width>(weight.data(), rows.data());
  bf16::round_row_pairs<Width>(weight.data(), row_pairs.data());
  bf16::round_column_pairs<Width>(weight.data(), scratch.data(), column_pairs.data());
  for (int r = 0; r < Width; ++r) {
    for (int c = 0; c < Width; ++c) {
      const std::uint16_t expected = to_bits(weight[r * Width + c]);
      ASSERT_EQ(rows[r * Width + c], expected) << weight[r * Width + c];
      ASSERT_EQ(row_pairs[r / 2 * 2 * Width + 2 * c + r % 2], expected);
      ASSERT_EQ(column_pairs[c / 2 * 2 * Width + 2 * r + c % 2], expected);
    }
  }
}

TEST(DenseBf16, WeightsAreRoundedToNearestEven) {
  check_staging<32>();
  check_staging<64>();
  check_staging<128>();
}

template <int In, int Width>
void check_forward(Activation activation) {
  constexpr int kRows = bf16::rows_in_registers(Width);
  SCOPED_TRACE("width " + std::to_string(Width));
  Draws draws(Width + In);
  const double slack = activation == Activation::kTanh ? 2.5e-4 : 0.0;
  const Tolerance stored{1e-6 + slack, kBf16Rounding};

  const Aligned<float> first = floats(In * Width, draws), bias = floats(Width, draws);
  const Aligned<float> input = floats(In * kStride, draws);
  Aligned<std::uint16_t> rows(kRows * Width), pairs(kRows * Width);
  bf16::input_layer<In, Width, kStride>(first.data(), bias.data(), input.data(), rows.data(), pairs.data(), activation);
  Vector expected;
  for (int s = 0; s < kRows; ++s) {
    for (int o = 0; o < Width; ++o) {
      double sum = bias[o];
      for (int i = 0; i < In; ++i) sum += double{first[i * Width + o]} * input[i * kStride + s];
      expected.push_back(activated(activation, sum));
    }
  }
  expect_close("first layer", values_of(rows), expected, stored);
  EXPECT_EQ(values_of(pairs), in_pairs(values_of(rows), Width));

  const Bf16Matrix x(kRows, Width, draws), transposed(Width, Width, draws);
  bf16::hidden_layer<Width>(transposed.as_pairs().data(), bias.data(), x.as_rows().data(), rows.data(), pairs.data(),
                            activation);
  expected.clear();
  for (int s = 0; s < kRows; ++s) {
    for (int o = 0; o < Width; ++o) {
      double sum = bias[o];
      for (int i = 0; i < Width; ++i) sum += transposed(i, o) * x(s, i);
      expected.push_back(activated(activation, sum));
    }
  }
  expect_close("hidden layer", values_of(rows), expected, {stored.absolute + rounding(Width), stored.relative});
  EXPECT_EQ(values_of(pairs), in_pairs(values_of(rows), Width));
}

TEST(DenseBf16, Forward) {
  for (const Activation activation : {Activation::kTanh, Activation::kRelu}) {
    check_forward<4, 32>(activation);
    check_forward<4, 64>(activation);
    check_forward<8, 64>(activation);
    check_forward<7, 128>(activation);
  }
}

template <int Width, int Out>
void check_head(int packs, Activation activation) {
  SCOPED_TRACE("width " + std::to_string(Width) + ", outputs " + std::to_string(Out));
  const int samples = packs * kPackLanes;
  Draws draws(static_cast<std::uint64_t>(Width + packs));
  const Bf16Matrix x(samples, Width, draws), weight(Out, Width, draws);
  const Aligned<float> bias = floats(Out, draws);
  Aligned<float> out(Out * kStride);
  bf16::head<Width, Out, kStride>(packs, weight.as_rows().data(), bias.data(), x.as_rows().data(), out.data());
  for (int o = 0; o < Out; ++o) {
    for (int s = 0; s < samples; ++s) {
      double sum = bias[o];
      for (int k = 0; k < Width; ++k) sum += weight(o, k) * x(s, k);
      ASSERT_NEAR(out[o * kStride + s], sum, rounding(Width)) << "output " << o << " of sample " << s;
    }
  }

  const Aligned<float> dy = floats(Out * kStride, draws), exact_weight = floats(Out * Width, draws);
  Aligned<float> dweight = floats(Out * Width, draws), dbias = floats(Width, draws);
  Vector expected_dweight = values_of(dweight), expected_dbias = values_of(dbias), expected_dx;
  for (int s = 0; s < samples; ++s) {
    for (int k = 0; k < Width; ++k) {
      double sum = 0.0;
      for (int o = 0; o < Out; ++o) {
        sum += double{dy[o * kStride + s]} * exact_weight[o * Width + k];
        expected_dweight[at(o * Width + k)] += dy[o * kStride + s] * x(s, k);
      }
      expected_dx.push_back(sum * derivative(activation, x(s, k)));
      expected_dbias[at(k)] += expected_dx.back();
    }
  }
  Aligned<std::uint16_t> pairs = x.as_pairs(), rows(samples * Width);
  bf16::head_backward<Width, Out, kStride>(samples, exact_weight.data(), dy.data(), rows.data(), pairs.data(),
                                           dweight.data(), dbias.data(), activation);
  expect_close("head weights", values_of(dweight), expected_dweight, {rounding(samples), 1e-6});
  expect_close("bias below", values_of(dbias), expected_dbias, {rounding(samples * Out), 1e-6});
  expect_close("gradient below", values_of(rows), expected_dx, {rounding(Out), kBf16Rounding});
  EXPECT_EQ(values_of(pairs), in_pairs(values_of(rows), Width));
}

TEST(DenseBf16, Heads) {
  for (const Activation activation : {Activation::kTanh, Activation::kRelu}) {
    check_head<32, 2>(1, activation);
    check_head<64, 1>(6, activation);
    check_head<64, 4>(3, activation);
    check_head<128, 2>(2, activation);
  }
}

template <int In, int Width>
void check_backward(int samples, Activation activation) {
  constexpr int kRows = bf16::rows_in_registers(Width);
  SCOPED_TRACE("width " + std::to_string(Width) + ", samples " + std::to_string(samples));
  Draws draws(static_cast<std::uint64_t>(Width * 3 + samples));
  const Bf16Matrix weight(Width, Width, draws), dy(kRows, Width, draws), h(kRows, Width, draws);
  const Aligned<float> input = floats(In * kStride, draws);
  Vector dx;
  for (int s = 0; s < kRows; ++s) {
    for (int i = 0; i < Width; ++i) {
      double sum = 0.0;
      for (int o = 0; o < Width; ++o) sum += weight(o, i) * dy(s, o);
      dx.push_back(sum * derivative(activation, h(s, i)));
    }
  }
  const Aligned<float> before = floats(In * Width, draws), bias_before = floats(Width, draws);
  Vector expected_dweight = values_of(before), expected_dbias = values_of(bias_before);
  for (int s = 0; s < kRows; ++s) {
    for (int k = 0; k < Width; ++k) {
      expected_dbias[at(k)] += dx[at(s * Width + k)];
      for (int i = 0; i < In; ++i) {
        expected_dweight[at(i * Width + k)] += dx[at(s * Width + k)] * input[i * kStride + s];
      }
    }
  }
  const Tolerance sums{kRows * rounding(Width), 1e-6};

  Aligned<std::uint16_t> pairs = h.as_pairs(), rows(kRows * Width);
  Aligned<float> dweight = before, dbias = bias_before;
  bf16::first_backward<In, Width, kStride>(weight.as_pairs().data(), dy.as_rows().data(), pairs.data(), input.data(),
                                           dweight.data(), dbias.data(), activation);
  expect_close("first weights", values_of(dweight), expected_dweight, sums);
  expect_close("first bias", values_of(dbias), expected_dbias, sums);

  dbias = bias_before;
  bf16::hidden_backward<Width>(weight.as_pairs().data(), dy.as_rows().data(), rows.data(), pairs.data(), dbias.data(),
                               activation);
  expect_close("gradient below", values_of(rows), dx, {rounding(Width), kBf16Rounding});
  expect_close("bias below", values_of(dbias), expected_dbias, sums);
  EXPECT_EQ(values_of(pairs), in_pairs(values_of(rows), Width));

  const Bf16Matrix gradients(samples, Width, draws), x(samples, Width, draws);
  Aligned<float> square = floats(Width * Width, draws), below = before;
  Vector expected = values_of(square), expected_below = values_of(below);
  for (int s = 0; s < samples; ++s) {
    for (int o = 0; o < Width; ++o) {
      for (int i = 0; i < Width; ++i) expected[at(o * Width + i)] += gradients(s, o) * x(s, i);
      for (int i = 0; i < In; ++i) expected_below[at(i * Width + o)] += gradients(s, o) * input[i * kStride + s];
    }
  }
  bf16::weight_gradient<Width>(samples, gradients.as_pairs().data(), x.as_pairs().data(), square.data());
  expect_close("weights", values_of(square), expected, {rounding(samples), 1e-6});
  bf16::input_weight_gradient<In, Width, kStride>(samples, gradients.as_pairs().data(), input.data(), below.data());
  expect_close("only layer's weights", values_of(below), expected_below, {rounding(samples), 1e-6});
}

TEST(DenseBf16, Backward) {
  for (const Activation activation : {Activation::kTanh, Activation::kRelu}) {
    check_backward<4, 32>(24, activation);
    check_backward<4, 64>(96, activation);
    check_backward<8, 64>(6, activation);
    check_backward<4, 128>(36, activation);
  }
}

}  // namespace
}  // namespace perilune::test
