// CartPole against transitions and episodes recorded from Gymnasium's CartPole-v1.
#include "sims/cartpole.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include "sims/tape_random.hpp"
#include "tests/support/golden.hpp"

namespace perilune {
namespace {

constexpr CartPole::Params kStandard{false};
constexpr float kDefaults[] = {0.0f};

template <class Real>
CartPole::State<Real> state_at(const std::vector<double>& row, std::size_t column) {
  return {static_cast<Real>(row[column]), static_cast<Real>(row[column + 1]), static_cast<Real>(row[column + 2]),
          static_cast<Real>(row[column + 3])};
}

template <class Real>
std::vector<Real> fields_of(const CartPole::State<Real>& state) {
  std::vector<Real> values;
  state.fields([&](const Real& field) { values.push_back(field); });
  return values;
}

bool near_a_limit(const std::vector<double>& row) {
  return std::abs(std::abs(row[5]) - CartPole::kPositionLimit) < 1e-6 ||
         std::abs(std::abs(row[7]) - CartPole::kAngleLimit) < 1e-6;
}

TEST(CartPole, DefaultParametersAreGymnasiums) {
  ASSERT_EQ(std::size(CartPole::kParameters), std::size(kDefaults));
  EXPECT_EQ(CartPole::kParameters[0].default_value, kDefaults[0]);
  EXPECT_EQ(CartPole::params(kDefaults).sutton_barto_reward, kStandard.sutton_barto_reward);
}

TEST(CartPole, FloatStepMatchesRecordedTransitions) {
  // Rounding the inputs to float and some 20 float operations on values below 4: 1e-6 leaves a
  // factor of 3.
  constexpr double kTolerance = 1e-6;
  const auto rows = test::read_golden("cartpole_onestep.csv");
  ASSERT_EQ(rows.size(), 400u);
  int terminations = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& row = rows[i];
    auto state = state_at<float>(row, 0);
    TapeRandom<float> unused({});
    const auto outcome = CartPole::step(kStandard, state, static_cast<std::uint32_t>(row[4]), unused);
    const auto values = fields_of(state);
    for (std::size_t k = 0; k < 4; ++k) {
      const double error = std::abs(static_cast<double>(values[k]) - row[5 + k]);
      EXPECT_LE(error, kTolerance) << "row " << i << " field " << k << ": " << values[k] << " for " << row[5 + k]
                                   << ", " << 100 * error / kTolerance << "% of tolerance";
    }
    EXPECT_EQ(outcome.reward, static_cast<float>(row[13])) << "row " << i;
    if (!near_a_limit(row)) {
      EXPECT_EQ(outcome.terminated, row[14] != 0) << "row " << i;
    }
    terminations += outcome.terminated;
  }
  EXPECT_GT(terminations, 100);  // the file does exercise both outcomes
}

TEST(CartPole, DoubleStepIsGymnasiumsFloat64Step) {
  // The same operations in the same order. What may differ is sin and cos: numpy's differ between
  // its own builds, and from the C library's, by a unit in the last place, and the angular
  // acceleration magnifies that to 4.5e-16 here.
  constexpr double kTolerance = 1e-15;
  const auto rows = test::read_golden("cartpole_onestep.csv");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& row = rows[i];
    auto state = state_at<double>(row, 0);
    TapeRandom<double> unused({});
    const auto outcome = CartPole::step(kStandard, state, static_cast<std::uint32_t>(row[4]), unused);
    const auto values = fields_of(state);
    for (std::size_t k = 0; k < 4; ++k) {
      const double error = std::abs(values[k] - row[5 + k]);
      EXPECT_LE(error, kTolerance) << "row " << i << " field " << k << ": " << values[k] << " for " << row[5 + k]
                                   << ", " << 100 * error / kTolerance << "% of tolerance";
      // Positions do not depend on sin and cos.
      if (k % 2 == 0) {
        EXPECT_EQ(values[k], row[5 + k]) << "row " << i << " field " << k;
      }
    }
    EXPECT_EQ(outcome.terminated, row[14] != 0) << "row " << i;
  }
}

TEST(CartPole, DoubleReplaysRecordedEpisodes) {
  // Open loop from the recorded first state. Even episodes (random actions, up to 33 steps) must
  // end at the recorded step; the balanced ones run to the time limit and are too long to replay,
  // so what there is of their rows is checked one by one.
  const auto rows = test::read_golden("cartpole_episodes.csv");
  std::map<int, std::vector<std::vector<double>>> episodes;
  for (const auto& row : rows) episodes[static_cast<int>(row[0])].push_back(row);
  ASSERT_EQ(episodes.size(), 14u);
  TapeRandom<double> unused({});
  for (const auto& [number, steps] : episodes) {
    const bool open_loop = number % 2 == 0;
    auto state = state_at<double>(steps[0], 2);
    for (std::size_t t = 0; t < steps.size(); ++t) {
      if (!open_loop) state = state_at<double>(steps[t], 2);
      const auto outcome = CartPole::step(kStandard, state, static_cast<std::uint32_t>(steps[t][6]), unused);
      const auto values = fields_of(state);
      for (std::size_t k = 0; k < 4; ++k) {
        EXPECT_NEAR(values[k], steps[t][7 + k], 1e-12) << "episode " << number << " step " << t;
      }
      EXPECT_EQ(outcome.terminated, steps[t][12] != 0) << "episode " << number << " step " << t;
      EXPECT_EQ(outcome.reward, steps[t][11]);
    }
    if (!open_loop) {
      EXPECT_EQ(steps.back()[1], CartPole::kMaxEpisodeSteps);
      EXPECT_EQ(steps.back()[13], 1);  // truncated
    }
  }
}

TEST(CartPole, ResetUsesDrawsInGymnasiumsOrder) {
  TapeRandom<double> tape({0.01, -0.02, 0.03, -0.04});
  const auto state = CartPole::reset<double>(kStandard, tape);
  EXPECT_EQ(fields_of(state), (std::vector<double>{0.01, -0.02, 0.03, -0.04}));
  EXPECT_EQ(tape.remaining(), 0u);
}

TEST(CartPole, ResetStaysInRange) {
  for (std::uint32_t environment = 0; environment < 1000; ++environment) {
    CounterRandom<float> rng({7, 0}, environment, 0, 0, Purpose::kReset);
    const auto state = CartPole::reset<float>(kStandard, rng);
    for (const float value : fields_of(state)) EXPECT_LE(std::abs(value), 0.05f);
  }
}

TEST(CartPole, SuttonBartoReward) {
  constexpr float kValues[] = {1.0f};
  const auto params = CartPole::params(kValues);
  TapeRandom<float> unused({});
  CartPole::State<float> upright{0.0f, 0.0f, 0.0f, 0.0f};
  EXPECT_EQ(CartPole::step(params, upright, 1u, unused).reward, 0.0f);
  CartPole::State<float> falling{0.0f, 0.0f, 0.2f, 3.0f};
  const auto outcome = CartPole::step(params, falling, 1u, unused);
  EXPECT_TRUE(outcome.terminated);
  EXPECT_EQ(outcome.reward, -1.0f);
}

TEST(CartPole, ObservationIsTheState) {
  const CartPole::State<float> state{1.0f, 2.0f, 3.0f, 4.0f};
  float observation[CartPole::kObsDim];
  CartPole::observe(kStandard, state, observation);
  EXPECT_EQ(std::vector<float>(observation, observation + 4), fields_of(state));
}

TEST(CartPole, RandomPolicyEpisodeLength) {
  // Gymnasium: 22.26, standard deviation 11.80. 2e5 episodes: standard error .026; .1 is four of
  // them.
  constexpr int kEpisodes = 200000;
  std::int64_t steps = 0;
  for (std::uint32_t episode = 0; episode < kEpisodes; ++episode) {
    CounterRandom<float> reset_rng({1, 0}, 0, episode, 0, Purpose::kReset);
    auto state = CartPole::reset<float>(kStandard, reset_rng);
    CounterRandom<float> action_rng({1, 0}, 0, episode, 0, Purpose::kAction);
    bool terminated = false;
    for (int t = 0; !terminated && t < CartPole::kMaxEpisodeSteps; ++t, ++steps) {
      terminated = CartPole::step(kStandard, state, action_rng.bits() >> 31, action_rng).terminated;
    }
  }
  EXPECT_NEAR(static_cast<double>(steps) / kEpisodes, 22.26, 0.1);
}

}  // namespace
}  // namespace perilune
