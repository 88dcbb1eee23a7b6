// StepEnvironments, RestartEnvironments and CheckStep: the bits of environments stepped one by one,
// in every autoreset mode, on every machine.
#include <limits>

#include "tests/kernels/environments.hpp"
#include "tests/kernels/point_mass.hpp"

namespace perilune::test {
namespace {

constexpr int kMarked = 77;  // what output arrays hold before a launch

template <class E>
constexpr const Task& kTaskOf = kCartPole;
template <>
constexpr const Task& kTaskOf<PointMass> = kPointMass;

/// Environments that a caller steps, and its arrays. The tails of Buffers are actions that do not
/// exist, so that reading beyond the caller's arrays shows.
template <class E>
struct Stepping {
  static constexpr int kObs = E::kObsDim;
  static constexpr int kNumbers = E::Action::kNumbers;

  const Subject& subject;
  const Kernels& kernels;
  int count;
  Environments environments;
  Buffer<std::uint32_t> seed, number;
  Buffer<std::uint8_t> ended, restart;
  Buffer<StepFlags> flags;
  Buffer<std::int64_t> choices;
  Buffer<std::int32_t> narrow_choices;
  Buffer<float> numbers;
  Buffer<float> observations, rewards, final_observations, episode_returns;
  Buffer<std::uint8_t> terminated, truncated;
  Buffer<std::uint32_t> episode_lengths;
  CallerArrays caller;

  Stepping(const Subject& on, int n, std::uint32_t limit, float parameter)
      : subject(on),
        kernels(kernels_of(on.machine(), kTaskOf<E>, 0, Precision::kFp32)),
        count(n),
        environments(on, kTaskOf<E>, n, {12345, 3}, limit, {parameter}),
        seed(on, at(n)),
        number(on, at(n)),
        ended(on, at(n)),
        restart(on, at(n)),
        flags(on, 1),
        choices(on, at(n)),
        narrow_choices(on, at(n)),
        numbers(on, at(kNumbers * n)),
        observations(on, at(kObs * n)),
        rewards(on, at(n)),
        final_observations(on, at(kObs * n)),
        episode_returns(on, at(n)),
        terminated(on, at(n)),
        truncated(on, at(n)),
        episode_lengths(on, at(n)) {
    caller = {seed.data(), number.data(), ended.data()};
    flags[0] = {kNoFault, 0};
    for (int i = 0; i < n; ++i) {
      seed[at(i)] = static_cast<std::uint32_t>(i % 3 * 1000000007);
      number[at(i)] = static_cast<std::uint32_t>(i % 5 == 4 ? 0 : n - i);
      environments.episode[at(i)] = ~0u;
      ended[at(i)] = static_cast<std::uint8_t>(i % 2);
    }
    restart.fill(1);
    environments.fields.fill(0.0f);
  }

  std::vector<ByHandOf<E>> by_hand() const {
    std::vector<ByHandOf<E>> result;
    for (int i = 0; i < count; ++i) {
      ByHandOf<E> one(environments.batch, static_cast<int>(number[at(i)]));
      one.key.seed = seed[at(i)];
      one.reset();
      result.push_back(one);
    }
    return result;
  }

  /// Half of the environments are mostly pushed one way, and so end.
  void draw_actions(Draws& draws) {
    for (int i = 0; i < count; ++i) {
      choices[at(i)] = i % 2 == 0 ? draws.below(2) : draws.below(8) == 0;
      narrow_choices[at(i)] = static_cast<std::int32_t>(choices[at(i)]);
      for (int k = 0; k < kNumbers; ++k) {  // some beyond the bounds
        numbers[at(kNumbers * i + k)] = draws.uniform(-1.3, i % 2 == 0 ? 1.3 : 0.4);
      }
    }
  }
  typename ByHandOf<E>::Action action(int i) const {
    if constexpr (E::Action::kContinuous) {
      typename ByHandOf<E>::Action result;
      for (int k = 0; k < kNumbers; ++k) result.at[k] = numbers[at(kNumbers * i + k)];
      return result;
    } else {
      return static_cast<std::uint32_t>(choices[at(i)]);
    }
  }

  void mark_outputs() {
    observations.fill(kMarked), rewards.fill(kMarked), final_observations.fill(kMarked);
    episode_returns.fill(kMarked), terminated.fill(kMarked), truncated.fill(kMarked);
    episode_lengths.fill(kMarked);
  }
  StepArgs step_args(Autoreset autoreset, ActionType type) {
    StepArgs args{};
    args.environments = environments.batch;
    args.caller = caller;
    args.autoreset = autoreset;
    args.action_type = type;
    args.actions = type == ActionType::kInt64   ? static_cast<const void*>(choices.data())
                   : type == ActionType::kInt32 ? static_cast<const void*>(narrow_choices.data())
                                                : numbers.data();
    args.flags = flags.data();
    args.observations = observations.data();
    args.rewards = rewards.data();
    args.terminated = terminated.data();
    args.truncated = truncated.data();
    args.final_observations = final_observations.data();
    args.episode_returns = episode_returns.data();
    args.episode_lengths = episode_lengths.data();
    return args;
  }
  void launch_restart(const std::uint8_t* which) {
    mark_outputs();
    kernels.restart({environments.batch, caller, which, observations.data()}, subject.queue());
    subject.finish();
  }
  void launch_step(Autoreset autoreset, ActionType type) {
    mark_outputs();
    flags[0].any_ended = 0;
    const StepArgs args = step_args(autoreset, type);
    kernels.check_step(args, subject.queue());
    kernels.step(args, subject.queue());
    subject.finish();
  }
};

/// What a step by hand is expected to write.
template <class E>
struct Written {
  static constexpr int kObs = E::kObsDim;
  std::vector<float> observations, rewards, final_observations, episode_returns;
  std::vector<std::uint8_t> terminated, truncated;
  std::vector<std::uint32_t> episode_lengths;
  bool any_ended = false;

  explicit Written(int count)
      : observations(at(kObs * count), kMarked),
        rewards(at(count), kMarked),
        final_observations(at(kObs * count), kMarked),
        episode_returns(at(count), kMarked),
        terminated(at(count), kMarked),
        truncated(at(count), kMarked),
        episode_lengths(at(count), kMarked) {}

  static void put(std::vector<float>& rows, int i, const ByHandOf<E>& one) {
    const Vector observation = one.observation();
    for (int k = 0; k < kObs; ++k) rows[at(kObs * i + k)] = static_cast<float>(observation[at(k)]);
  }
  void step(int i, ByHandOf<E>& one, std::uint8_t& ended, const typename ByHandOf<E>::Action& action,
            Autoreset autoreset) {
    if (autoreset == Autoreset::kNextStep && ended != 0) {
      one.end_episode();
      ended = 0;
      rewards[at(i)] = 0.0f;
      terminated[at(i)] = truncated[at(i)] = 0;
      put(observations, i, one);
      return;
    }
    const Outcome<float> outcome = one.step(action);
    rewards[at(i)] = outcome.reward;
    terminated[at(i)] = outcome.terminated;
    truncated[at(i)] = one.out_of_time();
    if (outcome.terminated || one.out_of_time()) {
      any_ended = true;
      episode_returns[at(i)] = one.episode_return;
      episode_lengths[at(i)] = one.elapsed;
      ended = autoreset != Autoreset::kSameStep;
      if (autoreset == Autoreset::kSameStep) {
        put(final_observations, i, one);
        one.end_episode();
      }
    }
    put(observations, i, one);
  }
  void expect(const Stepping<E>& actual) const {
    expect_same_bits("observations", actual.observations.copy(), observations);
    expect_same_bits("rewards", actual.rewards.copy(), rewards);
    expect_same_bits("terminated", actual.terminated.copy(), terminated);
    expect_same_bits("truncated", actual.truncated.copy(), truncated);
    expect_same_bits("final observations", actual.final_observations.copy(), final_observations);
    expect_same_bits("episode returns", actual.episode_returns.copy(), episode_returns);
    expect_same_bits("episode lengths", actual.episode_lengths.copy(), episode_lengths);
    EXPECT_EQ(actual.flags[0].any_ended != 0, any_ended);
    EXPECT_EQ(actual.flags[0].fault, kNoFault);
  }
};

/// The state in memory is that of the environments stepped by hand.
template <class E>
void expect_states(const Stepping<E>& actual, const std::vector<ByHandOf<E>>& expected,
                   const std::vector<std::uint8_t>& ended) {
  std::vector<float> fields(actual.environments.fields.size()), episode_return;
  std::vector<std::uint32_t> episode, elapsed;
  const std::size_t count = expected.size();
  for (std::size_t i = 0; i < count; ++i) {
    const ByHandOf<E>& one = expected[i];
    std::size_t row = 0;
    one.state.fields([&](const float& field) { fields[row++ * count + i] = field; });
    episode.push_back(one.episode);
    elapsed.push_back(one.elapsed);
    episode_return.push_back(one.episode_return);
  }
  expect_same_bits("state", actual.environments.fields.copy(), fields);
  expect_same_bits("episode", actual.environments.episode.copy(), episode);
  expect_same_bits("elapsed", actual.environments.elapsed.copy(), elapsed);
  expect_same_bits("episode return", actual.environments.episode_return.copy(), episode_return);
  expect_same_bits("ended", actual.ended.copy(), ended);
}

class StepTest : public EveryMachine {
 protected:
  /// parameter: of the environment.
  template <class E>
  void check(int count, Autoreset autoreset, ActionType type, float parameter) {
    SCOPED_TRACE(std::string(E::kId) + " x " + std::to_string(count) + ", mode " +
                 std::to_string(static_cast<int>(autoreset)));
    // A limit of 15 steps truncates some episodes; others end before it, some at it.
    Stepping<E> actual(subject(), count, 15, parameter);
    actual.launch_restart(actual.restart.data());
    std::vector<ByHandOf<E>> expected = actual.by_hand();
    std::vector<std::uint8_t> ended(at(count), 0);
    Written<E> first(count);
    for (int i = 0; i < count; ++i) Written<E>::put(first.observations, i, expected[at(i)]);
    expect_same_bits("first observations", actual.observations.copy(), first.observations);
    expect_states(actual, expected, ended);

    Draws draws(static_cast<std::uint64_t>(count));
    for (int t = 0; t < 40; ++t) {
      actual.draw_actions(draws);
      Written<E> written(count);
      for (int i = 0; i < count; ++i) {
        written.step(i, expected[at(i)], ended[at(i)], actual.action(i), autoreset);
      }
      actual.launch_step(autoreset, type);
      written.expect(actual);
      expect_states(actual, expected, ended);
      if (autoreset == Autoreset::kDisabled) restart_ended(actual, expected, ended, written);
    }
  }

  template <class E>
  void restart_ended(Stepping<E>& actual, std::vector<ByHandOf<E>>& expected, std::vector<std::uint8_t>& ended,
                     Written<E>& written) {
    for (int i = 0; i < actual.count; ++i) {
      actual.restart[at(i)] = ended[at(i)];
      if (ended[at(i)] != 0) expected[at(i)].end_episode();
      ended[at(i)] = 0;
      Written<E>::put(written.observations, i, expected[at(i)]);
    }
    actual.launch_restart(actual.restart.data());
    expect_same_bits("after the restart", actual.observations.copy(), written.observations);
    expect_states(actual, expected, ended);
  }
};

TEST_P(StepTest, NextStep) {
  for (int count : {1, 7, 31, 33, 65, 257}) {
    check<CartPole>(count, Autoreset::kNextStep, ActionType::kInt64, count % 2 == 0 ? 1.0f : 0.0f);
  }
  for (int count : {1, 7, 97}) {
    check<PointMass>(count, Autoreset::kNextStep, ActionType::kFloat32, 0.25f);
  }
}

TEST_P(StepTest, SameStep) {
  for (int count : {1, 7, 31, 33, 65, 257}) {
    check<CartPole>(count, Autoreset::kSameStep, ActionType::kInt32, count == 7 ? 1.0f : 0.0f);
  }
  for (int count : {1, 31, 65}) {
    check<PointMass>(count, Autoreset::kSameStep, ActionType::kFloat32, 0.1f);
  }
}

TEST_P(StepTest, Disabled) {
  for (int count : {1, 7, 33, 65}) {
    check<CartPole>(count, Autoreset::kDisabled, ActionType::kInt64, 0.0f);
  }
  check<PointMass>(33, Autoreset::kDisabled, ActionType::kFloat32, 0.1f);
}

TEST_P(StepTest, ManyAsFew) {
  // More than one thread's worth on CPUs.
  if (subject().speed != Speed::kNative) GTEST_SKIP() << "takes too long on this machine";
  check<CartPole>(9001, Autoreset::kNextStep, ActionType::kInt32, 0.0f);
  check<PointMass>(9001, Autoreset::kSameStep, ActionType::kFloat32, 0.1f);
}

TEST_P(StepTest, ObservingChangesNothing) {
  Stepping<CartPole> actual(subject(), 33, 500, 0.0f);
  actual.launch_restart(actual.restart.data());
  const std::vector<ByHand> expected = actual.by_hand();
  actual.launch_restart(nullptr);
  Written<CartPole> written(33);
  for (int i = 0; i < 33; ++i) Written<CartPole>::put(written.observations, i, expected[at(i)]);
  expect_same_bits("observations", actual.observations.copy(), written.observations);
  expect_states(actual, expected, std::vector<std::uint8_t>(33, 0));
}

TEST_P(StepTest, OutputsThatAreNotWantedAreNotWritten) {
  Stepping<CartPole> actual(subject(), 9, 1, 0.0f);
  actual.launch_restart(actual.restart.data());
  actual.choices.fill(1);
  actual.mark_outputs();
  StepArgs args = actual.step_args(Autoreset::kSameStep, ActionType::kInt64);
  args.final_observations = args.episode_returns = args.observations = nullptr;
  args.episode_lengths = nullptr;
  actual.kernels.step(args, queue());
  finish();
  expect_same_bits("truncated", actual.truncated.copy(), std::vector<std::uint8_t>(9, 1));
  for (const float x : actual.final_observations) EXPECT_EQ(x, kMarked);
}

/// A step with this fault: nothing is written, and nothing by the good steps after it until the
/// host has seen it.
template <class E>
void expect_fault(Stepping<E>& actual, Autoreset autoreset, ActionType type, std::uint64_t fault,
                  const std::vector<ByHandOf<E>>& expected, const std::vector<std::uint8_t>& ended) {
  actual.launch_step(autoreset, type);
  EXPECT_EQ(actual.flags[0].fault, fault);
  for (int again = 0; again < 2; ++again) {
    for (const float x : actual.observations) EXPECT_EQ(x, kMarked);
    for (const float x : actual.rewards) EXPECT_EQ(x, kMarked);
    expect_states(actual, expected, ended);
    actual.choices.fill(1), actual.narrow_choices.fill(1), actual.numbers.fill(0.5f);
    actual.launch_step(Autoreset::kNextStep, type);
  }
  actual.flags[0].fault = kNoFault;
}

TEST_P(StepTest, TheLowestFaultIsReportedAndNothingIsStepped) {
  struct Case {
    std::vector<std::pair<int, std::int64_t>> wrong;
    int place;
    std::int64_t value;
  };
  constexpr std::int64_t kMost = 0x7FFFFFFF, kLeast = -kMost - 1;
  const std::vector<Case> cases = {{{{64, 2}}, 64, 2},
                                   {{{40, -1}, {8, 5}, {50, 7}}, 8, 5},
                                   {{{0, std::int64_t{1} << 32}}, 0, kMost},
                                   {{{33, std::numeric_limits<std::int64_t>::min()}}, 33, kLeast},
                                   {{{7, -(std::int64_t{1} << 32)}}, 7, kLeast}};
  const auto fault = [](int place, std::int64_t value) {
    return static_cast<std::uint64_t>(place) << 33 | static_cast<std::uint32_t>(static_cast<std::int32_t>(value));
  };
  Stepping<CartPole> actual(subject(), 65, 500, 0.0f);
  actual.launch_restart(actual.restart.data());
  const std::vector<ByHand> expected = actual.by_hand();
  std::vector<std::uint8_t> ended(65, 0);
  for (const Case& c : cases) {
    actual.choices.fill(1);
    for (const auto& [place, value] : c.wrong) actual.choices[at(place)] = value;
    expect_fault(actual, Autoreset::kNextStep, ActionType::kInt64, fault(c.place, c.value), expected, ended);
  }
  actual.narrow_choices.fill(0);
  actual.narrow_choices[31] = -3;
  expect_fault(actual, Autoreset::kNextStep, ActionType::kInt32, fault(31, -3), expected, ended);

  actual.ended[12] = ended[12] = 1;
  actual.choices.fill(0);
  actual.choices[13] = 4;
  expect_fault(actual, Autoreset::kDisabled, ActionType::kInt64,
               fault(12, 0) | static_cast<std::uint64_t>(FaultKind::kEnded) << 32, expected, ended);
}

TEST_P(StepTest, NaNIsAFaultAndInfinityIsNot) {
  Stepping<PointMass> actual(subject(), 65, 500, 0.1f);
  actual.launch_restart(actual.restart.data());
  std::vector<ByHandOf<PointMass>> expected = actual.by_hand();
  actual.numbers.fill(0.25f);
  for (const int place : {129, 40, 41}) actual.numbers[at(place)] = std::nanf("");
  expect_fault(actual, Autoreset::kNextStep, ActionType::kFloat32, std::uint64_t{40} << 33 | as_uint(std::nanf("")),
               expected, std::vector<std::uint8_t>(65, 0));
  actual.numbers[3] = std::numeric_limits<float>::infinity();
  actual.numbers[129] = -std::numeric_limits<float>::infinity();
  Written<PointMass> written(65);
  std::uint8_t ended = 0;
  for (int i = 0; i < 65; ++i) {
    written.step(i, expected[at(i)], ended, actual.action(i), Autoreset::kNextStep);
  }
  actual.launch_step(Autoreset::kNextStep, ActionType::kFloat32);
  written.expect(actual);
}

PERILUNE_ON_EVERY_MACHINE(StepTest);

}  // namespace
}  // namespace perilune::test
