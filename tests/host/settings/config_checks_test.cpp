// Settings that do not go together are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "host/settings/config.hpp"
#include "tests/support/usage_error.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Of setting these keys in turn, or else of all of them together.
std::string validation_error(const std::vector<std::pair<std::string, std::string>>& settings) {
  constexpr std::array kWidths = {64};
  return test::usage_error([&] {
    Config config;
    for (const auto& [key, value] : settings) set_key(config, key, value);
    validate(config, kWidths);
  });
}

TEST(ConfigChecks, RatesThatFollowTheKl) {
  EXPECT_EQ(validation_error({{"anneal_lr", "kl"}}), "no error");
  EXPECT_THAT(validation_error({{"anneal_lr", "kl"}, {"learning_rate", "0.02"}}),
              AllOf(HasSubstr("learning_rate = 0.02 is beyond"), HasSubstr("1e-05 .. 0.01, from min_learning_rate")));
  EXPECT_THAT(validation_error({{"anneal_lr", "kl"}, {"critic_learning_rate", "1e-6"}}),
              HasSubstr("critic_learning_rate = 1e-06 is beyond"));
  EXPECT_THAT(validation_error({{"anneal_lr", "kl"}, {"min_learning_rate", "0.1"}}),
              HasSubstr("min_learning_rate = 0.1 is above max_learning_rate = 0.01"));
  EXPECT_THAT(validation_error({{"anneal_lr", "kl"}, {"epoch_lr_decay", "0.5"}}),
              HasSubstr("epoch_lr_decay = 0.5 does not go with anneal_lr = kl"));
  EXPECT_EQ(validation_error({{"learning_rate", "0.02"}}), "no error");
  EXPECT_THAT(validation_error({{"anneal_clip_coef", "kl"}}), HasSubstr("allowed: none | linear"));
}

TEST(ConfigChecks, OutputActivationsHaveNoFusedKernels) {
  EXPECT_EQ(validation_error({{"output_activation", "relu"}}), "no error");
  EXPECT_THAT(validation_error({{"output_activation", "relu"}, {"fused", "true"}}),
              AllOf(HasSubstr("output_activation = relu has no fused kernels"), HasSubstr("fused = auto")));
  EXPECT_THAT(validation_error({{"output_activation", "gelu"}}), HasSubstr("allowed: none | relu | tanh"));
}

TEST(ConfigChecks, WholeEpisodes) {
  using Settings = std::vector<std::pair<std::string, std::string>>;
  const auto with = [](const Settings& more) {
    Settings all = {{"batch_mode", "episodes"}, {"num_minibatches", "1"}};
    all.insert(all.end(), more.begin(), more.end());
    return validation_error(all);
  };
  EXPECT_EQ(with({}), "no error");
  EXPECT_EQ(with({{"log_episodes", "true"}}), "no error");
  EXPECT_EQ(with({{"update_mode", "separate"}, {"num_minibatches", "4"}}), "no error");
  EXPECT_EQ(with({{"num_envs", "3"}, {"num_steps", "1000"}, {"total_timesteps", "1000"}}), "no error")
      << "a batch has num_steps, whatever num_envs";
  EXPECT_THAT(with({{"num_minibatches", "4"}}),
              AllOf(HasSubstr("num_minibatches = 4 does not fit batch_mode = episodes"), HasSubstr("allowed: 1")));
  EXPECT_THAT(with({{"fused", "true"}}), AllOf(HasSubstr("fused = true"), HasSubstr("fused = auto")));
  EXPECT_THAT(with({{"norm_obs", "true"}}), HasSubstr("norm_obs = true does not go with batch_mode = episodes"));
  EXPECT_THAT(with({{"norm_reward", "true"}}), HasSubstr("set norm_reward = false"));
  EXPECT_THAT(with({{"truncate_at_rollout_end", "true"}}), HasSubstr("truncate_at_rollout_end = true"));
  EXPECT_THAT(with({{"num_steps", "1001"}, {"total_timesteps", "1000"}}),
              AllOf(HasSubstr("total_timesteps = 1000 is less than one iteration"), HasSubstr("num_steps = 1001")));
  EXPECT_THAT(with({{"batch_mode", "episode"}}), HasSubstr("allowed: steps | episodes"));
  EXPECT_THAT(validation_error({{"log_episodes", "true"}}), HasSubstr("log_episodes = true is for batch_mode"));
  // ceil(10 / 4) + 16777214 - 1 steps are 2^24.
  const Settings most = {{"num_envs", "4"}, {"num_steps", "10"}};
  const auto limited = [&](const char* limit) {
    Settings all = most;
    all.emplace_back("max_episode_steps", limit);
    return with(all);
  };
  EXPECT_EQ(limited("16777214"), "no error");
  EXPECT_THAT(limited("16777215"), AllOf(HasSubstr("needs room for 16777217 steps of each environment"),
                                         HasSubstr("up to 16777216"), HasSubstr("lower max_episode_steps")));
  EXPECT_THAT(with({{"num_envs", "4194304"}, {"max_episode_steps", "600"}}),
              HasSubstr("and 2147483647 of all together"));
}

TEST(ConfigChecks, WholeEpisodesOfManyEnvironmentsAreWarnedOf) {
  const auto warnings = [](const char* envs, const char* steps) {
    Config config;
    for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
             {"batch_mode", "episodes"}, {"num_minibatches", "1"}, {"num_envs", envs}, {"num_steps", steps}}) {
      set_key(config, key, value);
    }
    return config_warnings(config, config);
  };
  EXPECT_THAT(warnings("1", "10"), testing::IsEmpty());
  EXPECT_THAT(warnings("4", "2000"), testing::IsEmpty());
  EXPECT_THAT(warnings("4", "1999"), testing::ElementsAre(HasSubstr("of episodes of up to 500 steps short ones")));
}

TEST(ConfigChecks, AKlStopFitsTheMode) {
  for (const std::string mode : {"joint", "separate"}) {
    for (const std::string stop : {"epoch", "minibatch", "iteration"}) {
      const std::string error = validation_error({{"update_mode", mode}, {"kl_stop", stop}, {"target_kl", "0.01"}});
      if ((stop == "iteration") == (mode == "separate")) {
        EXPECT_EQ(error, "no error");
      } else {
        EXPECT_THAT(error, AllOf(HasSubstr("kl_stop = " + stop + " does not fit update_mode = " + mode),
                                 HasSubstr("allowed: joint with epoch or minibatch, separate with iteration")));
      }
      EXPECT_EQ(validation_error({{"update_mode", mode}, {"kl_stop", stop}}), "no error");
    }
  }
}

}  // namespace
}  // namespace perilune
