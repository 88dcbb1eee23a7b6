// Batches of whole episodes on every machine: which samples they have, what these learn, and that the rest is
// forgotten. The whole of an iteration is compared in tests/host/training/trainer_reference_test.cpp.
#include "tests/kernels/whole_iteration.hpp"

namespace perilune::test {
namespace {

class EpisodesTest : public EveryMachine {
 protected:
  struct Seen {
    std::vector<std::uint32_t> episode, elapsed;  ///< of each environment, before
  };
  /// What an iteration left, beside what its recorded ends say it should have.
  void check(const WholeIteration& training, std::size_t iteration, const Seen& before);
};

void EpisodesTest::check(const WholeIteration& training, std::size_t iteration, const Seen& before) {
  const Iteration& plan = training.plan;
  const IterationArrays& arrays = plan.arrays;
  const Control& control = *arrays.control;
  const auto ends = training.copy(arrays.ends);
  const auto rows = static_cast<int>(control.rows), count = plan.num_envs;
  ASSERT_GE(rows, 1);
  ASSERT_LE(rows, plan.num_steps);
  // CartPole's reward is 1 a step: an episode returns its length, and k steps before its end lie rewards of
  // 1 + gamma + ... + gamma^(k - 1).
  std::vector<std::uint32_t> samples;
  std::vector<float> returns;
  Vector to_go;
  int steps_before_the_last = 0;
  for (int n = 0; n < count; ++n) {
    int length = 0, begin = 0;
    std::uint32_t episodes = 0;
    for (int t = 0; t < rows; ++t) {
      if (ends[at(t * count + n)] == 0) continue;
      for (int k = begin; k <= t; ++k) {
        samples.push_back(static_cast<std::uint32_t>(k * count + n));
        to_go.push_back((1.0 - std::pow(plan.hyper.gamma, t - k + 1)) / (1.0 - plan.hyper.gamma));
      }
      returns.push_back(static_cast<float>(t + 1 - begin));
      if (t + 1 < rows) steps_before_the_last += t + 1 - begin;
      begin = length = t + 1;
      ++episodes;
    }
    EXPECT_EQ(arrays.ended_lengths[n], static_cast<float>(length));
    EXPECT_EQ(arrays.ended_episodes[n], static_cast<float>(episodes));
    const std::uint32_t first = before.episode[at(n)] + (before.elapsed[at(n)] > 0 ? 1 : 0);
    EXPECT_EQ(arrays.episode[n], first + episodes) << "an episode that had begun is dropped";
    EXPECT_EQ(arrays.elapsed[n], static_cast<std::uint32_t>(rows - length));
  }
  EXPECT_GE(static_cast<int>(samples.size()), plan.whole_steps);
  EXPECT_LT(steps_before_the_last, plan.whole_steps) << "it went on after there was enough";
  ASSERT_EQ(control.samples, samples.size());
  EXPECT_EQ(control.stop_policy, 0u);
  EXPECT_EQ(training.metrics(iteration).steps, samples.size());
  EXPECT_EQ(training.metrics(iteration).values[Metric::kEpisodes], static_cast<float>(returns.size()));
  expect_same_bits("sample", std::vector<std::uint32_t>(arrays.samples, arrays.samples + samples.size()), samples);
  const float* const told = training.returns(iteration);
  expect_same_bits("return", std::vector<float>(told, told + returns.size()), returns);

  Vector advantages, targets, residuals;
  std::vector<float> got_targets, got_advantages;
  const int value_at = 6;  // of a record: after four observations, the action and its log-probability
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const double value = arrays.records[samples[i] * at(plan.kernels->record_floats) + value_at];
    targets.push_back(to_go[i]);
    advantages.push_back(to_go[i] - value);
    residuals.push_back(to_go[i] - value);
    got_targets.push_back(arrays.values[samples[i]]);
    got_advantages.push_back(arrays.advantages[samples[i]]);
  }
  // 2e-6: some 15 rounded sums around 10.
  expect_close("target", got_targets, targets, {1e-6, 2e-6});
  expect_close("advantage", got_advantages, advantages, {5e-6, 2e-6});
  expect_close("mean", control.advantage_mean, mean(advantages), {1e-5, 1e-5});
  expect_close("deviation", control.advantage_std, std::sqrt(sample_variance_of(advantages)), {1e-5, 1e-5});
  expect_close("target variance", control.target_variance, sample_variance_of(targets), {1e-4, 1e-5});
  expect_close("residual variance", control.residual_variance, sample_variance_of(residuals), {1e-4, 1e-5});
}

TEST_P(EpisodesTest, AreWholeAndEnough) {
  if (!tests(0, 2)) return;
  for (const EpisodeShape shape : {EpisodeShape{1, 1}, {1, 50}, {7, 1}, {7, 100}, {37, 500}, {65, 1000}}) {
    SCOPED_TRACE(std::to_string(shape.environments) + " environments, " + std::to_string(shape.least_steps) + " steps");
    WholeIteration training(subject(), machine(), 1, true, kCartPole, false, shape);
    training.plan.hyper.gae_lambda = 1.0f;
    training.plan.hyper.bootstrap_truncated = false;
    training.reset(queue());
    finish();
    for (std::size_t iteration = 0; iteration < 3; ++iteration) {
      const Seen before{training.copy(training.plan.arrays.episode), training.copy(training.plan.arrays.elapsed)};
      training.launch(queue());
      finish();
      check(training, iteration, before);
      EXPECT_EQ(training.control().nonfinite, NonFinite::kNone);
    }
    EXPECT_EQ(training.control().steps,
              training.metrics(0).steps + training.metrics(1).steps + training.metrics(2).steps);
  }
}

/// What is in memory where no sample of the batch is has no say: the same bits, whatever there was before.
TEST_P(EpisodesTest, NothingElseCounts) {
  if (!tests(0, 2)) return;
  std::vector<float> first;
  for (const float old : {0.0f, -3.0f, std::numeric_limits<float>::quiet_NaN()}) {
    WholeIteration training(subject(), machine(), 1, true, kCartPole, false, {7, 60});
    const IterationArrays& arrays = training.plan.arrays;
    const std::size_t samples = at(training.plan.batch_size());
    std::fill_n(arrays.records, samples * at(training.plan.kernels->record_floats), old);
    std::fill_n(arrays.rewards, samples, old);
    std::fill_n(arrays.values, samples, old);
    std::fill_n(arrays.ends, samples, static_cast<std::uint8_t>(old == 0.0f));
    std::fill_n(arrays.samples, samples, old == 0.0f ? 0u : 0x7FFFFFFFu);
    training.reset(queue());
    training.launch(queue());
    finish();
    const std::vector<float> parameters = training.copy(arrays.parameters);
    if (first.empty()) first = parameters;
    expect_same_bits("parameter", parameters, first);
  }
}

PERILUNE_ON_EVERY_MACHINE(EpisodesTest);

}  // namespace
}  // namespace perilune::test
