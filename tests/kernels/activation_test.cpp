// The CPU network's tanh and division against double, over the whole range of float. The level is
// that of this program; the other levels' tanh is swept through a network in
// every_machine/rollout_test.cpp.
#include "kernels/machine/activation_cpu.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

TEST(NetworkTanh, AbsoluteErrorIsBelow4e6Everywhere) {
  double worst = 0.0, worst_at = 0.0;
  const auto check = [&](float x) {
    const float y = network_tanh(Pack(x))[0];
    const double error = std::abs(y - std::tanh(double{x}));
    if (error > worst) {
      worst = error;
      worst_at = x;
    }
    ASSERT_LT(std::abs(y), 1.0f) << "at " << x;
    ASSERT_EQ(network_tanh(Pack(-x))[0], -y) << "not odd at " << x;
  };
  for (int i = 0; i <= 800000; ++i) check(static_cast<float>(i) * 1e-5f);
  for (float x = 1e-38f; x < 3e38f; x *= 1.7f) check(x);
  check(0.0f);
  check(std::numeric_limits<float>::infinity());
  EXPECT_LT(worst, 4e-6) << "at " << worst_at;
}

TEST(NetworkTanh, IsRelativelyAccurateNearZero) {
  for (float x = 1e-30f; x < 0.1f; x *= 1.1f) {
    // The fit's own relative error near 0 is 6e-7 (its constant term), and some roundings.
    EXPECT_NEAR(network_tanh(Pack(x))[0] / std::tanh(double{x}), 1.0, 1.5e-6) << "at " << x;
  }
}

TEST(NetworkTanh, NanStaysNan) { EXPECT_TRUE(std::isnan(network_tanh(Pack(std::nanf("")))[0])); }

TEST(FastDivide, IsWithinTwoUlp) {
  Draws draws(1);
  for (int i = 0; i < 200000; ++i) {
    const float p = draws.uniform(-8.0, 8.0);
    const float q = draws.uniform(1.0, 2.0) * std::ldexp(1.0f, draws.below(40) - 20);
    const double exact = double{p} / q;
    const double ulp = std::abs(exact) * 0x1p-23;
    ASSERT_LE(std::abs(fast_divide(Pack(p), Pack(q))[0] - exact), 2.0 * ulp) << p << " / " << q;
  }
}

}  // namespace
}  // namespace perilune::test
