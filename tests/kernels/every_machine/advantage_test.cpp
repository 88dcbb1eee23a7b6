// Gae, and the moments it leaves, against sums written from the definition.
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

/// steps[n][t], and one value after the last step for each environment.
struct Trajectories {
  std::vector<std::vector<Step>> steps;
  Vector last_values;
};

Trajectories draw(int count, int num_steps, double end_probability, Draws& draws) {
  Trajectories result;
  for (int n = 0; n < count; ++n) {
    std::vector<Step> steps;
    for (int t = 0; t < num_steps; ++t) {
      const double u = draws.uniform(0.0, 1.0);
      steps.push_back({draws.uniform(-1.0, 1.0), draws.normal(), u < 0.5 * end_probability,
                       u >= 0.5 * end_probability && u < end_probability, draws.normal()});
    }
    result.steps.push_back(steps);
    result.last_values.push_back(draws.normal());
  }
  return result;
}

class AdvantageTest : public EveryMachine {
 protected:
  void check(const Trajectories& trajectories, double gamma, double lambda, bool discounted) {
    const int count = static_cast<int>(trajectories.steps.size());
    const int num_steps = static_cast<int>(trajectories.steps[0].size());
    const std::size_t size = at(count * num_steps);
    Buffer<float> rewards(subject(), size), values(subject(), size + at(count));
    Buffer<float> moments(subject(), at(machine().gae_blocks(count) * kBatchMoments));
    Buffer<std::uint8_t> ends(subject(), size);
    Buffer<Control> control(subject(), 1);
    control[0] = fresh_control();
    Vector advantages(size), targets(size), residuals(size);
    for (int n = 0; n < count; ++n) {
      const std::vector<Step>& steps = trajectories.steps[at(n)];
      const auto expected = advantages_of(steps, trajectories.last_values[at(n)], gamma, lambda);
      for (int t = 0; t < num_steps; ++t) {
        const Step& step = steps[at(t)];
        const std::size_t i = at(t * count + n);
        // What a rollout stores: the value of a truncated episode's last observation is in the
        // reward.
        rewards[i] = static_cast<float>(step.reward + (step.truncated ? gamma * step.final_value : 0.0));
        values[i] = static_cast<float>(step.value);
        ends[i] = step.terminated || step.truncated;
        const Advantage& a = expected[at(t)];
        advantages[i] = a.advantage;
        targets[i] = discounted ? a.discounted_return : a.advantage + step.value;
        residuals[i] = targets[i] - step.value;
      }
      values[size + at(n)] = static_cast<float>(trajectories.last_values[at(n)]);
    }
    // The advantages take the place of the rewards, as the contract allows.
    const ValueTarget target = discounted ? ValueTarget::kDiscounted : ValueTarget::kLambda;
    machine().gae({rounded({.gamma = gamma, .gae_lambda = lambda}, {.value_target = target}, 1), control.data(),
                   rewards.data(), values.data(), ends.data(), rewards.data(), moments.data(), count, num_steps},
                  queue());
    finish();
    // Sums of up to 50 terms around 1, each rounded to 6e-8; stored rewards are rounded once more.
    const Tolerance tolerance{1e-5, 1e-6};
    std::vector<float> got_targets = values.copy();
    const std::vector<float> last(got_targets.begin() + static_cast<std::ptrdiff_t>(size), got_targets.end());
    got_targets.resize(size);
    expect_close("advantage", rewards.copy(), advantages, tolerance);
    expect_close("target", got_targets, targets, tolerance);
    expect_close("last value", last, trajectories.last_values, {0.0, 0.0});
    EXPECT_EQ(control[0].moments_ticket, 0u) << "the next launch would miss its last block";
    if (size < 2) return;
    // Differences of float sums: relative 1e-5 of the mean square.
    const double n = static_cast<double>(size);
    const auto variance_tolerance = [&](const Vector& x) {
      double squares = 0.0;
      for (double value : x) squares += value * value;
      return Tolerance{1e-5 * squares / (n - 1.0), 1e-5};
    };
    expect_close("advantage mean", control[0].advantage_mean, mean(advantages), {2e-6, 1e-5});
    expect_close("advantage variance", std::pow(double{control[0].advantage_std}, 2), sample_variance_of(advantages),
                 variance_tolerance(advantages));
    expect_close("target variance", control[0].target_variance, sample_variance_of(targets),
                 variance_tolerance(targets));
    expect_close("residual variance", control[0].residual_variance, sample_variance_of(residuals),
                 variance_tolerance(residuals));
  }
};

TEST_P(AdvantageTest, RandomEnds) {
  std::uint64_t seed = 0;
  for (const int count : {1, 7, 31, 33, 65, 97, 257}) {
    for (const double lambda : {0.0, 0.95, 1.0}) {
      for (const bool discounted : {false, true}) {
        Draws draws(++seed);
        check(draw(count, 1 + draws.below(20), 0.2, draws), 0.97, lambda, discounted);
      }
    }
  }
}

TEST_P(AdvantageTest, NoEnds) {
  Draws draws(9);
  check(draw(33, 50, 0.0, draws), 0.99, 0.95, false);
}

/// One environment for each position of a single end, terminated in the first half and truncated in
/// the second.
TEST_P(AdvantageTest, AnEndAtEveryPosition) {
  Draws draws(10);
  const int num_steps = 9;
  Trajectories trajectories = draw(2 * num_steps, num_steps, 0.0, draws);
  for (int n = 0; n < 2 * num_steps; ++n) {
    Step& step = trajectories.steps[at(n)][at(n % num_steps)];
    (n < num_steps ? step.terminated : step.truncated) = true;
  }
  for (const double lambda : {0.0, 0.9, 1.0}) {
    check(trajectories, 0.98, lambda, false);
    check(trajectories, 0.98, lambda, true);
  }
}

TEST_P(AdvantageTest, EveryStepEnds) {
  Draws draws(11);
  check(draw(7, 5, 1.0, draws), 0.9, 0.8, false);
}

/// A critic that is nearly right, one that is off by a constant, and one that knows nothing, where all returns are
/// nearly the same: the variances are smaller than what sums of squares in float32 could tell.
TEST_P(AdvantageTest, VarianceOfNumbersFarFromZero) {
  std::uint64_t seed = 20;
  for (const int count : {1, 7, 33, 257}) {
    for (const int num_steps : {2, 37}) {
      for (const double critic : {100.0, 60.0, 0.0}) {
        Draws draws(++seed);
        const std::size_t size = at(count * num_steps);
        Vector returns, predictions;
        for (std::size_t i = 0; i < size; ++i) {
          returns.push_back(draws.normal() * 0.01 + 100.0);
          predictions.push_back(critic == 0.0 ? 0.0 : returns[i] - 100.0 + critic + draws.normal() * 0.003);
        }
        predictions.resize(size + at(count), critic);
        Buffer<float> rewards(subject(), returns), values(subject(), predictions), advantages(subject(), size);
        Buffer<float> moments(subject(), at(machine().gae_blocks(count) * kBatchMoments));
        Buffer<std::uint8_t> ends(subject(), std::vector<std::uint8_t>(size, 1));
        Buffer<Control> control(subject(), 1);
        control[0] = fresh_control();
        const std::vector<float> old_values = values.copy();
        machine().gae({rounded({}, {.value_target = ValueTarget::kDiscounted}, 1), control.data(), rewards.data(),
                       values.data(), ends.data(), advantages.data(), moments.data(), count, num_steps},
                      queue());
        finish();
        // Of the numbers that were written: roundings of means to float32 at 100, 4e-6 of a deviation of 0.003 or 0.01,
        // over the root of how many numbers there are.
        const Vector targets(values.begin(), values.begin() + size), got(advantages.begin(), advantages.end());
        Vector residuals;
        for (std::size_t i = 0; i < size; ++i) residuals.push_back(targets[i] - double{old_values[i]});
        const Tolerance tolerance{0.0, 1e-5 + 4e-3 / std::sqrt(static_cast<double>(size))};
        SCOPED_TRACE(std::to_string(count) + " x " + std::to_string(num_steps) + ", critic " + std::to_string(critic));
        const double advantage_variance = std::pow(double{control[0].advantage_std}, 2);
        expect_close("target variance", control[0].target_variance, sample_variance_of(targets), tolerance);
        expect_close("residual variance", control[0].residual_variance, sample_variance_of(residuals), tolerance);
        expect_close("advantage variance", advantage_variance, sample_variance_of(got), tolerance);
        expect_close("advantage mean", control[0].advantage_mean, mean(got), {1e-9, 1e-7});
      }
    }
  }
}

PERILUNE_ON_EVERY_MACHINE(AdvantageTest);

}  // namespace
}  // namespace perilune::test
