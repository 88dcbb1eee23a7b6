// Runs that go on with other settings, and runs that begin with another policy's weights.
#include "host/runs/resume.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "host/base/error.hpp"
#include "host/runs/safetensors.hpp"
#include "host/runs/training.hpp"
#include "tests/support/run_files.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

std::unique_ptr<Device> cpu() { return select_device(DeviceChoice::kCpu, 1).device; }

/// Ten iterations of 33 steps.
TrainingOptions small_run(const std::filesystem::path& directory) {
  TrainingOptions options;
  options.config.num_envs = 3;
  options.config.num_steps = 11;
  options.config.num_minibatches = 3;
  options.config.total_timesteps = 330;
  options.config.hidden_width = 16;
  options.config.eval_episodes = 3;
  set_key(options.config, "precision", "fp32");
  options.run_directory = directory;
  return options;
}

TrainingOptions resumed(const std::filesystem::path& directory, const std::vector<Setting>& changes = {}) {
  TrainingOptions options;
  options.resume = directory;
  options.changes = changes;
  return options;
}

std::string file_of(const std::filesystem::path& run, const char* name) { return test::read_text(run / name); }

TEST(Resume, KeysThatAreFixedForARun) {
  std::vector<std::string> fixed;
  for (const KeyInfo& key : config_keys()) {
    if (!key.may_change && !key.name.starts_with("env.")) fixed.push_back(key.name);
  }
  EXPECT_THAT(fixed, ElementsAre("env_id", "seed", "max_episode_steps", "truncate_at_rollout_end", "num_envs",
                                 "num_steps", "batch_mode", "norm_obs", "clip_obs", "norm_reward", "hidden_width",
                                 "hidden_layers", "hidden_sizes", "activation", "output_activation", "init",
                                 "log_std_init", "precision", "fused", "log_episodes"));
  EXPECT_FALSE(find_key("env.gravity").may_change);
  EXPECT_TRUE(find_key("gamma").may_change);
}

TEST(Resume, FixedKeysAreNamedWithBothValues) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  train(small_run(scratch / "run"), *device);
  const std::string before = file_of(scratch / "run", "config.toml");
  const auto refused = [&](const std::vector<Setting>& changes, const auto& matcher) {
    EXPECT_THAT([&] { train(resumed(scratch / "run", changes), *device); }, ThrowsMessage<UsageError>(matcher));
    EXPECT_EQ(file_of(scratch / "run", "config.toml"), before);
  };
  refused({{"activation", "relu"}, {"num_envs", "4"}},
          AllOf(HasSubstr("num_envs = 4, activation = relu, but"), HasSubstr("num_envs = 3, activation = tanh"),
                HasSubstr("fixed for a run"), HasSubstr("--from")));
  refused({{"env.sutton_barto_reward", "true"}}, HasSubstr("env.sutton_barto_reward = true"));
  refused({{"gama", "1"}}, HasSubstr("nearest known key is gamma"));
  refused({{"num_minibatches", "7"}}, HasSubstr("not divisible"));
  refused({{"total_timesteps", "297"}}, AllOf(HasSubstr("total_timesteps = 297 are over"), HasSubstr("330 or more")));

  // What is written into config.toml by hand is held against the checkpoint.
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"\"tanh\"", "\"relu\""},
           {"hidden_width = 16", "hidden_width = 32"},
           {"seed = 1", "seed = 2"},
           {"max_episode_steps = 0", "max_episode_steps = 7"},
           {"sutton_barto_reward = false", "sutton_barto_reward = true"}}) {
    std::string text = before;
    text.replace(text.find(from), from.size(), to);
    test::write_text(scratch / "run" / "config.toml", text);
    EXPECT_THAT(
        [&] { train(resumed(scratch / "run"), *device); },
        ThrowsMessage<UsageError>(AllOf(HasSubstr("checkpoint.safetensors has "), HasSubstr("fixed for a run"))))
        << to;
    EXPECT_TRUE(std::filesystem::exists(scratch / "run" / "checkpoint.safetensors")) << "it was set aside as damaged";
  }
}

TEST(Resume, ARunThatHadEndedGoesOnWithMoreStepsAndKeepsThem) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  train(small_run(scratch / "run"), *device);
  std::vector<std::string> notes;
  TrainingOptions more = resumed(scratch / "run", {{"total_timesteps", "990"}, {"gamma", "0.5"}});
  more.on_plan = [&](const TrainingPlan& plan) { notes = plan.notes; };
  EXPECT_EQ(train(more, *device).new_steps, 660u);
  // The rate had come down to a tenth of 2.5e-4; after 10 of 30 iterations it is two thirds of it.
  EXPECT_THAT(notes,
              ElementsAre("total_timesteps = 990 from here on, 330 before", "gamma = 0.5 from here on, 0.99 before",
                          "learning_rate: 2.5e-05 in the last iteration, 0.000167 in the next, then linearly to 0 at "
                          "step 990"));
  const Config written = read_run_config(scratch / "run");
  EXPECT_EQ(written.total_timesteps, 990);
  EXPECT_EQ(written.gamma, 0.5);
  const std::string whole = file_of(scratch / "run", "checkpoint.safetensors");
  EXPECT_EQ(train(resumed(scratch / "run"), *device).new_steps, 0u);
  EXPECT_EQ(file_of(scratch / "run", "checkpoint.safetensors"), whole);
}

TEST(Resume, WhatChangesHoldsFromTheNextIterationOnAsIfItHadBeenInterrupted) {
  // Two runs of 30 iterations with an interruption after 10: told to go on in two ways, they end with the same bits.
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  for (const char* name : {"a", "b"}) train(small_run(scratch / name), *device);
  train(resumed(scratch / "a", {{"total_timesteps", "990"}, {"learning_rate", "1e-3"}}), *device);
  Config by_hand = read_run_config(scratch / "b");
  by_hand.total_timesteps = 990;
  by_hand.learning_rate = 1e-3;
  write_run_config(scratch / "b", by_hand);
  train(resumed(scratch / "b"), *device);
  EXPECT_EQ(file_of(scratch / "a", "checkpoint.safetensors"), file_of(scratch / "b", "checkpoint.safetensors"));
}

TEST(Resume, SchedulesThatGoOnAsTheyWouldHaveAreNotMentioned) {
  const Config config = small_run("run").config;
  Config longer = config;
  longer.total_timesteps = 660;
  EXPECT_THAT(schedule_notes(config, config, 5), IsEmpty());
  EXPECT_THAT(schedule_notes(config, longer, 0), IsEmpty()) << "nothing has been trained";
  EXPECT_THAT(schedule_notes(config, longer, 20), IsEmpty()) << "nothing is left to train";
  EXPECT_THAT(schedule_notes(config, longer, 5), ElementsAre(HasSubstr("learning_rate: 0.00015 in the last iteration, "
                                                                       "0.000188 in the next")));
  longer.anneal_lr = Anneal::kNone;
  EXPECT_THAT(schedule_notes(config, longer, 5), ElementsAre(HasSubstr("0.00025 in the next, then constant")));
  longer = config;
  longer.critic_learning_rate = 1e-3;
  longer.clip_coef = 0.1;
  EXPECT_THAT(schedule_notes(config, longer, 5),
              ElementsAre(HasSubstr("critic_learning_rate: 0.00015 in the last iteration, 0.0005 in the next"),
                          HasSubstr("clip_coef: 0.2 in the last iteration, 0.1 in the next, then constant")));
  longer = config;
  longer.clip_vloss_coef = 0.5;
  EXPECT_THAT(schedule_notes(config, longer, 5),
              ElementsAre(HasSubstr("clip_vloss_coef: 0.2 in the last iteration, 0.5")));
  longer = config;
  longer.anneal_ent_coef = Anneal::kLinear;
  EXPECT_THAT(schedule_notes(config, longer, 5),
              ElementsAre(HasSubstr("ent_coef: 0.01 in the last iteration, 0.005 in the next, then linearly to 0")));
}

/// The rate of each of the run's iterations, as its metrics have it.
std::vector<double> rates_of(const std::filesystem::path& run) {
  std::vector<double> rates;
  for (const nlohmann::json& row : test::metrics_rows(run)) {
    if (row.contains("charts/learning_rate")) rates.push_back(row["charts/learning_rate"]);  // none of an evaluation
  }
  return rates;
}

TEST(Resume, RatesThatFollowTheKlGoOnUnlessAnotherIsSet) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  for (const char* name : {"on", "anew", "from linear", "no longer"}) {
    TrainingOptions options = small_run(scratch / name);
    if (name != std::string("from linear")) options.config.anneal_lr = Anneal::kKl;
    train(options, *device);
  }
  // Steps of 2.5e-4 hardly move the policy, so that every one of them asks for more, up to 0.01.
  EXPECT_GT(rates_of(scratch / "on")[4], 2e-3);
  std::vector<std::string> notes;
  const auto go_on = [&](const char* name, std::vector<Setting> changes) {
    changes.push_back({"total_timesteps", "363"});
    TrainingOptions more = resumed(scratch / name, changes);
    more.on_plan = [&](const TrainingPlan& plan) { notes = plan.notes; };
    train(more, *device);
    return rates_of(scratch / name).back();
  };
  const double last = rates_of(scratch / "on").back();
  const double next = go_on("on", {});
  EXPECT_THAT(notes, ElementsAre(HasSubstr("total_timesteps = 363")));
  EXPECT_LT(std::abs(std::log(next / last)), 11 * std::log(1.5) + 1e-3)
      << "12 minibatches, of which the first is not asked";
  EXPECT_GT(next, 5e-4);
  // Steps from 2e-3 on move it by more than this, far above the rounding of a KL, so that all but the first divide the
  // rate that was set.
  EXPECT_NEAR(std::log(go_on("anew", {{"learning_rate", "2e-3"}, {"desired_kl", "1e-7"}}) / 2e-3), -11 * std::log(1.5),
              1e-3);
  EXPECT_THAT(notes, testing::Contains(HasSubstr("learning_rate: 0.002 in the next iteration, then as the KL")));
  go_on("from linear", {{"anneal_lr", "kl"}});
  EXPECT_THAT(notes, testing::Contains(HasSubstr("learning_rate: 0.00025 in the next iteration, then as the KL")));
  EXPECT_EQ(go_on("no longer", {{"anneal_lr", "none"}}), 2.5e-4);
  EXPECT_THAT(notes, testing::Contains(HasSubstr("learning_rate: 0.00025 in the next iteration, no longer")));
}

TEST(Resume, AnotherRunBeginsWithTheWeightsOfAPolicy) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  train(small_run(scratch / "source"), *device);
  const std::vector<float> weights = load_policy(policy_path(scratch / "source")).parameters;
  for (const auto& file : {scratch / "source", policy_path(scratch / "source"), checkpoint_path(scratch / "source")}) {
    for (const char* name : {"one", "two"}) {
      TrainingOptions options = small_run(scratch / name);
      options.config.seed = 5;
      options.config.hidden_width = 64;
      options.initial_policy = initial_policy(file, options.config, {});
      EXPECT_EQ(options.initial_policy->policy.parameters, weights);
      EXPECT_EQ(options.config.hidden_width, 16);
      EXPECT_THAT(options.initial_policy->notes,
                  ElementsAre(AllOf(HasSubstr("weights of " + file.string()), HasSubstr("of step 330 in CartPole-v1")),
                              HasSubstr("hidden layers of 16, 16 units, tanh")));
      train(options, *device);
    }
    EXPECT_EQ(file_of(scratch / "one", "checkpoint.safetensors"), file_of(scratch / "two", "checkpoint.safetensors"));
    const SafetensorsFile kept = SafetensorsFile::load(scratch / "one" / "initial_policy.safetensors");
    EXPECT_EQ(kept.metadata().at("step"), "330");
    EXPECT_THAT(kept.metadata().at("from_path"), HasSubstr("source/"));
    EXPECT_EQ(load_policy(scratch / "one" / "initial_policy.safetensors").parameters, weights);
    for (const char* name : {"one", "two"}) std::filesystem::remove_all(scratch / name);
  }
}

TEST(Resume, APolicysActivationOfOutputsIsTaken) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  TrainingOptions source = small_run(scratch / "source");
  source.config.output_activation = OutputActivation::kTanh;
  train(source, *device);
  Config config = small_run(scratch / "one").config;
  const std::vector<std::string> given = {"init"};
  EXPECT_THAT(initial_policy(scratch / "source", config, given).notes,
              ElementsAre(HasSubstr("weights of"), HasSubstr("output_activation = tanh, as that policy has"),
                          HasSubstr("init has no effect")));
  EXPECT_EQ(config.output_activation, OutputActivation::kTanh);
  config.output_activation = OutputActivation::kNone;
  const std::vector<std::string> fixed = {"output_activation"};
  EXPECT_THAT([&] { initial_policy(scratch / "source", config, fixed); },
              ThrowsMessage<UsageError>(
                  AllOf(HasSubstr("output_activation = none, but"), HasSubstr("has tanh - allowed: tanh"))));
}

TEST(Resume, ARunFromAPolicyResumesBeforeItsFirstCheckpointToo) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  train(small_run(scratch / "source"), *device);
  const auto from_source = [&](const char* name) {
    TrainingOptions options = small_run(scratch / name);
    options.initial_policy = initial_policy(scratch / "source", options.config, {});
    return options;
  };
  train(from_source("whole"), *device);
  // As a process leaves it that is killed in its first iteration; and the source is gone by then.
  const TrainingOptions options = from_source("killed");
  RunDirectory::create(options.config, options.run_directory, "runs",
                       [&](const auto& run) { save_initial_policy(run, *options.initial_policy); });
  std::filesystem::remove_all(scratch / "source");
  train(resumed(scratch / "killed"), *device);
  EXPECT_EQ(file_of(scratch / "killed", "checkpoint.safetensors"),
            file_of(scratch / "whole", "checkpoint.safetensors"));
}

TEST(Resume, PoliciesThatDoNotFit) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  train(small_run(scratch / "source"), *device);
  const auto refused = [&](const std::vector<Setting>& settings, const auto& matcher) {
    Config config = small_run("run").config;
    std::vector<std::string> given;
    for (const Setting& setting : settings) {
      set_key(config, setting.key, setting.value);
      given.push_back(setting.key);
    }
    EXPECT_THAT([&] { initial_policy(scratch / "source", config, given); }, ThrowsMessage<UsageError>(matcher));
  };
  refused({{"env_id", "lander"}}, AllOf(HasSubstr("source is for CartPole-v1 (4 numbers"), HasSubstr("Lander-v0 has 8"),
                                        HasSubstr("allowed: CartPole-v1")));
  refused({{"hidden_sizes", "16,8"}}, HasSubstr("hidden_sizes = 16, 8, but"));
  refused({{"hidden_width", "32"}}, AllOf(HasSubstr("hidden_width = 32, but"), HasSubstr("has 16, 16")));
  refused({{"activation", "relu"}}, AllOf(HasSubstr("activation = relu, but"), HasSubstr("allowed: tanh")));
  Config config = small_run("run").config;
  const std::vector<std::string> given = {"hidden_width", "activation"};
  EXPECT_NO_THROW(initial_policy(scratch / "source", config, given));
}

TEST(Resume, PretrainingInAnEnvironmentOfTheSameSpaces) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu();
  TrainingOptions simple = small_run(scratch / "simple");
  set_key(simple.config, "env_id", "Lander-v0");
  simple.config.hidden_width = 64;
  train(simple, *device);
  TrainingOptions exact = small_run(scratch / "exact");
  set_key(exact.config, "env_id", "LunarLander-v3");
  exact.initial_policy = initial_policy(scratch / "simple", exact.config, {});
  exact.config.eval_episodes = 1;
  train(exact, *device);
  const SavedPolicy kept = load_policy(scratch / "exact" / "initial_policy.safetensors");
  EXPECT_EQ(kept.config.env_id, "Lander-v0");
  EXPECT_EQ(load_policy(scratch / "exact" / "policy.safetensors").config.env_id, "LunarLander-v3");
}

}  // namespace
}  // namespace perilune
