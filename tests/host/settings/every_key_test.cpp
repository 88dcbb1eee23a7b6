// Every configuration key reaches training: with another value, what is trained or written is another. And every key's
// bounds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "host/base/error.hpp"
#include "host/runs/run_directory.hpp"
#include "host/runs/training.hpp"
#include "host/training/trainer.hpp"
#include "tests/support/run_files.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune::test {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

/// What another value of a key changes.
enum class Shows { kInTraining, kInFiles, kInTheName };

struct Row {
  std::string key, value;
  Shows shows = Shows::kInTraining;
  Settings beside = {};  ///< settings with which the key is in force
};

const Settings kSeparate = {{"update_mode", "separate"}, {"policy_iterations", "5"}, {"value_iterations", "3"}};
const Settings kKlStop = {{"target_kl", "1e-4"}, {"update_epochs", "3"}};
const Settings kAdaptive = {{"anneal_lr", "kl"}, {"desired_kl", "1e-5"}, {"max_learning_rate", "0.1"}};
const Settings kLander = {{"env_id", "lander"}, {"hidden_width", "64"}};
const Settings kContinuous = {{"env_id", "lander-continuous"}, {"hidden_width", "64"}};
const Settings kWind = {{"env_id", "lander"}, {"hidden_width", "64"}, {"env.enable_wind", "true"}};
const Settings kSolver = {{"env_id", "lunar-lander"}, {"hidden_width", "64"}};
const Settings kNormalized = {{"norm_obs", "true"}, {"norm_reward", "true"}};
const Settings kEpisodes = {{"batch_mode", "episodes"}, {"num_minibatches", "1"}};
const Settings kEvaluated = {{"eval_every", "1"}, {"eval_episodes", "5"}};

const std::vector<Row> kRows = {
    {"name", "another", Shows::kInTheName},
    {"env_id", "lander"},
    {"seed", "2"},
    {"total_timesteps", "640"},
    {"max_episode_steps", "9"},
    {"truncate_at_rollout_end", "true"},
    {"num_envs", "16"},
    {"num_steps", "8"},
    {"batch_mode", "episodes", Shows::kInTraining, {{"num_minibatches", "1"}}},
    {"num_minibatches", "2"},
    {"update_epochs", "3"},
    {"update_mode", "separate"},
    {"policy_iterations", "4", Shows::kInTraining, kSeparate},
    {"value_iterations", "4", Shows::kInTraining, kSeparate},
    {"learning_rate", "0.02"},
    {"critic_learning_rate", "0.02"},
    {"anneal_lr", "none"},
    {"desired_kl", "0.5", Shows::kInTraining, kAdaptive},
    {"min_learning_rate", "0.008", Shows::kInTraining, {{"anneal_lr", "kl"}, {"desired_kl", "1e-9"}}},
    {"max_learning_rate", "0.012", Shows::kInTraining, {{"anneal_lr", "kl"}, {"desired_kl", "100"}}},
    {"epoch_lr_decay", "0.5"},
    {"adam_beta1", "0.8"},
    {"adam_beta2", "0.99"},
    {"adam_epsilon", "1e-3"},
    {"max_grad_norm", "0.05"},
    {"gamma", "0.9"},
    {"gae_lambda", "0.9"},
    {"value_target", "discounted"},
    {"bootstrap_truncated", "false", Shows::kInTraining, {{"max_episode_steps", "9"}}},
    {"norm_obs", "true"},
    {"clip_obs", "0.5", Shows::kInTraining, kNormalized},
    {"norm_reward", "true"},
    {"clip_reward", "0.02", Shows::kInTraining, kNormalized},
    {"norm_adv", "batch"},
    {"norm_adv_epsilon", "0.5"},
    {"clip_coef", "0.01"},
    {"anneal_clip_coef", "linear"},
    {"clip_vloss", "false"},
    {"clip_vloss_coef", "0.001"},
    {"ent_coef", "0.5"},
    {"anneal_ent_coef", "linear", Shows::kInTraining, {{"ent_coef", "0.5"}}},
    {"vf_coef", "2"},
    {"target_kl", "1e-4", Shows::kInTraining, {{"update_epochs", "3"}}},
    // In force it goes with update_mode; the trainer itself takes any combination.
    {"kl_stop", "iteration", Shows::kInTraining, kKlStop},
    {"kl_estimator", "k1", Shows::kInTraining, kKlStop},
    {"hidden_width", "32"},
    {"hidden_layers", "1"},
    {"hidden_sizes", "16"},
    {"activation", "relu"},
    {"output_activation", "tanh", Shows::kInTraining, {{"fused", "false"}}},
    {"init", "torch"},
    {"log_std_init", "-1", Shows::kInTraining, kContinuous},
    {"learn_std", "false", Shows::kInTraining, kContinuous},
    {"precision", "bf16", Shows::kInTraining, {{"hidden_width", "64"}}},
    {"fused", "false"},
    {"eval_every", "2", Shows::kInFiles, kEvaluated},
    {"eval_episodes", "7", Shows::kInFiles, kEvaluated},
    {"target_return", "1", Shows::kInFiles, kEvaluated},
    {"checkpoint_every", "1", Shows::kInFiles},
    {"log_episodes", "true", Shows::kInFiles, kEpisodes},
    {"env.sutton_barto_reward", "true"},
    {"env.gravity", "-5", Shows::kInTraining, kLander},
    {"env.enable_wind", "true", Shows::kInTraining, kLander},
    {"env.wind_power", "3", Shows::kInTraining, kWind},
    {"env.turbulence_power", "0.5", Shows::kInTraining, kWind},
    {"env.fast_solver", "true", Shows::kInTraining, kSolver},
};

/// Three iterations in which every term of the loss counts and clips.
Config config_with(const Settings& settings) {
  Config config;
  const Settings base = {{"num_envs", "8"},      {"num_steps", "16"},       {"total_timesteps", "384"},
                         {"hidden_width", "16"}, {"learning_rate", "0.01"}, {"clip_coef", "0.03"},
                         {"update_epochs", "2"}, {"precision", "fp32"},     {"eval_episodes", "3"}};
  for (const auto& [key, value] : base) set_key(config, key, value);
  for (const auto& [key, value] : settings) set_key(config, key, value);
  return config;
}

/// The parameters after the run, and how many iterations it had.
std::vector<float> trained(const Config& config) {
  const auto device = select_device(DeviceChoice::kCpu, 2).device;
  Trainer trainer(config, *device);
  trainer.start(std::nullopt, false);
  for (std::uint32_t i = 0; i < trainer.iterations(); ++i) trainer.enqueue_iteration();
  device->synchronize();
  std::vector<float> parameters = trainer.state().parameters();
  parameters.push_back(static_cast<float>(trainer.iterations()));
  return parameters;
}

/// The files of a run, and what is in those of which every byte follows from the configuration.
std::vector<std::string> written(const Config& config) {
  const TemporaryDirectory scratch;
  const auto device = select_device(DeviceChoice::kCpu, 2).device;
  TrainingOptions options;
  options.config = config;
  options.run_directory = scratch / "run";
  train(options, *device);
  std::vector<std::string> result;
  for (const auto& entry : std::filesystem::directory_iterator(*options.run_directory)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("events.")) {
      result.push_back(name);
    } else if (read_text(entry.path()).find("reward") != std::string::npos) {
      result.push_back("events with rewards");
    }
  }
  std::sort(result.begin(), result.end());
  for (const nlohmann::json& row : metrics_rows(*options.run_directory)) result.push_back(row.dump());
  result.push_back(read_text(*options.run_directory / "evaluation.json"));
  return result;
}

TEST(EveryKey, HasARow) {
  std::set<std::string> rows, keys;
  for (const Row& row : kRows) EXPECT_TRUE(rows.insert(row.key).second) << row.key << " has two rows";
  for (const KeyInfo& info : config_keys()) keys.insert(info.name);
  EXPECT_EQ(rows, keys) << "a key must reach training, and a row above shows that it does";
}

TEST(EveryKey, ReachesTraining) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.key);
    const Config base = config_with(row.beside);
    Config changed = base;
    set_key(changed, row.key, row.value);
    ASSERT_NE(value_text(changed, row.key), value_text(base, row.key));
    if (row.shows == Shows::kInFiles) {
      EXPECT_NE(written(changed), written(base));
    } else if (row.shows == Shows::kInTheName) {
      const TemporaryDirectory scratch;
      const RunDirectory run = RunDirectory::create(changed, std::nullopt, scratch / "runs");
      EXPECT_THAT(run.path().filename().string(), testing::HasSubstr(row.value));
    } else {
      try {
        EXPECT_NE(trained(changed), trained(base));
      } catch (const UsageError& error) {  // a precision that this processor does not have
        EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr(row.key), testing::HasSubstr(row.value)));
      }
    }
  }
}

/// A key of numbers, and values just beyond its ends.
struct Bounds {
  std::string key, below, min, max, above;
};

const std::vector<Bounds> kBounds = {
    {"seed", "-1", "0", "4294967295", "4294967296"},
    {"total_timesteps", "0", "1", "1000000000000000", "1000000000000001"},
    {"max_episode_steps", "-1", "0", "2147483647", "2147483648"},
    {"num_envs", "0", "1", "4194304", "4194305"},
    {"num_steps", "0", "1", "1048576", "1048577"},
    {"num_minibatches", "0", "1", "2147483647", "2147483648"},
    {"update_epochs", "0", "1", "10000", "10001"},
    {"policy_iterations", "0", "1", "100000", "100001"},
    {"value_iterations", "0", "1", "100000", "100001"},
    {"learning_rate", "-1e-9", "0", "1", "1.000001"},
    {"critic_learning_rate", "-1e-9", "0", "1", "1.000001"},
    {"desired_kl", "9e-10", "1e-9", "100", "100.0001"},
    {"min_learning_rate", "9e-13", "1e-12", "1", "1.000001"},
    {"max_learning_rate", "9e-13", "1e-12", "1", "1.000001"},
    {"epoch_lr_decay", "-1e-9", "0", "1", "1.000001"},
    {"adam_beta1", "-1e-9", "0", "0.99999", "0.999991"},
    {"adam_beta2", "-1e-9", "0", "0.99999", "0.999991"},
    {"adam_epsilon", "9e-21", "1e-20", "1", "1.000001"},
    {"max_grad_norm", "-1e-9", "0", "1000000", "1000001"},
    {"gamma", "-1e-9", "0", "1", "1.000001"},
    {"gae_lambda", "-1e-9", "0", "1", "1.000001"},
    {"norm_adv_epsilon", "9e-21", "1e-20", "1", "1.000001"},
    {"clip_obs", "-1e-9", "0", "1000000", "1000001"},
    {"clip_reward", "-1e-9", "0", "1000000", "1000001"},
    {"clip_coef", "-1e-9", "0", "10", "10.00001"},
    {"clip_vloss_coef", "-1e-9", "0", "1000", "1000.001"},
    {"ent_coef", "-1e-9", "0", "100", "100.0001"},
    {"vf_coef", "-1e-9", "0", "100", "100.0001"},
    {"target_kl", "-1e-9", "0", "100", "100.0001"},
    {"hidden_width", "0", "1", "16384", "16385"},
    {"hidden_layers", "0", "1", "8", "9"},
    {"hidden_sizes", "0", "1", "16384", "16385"},
    {"log_std_init", "-10.00001", "-10", "5", "5.000001"},
    {"eval_every", "-1", "0", "2147483647", "2147483648"},
    {"eval_episodes", "0", "1", "1000000", "1000001"},
    {"target_return", "-1000000001", "-1000000000", "1000000000", "1000000001"},
    {"checkpoint_every", "-1", "0", "2147483647", "2147483648"},
    {"env.gravity", "-12", "-11.99999", "-0.00001", "0"},  // between, as in Gymnasium
    {"env.wind_power", "-1.00001e30", "-1e30", "1e30", "1.00001e30"},
    {"env.turbulence_power", "-1.00001e30", "-1e30", "1e30", "1.00001e30"},
};

TEST(EveryKey, KeepsToItsBounds) {
  std::set<std::string> with_bounds;
  for (const Bounds& bounds : kBounds) {
    SCOPED_TRACE(bounds.key);
    with_bounds.insert(bounds.key);
    Config start;
    set_key(start, "env_id", "lander");
    for (const std::string& value : {bounds.min, bounds.max}) {
      Config config = start;
      EXPECT_NO_THROW(set_key(config, bounds.key, value)) << value;
      EXPECT_EQ(std::stod(value_text(config, bounds.key)), std::stod(value));
    }
    for (const std::string& value : {bounds.below, bounds.above}) {
      Config config = start;
      EXPECT_THAT(
          [&] { set_key(config, bounds.key, value); },
          testing::ThrowsMessage<UsageError>(testing::HasSubstr(bounds.key + " = '" + value + "' is out of range")));
    }
  }
  for (const KeyInfo& info : config_keys()) {
    const bool is_number =
        info.type == KeyType::kNumber || info.type == KeyType::kInteger || info.type == KeyType::kList;
    EXPECT_EQ(with_bounds.contains(info.name), is_number) << info.name << ": " << info.allowed;
  }
}

/// Every choice that is listed is taken, as itself.
TEST(EveryKey, TakesEachOfItsChoices) {
  int checked = 0;
  for (const KeyInfo& info : config_keys()) {
    if (info.type != KeyType::kChoice) continue;
    std::string rest = info.allowed + " | ";
    for (std::size_t bar; (bar = rest.find(" | ")) != std::string::npos; rest = rest.substr(bar + 3)) {
      Config config;
      EXPECT_NO_THROW(set_key(config, info.name, rest.substr(0, bar))) << info.name;
      EXPECT_EQ(value_text(config, info.name), rest.substr(0, bar));
      ++checked;
    }
  }
  EXPECT_GE(checked, 20);
}

}  // namespace
}  // namespace perilune::test
