// The formulas of ppo_loss.hpp over double: derivatives against central differences, values against
// the reference.
#include "kernels/ppo_loss.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

constexpr double kStep = 1e-5;

struct Point {
  double logits[3];
  std::uint32_t action;
  double old_log_probability, advantage;
};

double total_loss(const Point& point, double clip, double ent_coef, double (&gradient)[3]) {
  const auto terms =
      perilune::policy_loss<double, 3>(point.logits, point.action, point.old_log_probability,
                                       point.advantage, clip, ent_coef, gradient);
  return terms.loss - ent_coef * terms.entropy;
}

TEST(PolicyLoss, GradientIsTheDerivative) {
  Draws draws(1);
  int clipped_points = 0, checked = 0;
  while (checked < 400) {
    Point point{{draws.normal(), draws.normal(), draws.normal()},
                static_cast<std::uint32_t>(draws.below(3)),
                0.0,
                draws.normal()};  // both signs
    const Vector log_p = log_softmax({point.logits[0], point.logits[1], point.logits[2]});
    const double log_ratio = draws.uniform(-0.6, 0.6);
    point.old_log_probability = log_p[point.action] - log_ratio;
    const double clip = 0.2, ent_coef = checked % 2 == 0 ? 0.0 : 0.3;
    // Not at the kinks.
    if (std::abs(std::abs(std::exp(log_ratio) - 1.0) - clip) < 1e-3) continue;
    ++checked;
    double gradient[3], ignored[3];
    total_loss(point, clip, ent_coef, gradient);
    const Sample sample{
        {}, static_cast<int>(point.action), point.old_log_probability, 0.0, point.advantage, 0.0};
    const PolicyLoss expected = policy_loss({point.logits[0], point.logits[1], point.logits[2]},
                                            sample, {clip, ent_coef, 0.0, false});
    const auto terms =
        perilune::policy_loss<double, 3>(point.logits, point.action, point.old_log_probability,
                                         point.advantage, clip, ent_coef, ignored);
    clipped_points += terms.clipped;
    EXPECT_EQ(terms.clipped, expected.clipped);
    expect_close("loss", terms.loss, expected.loss, {1e-12, 1e-12});
    expect_close("entropy", terms.entropy, expected.entropy, {1e-12, 1e-12});
    expect_close("kl1", terms.kl1, expected.kl1, {1e-12, 1e-12});
    expect_close("kl3", terms.kl3, expected.kl3, {1e-12, 1e-12});
    for (std::size_t i = 0; i < 3; ++i) {
      const double numeric = central_difference(
          [&](double x) {
            Point moved = point;
            moved.logits[i] = x;
            return total_loss(moved, clip, ent_coef, ignored);
          },
          point.logits[i], kStep);
      // Of the gradient's size: a difference of losses around 1 is rounded to 1e-16 / 1e-5.
      expect_close("derivative", gradient[i], numeric, {1e-9, 1e-6});
      expect_close("gradient", gradient[i], expected.gradient[i], {1e-12, 1e-12});
    }
  }
  EXPECT_GT(clipped_points, 50);
}

TEST(PolicyLoss, InsideTheClipRangeIsThePlainGradient) {
  double gradient[2];
  const double logits[2] = {0.0, 0.0};
  const double old = std::log(0.5);
  for (const double advantage : {2.0, -2.0}) {
    perilune::policy_loss<double, 2>(logits, 1u, old, advantage, 0.2, 0.0, gradient);
    EXPECT_NEAR(gradient[1], -0.5 * advantage, 1e-12);
    EXPECT_NEAR(gradient[0], 0.5 * advantage, 1e-12);
  }
}

/// The ratio is 1.5: beyond the range, only a negative advantage still pulls it back.
TEST(PolicyLoss, ClippingStopsOnlyWhatWouldGoFurther) {
  double gradient[2];
  const double logits[2] = {0.0, 0.0};
  const double old = std::log(0.5) - std::log(1.5);
  perilune::policy_loss<double, 2>(logits, 0u, old, 1.0, 0.2, 0.0, gradient);
  EXPECT_EQ(gradient[0], 0.0);
  perilune::policy_loss<double, 2>(logits, 0u, old, -1.0, 0.2, 0.0, gradient);
  EXPECT_NEAR(gradient[0], 0.75, 1e-12);
}

TEST(ValueLoss, GradientIsTheDerivative) {
  Draws draws(2);
  int dead = 0, checked = 0;
  while (checked < 400) {
    const bool clip_vloss = checked % 2 == 1;
    const double value = draws.normal(), old_value = value + draws.uniform(-0.6, 0.6);
    const double target = draws.normal(), clip = 0.2;
    const double limited = old_value + std::clamp(value - old_value, -clip, clip);
    if (std::abs(std::abs(value - old_value) - clip) < 1e-3 ||
        (limited != value && std::abs(value + limited - 2.0 * target) < 1e-3)) {
      continue;
    }
    ++checked;
    double gradient = 0.0, ignored = 0.0;
    const double loss_here =
        perilune::value_loss(value, old_value, target, clip, clip_vloss, gradient);
    const ValueLoss expected =
        value_loss(value, {{}, 0, 0.0, old_value, 0.0, target}, {clip, 0.0, 0.0, clip_vloss});
    expect_close("loss", loss_here, expected.loss, {0.0, 1e-12});
    expect_close("gradient", gradient, expected.gradient, {0.0, 1e-12});
    const double numeric = central_difference(
        [&](double x) {
          return perilune::value_loss(x, old_value, target, clip, clip_vloss, ignored);
        },
        value, kStep);
    expect_close("derivative", gradient, numeric, {1e-9, 1e-6});
    dead += gradient == 0.0;
  }
  EXPECT_GT(dead, 20);
}

/// old + (value - old) is not value in floating point; clipping must not take it for a step out of
/// the range.
TEST(ValueLoss, RoundingDoesNotClip) {
  Draws draws(3);
  for (int i = 0; i < 10000; ++i) {
    const float value = draws.uniform(-1.0, 1.0);
    const float old_value = value + draws.uniform(-0.19, 0.19), target = draws.uniform(-2.0, 2.0);
    float gradient = 0.0f;
    perilune::value_loss(value, old_value, target, 0.2f, true, gradient);
    ASSERT_EQ(gradient, value - target) << "value " << value << ", old " << old_value;
  }
}

}  // namespace
}  // namespace perilune::test
