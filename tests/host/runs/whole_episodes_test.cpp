// Runs on batches of whole episodes: where they end, the same bits for any number of threads and where they were
// interrupted, and what TensorBoard is told of each episode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>

#include "host/base/error.hpp"
#include "host/runs/training.hpp"
#include "tests/support/run_files.hpp"
#include "tests/support/usage_error.hpp"

namespace perilune::test {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

struct Mode {
  const char* name;
  Settings settings;
};

const std::vector<Mode> kModes = {
    {"one environment", {{"num_envs", "1"}}},
    {"several", {{"num_envs", "7"}, {"max_episode_steps", "31"}, {"hidden_sizes", "9,5"}}},
    {"several, annealed, stopped by KL",
     {{"num_envs", "3"},
      {"anneal_lr", "linear"},
      {"anneal_clip_coef", "linear"},
      {"target_kl", "1e-3"},
      {"output_activation", "relu"}}},
    {"separate",
     {{"num_envs", "2"}, {"update_mode", "separate"}, {"policy_iterations", "4"}, {"value_iterations", "3"}}},
    {"continuous actions", {{"env_id", "lander-continuous"}, {"num_envs", "2"}, {"max_episode_steps", "70"}}},
};

constexpr std::uint64_t kTotalSteps = 700;

TrainingOptions options_of(const Mode& mode, const std::filesystem::path& directory) {
  TrainingOptions options;
  Settings all = {{"batch_mode", "episodes"},
                  {"num_minibatches", "1"},
                  {"num_steps", "110"},
                  {"hidden_width", "16"},
                  {"precision", "fp32"},
                  {"learning_rate", "0.005"},
                  {"eval_every", "2"},
                  {"eval_episodes", "5"},
                  {"seed", "3"},
                  {"log_episodes", "true"},
                  {"total_timesteps", std::to_string(kTotalSteps)}};
  all.insert(all.end(), mode.settings.begin(), mode.settings.end());
  for (const auto& [key, value] : all) set_key(options.config, key, value);
  options.run_directory = directory;
  return options;
}

/// The scalars `reward` of a run's events, by their steps. They are read as TFRecords, not as the program does.
std::vector<std::pair<std::uint64_t, float>> rewards_in(const std::filesystem::path& run) {
  std::vector<std::pair<std::uint64_t, float>> rewards;
  for (const auto& entry : std::filesystem::directory_iterator(run)) {
    if (!entry.path().filename().string().starts_with("events.")) continue;
    const std::string bytes = read_text(entry.path());
    for (std::size_t at = 0; at + 12 <= bytes.size();) {
      std::uint64_t length = 0;
      std::memcpy(&length, &bytes[at], sizeof length);
      const std::string event = bytes.substr(at + 12, length);
      at += 12 + length + 4;
      const std::size_t name = event.find("\x06reward\x15");
      if (name == std::string::npos) continue;
      std::uint64_t step = 0;
      for (std::size_t i = 10, shift = 0; i < event.size(); ++i, shift += 7) {  // after time and the step's tag
        step |= std::uint64_t{static_cast<std::uint8_t>(event[i]) & 0x7Fu} << shift;
        if ((event[i] & 0x80) == 0) break;
      }
      float value = 0.0f;
      std::memcpy(&value, &event[name + 8], sizeof value);
      rewards.emplace_back(step, value);
    }
  }
  return rewards;
}

std::vector<nlohmann::json> training_rows(const std::filesystem::path& run) {
  std::vector<nlohmann::json> rows = metrics_rows(run);
  std::erase_if(rows, [](const nlohmann::json& row) { return !row.contains("charts/episodes"); });
  return rows;
}

void expect_same_run(const std::filesystem::path& actual, const std::filesystem::path& expected) {
  for (const char* name : {"checkpoint.safetensors", "policy.safetensors", "best.safetensors", "evaluation.json"}) {
    EXPECT_EQ(read_text(actual / name), read_text(expected / name)) << name;
  }
  EXPECT_EQ(metrics_rows(actual), metrics_rows(expected));
  EXPECT_EQ(rewards_in(actual), rewards_in(expected));
}

TEST(WholeEpisodes, EndWithTheBatchThatHasEnough) {
  for (const Mode& mode : kModes) {
    SCOPED_TRACE(mode.name);
    const TemporaryDirectory scratch;
    const auto device = select_device(DeviceChoice::kCpu, 2).device;
    const TrainingResult result = train(options_of(mode, scratch / "run"), *device);
    const std::vector<nlohmann::json> rows = training_rows(scratch / "run");
    const auto rewards = rewards_in(scratch / "run");
    std::uint64_t before = 0;
    std::size_t episodes = 0;
    for (const nlohmann::json& row : rows) {
      const auto step = row["step"].get<std::uint64_t>();
      EXPECT_LT(before, kTotalSteps) << "a batch too many";
      EXPECT_GE(step - before, 110u);
      const auto count = row["charts/episodes"].get<std::size_t>();
      EXPECT_NEAR(row["charts/episodic_length"].get<double>() * static_cast<double>(count),
                  static_cast<double>(step - before), 1e-3);
      double total = 0.0;
      for (std::size_t i = 0; i < count; ++i, ++episodes) {
        ASSERT_LT(episodes, rewards.size());
        EXPECT_EQ(rewards[episodes].first, episodes);
        total += rewards[episodes].second;
      }
      EXPECT_NEAR(row["charts/episodic_return"].get<double>(), total / static_cast<double>(count), 1e-4);
      before = step;
    }
    EXPECT_EQ(episodes, rewards.size());
    EXPECT_GE(before, kTotalSteps);
    EXPECT_EQ(result.steps, before);
    EXPECT_EQ(result.new_steps, before);
  }
}

TEST(WholeEpisodes, AnyNumberOfThreadsTrainsTheSameBits) {
  for (const Mode& mode : kModes) {
    SCOPED_TRACE(mode.name);
    const TemporaryDirectory scratch;
    for (const int threads : {1, 2, 3}) {
      const auto device = select_device(DeviceChoice::kCpu, threads).device;
      train(options_of(mode, scratch / std::to_string(threads)), *device);
      expect_same_run(scratch / std::to_string(threads), scratch / "1");
    }
  }
}

TEST(WholeEpisodes, GoOnAsIfNeverInterrupted) {
  for (const Mode& mode : kModes) {
    SCOPED_TRACE(mode.name);
    const TemporaryDirectory scratch;
    const auto device = select_device(DeviceChoice::kCpu, 2).device;
    const TrainingResult whole = train(options_of(mode, scratch / "whole"), *device);
    for (const std::uint64_t stop : {1, 2, 3}) {
      SCOPED_TRACE("interrupted after " + std::to_string(stop));
      TrainingOptions first = options_of(mode, scratch / std::to_string(stop));
      std::atomic<bool> interrupt = false;
      first.interrupt = &interrupt;
      first.on_progress = [&](const TrainingProgress& progress) { interrupt = progress.iteration == stop; };
      const TrainingResult part = train(first, *device);
      EXPECT_TRUE(part.interrupted);
      TrainingOptions rest;
      rest.resume = first.run_directory;
      const TrainingResult result = train(rest, *device);
      EXPECT_EQ(result.steps, whole.steps);
      EXPECT_EQ(result.new_steps, whole.steps - part.steps);
      expect_same_run(*first.run_directory, scratch / "whole");
    }
  }
}

/// A run that is over goes on with more steps, and is not over at fewer.
TEST(WholeEpisodes, MoreStepsAndFewer) {
  const TemporaryDirectory scratch;
  const auto device = select_device(DeviceChoice::kCpu, 1).device;
  const TrainingResult whole = train(options_of(kModes[1], scratch / "run"), *device);
  TrainingOptions rest;
  rest.resume = scratch / "run";
  EXPECT_EQ(train(rest, *device).steps, whole.steps) << "there was nothing left to do";
  rest.changes = {{"total_timesteps", Value(std::int64_t{600})}};
  EXPECT_THAT(usage_error([&] { train(rest, *device); }),
              testing::HasSubstr("total_timesteps = 600 are over: the run is at step " + std::to_string(whole.steps)));
  rest.changes = {{"total_timesteps", Value(std::int64_t{1000})}};
  const TrainingResult more = train(rest, *device);
  EXPECT_GE(more.steps, 1000u);
  EXPECT_EQ(more.new_steps, more.steps - whole.steps);
  EXPECT_EQ(rewards_in(scratch / "run").back().first, rewards_in(scratch / "run").size() - 1);
}

}  // namespace
}  // namespace perilune::test
