// The simplified lander against the recorded flights of the full one, and the task they share.
#include "sims/lander.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "sims/lunar_lander.hpp"
#include "sims/tape_random.hpp"
#include "tests/support/lander.hpp"

namespace perilune {
namespace {

constexpr float kDefaults[] = {-10.0f, 0.0f, 15.0f, 1.5f};
constexpr float kWind[] = {-10.0f, 1.0f, 15.0f, 1.5f};

TEST(LanderTask, GustIsGymnasiumsFunctionOfTheIndex) {
  for (int k = -11000; k <= 11000; ++k) {
    const double exact = std::tanh(std::sin(0.02 * k) + std::sin(3.141592653589793 * 0.01 * k));
    // tanh is good to 3.7e-7, its argument to a few ulps of 1.
    ASSERT_NEAR(lunar::gust(static_cast<float>(k)), exact, 1e-6) << k;
  }
}

TEST(LanderTask, GroundIsSmoothedAndFlatAtThePad) {
  std::vector<double> draws;
  for (int i = 0; i < 12; ++i) draws.push_back(0.5 * i);
  TapeRandom<float> tape(draws);
  float heights[lunar::kHeights];
  lunar::draw_ground<float>(tape, heights);
  EXPECT_NEAR(heights[0], 0.33 * (5.5 + 0.0 + 0.5), 1e-6);  // the last draw comes before the first
  EXPECT_NEAR(heights[1], 0.33 * (0.0 + 0.5 + 1.0), 1e-6);
  EXPECT_NEAR(heights[2], 0.33 * (0.5 + 1.0 + 10.0 / 3), 1e-6);
  for (int i = 4; i <= 6; ++i) EXPECT_NEAR(heights[i], 3.3, 1e-6);  // not 3.333: .33 is no third
  EXPECT_NEAR(heights[10], 0.33 * (4.5 + 5.0 + 5.5), 1e-6);
}

TEST(LanderTask, SideEnginesMirrorEachOther) {
  const auto fired = [](float direction, double sideways) {
    Body<float> body = {{10, 5}, 0, {0, 0}, 0};
    TapeRandom<float> tape({0.25, sideways});
    lunar::fire_engines(lunar::Throttle<float>{0, 1, direction}, lunar::lander_mass(),
                        lunar::draw_dispersion<float>(tape), body);
    return body;
  };
  const auto left = fired(-1, 0.5), right = fired(1, -0.5);
  EXPECT_LT(left.velocity.x, 0);
  EXPECT_GT(left.spin, 0);
  EXPECT_NEAR(left.velocity.x, -right.velocity.x, 1e-6f);
  EXPECT_NEAR(left.velocity.y, right.velocity.y, 1e-6f);
  EXPECT_NEAR(left.spin, -right.spin, 1e-6f);
}

TEST(LanderTask, RewardsAreGymnasiums) {
  // Of recorded observations: reward is the change of the potential, less the fuel.
  for (const auto& episode : test::read_lander_episodes()) {
    if (episode.continuous) continue;
    float before[8], now[8];
    for (std::size_t t = 1; t < episode.steps.size(); ++t) {
      for (int i = 0; i < 8; ++i) {
        before[i] = static_cast<float>(episode.steps[t - 1].observation[i]);
        now[i] = static_cast<float>(episode.steps[t].observation[i]);
      }
      lunar::TaskState<float> task = {lunar::shaping_of(before), 0, 0};
      const auto action = static_cast<std::uint32_t>(episode.steps[t].action[0]);
      const float x = 10 + 10 * now[0];
      const bool asleep = episode.steps[t].reward == 100, crashed = episode.steps[t].terminated && !asleep;
      const auto outcome = lunar::judge(now, x, lunar::throttle<float>(action), crashed, asleep, task);
      // Potentials of up to 500 in float: a few ulps of 3e-5, and the rounding of observations.
      EXPECT_NEAR(outcome.reward, episode.steps[t].reward, 3e-4) << "seed " << episode.seed << " step " << t;
      EXPECT_EQ(outcome.terminated, episode.steps[t].terminated);
    }
  }
}

TEST(Lander, DefaultParametersAreGymnasiums) {
  ASSERT_EQ(std::size(Lander::kParameters), std::size(kDefaults));
  for (std::size_t i = 0; i < std::size(kDefaults); ++i) {
    EXPECT_EQ(Lander::kParameters[i].default_value, kDefaults[i]) << i;
  }
}

TEST(Lander, FliesLikeTheFullOne) {
  // Recorded flights for 50 steps or until a leg touches: 1e-2 m and rad on average.
  double position = 0, angle = 0;
  int count = 0;
  for (const auto& episode : test::read_lander_episodes()) {
    const auto& parameters = episode.wind ? kWind : kDefaults;
    const auto ours = episode.continuous ? test::replay<LanderContinuous, float, float>(episode, parameters)
                                         : test::replay<Lander, float, float>(episode, parameters);
    const auto t = static_cast<std::size_t>(std::min({50, episode.first_contact() - 1, ours.length()}));
    const double* theirs = episode.steps[t].bodies;
    const float* mine = ours.steps[t].bodies;
    position += std::hypot(mine[0] - theirs[0], mine[1] - theirs[1]);
    angle += std::fabs(mine[2] - theirs[2]);
    ++count;
    // The first observation is that of the affine reset.
    for (int i = 0; i < 8; ++i) {
      EXPECT_NEAR(ours.steps[0].observation[i], episode.steps[0].observation[i], 1e-3) << i;
    }
  }
  EXPECT_LT(position / count, 1e-2);
  EXPECT_LT(angle / count, 1e-2);
}

TEST(Lander, HeuristicScoresAsWithTheFullOne) {
  // The same terrains, forces and dispersions in both.
  const float full[] = {-10.0f, 0.0f, 15.0f, 1.5f, 0.0f}, full_wind[] = {-10.0f, 1.0f, 15.0f, 1.5f, 0.0f};
  const auto calm = test::fly<Lander>(kDefaults, 1000), truth = test::fly<LunarLander>(full, 1000);
  EXPECT_NEAR(calm.mean, truth.mean, 12);
  EXPECT_NEAR(calm.landed, truth.landed, 0.04);
  EXPECT_NEAR(test::fly<LanderContinuous>(kDefaults, 1000).mean, 282.8, 3);
  const auto windy = test::fly<Lander>(kWind, 500), windy_truth = test::fly<LunarLander>(full_wind, 500);
  EXPECT_NEAR(windy.mean, windy_truth.mean, 35);
  EXPECT_NEAR(windy.crashed, windy_truth.crashed, 0.10);
}

TEST(Lander, LandsOnItsLegsAndSleeps) {
  // Dropped from where it can land: both legs touch, the inner stops hold, nothing moves.
  const auto params = Lander::params(kDefaults);
  std::vector<double> draws(12, 10.0 / 3);
  draws.insert(draws.end(), {0.0, -50.0});
  draws.resize(14 + 2 * 1001, 0.0);
  TapeRandom<float> tape(draws);
  auto state = Lander::reset<float>(params, tape);
  bool braking = false;
  for (int t = 0; t < 1000; ++t) {
    float observation[8];
    Lander::observe(params, state, observation);
    // Down to 1.5 m/s, a soft landing; the original's legs bear 1.9 m/s, which break these.
    braking = observation[3] < -0.2f - 0.5f * observation[1];
    const auto outcome = Lander::step(params, state, braking ? 2u : 0u, tape);
    if (!outcome.terminated) continue;
    EXPECT_EQ(outcome.reward, 100.0f) << "step " << t;
    EXPECT_EQ(state.leg_contact[0] + state.leg_contact[1], 2.0f);
    for (const float leg : state.legs) EXPECT_NEAR(leg, lunar::kLegRest, 0.035f);
    EXPECT_NEAR(state.body.frame(lunar::lander_mass()).origin.y, 3.3f + 0.628f, 0.01f);
    return;
  }
  FAIL() << "never came to rest";
}

TEST(Lander, StaysFinite) {
  const float parameters[][4] = {{-11.9f, 1.0f, 20.0f, 2.0f}, {-0.01f, 1.0f, 20.0f, 2.0f}, {-10.0f, 0.0f, 0.0f, 0.0f}};
  for (std::uint32_t k = 0; k < std::size(parameters); ++k) {
    const auto params = LanderContinuous::params(parameters[k]);
    std::uint32_t episode = 0;
    for (int steps = 0; steps < 300'000; ++episode) {
      CounterRandom<float> reset({3, k}, 0, episode, 0, Purpose::kReset);
      auto state = LanderContinuous::reset<float>(params, reset);
      bool touched = false, terminated = false;
      for (std::uint32_t t = 0; t < 1000 && !terminated; ++t, ++steps) {
        CounterRandom<float> rng({3, k}, 0, episode, t, Purpose::kStep);
        CounterRandom<float> pilot({3, k}, 0, episode, episode % 2 ? 0 : t, Purpose::kAction);
        const LanderContinuous::Action::Value<float> action = {{pilot.uniform(-2, 2), pilot.uniform(-2, 2)}};
        const auto outcome = LanderContinuous::step(params, state, action, rng);
        terminated = outcome.terminated;
        state.fields([&](float field) { ASSERT_TRUE(std::isfinite(field)) << "step " << t; });
        ASSERT_TRUE(std::isfinite(outcome.reward));
        touched = touched || state.leg_contact[0] + state.leg_contact[1] > 0;
        ASSERT_TRUE(outcome.reward != 100.0f || touched) << "asleep in the air";
        lunar::LocalGround<float> ground(state.heights, state.body.center.x);
        ground.prepare();
        // What crashes may be a step's way inside.
        ASSERT_GT(ground.below(state.body.center).gap, -0.5f);
      }
    }
  }
}

}  // namespace
}  // namespace perilune
