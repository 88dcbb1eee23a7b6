// Every lane of a pack computes the bits that float computes: mathematics, random numbers and the
// simulators.
#include "kernels/machine/pack.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "sims/bipedal_walker.hpp"
#include "sims/cartpole.hpp"
#include "sims/lander.hpp"
#include "sims/lunar_lander.hpp"
#include "sims/math.hpp"
#include "sims/rng.hpp"
#include "tests/support/pack_test.hpp"

namespace perilune {
namespace {

class PackEqualsFloat : public test::PackTest {};

/// Equal bits, or both NaN (whose bits are unspecified).
void expect_same(float pack_lane, float alone, const char* what, int lane) {
  if (std::isnan(alone) && std::isnan(pack_lane)) return;
  EXPECT_EQ(as_uint(pack_lane), as_uint(alone)) << what << " lane " << lane << ": " << pack_lane << " for " << alone;
}

/// Compares over random bit patterns: all exponents, both signs, NaN and infinities.
template <class Function>
void compare_function(const char* name, Function function) {
  for (std::uint32_t i = 0; i < 20000; ++i) {
    const PackUInt environments = lane_numbers(i * kPackLanes);
    CounterRandom<Pack> rng({5, 0}, environments, 0u, 0u, Purpose::kTest);
    // Half of them within [-128, 128), where the functions have something to say.
    const Pack any_bits = as_float(rng.bits());
    const Pack x = select(rng.uniform() < 0.5f, any_bits, rng.uniform(-128.0f, 128.0f));
    const Pack y = function(x);
    for (int lane = 0; lane < kPackLanes; ++lane) {
      expect_same(y[lane], function(float{x[lane]}), name, lane);
    }
  }
}

TEST_F(PackEqualsFloat, Math) {
  compare_function("sin", [](auto x) { return math::sin(x); });
  compare_function("cos", [](auto x) { return math::cos(x); });
  compare_function("sincos_reduced.sin", [](auto x) { return math::sincos_reduced(x).sin; });
  compare_function("sincos_reduced.cos", [](auto x) { return math::sincos_reduced(x).cos; });
  compare_function("exp", [](auto x) { return math::exp(x); });
  compare_function("log", [](auto x) { return math::log(x); });
  compare_function("tanh", [](auto x) { return math::tanh(x); });
  compare_function("sqrt", [](auto x) { return sqrt(x); });
  compare_function("abs", [](auto x) { return abs(x); });
}

TEST_F(PackEqualsFloat, Random) {
  const float probabilities[3] = {0.2f, 0.5f, 0.3f};
  const Pack pack_probabilities[3] = {0.2f, 0.5f, 0.3f};
  for (std::uint32_t step = 0; step < 1000; ++step) {
    const PackUInt environments = lane_numbers(step * 1000003u);
    const PackUInt episodes = environments * 7u;
    CounterRandom<Pack> rng({1, 2}, environments, episodes, PackUInt(step), Purpose::kStep);
    const PackUInt bits = rng.bits();
    const Pack uniform = rng.uniform();
    const Pack range = rng.uniform(-2.0f, 3.0f);
    const Pack normal = rng.normal();
    const PackUInt choice = sample_categorical(pack_probabilities, 3, rng.uniform());
    for (int lane = 0; lane < kPackLanes; ++lane) {
      CounterRandom<float> alone({1, 2}, environments[lane], episodes[lane], step, Purpose::kStep);
      EXPECT_EQ(bits[lane], alone.bits());
      expect_same(uniform[lane], alone.uniform(), "uniform", lane);
      expect_same(range[lane], alone.uniform(-2.0f, 3.0f), "uniform range", lane);
      expect_same(normal[lane], alone.normal(), "normal", lane);
      EXPECT_EQ(choice[lane], sample_categorical(probabilities, 3, alone.uniform()));
    }
  }
}

/// One pack of environments and as many alone, with random actions over `steps` steps: rewards, ends (more than
/// `least` of each lane) and every field.
template <Env E>
void compare_environment(const typename E::Params& params, std::uint32_t steps, int least) {
  constexpr int kFields = E::template State<float>::kFields;
  const PackUInt environments = lane_numbers(0);
  PackUInt episodes(0u);
  const auto reset = [&](auto environment, auto episode, auto number) {
    using Real = decltype(number);
    CounterRandom<Real> rng({9, 0}, environment, episode, UInt<Real>(0u), Purpose::kReset);
    return E::template reset<Real>(params, rng);
  };
  const auto action = [&](auto environment, auto episode, std::uint32_t step, auto number) {
    using Real = decltype(number);
    CounterRandom<Real> rng({9, 0}, environment, episode, UInt<Real>(step), Purpose::kAction);
    typename E::Action::template Value<Real> value;
    if constexpr (E::Action::kContinuous) {
      for (Real& x : value.at) x = rng.uniform(-1.2f, 1.2f);
    } else {
      value = mul_hi(rng.bits(), UInt<Real>(static_cast<std::uint32_t>(E::Action::kChoices)));
    }
    return value;
  };
  typename E::template State<Pack> pack = reset(environments, episodes, Pack(0.0f));
  typename E::template State<float> alone[kPackLanes];
  for (int lane = 0; lane < kPackLanes; ++lane) alone[lane] = reset(environments[lane], 0u, 0.0f);

  int terminations = 0;
  for (std::uint32_t step = 0; step < steps && !::testing::Test::HasFailure(); ++step) {
    CounterRandom<Pack> rng({9, 0}, environments, episodes, PackUInt(step), Purpose::kStep);
    const auto outcome = E::step(params, pack, action(environments, episodes, step, Pack(0.0f)), rng);
    Pack fields[kFields];
    int count = 0;
    pack.fields([&](const Pack& field) { fields[count++] = field; });
    for (int lane = 0; lane < kPackLanes; ++lane) {
      SCOPED_TRACE("step " + std::to_string(step));
      CounterRandom<float> mine({9, 0}, environments[lane], episodes[lane], step, Purpose::kStep);
      const auto expected = E::step(params, alone[lane], action(environments[lane], episodes[lane], step, 0.0f), mine);
      expect_same(outcome.reward[lane], expected.reward, "reward", lane);
      ASSERT_EQ(outcome.terminated[lane], expected.terminated);
      count = 0;
      alone[lane].fields([&](float field) {
        expect_same(fields[count][lane], field, E::kFieldNames[static_cast<std::size_t>(count)], lane);
        ++count;
      });
      terminations += expected.terminated;
    }
    episodes = select(outcome.terminated, episodes + PackUInt(1u), episodes);
    if (!any(outcome.terminated)) continue;
    const auto fresh = reset(environments, episodes, Pack(0.0f));
    Pack next[kFields];
    count = 0;
    fresh.fields([&](const Pack& field) { next[count++] = field; });
    count = 0;
    pack.fields([&](Pack& field) {
      field = select(outcome.terminated, next[count], field);
      ++count;
    });
    for (int lane = 0; lane < kPackLanes; ++lane) {
      if (outcome.terminated[lane]) alone[lane] = reset(environments[lane], episodes[lane], 0.0f);
    }
  }
  EXPECT_GT(terminations, least * kPackLanes);
}

TEST_F(PackEqualsFloat, CartPole) { compare_environment<CartPole>({false}, 1000, 10); }
TEST_F(PackEqualsFloat, LunarLander) {
  compare_environment<LunarLander>({{-10.0f, false, 0.0f, 0.0f}, false}, 1000, 5);
  compare_environment<LunarLander>({{-10.0f, false, 0.0f, 0.0f}, true}, 1000, 5);
}
TEST_F(PackEqualsFloat, LunarLanderContinuous) {
  compare_environment<LunarLanderContinuous>({{-10.0f, true, 15.0f, 1.5f}, false}, 1000, 5);
}
TEST_F(PackEqualsFloat, BipedalWalker) { compare_environment<BipedalWalker>({}, 1000, 1); }
TEST_F(PackEqualsFloat, Lander) { compare_environment<Lander>({-10.0f, false, 0.0f, 0.0f}, 3000, 5); }
TEST_F(PackEqualsFloat, LanderContinuous) {
  compare_environment<LanderContinuous>({-10.0f, true, 15.0f, 1.5f}, 3000, 5);
}

}  // namespace
}  // namespace perilune
