// What an environment does in a lane depends on no other lane: the same bits in every lane of a
// pack of others, in a pack of copies of itself, and in float. From states that flights reach, and
// from ones put onto the ground in every attitude.
//
// PERILUNE_LANE_STEPS=10000000 checks as many steps of each environment instead of the few thousand
// of a test run. The programs kernels_tests and kernels_v4_tests have it for packs of 8 and 16
// lanes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "kernels/machine/pack.hpp"
#include "sims/cartpole.hpp"
#include "sims/lander.hpp"
#include "sims/lunar_lander.hpp"
#include "tests/support/lander.hpp"
#include "tests/support/pack_test.hpp"

namespace perilune {
namespace {

using Generator = std::mt19937;

float uniform(Generator& random, float low, float high) {
  return low + (high - low) * static_cast<float>(random() >> 8) * 0x1p-24f;
}
bool chance(Generator& random, int one_in) { return random() % static_cast<unsigned>(one_in) == 0; }

/// Where the ground is at x, going on level to both sides.
float ground_at(const float (&heights)[lunar::kHeights], float x) {
  const float place = std::clamp(x / 2, 0.0f, 9.999f);
  const auto i = static_cast<std::size_t>(place);
  return heights[i] + (place - static_cast<float>(i)) * (heights[i + 1] - heights[i]);
}

/// A turn: any, a little one, or one after which sides are exactly upright.
float any_turn(Generator& random, float angle) {
  switch (random() % 4) {
    case 0:
      return uniform(random, -3.2f, 3.2f);
    case 1:
      return -angle;
    default:
      return uniform(random, -0.3f, 0.3f);
  }
}
float any_speed(Generator& random, float most) {
  switch (random() % 8) {
    case 0:
      return 0.0f;
    case 1:
      return -0.0f;
    case 2:
      return uniform(random, -10 * most, 10 * most);
    default:
      return uniform(random, -most, most);
  }
}
void set_off(Generator& random, Body<float>& body, Vec2<float> velocity) {
  body.velocity = {velocity.x + any_speed(random, 0.5f), velocity.y + any_speed(random, 0.5f)};
  if (chance(random, 4)) body.velocity = {any_speed(random, 0.5f), any_speed(random, 0.5f)};
  body.spin = any_speed(random, 0.5f);
}
/// How far the lowest corner is above the ground: about the distance at which skins touch.
float any_gap(Generator& random) {
  return chance(random, 4) ? 0.02f : uniform(random, chance(random, 4) ? -0.3f : -0.03f, 0.06f);
}

template <class Shape>
float clearance(const Body<float>& body, const MassData& mass, const float (&heights)[lunar::kHeights]) {
  const Frame<float> frame = body.frame(mass);
  float least = std::numeric_limits<float>::max();
  for (int i = 0; i < Shape::kVertices; ++i) {
    const Vec2<float> vertex = frame.to_world(vec2<float>(Shape::vertex(i)));
    least = std::min(least, vertex.y - ground_at(heights, vertex.x));
  }
  return least;
}

/// Moves and turns the lander as a whole to where something of it is about to touch.
void put_down(Generator& random, LunarLander::State<float>& state) {
  using lunar::Model;
  lunar::World<float>& world = state.world;
  if (chance(random, 3)) {  // level ground everywhere
    for (float& height : world.heights) height = 0.33f * 10.0f;
  }
  const Vec2<float> pivot = world.bodies[0].center;
  const float turn = any_turn(random, world.bodies[random() % 3].angle);
  const Vec2<float> place = {uniform(random, 0.5f, 19.5f), 5.0f};
  const Vec2<float> velocity = {any_speed(random, 2.0f), any_speed(random, 2.0f)};
  for (Body<float>& body : world.bodies) {
    body.center = place + rotate(rotation(turn), body.center - pivot);
    body.angle = body.angle + turn;
    set_off(random, body, velocity);
  }
  float least = clearance<lunar::HullShape>(world.bodies[0], lunar::hull_mass(), world.heights);
  for (int leg = 1; leg < 3; ++leg) {
    least = std::min(least, clearance<lunar::LegShape>(world.bodies[leg], lunar::leg_mass(), world.heights));
  }
  const float down = least - any_gap(random);
  for (Body<float>& body : world.bodies) body.center.y -= down;
  for (int leg = 0; leg < 2; ++leg) {
    const Frame<float> frame = world.bodies[1 + leg].frame(lunar::leg_mass());
    world.rooms[leg] = swept_bounds<lunar::LegShape>(frame, frame).grown(physics::kBoundsExtension);
    world.left_is_newer[leg] = chance(random, 2) ? 1.0f : 0.0f;
  }
}
void put_down(Generator& random, Lander::State<float>& state) {
  Body<float>& body = state.body;
  body.angle = body.angle + any_turn(random, body.angle);
  body.center = {uniform(random, 0.5f, 19.5f), 0.0f};
  body.center.y = ground_at(state.heights, body.center.x) + uniform(random, 0.0f, 1.2f);
  set_off(random, body, {any_speed(random, 2.0f), any_speed(random, 2.0f)});
}
void put_down(Generator&, CartPole::State<float>&) {}

/// One environment over episodes, each flown in a manner of its own. E's Real is float or Pack
/// where it is stepped.
template <Env E>
struct Flight {
  typename E::template State<float> state;
  std::uint32_t environment, episode, elapsed;
  bool placed;
};

template <Env E>
class Lanes {
 public:
  static constexpr int kFields = E::template State<float>::kFields;

  Lanes(const typename E::Params& params, std::uint32_t seed) : params_(params), seed_(seed), random_(seed) {
    flights_.resize(4 * kPackLanes);
    for (std::size_t i = 0; i < flights_.size(); ++i) {
      flights_[i].environment = static_cast<std::uint32_t>(i);
      flights_[i].episode = 0;
      begin(flights_[i]);
    }
  }

  /// Checks at least `steps` steps. In every lane: of a pack of others, and of a pack of itself.
  void check(std::uint64_t steps) {
    for (std::uint64_t done = 0; done < steps && !testing::Test::HasFailure(); done += kPackLanes) {
      std::shuffle(flights_.begin(), flights_.end(), random_);
      Flight<E> alone[kPackLanes];
      Outcome<float> outcomes[kPackLanes];
      typename E::Action::template Value<float> actions[kPackLanes];
      for (int i = 0; i < kPackLanes; ++i) {
        alone[i] = flights_[static_cast<std::size_t>(i)];
        actions[i] = choose(alone[i]);
        outcomes[i] = step(alone[i], actions[i]);
      }
      const auto compare = [&](auto which) {
        if (!testing::Test::HasFailure()) compare_pack(alone, outcomes, actions, which);
      };
      for (int turn = 0; turn < kPackLanes; ++turn) compare([&](int lane) { return (lane + turn) % kPackLanes; });
      for (int i = 0; i < kPackLanes; ++i) compare([&](int) { return i; });
      for (int i = 0; i < kPackLanes; ++i) {
        Flight<E>& flight = flights_[static_cast<std::size_t>(i)] = alone[i];
        ++flight.elapsed;
        terminations_ += outcomes[i].terminated;
        touches_ += touches(flight.state);
        ++steps_;
        const std::uint32_t longest = flight.placed ? 40 : E::kMaxEpisodeSteps;
        // Evaluations step on where an episode is over: some do here.
        if (flight.elapsed >= longest || (outcomes[i].terminated && !chance(random_, 4))) {
          ++flight.episode;
          begin(flight);
        }
      }
    }
  }

  std::uint64_t terminations() const { return terminations_; }
  /// The share of steps after which a leg was on the ground.
  double touching() const { return static_cast<double>(touches_) / static_cast<double>(steps_); }

 private:
  static bool touches(const typename E::template State<float>& state) {
    if constexpr (E::kBodies > 0) {
      float observation[E::kObsDim];
      E::observe({}, state, observation);
      return observation[6] + observation[7] > 0;
    } else {
      return false;
    }
  }

  void begin(Flight<E>& flight) {
    CounterRandom<float> rng(key(), flight.environment, flight.episode, 0, Purpose::kReset);
    flight.state = E::template reset<float>(params_, rng);
    flight.elapsed = 0;
    flight.placed = E::kBodies > 0 && !chance(random_, 4);
    if (flight.placed) put_down(random_, flight.state);
  }

  /// Each episode has a pilot: one who lands, one who pushes one way, or one who pushes at random.
  auto choose(const Flight<E>& flight) const {
    const std::uint32_t t = flight.episode % 3 == 1 ? 0 : flight.elapsed;
    CounterRandom<float> draw(key(), flight.environment, flight.episode, t, Purpose::kAction);
    if constexpr (E::kBodies > 0) {
      if (flight.episode % 3 == 0) {
        float observation[E::kObsDim];
        E::observe(params_, flight.state, observation);
        return test::heuristic_action<E>(observation);
      }
    }
    typename E::Action::template Value<float> action;
    if constexpr (E::Action::kContinuous) {
      for (float& x : action.at) x = draw.uniform(-1.5f, 1.5f);
    } else {
      action = mul_hi(draw.bits(), std::uint32_t{E::Action::kChoices});
    }
    return action;
  }

  RngKey key() const { return {seed_, 0}; }

  Outcome<float> step(Flight<E>& flight, const typename E::Action::template Value<float>& action) const {
    CounterRandom<float> rng(key(), flight.environment, flight.episode, flight.elapsed, Purpose::kStep);
    return E::step(params_, flight.state, action, rng);
  }

  /// One step of a pack whose lane l holds flight which(l), from where it was before it stepped
  /// alone.
  template <class Which>
  void compare_pack(const Flight<E> (&alone)[kPackLanes], const Outcome<float> (&outcomes)[kPackLanes],
                    const typename E::Action::template Value<float> (&actions)[kPackLanes], Which which) {
    typename E::template State<Pack> state;
    float rows[kFields][kPackLanes];
    PackUInt environment, episode, elapsed;
    typename E::Action::template Value<Pack> action;
    for (int lane = 0; lane < kPackLanes; ++lane) {
      const Flight<E>& before = flights_[static_cast<std::size_t>(which(lane))];
      int field = 0;
      before.state.fields([&](float x) { rows[field++][lane] = x; });
      environment.value[lane] = before.environment;
      episode.value[lane] = before.episode;
      elapsed.value[lane] = before.elapsed;
      if constexpr (E::Action::kContinuous) {
        for (int k = 0; k < E::Action::kNumbers; ++k) action.at[k].value[lane] = actions[which(lane)].at[k];
      } else {
        action.value[lane] = actions[which(lane)];
      }
    }
    int field = 0;
    state.fields([&](Pack& x) { x = load_pack(rows[field++]); });
    CounterRandom<Pack> rng(key(), environment, episode, elapsed, Purpose::kStep);
    const auto outcome = E::step(params_, state, action, rng);
    field = 0;
    state.fields([&](const Pack& x) { store_pack(rows[field++], x); });
    for (int lane = 0; lane < kPackLanes; ++lane) {
      const Flight<E>& expected = alone[which(lane)];
      const auto here = [&] {
        return testing::Message() << E::kId << ", seed " << seed_ << ", environment " << expected.environment
                                  << ", episode " << expected.episode << ", step " << expected.elapsed << ", lane "
                                  << lane << (which(0) == which(1) ? " among copies" : " among others");
      };
      ASSERT_EQ(as_uint(float{outcome.reward[lane]}), as_uint(outcomes[which(lane)].reward)) << here();
      ASSERT_TRUE(std::isfinite(outcome.reward[lane])) << here();
      ASSERT_EQ(outcome.terminated[lane], outcomes[which(lane)].terminated) << here();
      field = 0;
      bool same = true, finite = true;
      expected.state.fields([&](float x) {
        same = same && as_uint(rows[field][lane]) == as_uint(x);
        finite = finite && std::isfinite(x);
        if (!same || !finite) return;  // field: the first that is not
        ++field;
      });
      ASSERT_TRUE(same && finite) << here() << ", " << E::kFieldNames[static_cast<std::size_t>(field)] << " is "
                                  << (same ? "not finite" : "another than in float");
    }
  }

  typename E::Params params_;
  std::uint32_t seed_;
  Generator random_;
  std::vector<Flight<E>> flights_;
  std::uint64_t steps_ = 0, terminations_ = 0, touches_ = 0;
};

/// Steps to check: `quick`, or what PERILUNE_LANE_STEPS says.
std::uint64_t steps_to_check(std::uint64_t quick) {
  const char* value = std::getenv("PERILUNE_LANE_STEPS");
  return value == nullptr ? quick : std::strtoull(value, nullptr, 10);
}

class LanesAreAlone : public test::PackTest {
 protected:
  template <Env E>
  static void check(const typename E::Params& params, std::uint32_t seed, std::uint64_t quick) {
    Lanes<E> lanes(params, seed);
    lanes.check(steps_to_check(quick));
    EXPECT_GT(lanes.terminations(), quick / 100);
    if (E::kBodies > 0) {
      EXPECT_GT(lanes.touching(), 0.2);
    }
  }
};

// The suites of each width of packs have names of their own.
#if defined(__AVX512F__)
#define PERILUNE_LANES_TEST(name) TEST_F(SixteenLanesAreAlone, name)
class SixteenLanesAreAlone : public LanesAreAlone {};
#elif defined(__AVX2__)
#define PERILUNE_LANES_TEST(name) TEST_F(EightLanesAreAlone, name)
class EightLanesAreAlone : public LanesAreAlone {};
#else
#define PERILUNE_LANES_TEST(name) TEST_F(FourLanesAreAlone, name)
class FourLanesAreAlone : public LanesAreAlone {};
#endif

PERILUNE_LANES_TEST(CartPole) { check<CartPole>({false}, 1, 20'000); }
PERILUNE_LANES_TEST(LunarLander) { check<LunarLander>({{-10.0f, false, 0.0f, 0.0f}, false}, 2, 8000); }
PERILUNE_LANES_TEST(LunarLanderWithTheFastSolver) { check<LunarLander>({{-10.0f, false, 0.0f, 0.0f}, true}, 3, 6000); }
PERILUNE_LANES_TEST(LunarLanderContinuousInWind) {
  check<LunarLanderContinuous>({{-10.0f, true, 15.0f, 1.5f}, true}, 4, 6000);
}
PERILUNE_LANES_TEST(Lander) { check<Lander>({-10.0f, false, 0.0f, 0.0f}, 5, 20'000); }
PERILUNE_LANES_TEST(LanderContinuousInWind) { check<LanderContinuous>({-10.0f, true, 15.0f, 1.5f}, 6, 20'000); }

}  // namespace
}  // namespace perilune
