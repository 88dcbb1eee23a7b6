// Lanes of a pack that no environment is left for do what the last environment does, and so cost it
// no time: seen by an environment that counts how many of its lanes differ.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <type_traits>
#include <vector>

#include "kernels/evaluate.hpp"
#include "kernels/layerwise.hpp"
#include "kernels/machine/dense_cpu.hpp"
#include "kernels/rollout.hpp"
#include "kernels/simulate.hpp"
#include "kernels/step.hpp"
#include "tests/support/reference.hpp"

namespace perilune {
namespace {

using Block = CpuBlock<96>;

/// How many lanes differed, of each pack that was reset or stepped since it was cleared.
std::vector<int> different_lanes;

template <class... Values>
void count_lanes(const Values&... values) {
  std::set<std::array<float, sizeof...(Values)>> lanes;
  for (int lane = 0; lane < kPackLanes; ++lane) lanes.insert({float{values[lane]}...});
  different_lanes.push_back(static_cast<int>(lanes.size()));
}

/// A point on a line, pushed by what is drawn and by its actions.
template <class ActionSpace>
struct Counting {
  static constexpr const char* kId = "Counting";
  static constexpr std::array<const char*, 0> kAliases = {};
  static constexpr int kObsDim = 2;
  static constexpr std::array<ObservationNumber, kObsDim> kObservation = {{{"x"}, {"push"}}};
  using Action = ActionSpace;
  static constexpr int kBodies = 0;
  static constexpr int kMaxEpisodeSteps = 12;
  static constexpr double kSolvedReturn = 0.0;
  struct Params {};
  static constexpr std::array<EnvironmentParameter, 1> kParameters = {
      boolean_parameter("nothing", false, "means nothing")};
  static constexpr StepCost step_cost(const double*) { return {.cpu_flop = 1.0}; }
  static constexpr std::array<const char*, 2> kFieldNames = {"x", "push"};
  template <class Real>
  struct State {
    static constexpr int kFields = 2;
    Real x, push;
    template <class F>
    PERILUNE_HD void fields(F&& f) {
      f(x), f(push);
    }
    template <class F>
    PERILUNE_HD void fields(F&& f) const {
      f(x), f(push);
    }
  };

  PERILUNE_HD static Params params(const float*) { return {}; }
  template <class Real, class Rng>
  PERILUNE_HD static State<Real> reset(const Params&, Rng& rng) {
    State<Real> state{rng.uniform(), rng.uniform()};
    if constexpr (std::is_same_v<Real, Pack>) count_lanes(state.x, state.push);
    return state;
  }
  template <class Real, class Rng>
  PERILUNE_HD static Outcome<Real> step(const Params&, State<Real>& state,
                                        const typename Action::template Value<Real>& action, Rng& rng) {
    Real asked;
    if constexpr (Action::kContinuous) {
      asked = action.at[0];
    } else {
      asked = to_real<Real>(action);
    }
    const Real drawn = rng.uniform();
    if constexpr (std::is_same_v<Real, Pack>) {
      count_lanes(state.x, state.push, asked, drawn);
      count_lanes(drawn);
    }
    state.push = drawn;
    state.x = state.x + Real(0.125f) * (drawn + asked);
    return {state.x, state.x > Real(2.0f)};
  }
  template <class Real>
  PERILUNE_HD static void observe(const Params&, const State<Real>& state, Real* out) {
    out[0] = state.x;
    out[1] = state.push;
  }
};
using Choosing = Counting<Discrete<2>>;
using Pushing = Counting<Box<1>>;
static_assert(Env<Choosing> && Env<Pushing>);

/// Memory with room to read beyond its end, full of what must not be used.
template <class T>
std::vector<T> padded(int count, T value = {}) {
  std::vector<T> memory(static_cast<std::size_t>(count + kTailPadding), static_cast<T>(77));
  std::fill_n(memory.begin(), count, value);
  return memory;
}

template <class E>
struct Lanes {
  int count;
  std::vector<float> storage = std::vector<float>(1 << 17);
  std::vector<float> fields = padded(2 * count, 0.0f), returns = padded(count, 0.0f), sums[3];
  std::vector<std::uint32_t> episode = padded(count, 0u), elapsed = padded(count, 0u);
  EnvironmentBatch batch;

  explicit Lanes(int n) : count(n) {
    for (auto& sum : sums) sum = padded(n, 0.0f);
    batch = {fields.data(), episode.data(), elapsed.data(), returns.data(), n, 12, {}, {5, 0}};
  }
  EpisodeSums episode_sums() { return {sums[0].data(), sums[1].data(), sums[2].data()}; }

  template <class K, class Args>
  void run(const Args& args) {
    auto* aligned = reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(storage.data()) + 63) / 64 * 64);
    Block block(0, 1, aligned);
    K::run(block, args);
  }

  /// Every pack had as many different lanes as environments: full ones, and the last one.
  void expect_no_more(const char* what) {
    const int rest = count % kPackLanes;
    int full = 0, partial = 0;
    for (const int lanes : different_lanes) {
      full += lanes == kPackLanes;
      partial += lanes == rest;
      EXPECT_TRUE(lanes == kPackLanes || lanes == rest)
          << what << ", " << count << " environments: " << lanes << " different lanes";
    }
    EXPECT_EQ(full > 0, count >= kPackLanes) << what;
    EXPECT_EQ(partial > 0, rest > 0) << what;
    different_lanes.clear();
  }
};

const int kCounts[] = {1, 2, kPackLanes - 1, kPackLanes, kPackLanes + 1, 3 * kPackLanes + 2};

template <class E>
void step_by_a_caller(int count) {
  Lanes<E> lanes(count);
  auto seed = padded(count, 9u), number = padded(count, 0u);
  for (int i = 0; i < count; ++i) number[static_cast<std::size_t>(i)] = static_cast<std::uint32_t>(i);
  auto ended = padded<std::uint8_t>(count);
  const CallerArrays caller = {seed.data(), number.data(), ended.data()};
  const std::vector<std::uint8_t> all(static_cast<std::size_t>(count) + kTailPadding, 1);
  auto observations = padded(2 * count, 0.0f), rewards = padded(count, 0.0f);
  auto terminated = padded<std::uint8_t>(count), truncated = padded<std::uint8_t>(count);
  lanes.template run<RestartEnvironments<E>>(RestartArgs{lanes.batch, caller, all.data(), observations.data()});
  lanes.expect_no_more("restart");
  std::vector<float> pushes(static_cast<std::size_t>(count));  // a caller's arrays end where they end
  std::vector<std::int64_t> choices(static_cast<std::size_t>(count));
  std::vector<std::int32_t> narrow(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < pushes.size(); ++i) {
    pushes[i] = 0.1f * static_cast<float>(i);
    choices[i] = narrow[i] = static_cast<std::int32_t>(i % 2);
  }
  for (int t = 0; t < 20; ++t) {
    StepFlags flags{kNoFault, 0};
    StepArgs args{};
    args.environments = lanes.batch;
    args.caller = caller;
    args.autoreset = t % 3 ? Autoreset::kNextStep : Autoreset::kSameStep;
    args.action_type = E::Action::kContinuous ? ActionType::kFloat32 : t % 2 ? ActionType::kInt64 : ActionType::kInt32;
    args.actions = E::Action::kContinuous ? static_cast<const void*>(pushes.data())
                   : t % 2                ? static_cast<const void*>(choices.data())
                                          : static_cast<const void*>(narrow.data());
    args.flags = &flags;
    args.observations = observations.data();
    args.rewards = rewards.data();
    args.terminated = terminated.data();
    args.truncated = truncated.data();
    lanes.template run<StepEnvironments<E>>(args);
    lanes.expect_no_more("step");
  }
}

template <class E>
void step_in_a_rollout(int count) {
  Lanes<E> lanes(count);
  lanes.template run<Reset<E>>(ResetArgs{lanes.batch});
  lanes.expect_no_more("reset");
  lanes.template run<Simulate<E>>(SimulateArgs{lanes.batch, lanes.episode_sums(), 20});
  lanes.expect_no_more("simulate");

  const auto networks =
      test::place_networks(E::kObsDim, 16, kPolicyOutputs<E>, 1, 1, Activation::kTanh, E::Action::kContinuous);
  test::Draws draws(3);
  const test::Vector exact = networks.draw(draws);
  const std::vector<float> parameters(exact.begin(), exact.end());
  RolloutArgs rollout{};
  rollout.environments = lanes.batch;
  rollout.episodes = lanes.episode_sums();
  rollout.parameters = parameters.data();
  rollout.actor = networks.actor.network;
  rollout.critic = networks.critic.network;
  rollout.num_steps = 20;
  auto records = padded(20 * count * Record<E>::kFloats, 0.0f), rewards = padded(20 * count, 0.0f);
  auto values = padded(21 * count, 0.0f);
  auto ends = padded<std::uint8_t>(20 * count);
  rollout.records = records.data();
  rollout.rewards = rewards.data();
  rollout.values = values.data();
  rollout.ends = ends.data();
  lanes.template run<Rollout<E, 16>>(rollout);
  lanes.expect_no_more("rollout");

  // One step of layers of any sizes, whose outputs lie in memory.
  auto outputs = padded(kPolicyOutputs<E> * 256, 0.0f), observations = padded(E::kObsDim * 256, 0.5f);
  for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = 0.01f * static_cast<float>(i);
  LayerwiseRollout layerwise{};
  layerwise.rollout = rollout;
  layerwise.observations = {observations.data(), 256};
  layerwise.outputs = {outputs.data(), 256};
  layerwise.values = {values.data(), 256};
  lanes.template run<LayerwiseStep<E>>(layerwise);
  lanes.expect_no_more("layerwise step");

  EvaluateArgs evaluate{};
  evaluate.parameters = parameters.data();
  evaluate.actor = networks.actor.network;
  evaluate.episodes = count;
  evaluate.max_episode_steps = 12;
  evaluate.key = {6, 1};
  auto lengths = padded(count, 0.0f);
  evaluate.returns = lanes.returns.data();
  evaluate.lengths = lengths.data();
  lanes.template run<Evaluate<E, 16>>(evaluate);
  lanes.expect_no_more("evaluate");
}

TEST(IdleLanes, RepeatTheLastEnvironmentThatACallerSteps) {
  different_lanes.clear();
  for (const int count : kCounts) {
    step_by_a_caller<Choosing>(count);
    step_by_a_caller<Pushing>(count);
  }
}

TEST(IdleLanes, RepeatTheLastEnvironmentOfRolloutsAndEvaluations) {
  different_lanes.clear();
  for (const int count : kCounts) {
    step_in_a_rollout<Choosing>(count);
    step_in_a_rollout<Pushing>(count);
  }
}

/// A pack whose episodes are all over is not stepped on.
TEST(IdleLanes, EpisodesThatAreOverCostNothing) {
  EvaluateArgs args{};
  args.max_episode_steps = 100;
  PlayedLane<Choosing, Pack> lane;
  begin_play<Choosing, Pack>(args, {}, lane_numbers(0), PackMask(false), lane);
  different_lanes.clear();
  const Pack outputs[2] = {Pack(0.0f), Pack(1.0f)};
  const PolicyOf<Choosing, Pack>::Spread spread(nullptr);
  play_step<Choosing, Pack>(args, {}, lane_numbers(0), 0, outputs, spread, lane);
  EXPECT_TRUE(different_lanes.empty());
}

}  // namespace
}  // namespace perilune
