// Keys, files, presets and their error messages.
#include "host/settings/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include <rapidcheck.h>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/device/device.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/support/usage_error.hpp"

namespace perilune {
namespace {

using test::usage_error;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::array kWidths = {16, 32, 64, 128};

std::string set_error(const std::string& key, const std::string& value) {
  Config config;
  const std::string message = usage_error([&] { set_key(config, key, value); });
  if (message != "no error") {
    EXPECT_EQ(config, Config()) << key;
  }
  return message;
}

std::string toml_error(const std::string& text) {
  Config config;
  const std::string message = usage_error([&] { apply_toml(config, text, "run.toml"); });
  if (message != "no error") {
    EXPECT_EQ(config, Config()) << text;
  }
  return message;
}

std::string validation_error(const std::vector<std::pair<std::string, std::string>>& settings) {
  Config config;
  for (const auto& [key, value] : settings) set_key(config, key, value);
  return usage_error([&] { validate(config, kWidths); });
}

TEST(Config, DefaultsAreValidAndListed) {
  const Config config;
  validate(config, kWidths);
  for (const KeyInfo& info : config_keys()) {
    EXPECT_FALSE(info.help.empty()) << info.name;
    EXPECT_FALSE(info.allowed.empty()) << info.name;
    Config changed;
    set_key(changed, info.name, info.default_value);
    if (!info.name.starts_with("env.")) {
      EXPECT_EQ(changed, config) << info.name;
    }
  }
  EXPECT_EQ(find_key("learning_rate").default_value, Value(0.00025));
  EXPECT_EQ(find_key("target_return").default_value, Value());
  EXPECT_EQ(find_key("env.sutton_barto_reward").default_value, Value(false));
}

TEST(Config, SetsEveryTypeOfKey) {
  Config config;
  set_key(config, "num_envs", "64");
  set_key(config, "total_timesteps", "1e6");
  set_key(config, "seed", "4294967295");
  set_key(config, "learning_rate", "3e-4");
  set_key(config, "clip_vloss", "false");
  set_key(config, "anneal_lr", "false");
  set_key(config, "norm_adv", "batch");
  set_key(config, "target_return", "475");
  set_key(config, "env_id", "cartpole");
  set_key(config, "env.sutton_barto_reward", "true");
  EXPECT_EQ(config.num_envs, 64);
  EXPECT_EQ(config.total_timesteps, 1000000);
  EXPECT_EQ(config.seed, 4294967295);
  EXPECT_EQ(config.learning_rate, 3e-4);
  EXPECT_FALSE(config.clip_vloss);
  EXPECT_EQ(config.anneal_lr, Anneal::kNone);
  EXPECT_EQ(config.norm_adv, Normalization::kBatch);
  EXPECT_EQ(config.target_return, 475.0);
  EXPECT_EQ(config.env_id, "CartPole-v1");
  EXPECT_EQ(env_parameter(config, environments()[0].parameters[0]), 1.0);
  set_key(config, "norm_adv", "true");
  set_key(config, "target_return", "none");
  EXPECT_EQ(config.norm_adv, Normalization::kMinibatch);
  EXPECT_FALSE(config.target_return.has_value());
}

TEST(Config, UnknownKeyNamesTheNearest) {
  EXPECT_THAT(set_error("num_env", "8"), AllOf(HasSubstr("'num_env'"), HasSubstr("nearest known key is num_envs")));
  EXPECT_THAT(set_error("learning-rate", "8"), HasSubstr("nearest known key is learning_rate"));
  EXPECT_THAT(set_error("env", "x"), HasSubstr("nearest known key is env_id"));
  EXPECT_THAT(set_error("env.suton_barto_reward", "1"), HasSubstr("nearest known key is env.sutton_barto_reward"));
  EXPECT_THAT(set_error("", "1"), HasSubstr("unknown key ''"));
}

// As in TOML: one underscore at a time, between digits.
TEST(Config, UnderscoresInNumbers) {
  Config config;
  set_key(config, "total_timesteps", "1_000_000");
  EXPECT_EQ(config.total_timesteps, 1000000);
  set_key(config, "total_timesteps", "+1_5e0_3");
  EXPECT_EQ(config.total_timesteps, 15000);
  set_key(config, "learning_rate", "1_0.0_5e-0_4");
  EXPECT_EQ(config.learning_rate, 10.05e-4);
  set_key(config, "target_return", "-1_000.2_5");
  EXPECT_EQ(config.target_return, -1000.25);
  set_key(config, "hidden_sizes", "1_024, 6_4");
  EXPECT_THAT(config.hidden_sizes, ElementsAre(1024, 64));
  for (const char* text : {"_1", "1_", "1__0", "+_1", "-_1", "_", "1_e3", "1e_3", "1_.5", "1._5", "1e3_", "1_ 0"}) {
    EXPECT_THAT(set_error("total_timesteps", text), HasSubstr("is not an integer")) << text;
    EXPECT_THAT(set_error("learning_rate", text), HasSubstr("is not a number")) << text;
    EXPECT_THAT(set_error("hidden_sizes", text), HasSubstr("is not a list of whole numbers")) << text;
  }
  // The same texts are numbers in TOML, or are none.
  for (const char* text : {"1_000", "1_0_0", "1__0", "1_", "10_e3"}) {
    const bool here = set_error("total_timesteps", text) == "no error";
    EXPECT_EQ(here, toml_error(formatted("total_timesteps = {}", text)) == "no error") << text;
  }
}

TEST(Config, WholeNumbersThatAFloatCannotHold) {
  EXPECT_EQ(read_integer("9007199254740993"), 9007199254740993);  // 2^53 + 1
  EXPECT_EQ(read_integer("1e3"), std::nullopt);
  EXPECT_EQ(read_integer("nan"), std::nullopt);
  EXPECT_EQ(read_number("+-1"), std::nullopt);
}

// By other libraries' names, and parameters without their prefix.
TEST(Config, NearestKeyKnowsOtherNames) {
  EXPECT_EQ(nearest_key("lr"), "learning_rate");
  EXPECT_EQ(nearest_key("LR"), "learning_rate");
  EXPECT_EQ(nearest_key("n_steps"), "num_steps");
  EXPECT_EQ(nearest_key("n-envs"), "num_envs");
  EXPECT_EQ(nearest_key("batch_size"), "num_minibatches");
  EXPECT_EQ(nearest_key("n_epochs"), "update_epochs");
  EXPECT_EQ(nearest_key("clip_range"), "clip_coef");
  EXPECT_EQ(nearest_key("clip_range_vf"), "clip_vloss_coef");
  EXPECT_EQ(nearest_key("epsilon"), "adam_epsilon");
  EXPECT_EQ(nearest_key("hidden"), "hidden_sizes");
  EXPECT_EQ(nearest_key("lam"), "gae_lambda");
  EXPECT_EQ(nearest_key("timesteps"), "total_timesteps");
  EXPECT_EQ(nearest_key("wind_power"), "env.wind_power");
  EXPECT_EQ(nearest_key("Enable-Wind"), "env.enable_wind");
  EXPECT_EQ(nearest_key("learningrate"), "learning_rate");
  EXPECT_THAT(set_error("lr", "1e-3"), HasSubstr("unknown key 'lr' - the nearest known key is learning_rate"));
  // No key is taken for another, and every suggestion is a key.
  for (const KeyInfo& info : config_keys()) EXPECT_EQ(nearest_key(info.name), info.name);
  for (const char* name : {"lr",
                           "step_size",
                           "critic_lr",
                           "lr_schedule",
                           "steps",
                           "time_limit",
                           "env",
                           "envs",
                           "horizon",
                           "batch_size",
                           "epochs",
                           "train_pi_iters",
                           "train_v_iters",
                           "discount",
                           "lambda",
                           "clip",
                           "vf_clip",
                           "entropy",
                           "value_coef",
                           "kl",
                           "eps",
                           "beta1",
                           "beta2",
                           "grad_clip",
                           "normalize_advantage",
                           "layers",
                           "width",
                           "depth",
                           "nonlinearity",
                           "log_std",
                           "dtype",
                           "eval_freq",
                           "n_eval_episodes",
                           "reward_threshold",
                           "save_freq",
                           "exp_name"}) {
    EXPECT_EQ(find_key(nearest_key(name)).name, nearest_key(name)) << name;
  }
}

TEST(Config, WrongTypeNamesKeyValueAndAllowed) {
  EXPECT_THAT(set_error("num_envs", "many"),
              AllOf(HasSubstr("num_envs = 'many' is not an integer"), HasSubstr("1 .. ")));
  EXPECT_THAT(set_error("num_envs", "2.5"), HasSubstr("is not an integer"));
  EXPECT_THAT(set_error("num_envs", ""), HasSubstr("is not an integer"));
  EXPECT_THAT(set_error("num_envs", "8 "), HasSubstr("is not an integer"));
  EXPECT_THAT(set_error("gamma", "high"), HasSubstr("gamma = 'high' is not a number - allowed: 0 .. 1"));
  EXPECT_THAT(set_error("gamma", "nan"), HasSubstr("is not a number"));
  EXPECT_THAT(set_error("gamma", "inf"), HasSubstr("is not a number"));
  EXPECT_THAT(set_error("clip_vloss", "maybe"), HasSubstr("allowed: true | false"));
  EXPECT_THAT(set_error("activation", "gelu"), HasSubstr("activation = 'gelu' is unknown - allowed: tanh | relu"));
  EXPECT_THAT(set_error("update_mode", "true"), HasSubstr("allowed: joint | separate"));
  EXPECT_THAT(set_error("name", "../x"), HasSubstr("cannot be part of a directory name"));
}

TEST(Config, OutOfRangeNamesTheRange) {
  EXPECT_THAT(set_error("num_envs", "0"), HasSubstr("num_envs = '0' is out of range - allowed: a whole number, 1 .. "));
  EXPECT_THAT(set_error("num_envs", "99999999999999999999"), HasSubstr("out of range"));
  EXPECT_THAT(set_error("seed", "-1"), HasSubstr("0 .. 4294967295"));
  EXPECT_THAT(set_error("seed", "4294967296"), HasSubstr("out of range"));
  EXPECT_THAT(set_error("gamma", "1.01"), HasSubstr("gamma = '1.01' is out of range - allowed: 0 .. 1"));
  EXPECT_THAT(set_error("hidden_layers", "9"), HasSubstr("1 .. 8"));
  EXPECT_THAT(set_error("hidden_width", "16385"), HasSubstr("1 .. 16384"));
}

TEST(Config, HiddenSizesReplaceWidthAndLayersAndAreReplacedByThem) {
  Config config;
  EXPECT_EQ(layer_sizes(config), (std::vector<int>{64, 64}));
  set_key(config, "hidden_width", "16");
  set_key(config, "hidden_sizes", " 2048, 1536 ");
  EXPECT_EQ(layer_sizes(config), (std::vector<int>{2048, 1536}));
  set_key(config, "hidden_sizes", "[7,33,5]");
  EXPECT_EQ(layer_sizes(config), (std::vector<int>{7, 33, 5}));
  EXPECT_THAT(to_toml(config),
              AllOf(HasSubstr("hidden_sizes = [7, 33, 5]\n"), testing::Not(HasSubstr("hidden_width"))));
  Config again;
  apply_toml(again, to_toml(config), "written");
  again.env_parameters.clear();
  EXPECT_EQ(again, config);
  set_key(config, "hidden_layers", "3");
  EXPECT_EQ(layer_sizes(config), (std::vector<int>{64, 64, 64}));
  apply_toml(config, "hidden_sizes = 100\nfused = false", "run.toml");
  EXPECT_EQ(layer_sizes(config), std::vector<int>{100});
  EXPECT_EQ(config.fused, Config::Fused::kFalse);
  set_key(config, "hidden_sizes", "none");
  EXPECT_EQ(layer_sizes(config), (std::vector<int>{64, 64}));
}

TEST(Config, HiddenSizesThatCannotBe) {
  constexpr const char* kAllowed = "allowed: 1 to 8 whole numbers separated by commas, each 1 .. 16384";
  for (const char* sizes : {"0", "-5", "64,0", "16385", "99999999999999999999"}) {
    EXPECT_THAT(set_error("hidden_sizes", sizes),
                AllOf(HasSubstr(std::string("hidden_sizes = '") + sizes), HasSubstr(kAllowed)));
  }
  for (const char* sizes : {"", "[]", "wide", "64,", ",64", "64 32", "64;32", "6.5", "1e3", "[64", "[[64]]"}) {
    EXPECT_THAT(set_error("hidden_sizes", sizes),
                AllOf(HasSubstr("is not a list of whole numbers"), HasSubstr(kAllowed)));
  }
  EXPECT_THAT(set_error("hidden_sizes", "1,2,3,4,5,6,7,8,9"), HasSubstr("has too many layers"));
  EXPECT_EQ(set_error("hidden_sizes", "1,2,3,4,5,6,7,8"), "no error");
  EXPECT_THAT(toml_error("hidden_sizes = \"64\""), HasSubstr("is text, not a list"));
  EXPECT_THAT(toml_error("hidden_sizes = true"), HasSubstr("is a boolean, not a list"));
  EXPECT_THAT(toml_error("seed = 1\nhidden_sizes = [64, \"32\"]"),
              StartsWith("run.toml:2: hidden_sizes = '[64,?]' is not a list"));
  EXPECT_THAT(toml_error("hidden_sizes = [64, 32.5]"), HasSubstr("is not a list of whole numbers"));
  EXPECT_THAT(toml_error("hidden_sizes = []"), HasSubstr("is not a list of whole numbers"));
  EXPECT_THAT(toml_error("hidden_width = [64]"), HasSubstr("is an array or a date"));
  for (const char* other : {"hidden_width = 16", "hidden_layers = 1"}) {
    EXPECT_THAT(toml_error(std::string("hidden_sizes = [64]\n") + other), HasSubstr("are both given"));
  }
}

TEST(Config, UnknownEnvironmentAndPresetListTheKnown) {
  EXPECT_THAT(set_error("env_id", "CartPole-v0"),
              AllOf(HasSubstr("unknown environment 'CartPole-v0'"), HasSubstr("known: CartPole-v1"),
                    HasSubstr("did you mean CartPole-v1?")));
  EXPECT_THAT(
      usage_error([] { preset("cartpol"); }),
      AllOf(HasSubstr("unknown preset 'cartpol'"), HasSubstr("cartpole-zoo"), HasSubstr("did you mean cartpole?")));
}

TEST(Config, TomlErrorsNameSourceAndLine) {
  EXPECT_THAT(toml_error("seed = 2\n\nnum_env = 8\n"), StartsWith("run.toml:3: unknown key 'num_env'"));
  EXPECT_THAT(toml_error("seed = 2\ngamma = 2.0\n"), StartsWith("run.toml:2: gamma = '2' is out of range"));
  EXPECT_THAT(toml_error("seed = 2\ngamma = \n"), StartsWith("run.toml:2: not valid TOML"));
  EXPECT_THAT(toml_error("seed = 1\nseed = 2\n"), StartsWith("run.toml:2: not valid TOML"));
  EXPECT_THAT(toml_error("[.v]"), StartsWith("run.toml: not valid TOML"));
  EXPECT_THAT(toml_error("num_envs = \"8\""), StartsWith("run.toml:1: num_envs = '8' is text, not an integer"));
  EXPECT_THAT(toml_error("name = 5"), HasSubstr("name = 5 is a number, not a text"));
  EXPECT_THAT(toml_error("gamma = true"), HasSubstr("gamma = true is a boolean, not a number"));
  EXPECT_THAT(toml_error("gamma = [1]"), HasSubstr("gamma is an array or a date"));
  EXPECT_THAT(toml_error("gamma = nan"), HasSubstr("is not a number"));
  EXPECT_THAT(toml_error("[train]\nnum_envs = 8"), HasSubstr("nearest known key is num_envs"));
  EXPECT_THAT(toml_error(std::string(2 << 20, '\n')), HasSubstr("is it the right file?"));
}

TEST(Config, TomlSetsKeysAndEnvironmentParameters) {
  Config config;
  apply_toml(config,
             "num_envs = 8\ntotal_timesteps = 1e5\nnorm_adv = false\ngamma = "
             "1\n[env]\nsutton_barto_reward = true",
             "run.toml");
  EXPECT_EQ(config.num_envs, 8);
  EXPECT_EQ(config.total_timesteps, 100000);
  EXPECT_EQ(config.norm_adv, Normalization::kNone);
  EXPECT_EQ(config.gamma, 1.0);
  EXPECT_EQ(config.env_parameters.at("sutton_barto_reward"), 1.0);
}

TEST(Config, TomlBeyondAscii) {
  Config config;
  apply_toml(config, "\xEF\xBB\xBF# Größe\nnum_envs = 8  # π\n", "run.toml");
  EXPECT_EQ(config.num_envs, 8);
  EXPECT_THAT(toml_error("gamma = 0.9\nnum_envs = 5\u0420\n"), StartsWith("run.toml:2: not valid TOML"));
  EXPECT_THAT(toml_error("name = \"Größe\"\n"), HasSubstr("cannot be part of a directory name"));
}

TEST(Config, FilesThatCannotBeRead) {
  const test::TemporaryDirectory directory;
  Config config;
  EXPECT_THROW(apply_toml_file(config, directory / "missing.toml"), Error);
  EXPECT_THROW(apply_toml_file(config, directory.path()), Error);
  test::write_text(directory / "big.toml", std::string(2 << 20, '\n'));
  EXPECT_THROW(apply_toml_file(config, directory / "big.toml"), UsageError);
  test::write_text(directory / "good.toml", "seed = 7\n");
  apply_toml_file(config, directory / "good.toml");
  EXPECT_EQ(config.seed, 7);
}

TEST(Config, CombinationsThatCannotRun) {
  EXPECT_THAT(validation_error({{"num_envs", "8"}, {"num_steps", "33"}, {"num_minibatches", "5"}}),
              AllOf(HasSubstr("8 * 33 = 264 is not divisible by num_minibatches = 5"), HasSubstr("are 4 and 6")));
  EXPECT_THAT(validation_error({{"num_minibatches", "1000000"}}),
              HasSubstr("the nearest that divide it are 512 and 512"));
  EXPECT_EQ(validation_error({{"num_steps", "33"}, {"num_minibatches", "5"}, {"update_mode", "separate"}}), "no error");
  EXPECT_THAT(validation_error({{"num_envs", "4194304"}, {"num_steps", "1048576"}}), HasSubstr("is too large"));
  EXPECT_THAT(validation_error({{"total_timesteps", "100"}}),
              HasSubstr("total_timesteps = 100 is less than one iteration"));
  for (const char* sizes : {"48", "16,16,16,16", "64,32"}) {
    EXPECT_EQ(validation_error({{"hidden_sizes", sizes}}), "no error");
    EXPECT_EQ(validation_error({{"hidden_sizes", sizes}, {"fused", "false"}}), "no error");
    EXPECT_THAT(validation_error({{"hidden_sizes", sizes}, {"fused", "true"}}),
                AllOf(HasSubstr("no fused kernels"), HasSubstr("1 to 3 layers of 16 or 32 or 64 or 128"),
                      HasSubstr("fused = auto")));
  }
  EXPECT_EQ(validation_error({{"hidden_sizes", "32,32,32"}, {"fused", "true"}}), "no error");
  EXPECT_THAT(validation_error({{"update_mode", "separate"}, {"epoch_lr_decay", "0.9"}}),
              HasSubstr("epoch_lr_decay = 0.9"));
  EXPECT_THAT(validation_error({{"update_mode", "separate"}, {"target_kl", "0.01"}}), HasSubstr("kl_stop = epoch"));
  EXPECT_THAT(validation_error({{"kl_stop", "iteration"}, {"target_kl", "0.01"}}), HasSubstr("kl_stop = iteration"));
  EXPECT_EQ(validation_error({{"kl_stop", "iteration"}}), "no error");
  EXPECT_THAT(validation_error({{"target_return", "400"}}), HasSubstr("target_return = 400 is never looked at"));
}

using Settings = std::vector<std::pair<std::string, std::string>>;

Config with(const Settings& settings) {
  Config config;
  for (const auto& [key, value] : settings) set_key(config, key, value);
  return config;
}

TEST(Config, TargetsThatNoEpisodeCanReach) {
  EXPECT_THAT(validation_error({{"eval_every", "1"}, {"target_return", "500.5"}}),
              AllOf(HasSubstr("target_return = 500.5 is more than any episode can return"), HasSubstr("up to 500")));
  EXPECT_EQ(validation_error({{"eval_every", "1"}, {"target_return", "500"}}), "no error");
  const auto limited = [](const char* limit) {
    return validation_error({{"eval_every", "1"}, {"target_return", "490"}, {"max_episode_steps", limit}});
  };
  EXPECT_THAT(limited("489"), HasSubstr("CartPole-v1, up to 489 steps - allowed: none, or up to 489"));
  EXPECT_EQ(limited("490"), "no error");
  EXPECT_THAT(validation_error({{"eval_every", "1"}, {"target_return", "0.5"}, {"env.sutton_barto_reward", "true"}}),
              HasSubstr("env.sutton_barto_reward = true - allowed: none, or up to 0"));
  EXPECT_EQ(validation_error({{"env_id", "lander"}, {"eval_every", "1"}, {"target_return", "1e6"}}), "no error");
}

TEST(Config, LearningRatesThatChangeNothing) {
  EXPECT_THAT(validation_error({{"learning_rate", "0"}}), HasSubstr("learning_rate = 0 changes no weight"));
  EXPECT_EQ(validation_error({{"learning_rate", "0"}, {"critic_learning_rate", "1e-3"}}), "no error");
}

TEST(Config, MoreIterationsThanAreCounted) {
  EXPECT_THAT(validation_error({{"total_timesteps", "1e15"}}), HasSubstr("up to 4294967295 iterations"));
  EXPECT_EQ(validation_error({{"total_timesteps", "2e12"}}), "no error");
}

TEST(Config, AdvantagesOfOneSampleAreNotNormalised) {
  struct Case {
    const char *norm_adv, *mode, *envs, *steps, *minibatches;
    Normalization wanted;
  };
  using enum Normalization;
  for (const Case& c :
       {Case{"minibatch", "joint", "4", "4", "16", kNone}, Case{"minibatch", "joint", "4", "4", "8", kMinibatch},
        Case{"minibatch", "joint", "1", "1", "1", kNone}, Case{"batch", "joint", "1", "1", "1", kNone},
        Case{"batch", "joint", "4", "4", "16", kBatch}, Case{"none", "joint", "4", "4", "8", kNone},
        Case{"minibatch", "separate", "4", "4", "16", kMinibatch},
        Case{"minibatch", "separate", "1", "1", "1", kNone}}) {
    const Config config = with({{"norm_adv", c.norm_adv},
                                {"update_mode", c.mode},
                                {"num_envs", c.envs},
                                {"num_steps", c.steps},
                                {"num_minibatches", c.minibatches}});
    EXPECT_EQ(advantage_normalization(config), c.wanted) << c.norm_adv << ' ' << c.mode << ' ' << c.minibatches;
    const bool says_so = config_warnings(config, config) != std::vector<std::string>();
    EXPECT_EQ(says_so, config.norm_adv != c.wanted);
  }
}

TEST(Config, SettingsThatDoNothingAreWarnedOf) {
  // What is set beside the defaults, the key that does nothing then, and another setting with which it does.
  struct Case {
    Settings set;
    std::string idle, value, cure;
  };
  const Settings joint = {}, separate = {{"update_mode", "separate"}}, lander = {{"env_id", "LunarLander-v3"}};
  const Settings one_step = {{"num_steps", "1"}}, short_run = {{"total_timesteps", "5120"}};
  const Settings fixed_std = {{"env_id", "lander-continuous"}, {"learn_std", "false"}};
  const std::vector<Case> cases = {
      {joint, "policy_iterations", "7", "update_mode=separate"},
      {joint, "value_iterations", "7", "update_mode=separate"},
      {separate, "update_epochs", "7", "update_mode=joint"},
      {separate, "num_minibatches", "2", "update_mode=joint"},
      {{{"update_epochs", "1"}}, "epoch_lr_decay", "0.9", "update_epochs=2"},
      {joint, "kl_estimator", "k1", "target_kl=0.1"},
      {separate, "kl_stop", "iteration", "target_kl=0.1"},
      {one_step, "gae_lambda", "0.5", "num_steps=2"},
      {{{"gamma", "0"}}, "gae_lambda", "0.5", "gamma=0.5"},
      {{{"norm_adv", "none"}}, "norm_adv_epsilon", "1e-5", "norm_adv=batch"},
      {fixed_std, "ent_coef", "0.5", "learn_std=true"},
      {short_run, "eval_every", "11", "total_timesteps=5633"},
      {short_run, "checkpoint_every", "11", "total_timesteps=5633"},
      {{{"total_timesteps", "5120"}, {"eval_every", "11"}}, "target_return", "100", "eval_every=10"},
      {{{"total_timesteps", "512"}}, "anneal_lr", "none", "total_timesteps=513"},
      {{{"total_timesteps", "512"}}, "anneal_clip_coef", "linear", "total_timesteps=513"},
      {{{"total_timesteps", "512"}}, "anneal_ent_coef", "linear", "total_timesteps=513"},
      {joint, "desired_kl", "0.1", "anneal_lr=kl"},
      {joint, "min_learning_rate", "1e-4", "anneal_lr=kl"},
      {joint, "max_learning_rate", "1e-3", "anneal_lr=kl"},
      {{{"clip_vloss", "false"}}, "clip_vloss_coef", "0.4", "clip_vloss=true"},
      {{{"ent_coef", "0"}}, "anneal_ent_coef", "linear", "ent_coef=0.1"},
      {joint, "clip_obs", "5", "norm_obs=true"},
      {joint, "clip_reward", "5", "norm_reward=true"},
      {lander, "env.wind_power", "3", "env.enable_wind=true"},
      {lander, "env.turbulence_power", "1", "env.enable_wind=true"},
  };
  const auto warnings_for = [](const Config& config, const Config& base, const std::string& key) {
    std::vector<std::string> found;
    for (const std::string& warning : config_warnings(config, base)) {
      const bool is_idle = warning.find("has no effect: ") != std::string::npos;
      if (is_idle && warning.starts_with(key + " = ")) found.push_back(warning);
    }
    return found;
  };
  for (const Case& c : cases) {
    const Config base = with(c.set);
    Config config = base;
    set_key(config, c.idle, c.value);
    EXPECT_THAT(warnings_for(config, base, c.idle), testing::SizeIs(1)) << c.idle;
    EXPECT_THAT(warnings_for(config, config, c.idle), testing::IsEmpty()) << c.idle << ": it was not set";
    const std::size_t equals = c.cure.find('=');
    set_key(config, c.cure.substr(0, equals), c.cure.substr(equals + 1));
    EXPECT_THAT(warnings_for(config, base, c.idle), testing::IsEmpty()) << c.idle << " beside " << c.cure;
  }
}

TEST(Config, TermsThatVanishAreWarnedOf) {
  const Settings none, lander = {{"env_id", "lander-continuous"}};
  const std::vector<std::pair<Settings, std::string>> cases = {
      {{{"learning_rate", "0"}, {"critic_learning_rate", "1e-3"}}, "the actor does not change"},
      {{{"vf_coef", "0"}}, "the critic does not learn"},
      {{{"vf_coef", "0"}, {"update_mode", "separate"}}, "the critic does not learn"},
      {{{"gamma", "0"}}, "its next reward alone"},
      {{{"clip_coef", "0"}}, "after an iteration's first update"},
      {{{"clip_coef", "0"}, {"update_mode", "separate"}}, "after an iteration's first update"},
      {{{"epoch_lr_decay", "0"}}, "only the first epoch"},
      {{{"anneal_lr", "kl"}, {"update_epochs", "1"}, {"num_minibatches", "1"}},
       "raise update_epochs or num_minibatches"},
      {{{"anneal_lr", "kl"}, {"update_mode", "separate"}, {"policy_iterations", "1"}}, "raise policy_iterations"},
      {{{"env_id", "lander-continuous"}, {"log_std_init", "-6"}}, "actions hardly vary"},
      {{{"truncate_at_rollout_end", "true"}}, "raise num_steps, or set max_episode_steps = 128"},
      {{{"max_episode_steps", "474"}}, "cannot be found solved"},
      {{{"env.sutton_barto_reward", "true"}}, "cannot be found solved"},
      {{{"env_id", "lander"}, {"env.enable_wind", "true"}, {"env.wind_power", "25"}}, "more than Gymnasium advises"},
  };
  for (const auto& [settings, words] : cases) {
    EXPECT_THAT(config_warnings(with(settings), with(settings)), testing::ElementsAre(HasSubstr(words)));
  }
  for (const Settings& settings :
       {none, lander, Settings{{"clip_coef", "0"}, {"num_minibatches", "1"}, {"update_epochs", "1"}},
        Settings{{"truncate_at_rollout_end", "true"}, {"num_steps", "500"}}, Settings{{"max_episode_steps", "475"}},
        Settings{{"epoch_lr_decay", "0"}, {"update_epochs", "1"}}}) {
    EXPECT_THAT(config_warnings(with(settings), with(settings)), testing::IsEmpty());
  }
  for (const PresetInfo& info : presets()) {
    EXPECT_THAT(config_warnings(preset(info.name), preset(info.name)), testing::IsEmpty()) << info.name;
  }
}

TEST(Config, DifferingKeysAreThoseOfOtherValues) {
  EXPECT_THAT(differing_keys(with({{"gamma", "0.5"}, {"seed", "3"}}), Config()), testing::ElementsAre("seed", "gamma"));
  EXPECT_THAT(differing_keys(with({{"hidden_sizes", "64,64"}}), Config()), testing::IsEmpty());
  EXPECT_THAT(differing_keys(with({{"hidden_sizes", "64,32"}}), Config()), testing::ElementsAre("hidden_sizes"));
  EXPECT_THAT(differing_keys(with({{"hidden_width", "16"}}), Config()), testing::ElementsAre("hidden_width"));
  EXPECT_THAT(differing_keys(with({{"env.sutton_barto_reward", "true"}}), Config()),
              testing::ElementsAre("env.sutton_barto_reward"));
  EXPECT_THAT(differing_keys(with({{"env.sutton_barto_reward", "false"}}), Config()), testing::IsEmpty());
  EXPECT_THAT(
      differing_keys(with({{"env_id", "lander"}}), with({{"env_id", "lunar-lander"}, {"env.fast_solver", "true"}})),
      testing::ElementsAre("env_id"));
}

TEST(Config, GaussianKeysAreForContinuousActions) {
  EXPECT_THAT(to_toml(Config()), testing::Not(HasSubstr("_std")));
  EXPECT_THAT(validation_error({{"log_std_init", "-0.5"}}),
              AllOf(HasSubstr("log_std_init = -0.5 is for continuous actions"),
                    HasSubstr("CartPole-v1 are discrete (2 choices)")));
  EXPECT_THAT(validation_error({{"learn_std", "false"}}), HasSubstr("learn_std = false is for continuous actions"));
  EXPECT_EQ(validation_error({{"log_std_init", "0"}, {"learn_std", "true"}}), "no error");
  EXPECT_THAT(set_error("log_std_init", "6"), HasSubstr("allowed: -10 .. 5"));
}

TEST(Config, PresetsAreValidAndNamed) {
  ASSERT_GE(presets().size(), 4u);
  for (const PresetInfo& info : presets()) {
    const Config config = preset(info.name);
    EXPECT_EQ(config.name, info.name);
    EXPECT_EQ(config.env_id, info.env_id);
    EXPECT_FALSE(info.summary.empty()) << info.name;
    EXPECT_NO_THROW(validate(config, kWidths)) << info.name;
  }
  Config cleanrl = preset("cartpole-cleanrl");
  cleanrl.name = Config().name;
  EXPECT_EQ(cleanrl.total_timesteps, Config().total_timesteps / 512 * 512) << "whole iterations, rounded down as there";
  cleanrl.total_timesteps = Config().total_timesteps;
  EXPECT_EQ(cleanrl, Config());
}

TEST(Config, RoundTripsThroughToml) {
  for (const PresetInfo& info : presets()) {
    Config config = preset(info.name), again;
    apply_toml(again, to_toml(config), "written");
    // Written out with their defaults.
    for (const EnvironmentParameter& parameter : find_environment(config.env_id).parameters) {
      EXPECT_EQ(env_parameter(again, parameter), env_parameter(config, parameter)) << info.name;
    }
    again.env_parameters.clear();
    config.env_parameters.clear();
    EXPECT_EQ(again, config) << info.name;
  }
}

double arbitrary_in(double min, double max) {
  const double part = static_cast<double>(*rc::gen::inRange<std::int64_t>(0, std::int64_t{1} << 53)) / 0x1p53;
  return std::min(max, min + (max - min) * part);
}

TEST(Config, ArbitraryValuesRoundTrip) {
  EXPECT_TRUE(rc::check("to_toml, apply_toml", [] {
    Config config;
    config.seed = *rc::gen::inRange<std::int64_t>(0, std::int64_t{1} << 32);
    config.total_timesteps = *rc::gen::inRange<std::int64_t>(1, 1000000000000000);
    config.num_envs = *rc::gen::inRange(1, 4194304);
    config.learning_rate = arbitrary_in(0, 1);
    config.adam_epsilon = std::pow(10.0, arbitrary_in(-19, 0));
    config.gamma = arbitrary_in(0, 1);
    config.max_grad_norm = arbitrary_in(0, 1e6);
    if (*rc::gen::arbitrary<bool>()) config.target_return = arbitrary_in(-1e9, 1e9);
    if (*rc::gen::arbitrary<bool>()) {
      config.hidden_sizes =
          *rc::gen::resize(8, rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(1, 16385))));
      if (config.hidden_sizes.size() > 8) config.hidden_sizes.resize(8);
    }
    config.clip_vloss = *rc::gen::arbitrary<bool>();
    config.norm_adv = static_cast<Normalization>(*rc::gen::inRange(0, 3));
    config.kl_estimator = static_cast<KlEstimator>(*rc::gen::inRange(0, 2));
    config.env_parameters["sutton_barto_reward"] = *rc::gen::arbitrary<bool>() ? 1.0 : 0.0;
    Config again;
    apply_toml(again, to_toml(config), "written");
    RC_ASSERT(again == config);
  }));
}

}  // namespace
}  // namespace perilune
