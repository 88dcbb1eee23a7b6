// Values of keys that are not text, and the hyper-parameters that kernels get.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "host/settings/config.hpp"
#include "tests/support/usage_error.hpp"

namespace perilune {
namespace {

using test::usage_error;
using testing::ElementsAre;
using testing::HasSubstr;

// What Python and files hand over, beside text.
TEST(ConfigValues, SetsTypedValues) {
  Config config;
  set_key(config, "num_envs", 64);
  set_key(config, "total_timesteps", 1e6);
  set_key(config, "seed", std::int64_t{9});
  set_key(config, "learning_rate", 0.1);
  set_key(config, "gamma", 1);
  set_key(config, "clip_vloss", false);
  set_key(config, "learn_std", 0);
  set_key(config, "anneal_lr", false);
  set_key(config, "fused", true);
  set_key(config, "target_return", 475);
  set_key(config, "hidden_sizes", Value(std::vector<std::int64_t>{7, 33}));
  set_key(config, "env.sutton_barto_reward", true);
  EXPECT_EQ(config.num_envs, 64);
  EXPECT_EQ(config.total_timesteps, 1000000);
  EXPECT_EQ(config.seed, 9);
  EXPECT_EQ(config.learning_rate, 0.1);
  EXPECT_EQ(config.gamma, 1.0);
  EXPECT_FALSE(config.clip_vloss);
  EXPECT_FALSE(config.learn_std);
  EXPECT_EQ(config.anneal_lr, Anneal::kNone);
  EXPECT_EQ(config.fused, Config::Fused::kTrue);
  EXPECT_EQ(config.target_return, 475.0);
  EXPECT_THAT(config.hidden_sizes, ElementsAre(7, 33));
  EXPECT_EQ(config.env_parameters.at("sutton_barto_reward"), 1.0);
  set_key(config, "target_return", Value());
  set_key(config, "hidden_sizes", Value());
  EXPECT_FALSE(config.target_return.has_value());
  EXPECT_THAT(config.hidden_sizes, testing::IsEmpty());
  set_key(config, "hidden_sizes", 5);
  EXPECT_THAT(config.hidden_sizes, ElementsAre(5));
}

TEST(ConfigValues, RefusesTypedValues) {
  const auto refused = [](const std::string& key, const Value& value) {
    Config config;
    return usage_error([&] { set_key(config, key, value); });
  };
  EXPECT_THAT(refused("num_envs", 2.5),
              HasSubstr("num_envs = '2.5' is not an integer - allowed: a whole number, 1 .. "));
  EXPECT_THAT(refused("num_envs", true), HasSubstr("num_envs = 'true' is not an integer"));
  EXPECT_THAT(refused("num_envs", 0), HasSubstr("num_envs = '0' is out of range"));
  EXPECT_THAT(refused("gamma", Value()), HasSubstr("gamma = 'none' is not a number"));
  EXPECT_THAT(refused("gamma", std::nan("")), HasSubstr("gamma = 'nan' is not a number"));
  EXPECT_THAT(refused("clip_vloss", 2), HasSubstr("clip_vloss = '2' is not a boolean"));
  EXPECT_THAT(refused("clip_vloss", 1.0), HasSubstr("clip_vloss = '1' is not a boolean"));
  EXPECT_THAT(refused("update_mode", true), HasSubstr("update_mode = 'true' is unknown"));
  EXPECT_THAT(refused("hidden_sizes", Value(std::vector<std::int64_t>{64, 0})),
              HasSubstr("hidden_sizes = '[64,0]' is out of range"));
  EXPECT_THAT(refused("hidden_sizes", 1.5), HasSubstr("hidden_sizes = '1.5' is not a list of whole numbers"));
  EXPECT_THAT(refused("num_env", 1), HasSubstr("nearest known key is num_envs"));
}

TEST(ConfigValues, ValuesAreRead) {
  Config config;
  config.hidden_sizes = {7, 33};
  EXPECT_EQ(value_of(config, "num_envs"), Value(std::int64_t{4}));
  EXPECT_EQ(value_of(config, "gamma"), Value(0.99));
  EXPECT_EQ(value_of(config, "clip_vloss"), Value(true));
  EXPECT_EQ(value_of(config, "precision"), Value("auto"));
  EXPECT_EQ(value_of(config, "target_return"), Value());
  EXPECT_EQ(value_of(config, "anneal_clip_coef"), Value());
  EXPECT_EQ(value_of(config, "hidden_sizes"), Value(std::vector<std::int64_t>{7, 33}));
  EXPECT_EQ(value_of(config, "env.sutton_barto_reward"), Value(false));
  EXPECT_EQ(value_of(config, "env.gravity"), std::nullopt);
  EXPECT_EQ(value_text(config, "hidden_sizes"), "7, 33");
  EXPECT_EQ(value_text(config, "env.gravity"), "");
}

// Every number is rounded once, and lies where it is read.
TEST(ConfigValues, HyperparametersOfKernels) {
  Config config;
  config.learning_rate = 0.1;
  config.adam_beta1 = 0.7;
  config.target_kl = 0.3;
  config.anneal_clip_coef = Anneal::kLinear;
  Hyperparameters hyper = hyperparameters(config);
  EXPECT_EQ(hyper.learning_rate, 0.1f);
  EXPECT_EQ(hyper.critic_learning_rate, 0.1f);
  EXPECT_EQ(hyper.clip_vloss_coef, 0.2f);
  EXPECT_EQ(hyper.gamma, 0.99f);
  EXPECT_EQ(hyper.target_kl, 0.3f);
  EXPECT_EQ(hyper.adam_beta1_complement, static_cast<float>(1.0 - 0.7));
  EXPECT_EQ(hyper.num_iterations, iteration_count(config));
  EXPECT_EQ(hyper.anneal_clip_coef, Anneal::kLinear);
  EXPECT_EQ(hyper.norm_adv, Normalization::kMinibatch);
  config.critic_learning_rate = 0.2;
  config.clip_vloss_coef = 0.7;
  config.num_minibatches = config.num_envs * config.num_steps;
  hyper = hyperparameters(config);
  EXPECT_EQ(hyper.critic_learning_rate, 0.2f);
  EXPECT_EQ(hyper.clip_vloss_coef, 0.7f);
  EXPECT_EQ(hyper.norm_adv, Normalization::kNone);
}

}  // namespace
}  // namespace perilune
