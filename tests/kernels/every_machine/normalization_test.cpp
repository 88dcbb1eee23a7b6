// Running statistics of observations and rewards, and what is normalised by them, against the formulas of Gymnasium's
// wrappers and VecNormalize in double, sample by sample.
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

/// Mean and variance of all samples so far by their definition; it begins with a part of one of mean 0 and variance 1.
class SlowStatistics {
 public:
  explicit SlowStatistics(double first) : first_(first) {}
  void add(double x) { samples_.push_back(x); }
  double count() const { return first_ + static_cast<double>(samples_.size()); }
  double mean() const {
    double sum = 0.0;
    for (const double x : samples_) sum += x;
    return sum / count();
  }
  double variance() const {
    const double about = mean();
    double squares = first_ * (1.0 + about * about);
    for (const double x : samples_) squares += (x - about) * (x - about);
    return squares / count();
  }

 private:
  double first_;
  std::vector<double> samples_;
};

/// Statistics in the subject's memory; a run begins with 1e-4 samples.
struct Statistics {
  Statistics(const Subject& on, int numbers, float first = 1e-4f)
      : mean(on, at(numbers)),
        variance(on, at(numbers)),
        rest(on, at(2 * numbers + 1)),
        count(on, 1),
        slow(at(numbers), SlowStatistics(double{first})) {
    mean.fill(0.0f);
    variance.fill(1.0f);
    rest.fill(0.0f);
    count[0] = first;
  }
  RunningStatistics args() {
    return {static_cast<int>(mean.size()), mean.data(), variance.data(), count.data(), rest.data()};
  }
  double mean_of(std::size_t i) const { return double{mean[i]} + double{rest[i]}; }
  double variance_of(std::size_t i) const { return double{variance[i]} + double{rest[mean.size() + i]}; }

  /// `resolution`: half the distance of floats about the samples, which a batch's mean is rounded by.
  void expect(double resolution) const {
    for (std::size_t i = 0; i < slow.size(); ++i) {
      const double std = std::sqrt(slow[i].variance());
      // Sums of some thousand differences, rounded to 6e-8 each; a batch's mean is a float.
      expect_close("mean", mean_of(i), slow[i].mean(), {1e-6 * std + resolution, 1e-7});
      expect_close("variance", variance_of(i), slow[i].variance(), {(2.0 * std + resolution) * resolution, 3e-6});
      EXPECT_GT(variance[i], 0.0f);
    }
    expect_close("count", double{count[0]} + double{rest[rest.size() - 1]}, slow[0].count(), {0.0, 1e-12});
  }

  Buffer<float> mean, variance, rest, count;
  std::vector<SlowStatistics> slow;
};

struct Sizes {
  int count, num_steps, numbers;
};

class NormalizationTest : public EveryMachine {
 protected:
  /// Numbers about `offset`, of which some are constant, drifting from rollout to rollout.
  static float draw(Draws& draws, int number, int rollout, double offset, double spread) {
    if (number % 3 == 2) return static_cast<float>(offset);
    return static_cast<float>(offset + spread * (1.0 + 0.5 * number) * (double{draws.normal()} + 0.7 * rollout));
  }

  void check_observations(const Sizes& s, double offset, double spread, float clip, std::uint64_t seed,
                          float first = 1e-4f) {
    SCOPED_TRACE(std::to_string(s.count) + " x " + std::to_string(s.num_steps) + ", " + std::to_string(s.numbers) +
                 " numbers about " + std::to_string(offset));
    const int record_floats = (s.numbers + 3 + 7) / 8 * 8, samples = s.count * s.num_steps;
    Draws draws(seed);
    Statistics statistics(subject(), s.numbers, first);
    Buffer<float> records(subject(), at(samples) * at(record_floats)), running(subject(), kMetrics);
    Buffer<float> moments(subject(), at(statistics_moments(s.numbers) * machine().gae_blocks(s.count)));
    Buffer<Control> control(subject(), 1);
    control[0] = fresh_control();
    for (int rollout = 0; rollout < 3; ++rollout) {
      std::vector<float> expected_rest, actual_rest;
      Vector expected, actual;
      std::vector<Vector> raw(at(s.numbers));
      for (int n = 0; n < samples; ++n) {
        float* const record = &records[at(n * record_floats)];
        for (int i = 0; i < record_floats; ++i) {
          record[i] = i < s.numbers ? draw(draws, i, rollout, offset, spread) : draws.normal();
          if (i >= s.numbers) expected_rest.push_back(record[i]);
        }
        for (int i = 0; i < s.numbers; ++i) {
          raw[at(i)].push_back(record[i]);
          const double mean = statistics.mean[at(i)], variance = statistics.variance[at(i)];
          expected.push_back(std::clamp((record[i] - mean) / std::sqrt(variance + 1e-8), double{-clip}, double{clip}));
        }
      }
      machine().normalize_observations({control.data(), statistics.args(), clip, record_floats, records.data(),
                                        moments.data(), s.count, s.num_steps, running.data()},
                                       queue());
      finish();
      for (int n = 0; n < samples; ++n) {
        const float* const record = &records[at(n * record_floats)];
        actual.insert(actual.end(), record, record + s.numbers);
        actual_rest.insert(actual_rest.end(), record + s.numbers, record + record_floats);
      }
      expect_same_bits("rest of a record", actual_rest, expected_rest);
      expect_close("normalised observation", actual, expected, {1e-30, 3e-7});  // three roundings
      double sum = 0.0;
      for (std::size_t i = 0; i < raw.size(); ++i) {
        for (const double x : raw[i]) statistics.slow[i].add(x);
        sum += std::sqrt(statistics.slow[i].variance() + 1e-8) / s.numbers;
      }
      statistics.expect(std::abs(offset) * 6e-8);
      expect_close("metric", running[Metric::kObservationStd], sum, {std::abs(offset) * 6e-8, 3e-6});
      EXPECT_EQ(control[0].moments_ticket, 0u) << "the next launch would miss its last block";
    }
  }

  void check_rewards(int count, int num_steps, double clip, std::uint64_t seed) {
    SCOPED_TRACE(std::to_string(count) + " x " + std::to_string(num_steps));
    const int samples = count * num_steps;
    Draws draws(seed);
    Statistics statistics(subject(), 1);
    Buffer<float> rewards(subject(), at(samples)), bootstraps(subject(), at(samples)), running(subject(), kMetrics);
    Buffer<float> kept(subject(), std::vector<float>(at(count), 0.0f));
    Buffer<float> moments(subject(), at(statistics_moments(1) * machine().gae_blocks(count)));
    Buffer<std::uint8_t> ends(subject(), at(samples));
    Buffer<Control> control(subject(), 1);
    control[0] = fresh_control();
    Vector discounted(at(count), 0.0);
    const double gamma = 0.97;
    const Hyperparameters hyper = rounded({.gamma = gamma, .clip_reward = clip}, {}, 1);
    for (int rollout = 0; rollout < 3; ++rollout) {
      Vector raw, expected;
      for (int t = 0; t < num_steps; ++t) {
        for (int n = 0; n < count; ++n) {
          const std::size_t i = at(t * count + n);
          rewards[i] = 20.0f + 10.0f * draws.normal() + 30.0f * static_cast<float>(rollout);
          ends[i] = draws.uniform(0.0, 1.0) < 0.1 ? 1 : 0;
          bootstraps[i] = ends[i] != 0 ? draws.normal() : 0.0f;
          raw.push_back(rewards[i]);
          discounted[at(n)] = discounted[at(n)] * double{hyper.gamma} + double{rewards[i]};
          statistics.slow[0].add(discounted[at(n)]);
          if (ends[i] != 0) discounted[at(n)] = 0.0;
        }
      }
      machine().discount_rewards({hyper, control.data(), statistics.args(), rewards.data(), ends.data(), kept.data(),
                                  moments.data(), count, num_steps, running.data()},
                                 queue());
      machine().scale_rewards({hyper, statistics.args(), rewards.data(), bootstraps.data(), samples}, queue());
      finish();
      const double std = std::sqrt(statistics.slow[0].variance() + 1e-8);
      for (std::size_t i = 0; i < raw.size(); ++i) {
        expected.push_back(std::clamp(raw[i] / std, -clip, clip) + double{bootstraps[i]});
      }
      statistics.expect(1e-4);  // a return of some hundred is rounded at each step
      expect_close("discounted return", kept.copy(), discounted, {0.0, 1e-6});
      expect_close("reward", rewards.copy(), expected, {1e-6, 1e-5});
      expect_close("metric", running[Metric::kReturnStd], std, {0.0, 1e-5});
      EXPECT_EQ(control[0].moments_ticket, 0u);
    }
  }
};

TEST_P(NormalizationTest, Observations) {
  std::uint64_t seed = 0;
  for (const Sizes& s : {Sizes{37, 53, 4}, {1, 1, 1}, {1, 70, 5}, {257, 3, 8}, {33, 9, 24}, {65, 1, 3}}) {
    check_observations(s, 0.0, 1.0, 1.5f, ++seed);
    check_observations(s, 0.3, 10.0, 10.0f, ++seed);
  }
}

/// Deviations of a hundredth about a thousand, whose squares differ in their last bits alone; what a run begins with is
/// far away as well, or weighs nothing.
TEST_P(NormalizationTest, ObservationsFarFromZero) {
  check_observations({37, 53, 4}, 1000.0, 0.01, 10.0f, 21);
  check_observations({37, 53, 4}, 1000.0, 0.01, 10.0f, 22, 1e-30f);
  check_observations({5, 200, 7}, -3e4, 1.0, 10.0f, 23, 1e-30f);
}

/// What is not clipped may be large, and infinity is where it lies.
TEST_P(NormalizationTest, ObservationsThatAreNotClipped) {
  check_observations({37, 11, 4}, 5.0, 100.0, std::numeric_limits<float>::infinity(), 24);
}

TEST_P(NormalizationTest, Rewards) {
  std::uint64_t seed = 30;
  for (const auto& [count, num_steps] : {std::pair(37, 53), {1, 1}, {1, 90}, {257, 4}, {65, 17}}) {
    check_rewards(count, num_steps, 10.0, ++seed);
    check_rewards(count, num_steps, 0.3, ++seed);
  }
}

/// What is not finite is told, also where it would be clipped, and stays out of the statistics.
TEST_P(NormalizationTest, FindsWhatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Statistics statistics(subject(), 6);
    const int count = 37;
    Buffer<float> records(subject(), std::vector<float>(at(count * 16), 0.5f)), running(subject(), kMetrics);
    Buffer<float> moments(subject(), at(statistics_moments(6) * machine().gae_blocks(count)));
    Buffer<float> rewards(subject(), std::vector<float>(at(count), 1.0f));
    Buffer<float> kept(subject(), std::vector<float>(at(count), 0.0f));
    Buffer<std::uint8_t> ends(subject(), std::vector<int>(at(count), 0));
    Buffer<Control> control(subject(), 1);
    control[0] = fresh_control();
    records[16 * 30 + 4] = bad;
    machine().normalize_observations(
        {control.data(), statistics.args(), 10.0f, 16, records.data(), moments.data(), count, 1, running.data()},
        queue());
    finish();
    EXPECT_EQ(control[0].nonfinite, NonFinite::kObservation);
    EXPECT_EQ(std::isnan(records[16 * 30 + 4]), std::isnan(bad));
    for (const std::size_t i : {0, 1, 2, 3, 4, 5}) {
      EXPECT_TRUE(std::isfinite(statistics.mean[i]) && std::isfinite(statistics.variance[i]));
      EXPECT_NEAR(statistics.mean[i], i == 4 ? 0.0 : 0.5, 1e-5);
    }
    control[0] = fresh_control();
    rewards[30] = bad;
    Statistics returns(subject(), 1);
    machine().discount_rewards({plain_hyperparameters(), control.data(), returns.args(), rewards.data(), ends.data(),
                                kept.data(), moments.data(), count, 1, running.data()},
                               queue());
    finish();
    EXPECT_EQ(control[0].nonfinite, NonFinite::kReturn);
    EXPECT_EQ(returns.variance[0], 1.0f);
  }
}

/// Thousands of small rollouts: what each changes is less than the last bit of a float.
TEST_P(NormalizationTest, LongRunsLoseNothing) {
  if (subject().speed != Speed::kNative) GTEST_SKIP() << "takes minutes on this machine";
  constexpr int kRollouts = 40000, kCount = 7;
  Draws draws(50);
  Statistics statistics(subject(), 1);
  Buffer<float> records(subject(), at(kCount * 8)), running(subject(), kMetrics);
  Buffer<float> moments(subject(), at(statistics_moments(1) * machine().gae_blocks(kCount)));
  Buffer<Control> control(subject(), 1);
  control[0] = fresh_control();
  for (int rollout = 0; rollout < kRollouts; ++rollout) {
    for (int n = 0; n < kCount; ++n) {
      records[at(8 * n)] = 300.0f + draws.normal();
      statistics.slow[0].add(records[at(8 * n)]);
    }
    machine().normalize_observations(
        {control.data(), statistics.args(), 10.0f, 8, records.data(), moments.data(), kCount, 1, running.data()},
        queue());
    finish();
  }
  // A float's steps are 3e-5 at 300, half of which each of 40000 additions would lose.
  expect_close("mean", statistics.mean_of(0), statistics.slow[0].mean(), {1e-6, 0.0});
  expect_close("variance", statistics.variance_of(0), statistics.slow[0].variance(), {0.0, 1e-5});
  expect_close("count", statistics.count[0], kRollouts * kCount, {1e-3, 0.0});
}

PERILUNE_ON_EVERY_MACHINE(NormalizationTest);

}  // namespace
}  // namespace perilune::test
