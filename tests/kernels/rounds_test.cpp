// Environments of uneven steps: those that a block steps in rounds, and those that are fewer than its lanes, have the
// bits of the same environments in the order of their places.
#include "kernels/rounds.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/machine/fiber_block.hpp"
#include "kernels/rollout.hpp"
#include "kernels/simulate.hpp"
#include "tests/kernels/environments.hpp"
#include "tests/kernels/point_mass.hpp"

namespace perilune::test {
namespace {

constexpr LaneOrder kOrders[] = {LaneOrder::kForward, LaneOrder::kReverse};

struct SortArgs {
  const std::uint8_t* busy;  // [2][environments]: one sort after the other
  int environments;
  int* places;  // [2][rounds][lanes]
};

struct SortTwice {
  template <class B>
  static void run(B& block, const SortArgs& args) {
    Carver<B> carver{block.storage()};
    Rounds<B> rounds(block, carver, args.environments);
    for (int turn = 0; turn < 2; ++turn) {
      for (int i = block.lane().number; i < args.environments; i += B::kLanes) {
        rounds.set_busy({i}, args.busy[turn * args.environments + i] != 0);
      }
      rounds.sort(block);
      for (int round = 0; round < rounds.count(); ++round) {
        args.places[(turn * rounds.count() + round) * B::kLanes + block.lane().number] =
            rounds.place(round, block.lane()).number;
      }
    }
  }
};

template <int Lanes>
void expect_busy_first() {
  std::mt19937 random(Lanes);
  constexpr int kFull = Lanes * Rounds<FiberBlock<Lanes>>::kMost;
  for (const int environments : {1, 2, Lanes - 1, Lanes, Lanes + 1, 3 * Lanes + 7, kFull - 1, kFull}) {
    // Of 16: none, one in all, few, half, most, all.
    for (const unsigned share : {0u, 17u, 1u, 8u, 15u, 16u}) {
      std::vector<std::uint8_t> busy(at(2 * environments));
      for (auto& each : busy) each = share <= 16 && random() % 16 < share;
      if (share == 17) busy[random() % busy.size()] = 1;
      const int rounds = (environments + Lanes - 1) / Lanes;
      std::vector<int> expected;
      for (int turn = 0; turn < 2; ++turn) {
        std::vector<int> order(at(rounds * Lanes));
        std::iota(order.begin(), order.end(), 0);
        std::stable_partition(order.begin(), order.begin() + environments,
                              [&](int place) { return busy[at(turn * environments + place)] != 0; });
        expected.insert(expected.end(), order.begin(), order.end());
      }
      for (const LaneOrder order : kOrders) {
        std::vector<int> places(expected.size(), -1);
        launch_fibers<SortTwice, Lanes>(SortArgs{busy.data(), environments, places.data()}, 1,
                                        at(Rounds<FiberBlock<Lanes>>::storage_floats()), order);
        EXPECT_EQ(places, expected) << environments << " environments of " << Lanes << " lanes, " << share
                                    << " of 16 are busy";
      }
    }
  }
}

TEST(Rounds, BusyEnvironmentsComeFirst) {
  expect_busy_first<4>();
  expect_busy_first<32>();
  expect_busy_first<64>();
}

/// Busy far from its target, which is here and there, and comes and goes.
struct UnevenPointMass : PointMass {
  static bool is_busy(const Params&, const State<float>& state) { return std::abs(state.x - state.target_x) > 0.8f; }
};
static_assert(UnevenEnv<UnevenPointMass> && !UnevenEnv<PointMass>);

/// What 40 steps leave, episodes ending at steps 15 and 30 and where the environment ends them.
template <class E>
std::vector<std::uint32_t> simulated(int count, int blocks, LaneOrder order) {
  using K = Simulate<E>;
  const Subject& here = subjects().front();
  Environments environments(here, kPointMass, count, {5, 1}, 15, kPointMass.parameters);
  launch_fibers<Reset<E>, 32>(ResetArgs{environments.batch}, (count + 31) / 32, 0, order);
  for (const int num_steps : {37, 1, 2}) {
    launch_fibers<K, 32>(SimulateArgs{environments.batch, environments.sums, num_steps}, blocks,
                         at(K::template storage_floats<FiberBlock<32>>()), order);
  }
  std::vector<std::uint32_t> bits;
  const auto add = [&](const auto& buffer) {
    for (const auto& word : buffer.copy()) bits.push_back(std::bit_cast<std::uint32_t>(word));
  };
  add(environments.fields), add(environments.episode), add(environments.elapsed), add(environments.episode_return);
  add(environments.finished), add(environments.total_return), add(environments.total_length);
  return bits;
}

TEST(Rounds, StepAsManyBlocksWould) {
  for (const int count : {1, 31, 33, 64, 100, 255, 256}) {
    const std::vector<std::uint32_t> expected = simulated<PointMass>(count, (count + 31) / 32, LaneOrder::kForward);
    for (const LaneOrder order : kOrders) {
      for (const int blocks : {1, 2, 7, count}) {
        EXPECT_EQ(simulated<UnevenPointMass>(count, blocks, order), expected)
            << count << " environments in " << blocks << " blocks";
      }
    }
  }
}

/// The records, rewards and states of 20 steps with networks, in blocks of two warps.
template <class E>
std::vector<float> rolled_out(int count, int blocks, LaneOrder order) {
  using K = Rollout<E, 16>;
  constexpr int kSteps = 20;
  const Subject& here = subjects().front();
  Environments environments(here, kPointMass, count, {5, 1}, 15, kPointMass.parameters);
  launch_fibers<Reset<E>, 64>(ResetArgs{environments.batch}, blocks, 0, order);
  const auto networks = place_networks(E::kObsDim, 16, kPolicyOutputs<E>, 1, 1, Activation::kTanh, true);
  Draws draws(3);
  const Buffer<float> parameters(here, networks.draw(draws));
  Buffer<float> records(here, at(kSteps * count * Record<E>::kFloats)), rewards(here, at(kSteps * count));
  Buffer<float> values(here, at((kSteps + 1) * count));
  Buffer<std::uint8_t> ends(here, at(kSteps * count));
  RolloutArgs args{};
  args.environments = environments.batch;
  args.episodes = environments.sums;
  args.parameters = parameters.data();
  args.actor = networks.actor.network;
  args.critic = networks.critic.network;
  args.num_steps = kSteps;
  args.hyper.gamma = 0.9f;
  args.records = records.data();
  args.rewards = rewards.data();
  args.values = values.data();
  args.ends = ends.data();
  launch_fibers<K, 64>(args, blocks, at(K::template storage_floats<FiberBlock<64>>(1)), order);
  std::vector<float> all = records.copy();
  for (const auto& more : {rewards.copy(), values.copy(), environments.fields.copy()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  for (const std::uint8_t end : ends.copy()) all.push_back(end);
  return all;
}

TEST(UnevenSteps, RollOutTheSameFromAnyLane) {
  for (const int count : {1, 33, 70}) {
    const std::vector<float> expected = rolled_out<PointMass>(count, (count + 63) / 64, LaneOrder::kForward);
    for (const LaneOrder order : kOrders) {
      for (const int blocks : {2, 5, count}) {
        expect_same_bits("number", rolled_out<UnevenPointMass>(count, blocks, order), expected);
      }
    }
  }
}

TEST(Rounds, NoStepsLeaveSumsOfNone) {
  Environments environments(subjects().front(), kPointMass, 40, {5, 1}, 15, kPointMass.parameters);
  using K = Simulate<UnevenPointMass>;
  launch_fibers<Reset<UnevenPointMass>, 32>(ResetArgs{environments.batch}, 2, 0, LaneOrder::kForward);
  launch_fibers<K, 32>(SimulateArgs{environments.batch, environments.sums, 0}, 1,
                       at(K::storage_floats<FiberBlock<32>>()), LaneOrder::kForward);
  EXPECT_THAT(environments.finished.copy(), ::testing::Each(0.0f));
}

}  // namespace
}  // namespace perilune::test
