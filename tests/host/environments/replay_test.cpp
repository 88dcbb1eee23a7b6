// Replays against episodes recorded from Gymnasium's CartPole-v1.
#include "host/environments/replay.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "host/base/error.hpp"
#include "tests/support/golden.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Rows of cartpole_episodes.csv: episode, t, state, action, next state, reward, terminated, truncated. Those with even
/// numbers take random actions and end early enough to be replayed whole (tests/sims/cartpole_test.cpp).
struct Episode {
  std::vector<double> draws, actions;
  std::vector<std::vector<double>> rows;
};

std::map<int, Episode> recorded() {
  std::map<int, Episode> episodes;
  for (const std::vector<double>& row : test::read_golden("cartpole_episodes.csv")) {
    if (static_cast<int>(row[0]) % 2 != 0) continue;
    Episode& episode = episodes[static_cast<int>(row[0])];
    if (episode.rows.empty()) episode.draws.assign(row.begin() + 2, row.begin() + 6);
    episode.actions.push_back(row[6]);
    episode.rows.push_back(row);
  }
  return episodes;
}

ReplayOptions in_double() {
  ReplayOptions options;
  options.in_double = true;
  return options;
}

TEST(Replay, InDoubleIsGymnasiumsEpisode) {
  int ended = 0;
  for (const auto& [number, episode] : recorded()) {
    const ReplayedEpisode replayed = replay(in_double(), episode.draws, episode.actions);
    ASSERT_EQ(replayed.rewards.size(), episode.rows.size()) << "episode " << number;
    ASSERT_EQ(replayed.observations.size(), 4 * (episode.rows.size() + 1));
    EXPECT_EQ(replayed.observation_dim, 4);
    EXPECT_EQ(replayed.bodies, 0);
    EXPECT_TRUE(replayed.body_states.empty());
    for (std::size_t t = 0; t < episode.rows.size(); ++t) {
      const std::vector<double>& row = episode.rows[t];
      for (std::size_t k = 0; k < 4; ++k) {
        if (t == 0) {
          EXPECT_EQ(replayed.observations[k], row[2 + k]);
        }
        // Last places of sin and cos, which numpy has otherwise.
        EXPECT_NEAR(replayed.observations[4 * (t + 1) + k], row[7 + k], 1e-12) << number << " step " << t;
      }
      EXPECT_EQ(replayed.rewards[t], row[11]);
      EXPECT_EQ(replayed.terminated[t], row[12] != 0.0);
      EXPECT_EQ(replayed.truncated[t], row[13] != 0.0);
    }
    ended += replayed.terminated.back() || replayed.truncated.back();
  }
  EXPECT_GT(ended, 3);
}

TEST(Replay, InFloatIsNearby) {
  for (const auto& [number, episode] : recorded()) {
    const ReplayedEpisode replayed = replay({}, episode.draws, episode.actions);
    // 3e-7 a step (sims/cartpole.hpp), and little growth over ten.
    for (std::size_t i = 0; i < 4 * std::min<std::size_t>(10, episode.rows.size()); ++i) {
      EXPECT_NEAR(replayed.observations[4 + i], episode.rows[i / 4][7 + i % 4], 1e-5) << number;
    }
  }
}

TEST(Replay, EndsWithTheEpisodeOrTheActions) {
  const std::vector<double> draws(4, 0.01), left(300, 0.0);
  const ReplayedEpisode fallen = replay({}, draws, left);
  const std::size_t steps = fallen.rewards.size();
  EXPECT_LT(steps, 30u);
  EXPECT_EQ(fallen.terminated.back(), 1);
  EXPECT_EQ(fallen.observations.size(), 4 * (steps + 1));

  ReplayOptions limited;
  limited.max_episode_steps = 5;
  EXPECT_EQ(replay(limited, draws, left).truncated, (std::vector<std::uint8_t>{0, 0, 0, 0, 1}));
  limited.max_episode_steps = static_cast<std::int64_t>(steps);
  const ReplayedEpisode both = replay(limited, draws, left);
  EXPECT_EQ(both.terminated.back() + both.truncated.back(), 2);

  const ReplayedEpisode short_one = replay({}, draws, std::vector<double>{0, 1, 1});
  EXPECT_EQ(short_one.rewards, (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(short_one.terminated.back(), 0);
  EXPECT_EQ(replay({}, draws, {}).observations.size(), 4u);

  ReplayOptions punished;
  punished.parameters = {{"sutton_barto_reward", 1.0}};
  EXPECT_EQ(replay(punished, draws, left).rewards.back(), -1.0);
}

TEST(Replay, WhatIsRefused) {
  const std::vector<double> draws(4, 0.0);
  const auto refused = [](const ReplayOptions& options, const std::vector<double>& tape,
                          const std::vector<double>& actions, const auto& matcher) {
    EXPECT_THAT([&] { replay(options, tape, actions); }, ThrowsMessage<UsageError>(matcher));
  };
  refused({}, {0.1, 0.2, 0.3}, {0}, AllOf(HasSubstr("ran out"), HasSubstr("holds 3")));
  refused({}, {0.1, std::nan(""), 0.3, 0.4}, {0}, HasSubstr("draws[1] = nan is no draw"));
  ReplayOptions walker;
  walker.env_id = "BipedalWalker-v3";
  for (const std::size_t count : {std::size_t{0}, std::size_t{200}, std::size_t{202}}) {
    refused(walker, std::vector<double>(count, 3.0), {0, 0, 0, 0},
            AllOf(HasSubstr(std::to_string(count) + " draws are no episode of BipedalWalker-v3"), HasSubstr("201")));
  }
  EXPECT_EQ(replay(walker, std::vector<double>(201, 3.0), std::vector<double>{0, 0, 0, 0}).rewards.size(), 1u);
  for (const double action : {2.0, -1.0, 0.5, std::nan(""), std::numeric_limits<double>::infinity()}) {
    refused({}, draws, {0, action}, AllOf(HasSubstr("actions[1]"), HasSubstr("0 .. 1")));
  }
  ReplayOptions options;
  options.env_id = "Pendulum-v1";
  refused(options, draws, {}, HasSubstr("unknown environment"));
  options = {};
  options.parameters = {{"gravity", 1.0}};
  refused(options, draws, {}, HasSubstr("gravity"));
  options = {};
  options.max_episode_steps = -1;
  refused(options, draws, {}, HasSubstr("max_episode_steps"));
}

}  // namespace
}  // namespace perilune
