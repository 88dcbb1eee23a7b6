// The formulas of ppo_loss.hpp and policy.hpp over double: derivatives against central differences, values against
// the reference.
#include "kernels/ppo_loss.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

constexpr double kStep = 1e-5;

template <int N>
struct Point {
  double logits[N];
  std::uint32_t action;
  double old_log_probability, advantage;
};

/// The categorical policy's.
template <int N>
PolicyTerms<double> loss_of(const double (&logits)[N], std::uint32_t action, double old, double advantage, double clip,
                            double ent_coef, double (&gradient)[N]) {
  using Policy = Categorical<double, N>;
  typename Policy::Gradient derivatives;
  const auto terms = perilune::policy_loss(Policy(logits, typename Policy::Spread(nullptr)), action, old, advantage,
                                           clip, ent_coef, derivatives);
  for (int i = 0; i < N; ++i) gradient[i] = derivatives.outputs[i];
  return terms;
}

template <int N>
double total_loss(const Point<N>& point, double clip, double ent_coef, double (&gradient)[N]) {
  const auto terms =
      loss_of<N>(point.logits, point.action, point.old_log_probability, point.advantage, clip, ent_coef, gradient);
  return terms.loss - ent_coef * terms.entropy;
}

/// N choices, each of which is taken.
template <int N>
void gradient_is_the_derivative() {
  Draws draws(N);
  int clipped_points = 0, checked = 0;
  while (checked < 400) {
    Point<N> point{};
    Vector logits;
    for (double& logit : point.logits) {
      logit = draws.normal();
      logits.push_back(logit);
    }
    point.action = static_cast<std::uint32_t>(checked % N);
    point.advantage = draws.normal();  // both signs
    const Vector log_p = log_softmax(logits);
    const double log_ratio = draws.uniform(-0.6, 0.6);
    point.old_log_probability = log_p[point.action] - log_ratio;
    const double clip = 0.2, ent_coef = checked / N % 2 == 0 ? 0.0 : 0.3;
    // Not at the kinks.
    if (std::abs(std::abs(std::exp(log_ratio) - 1.0) - clip) < 1e-3) continue;
    ++checked;
    double gradient[N], ignored[N];
    total_loss<N>(point, clip, ent_coef, gradient);
    const Sample sample{{}, static_cast<int>(point.action), point.old_log_probability, 0.0, point.advantage, 0.0};
    const PolicyLoss expected = policy_loss(logits, sample, {clip, ent_coef, 0.0, false});
    const auto terms =
        loss_of<N>(point.logits, point.action, point.old_log_probability, point.advantage, clip, ent_coef, ignored);
    clipped_points += terms.clipped;
    EXPECT_EQ(terms.clipped, expected.clipped);
    expect_close("loss", terms.loss, expected.loss, {1e-12, 1e-12});
    expect_close("entropy", terms.entropy, expected.entropy, {1e-12, 1e-12});
    expect_close("kl1", terms.kl1, expected.kl1, {1e-12, 1e-12});
    expect_close("kl3", terms.kl3, expected.kl3, {1e-12, 1e-12});
    for (int i = 0; i < N; ++i) {
      const double numeric = central_difference(
          [&](double x) {
            Point<N> moved = point;
            moved.logits[i] = x;
            return total_loss<N>(moved, clip, ent_coef, ignored);
          },
          point.logits[i], kStep);
      // Of the gradient's size: a difference of losses around 1 is rounded to 1e-16 / 1e-5.
      expect_close("derivative", gradient[i], numeric, {1e-9, 1e-6});
      expect_close("gradient", gradient[i], expected.gradient[at(i)], {1e-12, 1e-12});
    }
  }
  EXPECT_GT(clipped_points, 50);
}

/// As many choices as an environment has: 2 and 4.
TEST(PolicyLoss, GradientIsTheDerivative) {
  gradient_is_the_derivative<2>();
  gradient_is_the_derivative<3>();
  gradient_is_the_derivative<4>();
  gradient_is_the_derivative<5>();
}

/// Draws are of the distribution, the mode is its first maximum, and what is read of a record is what was written.
TEST(CategoricalPolicy, FourChoices) {
  using Policy = Categorical<float, 4>;
  const float logits[4] = {0.5f, -1.0f, 0.25f, 0.75f};
  const Vector log_p = log_softmax({0.5, -1.0, 0.25, 0.75});
  const Policy policy(logits, Policy::Spread(nullptr));
  constexpr int kDraws = 100000;
  double counts[4] = {};
  for (std::uint32_t step = 0; step < kDraws; ++step) {
    CounterRandom<float> random({3, 0}, 0, 0, step, Purpose::kAction);
    const std::uint32_t action = policy.sample(random);
    ASSERT_LT(action, 4u);
    ++counts[action];
    float record[1];
    Policy::write(action, record);
    ASSERT_EQ(Policy::read(record), action);
  }
  for (std::uint32_t i = 0; i < 4; ++i) {
    const double p = std::exp(log_p[i]);
    expect_close("log p", policy.log_probability_of(i), log_p[i], {1e-6, 0.0});
    EXPECT_NEAR(counts[i] / kDraws, p, 5.0 * std::sqrt(p * (1.0 - p) / kDraws)) << "choice " << i;  // standard errors
    float peak[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    EXPECT_EQ(Policy::mode(peak), 0u);
    peak[i] = 1.0f;
    EXPECT_EQ(Policy::mode(peak), i);
    if (i < 3) peak[3] = 1.0f;
    EXPECT_EQ(Policy::mode(peak), i);
  }
}

TEST(PolicyLoss, InsideTheClipRangeIsThePlainGradient) {
  double gradient[2];
  const double logits[2] = {0.0, 0.0};
  const double old = std::log(0.5);
  for (const double advantage : {2.0, -2.0}) {
    loss_of<2>(logits, 1u, old, advantage, 0.2, 0.0, gradient);
    EXPECT_NEAR(gradient[1], -0.5 * advantage, 1e-12);
    EXPECT_NEAR(gradient[0], 0.5 * advantage, 1e-12);
  }
}

/// The ratio is 1.5: beyond the range, only a negative advantage still pulls it back.
TEST(PolicyLoss, ClippingStopsOnlyWhatWouldGoFurther) {
  double gradient[2];
  const double logits[2] = {0.0, 0.0};
  const double old = std::log(0.5) - std::log(1.5);
  loss_of<2>(logits, 0u, old, 1.0, 0.2, 0.0, gradient);
  EXPECT_EQ(gradient[0], 0.0);
  loss_of<2>(logits, 0u, old, -1.0, 0.2, 0.0, gradient);
  EXPECT_NEAR(gradient[0], 0.75, 1e-12);
}

/// A Gaussian policy's inputs: means, then logarithms of standard deviations.
struct GaussianPoint {
  using Policy = DiagonalGaussian<double, 3>;
  double inputs[6];
  Policy::Action action;
  double old_log_probability, advantage;

  PolicyTerms<double> loss(double clip, double ent_coef, Policy::Gradient& gradient) const {
    const double mean[3] = {inputs[0], inputs[1], inputs[2]};
    const Policy::Spread spread(inputs + 3);
    return perilune::policy_loss(Policy(mean, spread), action, old_log_probability, advantage, clip, ent_coef,
                                 gradient);
  }
};

TEST(GaussianPolicyLoss, GradientIsTheDerivative) {
  Draws draws(4);
  int clipped_points = 0, checked = 0;
  while (checked < 400) {
    GaussianPoint point{};
    Sample sample{};
    for (int i = 0; i < 3; ++i) {
      point.inputs[i] = draws.normal();
      point.inputs[3 + i] = draws.uniform(-2.0, 1.0);
      point.action.at[i] = point.inputs[i] + std::exp(point.inputs[3 + i]) * draws.normal();
      sample.numbers.push_back(point.action.at[i]);
    }
    const Vector means(point.inputs, point.inputs + 3), log_std(point.inputs + 3, point.inputs + 6);
    const double log_ratio = draws.uniform(-0.6, 0.6);
    point.old_log_probability = log_density(means, log_std, sample.numbers) - log_ratio;
    point.advantage = draws.normal();
    sample.old_log_probability = point.old_log_probability;
    sample.advantage = point.advantage;
    const double clip = 0.2, ent_coef = checked % 2 == 0 ? 0.0 : 0.3;
    if (std::abs(std::abs(std::exp(log_ratio) - 1.0) - clip) < 1e-3) continue;  // not at the kinks
    ++checked;
    GaussianPoint::Policy::Gradient gradient, ignored;
    const auto terms = point.loss(clip, ent_coef, gradient);
    const PolicyLoss expected = gaussian_loss(means, log_std, sample, {clip, ent_coef, 0.0, false});
    clipped_points += terms.clipped;
    EXPECT_EQ(terms.clipped, expected.clipped);
    // The reference's density is an exponential that it takes the logarithm of again: 1e-12 where it is 1e-4.
    expect_close("loss", terms.loss, expected.loss, {1e-11, 1e-11});
    expect_close("entropy", terms.entropy, expected.entropy, {1e-12, 1e-12});
    expect_close("kl1", terms.kl1, expected.kl1, {1e-11, 1e-11});
    expect_close("kl3", terms.kl3, expected.kl3, {1e-11, 1e-11});
    for (std::size_t i = 0; i < 6; ++i) {
      const double numeric = central_difference(
          [&](double x) {
            GaussianPoint moved = point;
            moved.inputs[i] = x;
            const auto at_x = moved.loss(clip, ent_coef, ignored);
            return at_x.loss - ent_coef * at_x.entropy;
          },
          point.inputs[i], kStep);
      const double slope = i < 3 ? gradient.outputs[i] : gradient.spread[i - 3];
      // Standard deviations of 0.14 make the third derivative some thousands of the first: times 1e-10.
      expect_close("derivative", slope, numeric, {1e-6, 1e-6});
      expect_close("gradient", slope, i < 3 ? expected.gradient[i] : expected.log_std_gradient[i - 3], {1e-11, 1e-11});
    }
  }
  EXPECT_GT(clipped_points, 50);
}

/// What the update recomputes of an action that it reads back is what the rollout recorded: a ratio of exactly 1.
TEST(GaussianPolicy, ARecordedActionHasItsLogProbabilityAgain) {
  using Policy = DiagonalGaussian<float, 2>;
  Draws draws(5);
  CounterRandom<float> random({1, 0}, 0, 0, 0, Purpose::kAction);
  for (int i = 0; i < 1000; ++i) {
    const float mean[2] = {draws.normal(), draws.normal()};
    const float log_std[2] = {draws.normal(), draws.normal()};
    const Policy::Spread spread(log_std), again(log_std);
    const auto action = Policy(mean, spread).sample(random);
    float record[2];
    Policy::write(action, record);
    ASSERT_EQ(Policy(mean, spread).log_probability_of(action),
              Policy(mean, again).log_probability_of(Policy::read(record)));
  }
}

/// Means, variances and the covariance of draws, and the entropy as the mean of -log p.
TEST(GaussianPolicy, DrawsAreOfTheDistribution) {
  using Policy = DiagonalGaussian<float, 2>;
  const float mean[2] = {0.5f, -2.0f}, log_std[2] = {-1.0f, 0.75f};
  const Policy::Spread spread(log_std);
  const Policy policy(mean, spread);
  constexpr int kDraws = 200000;
  double sum[2] = {}, squares[2] = {}, product = 0.0, surprise = 0.0;
  for (std::uint32_t step = 0; step < kDraws; ++step) {
    CounterRandom<float> random({3, 0}, 0, 0, step, Purpose::kAction);
    const auto action = policy.sample(random);
    double z[2];
    for (int i = 0; i < 2; ++i) {
      z[i] = (action.at[i] - mean[i]) / std::exp(double{log_std[i]});
      sum[i] += z[i];
      squares[i] += z[i] * z[i];
    }
    product += z[0] * z[1];
    surprise -= policy.log_probability_of(action);
  }
  // Five standard errors: z, its square and products of two have variances of 1, 2 and 1, and -log p has one of 1.
  const double error = 5.0 / std::sqrt(double{kDraws});
  for (int i = 0; i < 2; ++i) {
    EXPECT_NEAR(sum[i] / kDraws, 0.0, error);
    EXPECT_NEAR(squares[i] / kDraws, 1.0, error * std::sqrt(2.0));
  }
  EXPECT_NEAR(product / kDraws, 0.0, error);
  EXPECT_NEAR(surprise / kDraws, policy.entropy(), error);
}

TEST(GaussianPolicy, PlaysItsMean) {
  using Policy = DiagonalGaussian<float, 2>;
  const float mean[2] = {0.5f, -2.0f}, log_std[2] = {0.0f, 0.0f};
  const Policy::Spread spread(log_std);
  CounterRandom<float> random({3, 0}, 0, 0, 0, Purpose::kAction);
  const auto greedy = choose_action<Policy>(mean, spread, true, random);
  EXPECT_EQ(greedy.at[0], mean[0]);
  EXPECT_EQ(greedy.at[1], mean[1]) << "unclipped: that is the environment's business";
  EXPECT_NE(choose_action<Policy>(mean, spread, false, random).at[0], mean[0]);
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
    const double loss_here = perilune::value_loss(value, old_value, target, clip, clip_vloss, gradient);
    const ValueLoss expected = value_loss(value, {{}, 0, 0.0, old_value, 0.0, target}, {clip, 0.0, 0.0, clip_vloss});
    expect_close("loss", loss_here, expected.loss, {0.0, 1e-12});
    expect_close("gradient", gradient, expected.gradient, {0.0, 1e-12});
    const double numeric = central_difference(
        [&](double x) { return perilune::value_loss(x, old_value, target, clip, clip_vloss, ignored); }, value, kStep);
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
