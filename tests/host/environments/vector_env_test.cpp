// Batches that a caller steps, on this machine's CPU: what reset, step and states promise, and what is refused.
#include "host/environments/vector_env.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>

#include "host/base/error.hpp"
#include "tests/kernels/environments.hpp"
#include "tests/support/forwarding_device.hpp"

namespace perilune {
namespace {

using test::ByHand;
using test::expect_same_bits;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::unique_ptr<Device> cpu(int threads = 2) { return select_device(DeviceChoice::kCpu, threads).device; }

VectorEnvOptions cartpoles(std::int64_t count, Autoreset autoreset = Autoreset::kNextStep, std::int64_t limit = 0) {
  VectorEnvOptions options;
  options.num_envs = count;
  options.autoreset = autoreset;
  options.max_episode_steps = limit;
  return options;
}

ResetOptions from_seed(std::int64_t seed) {
  ResetOptions options;
  options.seed = seed;
  return options;
}

/// A VectorEnv with memory for what it writes, filled with 77 before each call.
struct Stepped {
  std::unique_ptr<Device> device;
  VectorEnv env;
  std::size_t count, width;
  std::vector<float> observations, rewards, final_observations, episode_returns;
  std::vector<std::uint8_t> terminated, truncated;
  std::vector<std::uint32_t> episode_lengths;
  bool any_ended = false;

  explicit Stepped(const VectorEnvOptions& options, int threads = 2) : device(cpu(threads)), env(options, *device) {
    count = static_cast<std::size_t>(env.num_envs());
    width = static_cast<std::size_t>(env.observation_dim());
    clear();
  }
  void clear() {
    observations.assign(count * width, 77.0f);
    final_observations = observations;
    rewards.assign(count, 77.0f);
    episode_returns = rewards;
    terminated.assign(count, 77);
    truncated = terminated;
    episode_lengths.assign(count, 77);
  }
  void reset(const ResetOptions& options) {
    clear();
    env.reset(options, observations.data());
  }
  template <class T>
  void step(const std::vector<T>& actions) {
    clear();
    const StepOutputs outputs = {
        observations.data(),       rewards.data(),         terminated.data(),     truncated.data(),
        final_observations.data(), episode_returns.data(), episode_lengths.data()};
    constexpr ActionType kType = std::is_same_v<T, std::int64_t>   ? ActionType::kInt64
                                 : std::is_same_v<T, std::int32_t> ? ActionType::kInt32
                                 : std::is_same_v<T, float>        ? ActionType::kFloat32
                                                                   : ActionType::kFloat64;
    any_ended = env.step(actions.data(), kType, outputs);
  }
  bool untouched() const {
    const auto is_77 = [](auto x) { return x == 77; };
    return std::all_of(observations.begin(), observations.end(), is_77) &&
           std::all_of(rewards.begin(), rewards.end(), is_77) &&
           std::all_of(terminated.begin(), terminated.end(), is_77) &&
           std::all_of(truncated.begin(), truncated.end(), is_77);
  }
};

/// Some actions: the same for environment i whatever the batch.
std::vector<std::int64_t> some_actions(std::size_t count, int step) {
  std::vector<std::int64_t> actions(count);
  for (std::size_t i = 0; i < count; ++i)
    actions[i] = static_cast<std::int64_t>(i * 7 + static_cast<std::size_t>(step) * 5 + i * i / 3) / 4 % 2;
  return actions;
}

/// As the kernels of training draw: `number` of a run with this seed.
ByHand by_hand(std::uint32_t seed, int number) {
  EnvironmentBatch batch{};
  batch.key = {seed, kTrainingStream};
  batch.max_episode_steps = 500;
  return ByHand(batch, number);
}

std::vector<float> rows_of(const std::vector<ByHand>& environments) {
  std::vector<float> rows;
  for (const ByHand& one : environments) {
    for (const double x : one.observation()) rows.push_back(static_cast<float>(x));
  }
  return rows;
}

TEST(VectorEnv, SaysWhatItIs) {
  const auto device = cpu();
  VectorEnvOptions options = cartpoles(5);
  options.env_id = "cartpole";
  options.parameters = {{"sutton_barto_reward", 1.0}};
  const VectorEnv env(options, *device);
  EXPECT_STREQ(env.environment().id, "CartPole-v1");
  EXPECT_EQ(env.num_envs(), 5);
  EXPECT_EQ(env.observation_dim(), 4);
  EXPECT_EQ(env.action_space().size, 2);
  EXPECT_FALSE(env.action_space().continuous);
  EXPECT_EQ(env.max_episode_steps(), 500u);
  EXPECT_EQ(env.parameter("sutton_barto_reward"), 1.0);
  EXPECT_THAT(env.field_names(), testing::ElementsAre(testing::StrEq("position"), testing::StrEq("velocity"),
                                                      testing::StrEq("angle"), testing::StrEq("angular_velocity")));
  EXPECT_EQ(VectorEnv(cartpoles(2, Autoreset::kDisabled, 20), *device).max_episode_steps(), 20u);
}

TEST(VectorEnv, DrawsAreThoseOfATrainingRun) {
  for (const std::int64_t count : {1, 7, 33, 257}) {
    for (const std::uint32_t seed : {0u, 1u, 4294967295u}) {
      Stepped stepped(cartpoles(count));
      stepped.reset(from_seed(seed));
      std::vector<ByHand> expected;
      for (int i = 0; i < count; ++i) expected.push_back(by_hand(seed, i));
      expect_same_bits("seed", stepped.observations, rows_of(expected));

      stepped.reset({});  // the next episode
      for (ByHand& one : expected) one.end_episode();
      expect_same_bits("next episode", stepped.observations, rows_of(expected));
    }
  }
}

TEST(VectorEnv, EachOfAListOfSeedsIsEnvironmentZero) {
  Stepped stepped(cartpoles(3));
  stepped.reset(from_seed(5));
  ResetOptions list;
  list.seeds = {9, std::nullopt, 9};
  stepped.reset(list);
  std::vector<ByHand> expected = {by_hand(9, 0), by_hand(5, 1), by_hand(9, 0)};
  expected[1].end_episode();
  expect_same_bits("seeds", stepped.observations, rows_of(expected));
}

TEST(VectorEnv, AMaskRestartsOnlyThese) {
  Stepped stepped(cartpoles(5));
  stepped.reset(from_seed(3));
  std::vector<ByHand> expected;
  for (int i = 0; i < 5; ++i) expected.push_back(by_hand(3, i));
  const std::vector<std::int64_t> right(5, 1);
  stepped.step(right);
  for (ByHand& one : expected) one.step(1);
  const std::vector<std::uint8_t> mask = {0, 1, 0, 0, 1};
  ResetOptions some;
  some.mask = mask;
  stepped.reset(some);
  expected[1].end_episode(), expected[4].end_episode();
  expect_same_bits("mask", stepped.observations, rows_of(expected));
  some.seed = 8;
  stepped.reset(some);
  expected[1] = by_hand(8, 1), expected[4] = by_hand(8, 4);
  expect_same_bits("mask and seed", stepped.observations, rows_of(expected));
  stepped.step(right);
  for (ByHand& one : expected) one.step(1);
  expect_same_bits("go on", stepped.observations, rows_of(expected));
}

TEST(VectorEnv, WithoutASeedEveryOneIsItsOwn) {
  Stepped a(cartpoles(2)), b(cartpoles(2));
  a.reset({}), b.reset({});
  EXPECT_NE(a.observations, b.observations);
  EXPECT_NE(a.observations[0], a.observations[4]);
}

/// Everything that 300 steps write, of the first environments.
std::vector<double> history(std::int64_t count, std::size_t first, int threads, Autoreset autoreset) {
  Stepped stepped(cartpoles(count, autoreset, 40), threads);
  stepped.reset(from_seed(11));
  std::vector<double> all;
  for (int t = 0; t < 300; ++t) {
    stepped.step(some_actions(stepped.count, t));
    for (std::size_t i = 0; i < first; ++i) {
      all.insert(all.end(), stepped.observations.begin() + static_cast<std::ptrdiff_t>(i * 4),
                 stepped.observations.begin() + static_cast<std::ptrdiff_t>(i * 4 + 4));
      for (const double x : {double{stepped.rewards[i]}, double(stepped.terminated[i]), double(stepped.truncated[i]),
                             double{stepped.episode_returns[i]}, double(stepped.episode_lengths[i]),
                             double{stepped.final_observations[4 * i + 2]}}) {
        all.push_back(x);
      }
    }
  }
  return all;
}

TEST(VectorEnv, SameBitsForAnyBatchAndAnyNumberOfThreads) {
  for (const Autoreset autoreset : {Autoreset::kNextStep, Autoreset::kSameStep}) {
    const std::vector<double> alone = history(1, 1, 1, autoreset);
    EXPECT_EQ(history(1, 1, 2, autoreset), alone);
    EXPECT_EQ(history(9001, 1, 2, autoreset), alone);
    const std::vector<double> seven = history(7, 7, 1, autoreset);
    EXPECT_EQ(history(4097, 7, 2, autoreset), seven);
    EXPECT_EQ(history(20000, 7, 3, autoreset), seven);
  }
}

TEST(VectorEnv, AnEndIsFollowedAsTheModeSays) {
  const std::vector<std::int64_t> right(3, 1);
  Stepped next(cartpoles(3, Autoreset::kNextStep, 4)), same(cartpoles(3, Autoreset::kSameStep, 4)),
      disabled(cartpoles(3, Autoreset::kDisabled, 4));
  for (Stepped* each : {&next, &same, &disabled}) {
    each->reset(from_seed(2));
    for (int t = 0; t < 3; ++t) {
      each->step(right);
      EXPECT_FALSE(each->any_ended);
      EXPECT_THAT(each->truncated, testing::Each(0));
    }
    each->step(right);
    EXPECT_TRUE(each->any_ended);
    EXPECT_THAT(each->truncated, testing::Each(1));
    EXPECT_THAT(each->terminated, testing::Each(0));
    EXPECT_THAT(each->rewards, testing::Each(1.0f));
    EXPECT_THAT(each->episode_returns, testing::Each(4.0f));
    EXPECT_THAT(each->episode_lengths, testing::Each(4u));
  }
  std::vector<ByHand> last, fresh;
  for (int i = 0; i < 3; ++i) {
    last.push_back(by_hand(2, i));
    for (int t = 0; t < 4; ++t) last.back().step(1);
    fresh.push_back(last.back());
    fresh.back().end_episode();
  }
  expect_same_bits("next step: last observation", next.observations, rows_of(last));
  expect_same_bits("disabled: last observation", disabled.observations, rows_of(last));
  expect_same_bits("same step: final observation", same.final_observations, rows_of(last));
  expect_same_bits("same step: first observation", same.observations, rows_of(fresh));
  EXPECT_THAT(next.final_observations, testing::Each(77.0f));

  next.step(right);
  expect_same_bits("next step: first observation", next.observations, rows_of(fresh));
  EXPECT_THAT(next.rewards, testing::Each(0.0f));
  EXPECT_THAT(next.truncated, testing::Each(0));
  EXPECT_FALSE(next.any_ended);
  EXPECT_THAT(next.episode_lengths, testing::Each(77u));

  EXPECT_THAT([&] { disabled.step(right); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("environment 0"), HasSubstr("reset"))));
  EXPECT_TRUE(disabled.untouched());
  const std::vector<std::uint8_t> mask = {1, 0, 1};
  ResetOptions some;
  some.mask = mask;
  disabled.reset(some);
  EXPECT_THAT([&] { disabled.step(right); }, ThrowsMessage<UsageError>(HasSubstr("environment 1")));
  disabled.reset({});
  disabled.step(right);
  EXPECT_THAT(disabled.rewards, testing::Each(1.0f));
}

TEST(VectorEnv, AFallAtTheLimitIsBoth) {
  Stepped first(cartpoles(1));
  first.reset(from_seed(1));
  const std::vector<std::int64_t> left = {0};
  int steps = 0;
  do {
    first.step(left);
    ++steps;
  } while (!first.any_ended);
  Stepped second(cartpoles(1, Autoreset::kNextStep, steps));
  second.reset(from_seed(1));
  for (int t = 0; t < steps; ++t) second.step(left);
  EXPECT_EQ(second.terminated[0], 1);
  EXPECT_EQ(second.truncated[0], 1);
}

TEST(VectorEnv, ActionsOfEitherIntegerType) {
  Stepped a(cartpoles(9)), b(cartpoles(9));
  a.reset(from_seed(4)), b.reset(from_seed(4));
  for (int t = 0; t < 20; ++t) {
    const std::vector<std::int64_t> wide = some_actions(9, t);
    a.step(wide);
    b.step(std::vector<std::int32_t>(wide.begin(), wide.end()));
    expect_same_bits("observations", a.observations, b.observations);
  }
}

void expect_equal(const EnvironmentStates& a, const EnvironmentStates& b) {
  expect_same_bits("fields", a.fields, b.fields);
  EXPECT_EQ(a.episode, b.episode);
  EXPECT_EQ(a.elapsed, b.elapsed);
  EXPECT_EQ(a.episode_return, b.episode_return);
  EXPECT_EQ(a.ended, b.ended);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.number, b.number);
}

TEST(VectorEnv, WhatIsRefusedChangesNothing) {
  Stepped stepped(cartpoles(33));
  const std::vector<std::int64_t> right(33, 1);
  EXPECT_THAT([&] { stepped.step(right); }, ThrowsMessage<UsageError>(HasSubstr("reset first")));
  EXPECT_THAT([&] { stepped.env.observe(stepped.observations.data()); }, ThrowsMessage<UsageError>(HasSubstr("reset")));
  const std::vector<std::uint8_t> mask(33, 0);
  ResetOptions none;
  none.mask = mask;
  EXPECT_THAT([&] { stepped.reset(none); }, ThrowsMessage<UsageError>(HasSubstr("first reset")));
  stepped.reset(from_seed(6));
  stepped.step(right);
  const EnvironmentStates before = stepped.env.states();

  const auto refused = [&](const std::function<void()>& f, const auto& matcher) {
    stepped.clear();
    EXPECT_THAT(f, ThrowsMessage<UsageError>(matcher));
    EXPECT_TRUE(stepped.untouched());
    expect_equal(stepped.env.states(), before);
  };
  for (const std::int64_t wrong :
       {std::int64_t{2}, std::int64_t{-1}, std::int64_t{1} << 32, std::numeric_limits<std::int64_t>::min()}) {
    for (const std::size_t place : {0u, 7u, 8u, 32u}) {
      std::vector<std::int64_t> actions = right;
      actions[place] = wrong;
      refused(
          [&] { stepped.step(actions); },
          AllOf(HasSubstr("actions[" + std::to_string(place) + "] = " + std::to_string(wrong)), HasSubstr("0 .. 1")));
    }
  }
  std::vector<std::int32_t> narrow(33, 0);
  narrow[20] = -7, narrow[30] = 9;
  refused([&] { stepped.step(narrow); }, HasSubstr("actions[20] = -7"));
  refused([&] { stepped.step(std::vector<float>(33, 0.0f)); }, HasSubstr("int32 or int64"));
  refused([&] { stepped.reset(from_seed(-1)); }, AllOf(HasSubstr("seed"), HasSubstr("4294967295")));
  refused([&] { stepped.reset(from_seed(std::int64_t{1} << 32)); }, HasSubstr("seed"));
  ResetOptions both = from_seed(1), few, long_mask;
  both.seeds.assign(33, 1);
  few.seeds.assign(32, 1);
  const std::vector<std::uint8_t> ones(34, 1);
  long_mask.mask = ones;
  refused([&] { stepped.reset(both); }, HasSubstr("both"));
  refused([&] { stepped.reset(few); }, AllOf(HasSubstr("32"), HasSubstr("33")));
  refused([&] { stepped.reset(long_mask); }, AllOf(HasSubstr("34"), HasSubstr("33")));
}

TEST(VectorEnv, ImpossibleOptionsAreRefused) {
  const auto device = cpu();
  const auto refused = [&](const VectorEnvOptions& options, const auto& matcher) {
    EXPECT_THAT([&] { VectorEnv(options, *device); }, ThrowsMessage<UsageError>(matcher));
  };
  refused(cartpoles(0), HasSubstr("num_envs"));
  refused(cartpoles(-3), HasSubstr("num_envs"));
  refused(cartpoles(std::int64_t{1} << 40), HasSubstr("num_envs"));
  refused(cartpoles(1, Autoreset::kNextStep, -1), HasSubstr("max_episode_steps"));
  VectorEnvOptions options;
  options.env_id = "CartPole-v7";
  refused(options, HasSubstr("CartPole-v1"));
  options.env_id = "CartPole-v1";
  options.parameters = {{"gravitas", 3.0}};
  refused(options, HasSubstr("gravitas"));
  options.parameters = {{"sutton_barto_reward", 2.0}};
  refused(options, AllOf(HasSubstr("sutton_barto_reward"), HasSubstr("true | false")));
  options.parameters = {{"sutton_barto_reward", std::nan("")}};
  refused(options, HasSubstr("sutton_barto_reward"));
}

TEST(VectorEnv, SavedStatesGoOnAsTheyWouldHave) {
  Stepped stepped(cartpoles(33, Autoreset::kNextStep, 30)), other(cartpoles(33, Autoreset::kNextStep, 30));
  stepped.reset(from_seed(12));
  int before = 0;
  while (before < 40 || !stepped.any_ended) stepped.step(some_actions(33, before++));
  const EnvironmentStates saved = stepped.env.states();
  EXPECT_THAT(saved.ended, testing::Contains(1));
  other.env.set_states(saved);
  expect_equal(other.env.states(), saved);
  for (int t = 0; t < 100; ++t) {
    stepped.step(some_actions(33, t));
    other.step(some_actions(33, t));
    expect_same_bits("observations", other.observations, stepped.observations);
    EXPECT_EQ(other.truncated, stepped.truncated);
    EXPECT_EQ(other.terminated, stepped.terminated);
  }

  const std::vector<std::int64_t> some = {32, 0, 5};
  stepped.env.set_states(saved);
  const EnvironmentStates chosen = stepped.env.states(some);
  EXPECT_EQ(chosen.fields[0], saved.fields[32 * 4]);
  EXPECT_EQ(chosen.number, (std::vector<std::uint32_t>{32, 0, 5}));
  stepped.reset(from_seed(1));
  stepped.env.set_states(chosen, some);
  const EnvironmentStates mixed = stepped.env.states();
  expect_equal(stepped.env.states(some), chosen);
  EXPECT_EQ(mixed.seed[1], 1u);
  EXPECT_EQ(mixed.elapsed[1], 0u);
}

TEST(VectorEnv, ImpossibleStatesAreRefused) {
  Stepped stepped(cartpoles(3, Autoreset::kNextStep, 30));
  const std::vector<std::int64_t> one = {1};
  EXPECT_THAT([&] { stepped.env.states(); }, ThrowsMessage<UsageError>(HasSubstr("reset")));
  EXPECT_THAT([&] { stepped.env.states(one); }, ThrowsMessage<UsageError>(HasSubstr("reset")));
  stepped.reset(from_seed(12));
  const EnvironmentStates good = stepped.env.states();
  const auto refused = [&](const std::function<void(EnvironmentStates&)>& spoil, const auto& matcher) {
    EnvironmentStates bad = good;
    spoil(bad);
    EXPECT_THAT([&] { stepped.env.set_states(bad); }, ThrowsMessage<UsageError>(matcher));
    expect_equal(stepped.env.states(), good);
  };
  refused([](EnvironmentStates& s) { s.fields[6] = std::nanf(""); },
          AllOf(HasSubstr("angle of entry 1"), HasSubstr("finite")));
  refused([](EnvironmentStates& s) { s.episode_return[2] = INFINITY; }, HasSubstr("episode_return of entry 2"));
  refused([](EnvironmentStates& s) { s.ended[0] = 2; }, AllOf(HasSubstr("ended"), HasSubstr("0 or 1")));
  refused([](EnvironmentStates& s) { s.elapsed[0] = 30; }, AllOf(HasSubstr("elapsed"), HasSubstr("0 .. 29")));
  refused([](EnvironmentStates& s) { s.ended[0] = 1, s.elapsed[0] = 31; }, HasSubstr("0 .. 30"));
  refused([](EnvironmentStates& s) { s.fields.pop_back(); }, AllOf(HasSubstr("fields has 11"), HasSubstr("12")));
  refused([](EnvironmentStates& s) { s.seed.clear(); }, HasSubstr("seed has 0"));

  Stepped same(cartpoles(3, Autoreset::kSameStep, 30));
  EnvironmentStates over = good;
  over.ended[1] = 1;
  EXPECT_THAT([&] { same.env.set_states(over); }, ThrowsMessage<UsageError>(HasSubstr("ended of entry 1")));

  const auto refused_at = [&](std::vector<std::int64_t> indices, const auto& matcher) {
    EXPECT_THAT([&] { stepped.env.states(indices); }, ThrowsMessage<UsageError>(matcher));
    EXPECT_THAT([&] { stepped.env.set_states(good, indices); }, ThrowsMessage<UsageError>(matcher));
    expect_equal(stepped.env.states(), good);
  };
  refused_at({0, 1, 3}, AllOf(HasSubstr("environment 3"), HasSubstr("0 .. 2")));
  refused_at({0, -1, 1}, HasSubstr("environment -1"));
  refused_at({0, 1, 0}, HasSubstr("twice"));
}

/// Calls back in the middle of a download.
class InterruptedDevice : public test::ForwardingDevice {
 public:
  std::function<void()> in_download = [] {};
  void download(void* to, const void* from, std::size_t bytes) override {
    in_download();
    ForwardingDevice::download(to, from, bytes);
  }
};

TEST(VectorEnv, TwoCallsAtOnceAreAnError) {
  InterruptedDevice device;
  VectorEnv env(cartpoles(1), device);
  std::vector<float> observation(4);
  env.reset(from_seed(1), observation.data());
  int refused = 0;
  device.in_download = [&] {
    try {
      env.observe(observation.data());
    } catch (const UsageError&) {
      FAIL() << "not the caller's use of it, but its threads are wrong";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("another thread"));
      ++refused;
    }
  };
  env.states();
  EXPECT_GT(refused, 0);
  device.in_download = [] {};
  env.observe(observation.data());
}

TEST(VectorEnv, MoreThanThereIsMemoryForIsRefused) {
  class SmallDevice : public InterruptedDevice {
    std::size_t free_memory() const override { return 1 << 20; }
  };
  SmallDevice device;
  EXPECT_THROW(VectorEnv(cartpoles(100000), device), OutOfMemoryError);
  VectorEnv(cartpoles(1000), device);
}

}  // namespace
}  // namespace perilune
