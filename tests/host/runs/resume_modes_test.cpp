// A run that was interrupted and resumed is the run that was not: every array that is kept, and every metric after it,
// in every mode.
#include <gtest/gtest.h>

#include <atomic>

#include "host/base/error.hpp"
#include "host/planning/precision.hpp"
#include "host/runs/checkpoint.hpp"
#include "host/runs/run_directory.hpp"
#include "host/runs/training.hpp"
#include "tests/support/run_files.hpp"

namespace perilune::test {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

constexpr int kIterations = 7;

struct Mode {
  const char* name;
  Settings settings;
};

// Corrections of Adam, episodes in flight, learning rates and random numbers all differ where a run is interrupted.
const std::vector<Mode> kModes = {
    {"joint", {}},
    {"annealed, a critic's own rate",
     {{"anneal_lr", "linear"},
      {"anneal_clip_coef", "linear"},
      {"anneal_ent_coef", "linear"},
      {"critic_learning_rate", "0.003"},
      {"epoch_lr_decay", "0.8"}}},
    {"stopped by KL", {{"target_kl", "1e-3"}, {"update_epochs", "5"}}},
    {"rates that follow the KL", {{"anneal_lr", "kl"}, {"desired_kl", "1e-3"}, {"critic_learning_rate", "0.003"}}},
    {"rates that follow the KL, separate",
     {{"anneal_lr", "kl"}, {"update_mode", "separate"}, {"policy_iterations", "7"}, {"value_iterations", "3"}}},
    {"stopped by KL before a minibatch", {{"target_kl", "1e-3"}, {"kl_stop", "minibatch"}, {"update_epochs", "5"}}},
    {"relu of the outputs, torch's first weights, truncations worth nothing",
     {{"output_activation", "relu"}, {"init", "torch"}, {"bootstrap_truncated", "false"}, {"max_episode_steps", "21"}}},
    {"separate", {{"update_mode", "separate"}, {"policy_iterations", "7"}, {"value_iterations", "3"}}},
    {"separate, stopped by KL",
     {{"update_mode", "separate"},
      {"kl_stop", "iteration"},
      {"target_kl", "1e-3"},
      {"policy_iterations", "9"},
      {"value_iterations", "2"}}},
    {"batch normalisation, another reward, a time limit",
     {{"norm_adv", "batch"}, {"env.sutton_barto_reward", "true"}, {"max_episode_steps", "21"}}},
    {"layerwise", {{"hidden_sizes", "9,5"}}},
    {"layerwise, separate",
     {{"hidden_sizes", "9,5"}, {"update_mode", "separate"}, {"policy_iterations", "4"}, {"value_iterations", "3"}}},
    {"continuous actions", {{"env_id", "lander-continuous"}, {"hidden_width", "64"}, {"log_std_init", "-0.5"}}},
    {"a fixed deviation, layerwise",
     {{"env_id", "lander-continuous"}, {"learn_std", "false"}, {"hidden_sizes", "9,5"}}},
    {"normalised", {{"norm_obs", "true"}, {"norm_reward", "true"}, {"max_episode_steps", "21"}}},
    {"normalised rewards, clipped", {{"norm_reward", "true"}, {"clip_reward", "0.05"}}},
    {"normalised, layerwise",
     {{"norm_obs", "true"}, {"norm_reward", "true"}, {"hidden_sizes", "9,5"}, {"max_episode_steps", "21"}}},
    {"normalised, continuous actions",
     {{"norm_obs", "true"}, {"clip_obs", "1"}, {"env_id", "lander-continuous"}, {"hidden_width", "64"}}},
    {"the exact lander", {{"env_id", "lunar-lander"}, {"hidden_width", "64"}, {"env.enable_wind", "true"}}},
    {"bf16", {{"precision", "bf16"}, {"hidden_width", "64"}}},
};

TrainingOptions options_of(const Mode& mode, const std::filesystem::path& directory) {
  TrainingOptions options;
  Settings all = {{"num_envs", "7"},      {"num_steps", "12"},    {"num_minibatches", "3"},
                  {"hidden_width", "16"}, {"precision", "fp32"},  {"learning_rate", "0.005"},
                  {"eval_every", "2"},    {"eval_episodes", "5"}, {"seed", "3"}};
  all.emplace_back("total_timesteps", std::to_string(kIterations * 7 * 12));
  all.insert(all.end(), mode.settings.begin(), mode.settings.end());
  for (const auto& [key, value] : all) set_key(options.config, key, value);
  options.run_directory = directory;
  return options;
}

void expect_same_run(const std::filesystem::path& parts, const std::filesystem::path& whole) {
  for (const char* name : {"checkpoint.safetensors", "policy.safetensors", "best.safetensors", "evaluation.json"}) {
    EXPECT_EQ(read_text(parts / name), read_text(whole / name)) << name;
  }
  const auto got = metrics_rows(parts), expected = metrics_rows(whole);
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], expected[i]) << "row " << i;
}

TEST(ResumeModes, GoesOnInEveryMode) {
  for (const Mode& mode : kModes) {
    SCOPED_TRACE(mode.name);
    const TemporaryDirectory scratch;
    const auto device = select_device(DeviceChoice::kCpu, 2).device;
    TrainingOptions whole = options_of(mode, scratch / "whole");
    if (whole.config.precision == Precision::kBf16 && !device->supports(Precision::kBf16)) continue;
    train(whole, *device);
    for (const std::uint64_t stop : {1, 4}) {  // once where an evaluation is due
      SCOPED_TRACE("interrupted after " + std::to_string(stop));
      TrainingOptions first = options_of(mode, scratch / ("parts" + std::to_string(stop)));
      std::atomic<bool> interrupt = false;
      first.interrupt = &interrupt;
      first.on_progress = [&](const TrainingProgress& progress) { interrupt = progress.iteration == stop; };
      const TrainingResult part = train(first, *device);
      EXPECT_TRUE(part.interrupted);
      EXPECT_EQ(part.steps, stop * 7 * 12);
      TrainingOptions rest;
      rest.resume = first.run_directory;
      const TrainingResult result = train(rest, *device);
      EXPECT_EQ(result.steps, kIterations * 7u * 12u);
      EXPECT_EQ(result.new_steps, result.steps - part.steps);
      expect_same_run(*first.run_directory, *whole.run_directory);
    }
  }
}

/// Nothing of a state is another thing's: all numbers differ.
TEST(ResumeModes, EveryArrayComesBackAsItself) {
  for (const auto& [env_id, normalized] :
       {std::pair("CartPole-v1", false), {"LanderContinuous-v0", false}, {"LanderContinuous-v0", true}}) {
    const TemporaryDirectory scratch;
    Config config;
    set_key(config, "env_id", env_id);
    set_key(config, "num_envs", "5");
    config.norm_obs = config.norm_reward = normalized;
    const RunDirectory run = RunDirectory::create(config, scratch / "run");
    const Model model = model_of(config);
    float next = 1.0f;
    std::uint32_t next_count = 1000;
    Checkpoint checkpoint{config, TrainerState::of_zeros(config, model), {}, false};
    TrainerState& state = checkpoint.state;
    state.iteration = 12;
    for (KeptArray& array : state.arrays) {
      if (auto* counts = std::get_if<std::vector<std::uint32_t>>(&array.values)) {
        for (std::uint32_t& value : *counts) value = next_count++;
        continue;
      }
      auto& floats = std::get<std::vector<float>>(array.values);
      if (!array.by_layer) {
        for (float& value : floats) value = next++;
        continue;
      }
      for (const ModelTensor& tensor : model.tensors) {  // padding is not kept, and always 0
        if (tensor.offset >= floats.size()) break;
        for (std::size_t i = 0; i < tensor.size; ++i) floats[tensor.offset + i] = next++;
      }
    }
    EXPECT_EQ(state.arrays.size(), normalized ? 12u : 9u);
    checkpoint.record = {{81.0, 82.0}, 11, 2, true, BestPolicy{83, 84.0, state.parameters()}, 4242, 85};
    for (float& x : checkpoint.record.best->parameters) x *= 0.5f;
    save_checkpoint(run.path(), model, checkpoint, 4242, true);
    const Checkpoint loaded = load_checkpoint(checkpoint_path(run.path()), config);
    EXPECT_FALSE(loaded.on_schedule);
    EXPECT_EQ(loaded.record.returns.episodes, 81.0);
    EXPECT_EQ(loaded.record.returns.sum, 82.0);
    EXPECT_EQ(loaded.record.evaluated_iteration, 11u);
    EXPECT_EQ(loaded.record.evaluations, 2u);
    EXPECT_TRUE(loaded.record.reached_target);
    EXPECT_EQ(loaded.record.steps, 4242u);
    EXPECT_EQ(loaded.record.episodes, 85u);
    ASSERT_TRUE(loaded.record.best.has_value());
    EXPECT_EQ(loaded.record.best->step, 83u);
    EXPECT_EQ(loaded.record.best->mean, 84.0);
    EXPECT_EQ(loaded.record.best->parameters, checkpoint.record.best->parameters);
    EXPECT_EQ(loaded.state, state);
    EXPECT_EQ(load_policy(policy_path(run.path())).parameters, state.parameters());
  }
}

/// As another version of a simulator may have had them: they must not be copied over other arrays.
TEST(ResumeModes, StatesWithOtherFieldsAreRefused) {
  const TemporaryDirectory scratch;
  Config config;
  set_key(config, "num_envs", "5");
  const RunDirectory run = RunDirectory::create(config, scratch / "run");
  const Model model = model_of(config);
  Checkpoint checkpoint{config, TrainerState::of_zeros(config, model), {}, false};
  for (KeptArray& array : checkpoint.state.arrays) {
    if (array.name == "environments.fields") array = {array.name, {7, 5}, false, std::vector<float>(7 * 5)};
  }
  save_checkpoint(run.path(), model, checkpoint, 4242, true);
  std::string message = "none";
  try {
    load_checkpoint(checkpoint_path(run.path()), config);
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_NE(message.find("'environments.fields' is F32 [7, 5], expected F32 [4, 5]"), std::string::npos) << message;
}

}  // namespace
}  // namespace perilune::test
