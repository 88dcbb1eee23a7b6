// The error bounds and special values that sims/math.hpp states, against the C library in double.
#include "sims/math.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace perilune {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Spacing of floats at `exact`.
double ulp(double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  return std::ldexp(1.0, std::max(exponent - 24, -149));
}

struct WorstError {
  double ulps = 0;
  double absolute = 0;
  float at_ulps = 0;
  float at_absolute = 0;
  float largest_result = 0;
};

/// Errors of `ours` against `reference` over every `stride`-th float of both signs with low <= |x|
/// <= high.
template <class Ours, class Reference>
WorstError measure(Ours ours, Reference reference, float low, float high, std::uint32_t stride, bool negative = true) {
  WorstError worst;
  for (std::uint64_t bits = as_uint(low); bits <= as_uint(high); bits += stride) {
    for (std::uint32_t sign = 0; sign <= (negative ? 1u : 0u); ++sign) {
      const float x = as_float(static_cast<std::uint32_t>(bits) | sign << 31);
      const float y = ours(x);
      const double exact = reference(static_cast<double>(x));
      worst.largest_result = std::max(worst.largest_result, std::abs(y));
      if (std::isinf(y) && std::isinf(static_cast<float>(exact))) continue;
      const double error = std::abs(static_cast<double>(y) - exact);
      if (!(error <= worst.absolute)) worst.absolute = error, worst.at_absolute = x;
      if (!(error <= worst.ulps * ulp(exact))) worst.ulps = error / ulp(exact), worst.at_ulps = x;
    }
  }
  return worst;
}

void expect_ulps(const WorstError& worst, double bound) {
  EXPECT_LE(worst.ulps, bound) << "at " << worst.at_ulps << ": " << 100 * worst.ulps / bound << "% of the stated bound";
}

void expect_absolute(const WorstError& worst, double bound) {
  EXPECT_LE(worst.absolute, bound) << "at " << worst.at_absolute << ": " << 100 * worst.absolute / bound
                                   << "% of the stated bound";
}

double sin_of(double x) { return std::sin(x); }
double cos_of(double x) { return std::cos(x); }

// Strides are primes, chosen so that the whole file takes about two seconds.

TEST(Math, SinCosReduced) {
  constexpr float kQuarterPi = 0.785398185f;
  const auto sin = [](float x) { return math::sincos_reduced(x).sin; };
  const auto cos = [](float x) { return math::sincos_reduced(x).cos; };
  expect_ulps(measure(sin, sin_of, 0x1p-14f, kQuarterPi, 97), 0.78);
  expect_ulps(measure(cos, cos_of, 0x1p-14f, kQuarterPi, 97), 1.25);
  expect_ulps(measure(sin, sin_of, 0.0f, 0x1p-14f, 9973), 0.78);
  EXPECT_EQ(sin(0.0f), 0.0f);
  EXPECT_EQ(cos(0.0f), 1.0f);
  EXPECT_TRUE(std::isnan(sin(kNan)) && std::isnan(cos(kNan)));
}

TEST(Math, SinAndCos) {
  const auto sin = [](float x) { return math::sin(x); };
  const auto cos = [](float x) { return math::cos(x); };
  expect_absolute(measure(sin, sin_of, 0.25f, 1e4f, 97), 9.5e-8);
  expect_absolute(measure(cos, cos_of, 0.25f, 1e4f, 97), 9.5e-8);
  expect_absolute(measure(sin, sin_of, 0.0f, 0.25f, 9973), 9.5e-8);
  for (const float x : {kNan, kInfinity, -kInfinity}) {
    EXPECT_TRUE(std::isnan(sin(x)) && std::isnan(cos(x))) << x;
  }
}

TEST(Math, SinCosSharesTheReduction) {
  for (float x = -20.0f; x < 20.0f; x += 0.01f) {
    const auto both = math::sincos(x);
    EXPECT_EQ(both.sin, math::sin(x));
    EXPECT_EQ(both.cos, math::cos(x));
  }
}

TEST(Math, Exp) {
  const auto exp = [](float x) { return math::exp(x); };
  const auto reference = [](double x) { return std::exp(x); };
  expect_ulps(measure(exp, reference, 0x1p-14f, 105.0f, 97), 1.02);
  expect_ulps(measure(exp, reference, 0.0f, std::numeric_limits<float>::max(), 9973), 1.02);
  EXPECT_EQ(exp(0.0f), 1.0f);
  EXPECT_EQ(exp(-kInfinity), 0.0f);
  EXPECT_EQ(exp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(exp(kNan)));
}

TEST(Math, Log) {
  const auto log = [](float x) { return math::log(x); };
  const auto reference = [](double x) { return std::log(x); };
  expect_ulps(measure(log, reference, 0.25f, 4.0f, 7, false), 0.86);
  expect_ulps(
      measure(log, reference, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(), 997, false),
      0.86);
  EXPECT_EQ(log(1.0f), 0.0f);
  EXPECT_EQ(log(0.0f), -kInfinity);
  EXPECT_EQ(log(-0.0f), -kInfinity);
  EXPECT_EQ(log(kInfinity), kInfinity);
  for (const float x : {-1.0f, -kInfinity, kNan}) EXPECT_TRUE(std::isnan(log(x))) << x;
}

TEST(Math, Tanh) {
  const auto tanh = [](float x) { return math::tanh(x); };
  const auto reference = [](double x) { return std::tanh(x); };
  const auto worst = measure(tanh, reference, 0x1p-14f, 10.0f, 97);
  expect_ulps(worst, 6.2);
  expect_absolute(worst, 3.7e-7);
  EXPECT_LT(worst.largest_result, 1.0f);
  expect_ulps(measure(tanh, reference, 0.0f, std::numeric_limits<float>::max(), 9973), 6.2);
  EXPECT_EQ(tanh(0.0f), 0.0f);
  EXPECT_NEAR(tanh(kInfinity), 1.0f, 3.7e-7);
  EXPECT_NEAR(tanh(-kInfinity), -1.0f, 3.7e-7);
  EXPECT_LT(tanh(kInfinity), 1.0f);
  EXPECT_TRUE(std::isnan(tanh(kNan)));
}

TEST(Math, DoubleIsTheCLibrary) {
  for (double x = 0.1; x < 5; x += 0.37) {
    EXPECT_EQ(math::sin(x), std::sin(x));
    EXPECT_EQ(math::cos(x), std::cos(x));
    EXPECT_EQ(math::exp(x), std::exp(x));
    EXPECT_EQ(math::log(x), std::log(x));
    EXPECT_EQ(math::tanh(x), std::tanh(x));
  }
}

TEST(Math, DivideByConstant) {
  for (double x = 0.1; x < 100; x *= 1.07) {
    EXPECT_EQ(math::divide_by_constant(x, 1.1), x / 1.1);
    const float divided = math::divide_by_constant(static_cast<float>(x), 1.1);
    const double exact = static_cast<double>(static_cast<float>(x)) / 1.1;
    EXPECT_LE(std::abs(divided - exact), 1.5 * ulp(exact)) << x;
  }
}

}  // namespace
}  // namespace perilune
