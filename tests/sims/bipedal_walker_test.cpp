// BipedalWalker against recorded episodes of Gymnasium's, to the bit where the arithmetic is Box2D's, and what a reset,
// the lidar and the solvers promise. tests/gymnasium compares it with the real environment in distribution.
#include "sims/bipedal_walker.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "sims/box2d_float.hpp"
#include "sims/tape_random.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/polygon.hpp"

namespace perilune {
namespace {

constexpr BipedalWalker::Params kParams;
constexpr int kBodyValues = 6 * BipedalWalker::kBodies;

/// A row of bipedal_walker_steps.csv.
struct RecordedStep {
  double action[4];
  double reward;
  bool terminated;
  double observation[24];
  double bodies[kBodyValues];
};
/// steps[0] is the one inside reset.
struct RecordedEpisode {
  std::vector<double> draws;  // heights, force
  std::vector<RecordedStep> steps;
};

std::vector<RecordedEpisode> read_episodes() {
  std::vector<RecordedEpisode> episodes;
  const auto steps = test::read_golden("bipedal_walker_steps.csv");
  std::size_t row = 0;
  for (const auto& start : test::read_golden("bipedal_walker_episodes.csv")) {
    RecordedEpisode& episode = episodes.emplace_back();
    episode.draws.assign(start.begin() + 2, start.end());
    episode.draws.push_back(start[1]);
    for (; row < steps.size() && steps[row][0] == start[0]; ++row) {
      const double* values = steps[row].data();
      RecordedStep& step = episode.steps.emplace_back();
      std::copy_n(values + 2, 4, step.action);
      step.reward = values[6];
      step.terminated = values[7] != 0;
      std::copy_n(values + 8, 24, step.observation);
      std::copy_n(values + 32, kBodyValues, step.bodies);
    }
  }
  return episodes;
}

/// Replays an episode until one of both ends; f(t, state, outcome) is called for each step, the reset's (0) with no
/// reward.
template <class Real, class Draw, class F>
void replay(const RecordedEpisode& episode, F&& f) {
  TapeRandom<Draw> tape(episode.draws);
  const BipedalWalker::Params params;
  auto state = BipedalWalker::reset<Real>(params, tape);
  EXPECT_EQ(tape.remaining(), 0u);
  Outcome<Real> outcome = {Real(0.0f), false};
  f(std::size_t{0}, state, outcome);
  for (std::size_t t = 1; t < episode.steps.size() && !outcome.terminated; ++t) {
    typename BipedalWalker::Action::Value<Draw> action;
    for (int i = 0; i < 4; ++i) action.at[i] = static_cast<float>(episode.steps[t].action[i]);  // as it was recorded
    outcome = BipedalWalker::step(params, state, action, tape);
    f(t, state, outcome);
  }
}

/// An episode with draws of our own: state, and a random action.
struct Episode {
  std::uint32_t number;
  BipedalWalker::State<float> state;

  explicit Episode(std::uint32_t which) : number(which) {
    CounterRandom<float> rng({11, 0}, 0, which, 0, Purpose::kReset);
    state = BipedalWalker::reset<float>(kParams, rng);
  }
  Outcome<float> step(std::uint32_t t, float strength = 1.0f) {
    CounterRandom<float> rng({11, 0}, 0, number, t, Purpose::kAction);
    BipedalWalker::Action::Value<float> action;
    for (float& x : action.at) x = strength * rng.uniform(-1.0f, 1.0f);
    return BipedalWalker::step(kParams, state, action, rng);
  }
};

TEST(BipedalWalker, MassesAreThoseOfThePolygons) {
  // Box2D computes them in float: 1e-6 relative.
  const auto check = [](const test::Moments& m, double density, const MassData& mass) {
    EXPECT_NEAR(static_cast<double>(mass.inverse_mass) * density * m.area, 1.0, 1e-6);
    EXPECT_NEAR(static_cast<double>(mass.inverse_inertia) * density * m.inertia, 1.0, 1e-6);
    EXPECT_NEAR(mass.center.x, m.x, 1e-6);
    EXPECT_NEAR(mass.center.y, m.y, 1e-6);
  };
  check(test::moments<walker::HullShape>(), 5.0, walker::hull_mass());
  check(test::moments<walker::UpperShape>(), 1.0, walker::upper_mass());
  check(test::moments<walker::LowerShape>(), 1.0, walker::lower_mass());
  const auto check_radius = []<class Shape>(Shape, Vec2<float> center) {
    for (int i = 0; i < Shape::kVertices; ++i) {
      const auto v = Shape::vertex(i);
      EXPECT_LE(std::hypot(v.x - center.x, v.y - center.y), Shape::kRadius);
    }
  };
  check_radius(walker::HullShape(), walker::hull_mass().center);
  check_radius(walker::UpperShape(), {0.0f, 0.0f});
  check_radius(walker::LowerShape(), {0.0f, 0.0f});
}

TEST(BipedalWalker, EpisodesReplayToTheBitInBox2dsArithmetic) {
  for (const auto& row : test::read_golden("lunar_lander_sines.csv")) {
    const auto angle = static_cast<float>(row[0]);
    if (std::sin(angle) != static_cast<float>(row[1]) || std::cos(angle) != static_cast<float>(row[2])) {
      GTEST_SKIP() << "this C library's sines are not those of the recording";
    }
  }
  const auto episodes = read_episodes();
  ASSERT_EQ(episodes.size(), 3u);
  for (std::size_t e = 0; e < episodes.size(); ++e) {
    std::size_t last = 0;
    bool terminated = false;
    replay<Box2dFloat, double>(episodes[e], [&](std::size_t t, const auto& state, const Outcome<Box2dFloat>& outcome) {
      SCOPED_TRACE("episode " + std::to_string(e) + " step " + std::to_string(t));
      const RecordedStep& expected = episodes[e].steps[t];
      Box2dFloat bodies[kBodyValues], observation[24];
      BipedalWalker::bodies(state, bodies);
      BipedalWalker::observe(kParams, state, observation);
      for (int i = 0; i < kBodyValues; ++i) EXPECT_EQ(bodies[i].value, static_cast<float>(expected.bodies[i])) << i;
      for (int i = 0; i < 24; ++i) EXPECT_EQ(observation[i].value, static_cast<float>(expected.observation[i])) << i;
      // The last potential is kept in float.
      if (t > 0) {
        EXPECT_NEAR(outcome.reward.value, expected.reward, 2e-5);
      }
      last = t;
      terminated = outcome.terminated;
    });
    EXPECT_EQ(last + 1, episodes[e].steps.size());
    EXPECT_EQ(terminated, episodes[e].steps.back().terminated);
  }
}

TEST(BipedalWalker, EpisodesReplayInOurArithmetic) {
  // Our sine differs in last bits, which grow as another C library's would: 1e-4 after 10 steps in the median.
  std::vector<double> errors;
  for (const auto& episode : read_episodes()) {
    double error = 0;
    replay<float, float>(episode, [&](std::size_t t, const auto& state, const Outcome<float>&) {
      if (t > 10) return;
      float bodies[kBodyValues];
      BipedalWalker::bodies(state, bodies);
      for (int i = 0; i < kBodyValues; ++i) {
        error = std::max(error, std::fabs(static_cast<double>(bodies[i]) - episode.steps[t].bodies[i]));
      }
    });
    errors.push_back(error);
  }
  std::sort(errors.begin(), errors.end());
  EXPECT_LE(errors[errors.size() / 2], 1e-4);
}

TEST(BipedalWalker, GroundIsDrawnAsGymnasiumDraws) {
  // Flat up to vertex 20; then slopes change by .01 towards the start's height and by up to 1/30 m, but where they
  // pause.
  constexpr double kStart = static_cast<float>(walker::kStartHeight);
  std::set<int> pauses;
  double sum = 0, squares = 0;
  int changes = 0;
  for (std::uint32_t number = 0; number < 50; ++number) {
    CounterRandom<float> rng({12, 0}, 3, number, 0, Purpose::kReset);
    float heights[walker::kHeights];
    walker::draw_ground<float>(rng, heights);
    double slope = 0;
    int last_pause = 20;
    for (int i = 0; i < walker::kHeights; ++i) {
      const double y = heights[i], before = i == 0 ? kStart : heights[i - 1];
      if (i <= 20) {
        EXPECT_FLOAT_EQ(heights[i], kStart) << i;
        continue;
      }
      if (y == before) {
        pauses.insert(i - last_pause);
        last_pause = i;
        continue;
      }
      const double change = (y - before) - .8 * slope - (before < kStart ? .01 : before > kStart ? -.01 : 0);
      EXPECT_LE(std::fabs(change), 1 / 30.0 + 2e-6) << i;
      sum += change, squares += change * change, ++changes;
      slope = y - before;
    }
    EXPECT_LT(walker::kHeights - last_pause, 10);
  }
  EXPECT_EQ(pauses, (std::set<int>{5, 6, 7, 8, 9}));
  EXPECT_NEAR(sum / changes, 0.0, 4 / 30.0 / std::sqrt(3.0 * changes));
  EXPECT_NEAR(squares / changes, 1 / 2700.0, 4 / 2700.0 * std::sqrt(.8 / changes));
}

TEST(BipedalWalker, RaysEndWhereTheyFirstMeetTheGround) {
  std::uint32_t number = 0;
  int hits = 0, misses = 0;
  for (; number < 200; ++number) {
    Episode episode(number);
    for (std::uint32_t t = 0; t < 5 + number % 40; ++t) episode.step(t);
    // Also far along the ground, and near its ends.
    auto& world = episode.state.world;
    const float shift = number % 4 == 0 ? 0.0f : static_cast<float>(number % 93);
    world.bodies[0].center.x += shift - 4.0f;
    float bodies[kBodyValues], fractions[walker::kRays];
    BipedalWalker::bodies(episode.state, bodies);
    walker::cast_rays(world, {bodies[0], bodies[1]}, fractions);
    const double x = bodies[0], y = bodies[1];
    for (int ray = 0; ray < 10; ++ray) {
      const double dx = std::sin(.15 * ray) * 160 / 30, dy = -std::cos(.15 * ray) * 160 / 30;
      double nearest = 1;
      for (int i = 0; i + 1 < walker::kHeights; ++i) {
        const double ax = i * 14 / 30.0, ay = world.heights[i];
        const double ex = 14 / 30.0, ey = world.heights[i + 1] - ay;
        const double determinant = dx * ey - dy * ex;
        const double part = ((ax - x) * ey - (ay - y) * ex) / determinant;
        const double place = ((ax - x) * dy - (ay - y) * dx) / determinant;
        if (place >= 0 && place <= 1 && part >= 0 && part < nearest) nearest = part;
      }
      EXPECT_NEAR(fractions[ray], nearest, 2e-5) << "episode " << number << " ray " << ray;
      ++(nearest < 1 ? hits : misses);
    }
  }
  EXPECT_GT(hits, 500);
  EXPECT_GT(misses, 100);
}

TEST(BipedalWalker, RewardIsForTheWayForward) {
  Episode episode(3);
  float before[24], after[24], bodies[kBodyValues];
  for (std::uint32_t t = 0; t < 40; ++t) {
    BipedalWalker::observe(kParams, episode.state, before);
    BipedalWalker::bodies(episode.state, bodies);
    const double x = bodies[0];
    CounterRandom<float> rng({11, 0}, 0, 3, t, Purpose::kAction);
    double effort = 0;
    for (int i = 0; i < 4; ++i) effort += std::min(std::fabs(2 * rng.uniform(-1.0f, 1.0f)), 1.0f);
    const auto outcome = episode.step(t, 2.0f);  // beyond the bounds: clipped
    BipedalWalker::observe(kParams, episode.state, after);
    BipedalWalker::bodies(episode.state, bodies);
    if (outcome.terminated) {
      EXPECT_EQ(outcome.reward, -100.0f);
      break;
    }
    const double expected = 130 / 30.0 * (bodies[0] - x) -
                            5 * (std::fabs(double{after[0]}) - std::fabs(double{before[0]})) - .00035 * 80 * effort;
    EXPECT_NEAR(outcome.reward, expected, 1e-5) << t;
  }
}

TEST(BipedalWalker, EpisodesEndAtBothEndsAndWithTheHullOnTheGround) {
  const auto place = [](float x, float lift) {
    Episode episode(5);
    for (auto& body : episode.state.world.bodies) {
      body.center.x += x - 4.66f;
      body.center.y += lift;
    }
    return episode.step(0);
  };
  EXPECT_FALSE(place(20.0f, 1.0f).terminated);
  EXPECT_TRUE(place(-0.5f, 1.0f).terminated);
  EXPECT_EQ(place(-0.5f, 1.0f).reward, -100.0f);
  EXPECT_TRUE(place(88.8f, 3.0f).terminated);
  EXPECT_NE(place(88.8f, 3.0f).reward, -100.0f);  // it has arrived
  Episode fallen(6);
  std::uint32_t t = 0;
  while (!fallen.step(t, 0.0f).terminated && t < 400) ++t;  // without torque it collapses
  EXPECT_GT(t, 20u);
  EXPECT_LT(t, 400u);
}

TEST(BipedalWalker, StatesWithEdgesThatDoNotExistAreStepped) {
  // As a caller may make them: numbers beyond the heights are not looked up, nor is what is no number.
  Episode episode(9);
  for (auto& part : episode.state.world.parts) {
    const float numbers[] = {1e9f, -7.0f, 199.0f, 198.0f, 3.5f, std::nanf(""), 1e30f, 0.0f};
    std::copy(std::begin(numbers), std::end(numbers), part.known);
    for (auto& touch : part.touches) touch.edge = 1e9f;
  }
  for (std::uint32_t t = 0; t < 20; ++t) episode.step(t);
  float bodies[kBodyValues];
  BipedalWalker::bodies(episode.state, bodies);
  for (const float x : bodies) EXPECT_TRUE(std::isfinite(x));
}

TEST(BipedalWalker, StaysFiniteAndAboveTheGround) {
  int steps = 0, ends = 0;
  for (std::uint32_t number = 0; steps < 20'000; ++number) {
    Episode episode(100 + number);
    bool terminated = false;
    for (std::uint32_t t = 0; t < 1600 && !terminated; ++t, ++steps) {
      terminated = episode.step(t, number % 3 == 0 ? 2.0f : 0.7f).terminated;
      bool finite = true;
      episode.state.fields([&](float x) { finite = finite && std::isfinite(x); });
      ASSERT_TRUE(finite) << "episode " << number << " step " << t;
      float bodies[kBodyValues];
      BipedalWalker::bodies(episode.state, bodies);
      for (int b = 2; b <= 4; b += 2) {  // feet
        const float* body = bodies + 6 * b;
        for (const double side : {-.1, .1}) {
          const double x = body[0] + std::cos(body[2]) * side + std::sin(body[2]) * .566;
          const double y = body[1] + std::sin(body[2]) * side - std::cos(body[2]) * .566;
          if (x < 0) continue;  // there is no ground
          const auto i = static_cast<std::size_t>(x / walker::kSpacing);
          const auto& heights = episode.state.world.heights;
          const double part = x / walker::kSpacing - static_cast<double>(i);
          ASSERT_GT(y, heights[i] + part * (heights[i + 1] - heights[i]) - .06)
              << "episode " << number << " step " << t;
        }
      }
    }
    ends += terminated;
  }
  EXPECT_GT(ends, 20);
}

}  // namespace
}  // namespace perilune
