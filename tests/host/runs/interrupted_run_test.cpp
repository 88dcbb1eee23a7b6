// A run that is stopped or killed after any iteration and then goes on leaves the same files, but for times, as one
// that is not; and what they say of evaluations agrees with evaluations that are made apart from the run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "host/base/error.hpp"
#include "host/runs/checkpoint.hpp"
#include "host/runs/policy.hpp"
#include "host/runs/run_directory.hpp"
#include "host/runs/run_evaluations.hpp"
#include "host/runs/safetensors.hpp"
#include "host/runs/training.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int kIterations = 13;

struct Schedule {
  int eval_every, checkpoint_every;
  const char* target;  // of the return
};

// Periods that coincide and do not, runs that reach their target in the middle and at once, and one evaluation at the
// end.
constexpr Schedule kSchedules[] = {{3, 2, "none"}, {2, 4, "20"},   {3, 3, "9"},
                                   {4, 0, "22"},   {0, 5, "none"}, {1, 1, "25"}};

TrainingOptions short_run(const fs::path& directory, const Schedule& schedule) {
  TrainingOptions options;
  options.config.num_envs = 8;
  options.config.num_steps = 32;
  options.config.total_timesteps = kIterations * 8 * 32;
  options.config.hidden_width = 16;
  options.config.learning_rate = 0.01;
  options.config.eval_every = schedule.eval_every;
  options.config.checkpoint_every = schedule.checkpoint_every;
  options.config.eval_episodes = 7;
  set_key(options.config, "target_return", schedule.target);
  options.run_directory = directory;
  return options;
}

std::unique_ptr<Device> cpu() { return select_device(DeviceChoice::kCpu, 1).device; }

// metrics.jsonl without times and speeds.
std::string metrics_of(const fs::path& run) {
  std::string text;
  std::istringstream lines(test::read_text(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    nlohmann::json row = nlohmann::json::parse(line);
    row.erase("time");
    row.erase("charts/SPS");
    text += row.dump() + "\n";
  }
  return text;
}

// An events file with its times and speeds blanked, and the checksums that cover them.
std::string events_of(std::string bytes) {
  constexpr std::string_view kSpeed = "charts/SPS";
  for (std::size_t at = 0; at + 12 <= bytes.size();) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data() + at, sizeof length);
    const std::size_t data = at + 12;
    std::memset(bytes.data() + data + 1, 0, sizeof(double));
    const std::size_t speed = bytes.substr(data, length).find(kSpeed);
    if (speed != std::string::npos) std::memset(bytes.data() + data + speed + kSpeed.size() + 1, 0, sizeof(float));
    std::memset(bytes.data() + data + length, 0, sizeof(std::uint32_t));
    at = data + length + sizeof(std::uint32_t);
  }
  return bytes;
}

// Every file of a run by name, without what differs between two runs at different times.
std::map<std::string, std::string> files_of(const fs::path& run) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(run)) {
    const std::string name = entry.path().filename().string();
    if (name == ".lock") continue;
    if (name == "metrics.jsonl") {
      files[name] = metrics_of(run);
    } else if (name.find("tfevents") != std::string::npos) {
      files["events"] += events_of(test::read_text(entry.path()));
    } else {
      files[name] = test::read_text(entry.path());
    }
  }
  return files;
}

void expect_same_files(const fs::path& run, const std::map<std::string, std::string>& expected,
                       const std::string& what) {
  const std::map<std::string, std::string> files = files_of(run);
  for (const auto& [name, bytes] : expected) EXPECT_TRUE(files.contains(name)) << what << ": no " << name;
  for (const auto& [name, bytes] : files) {
    const auto found = expected.find(name);
    ASSERT_NE(found, expected.end()) << what << ": " << name << " is new";
    if (name == "metrics.jsonl" || name == "evaluation.json") {
      EXPECT_EQ(bytes, found->second) << what << ": " << name;
    } else {
      EXPECT_TRUE(bytes == found->second) << what << ": " << name << " differs";
    }
  }
}

void resume(const fs::path& run) {
  TrainingOptions rest;
  rest.resume = run;
  const std::unique_ptr<Device> device = cpu();
  train(rest, *device);
}

TEST(InterruptedRun, GoesOnToTheSameFilesWhereverItIsStopped) {
  for (const Schedule& schedule : kSchedules) {
    const test::TemporaryDirectory scratch;
    const std::unique_ptr<Device> device = cpu();
    const TrainingResult whole = train(short_run(scratch / "whole", schedule), *device);
    const auto expected = files_of(scratch / "whole");
    for (std::uint64_t k = 1; k <= whole.steps / 256; ++k) {
      TrainingOptions options = short_run(scratch / std::to_string(k), schedule);
      std::atomic<bool> interrupt = false;
      options.interrupt = &interrupt;
      options.on_progress = [&](const TrainingProgress& progress) { interrupt = progress.iteration >= k; };
      EXPECT_TRUE(train(options, *device).interrupted);
      resume(*options.run_directory);
      expect_same_files(*options.run_directory, expected,
                        std::string("target ") + schedule.target + ", stopped after iteration " + std::to_string(k));
    }
    resume(scratch / "whole");
    expect_same_files(scratch / "whole", expected, "finished, and resumed");
  }
}

// Stopped again and again, after every iteration.
TEST(InterruptedRun, MayBeStoppedAfterEveryIteration) {
  for (const Schedule& schedule : kSchedules) {
    const test::TemporaryDirectory scratch;
    const std::unique_ptr<Device> device = cpu();
    train(short_run(scratch / "whole", schedule), *device);
    TrainingOptions options = short_run(scratch / "parts", schedule);
    for (int part = 0;; ++part) {
      ASSERT_LE(part, kIterations);
      std::atomic<bool> interrupt = false;
      options.interrupt = &interrupt;
      options.on_progress = [&](const TrainingProgress&) { interrupt = true; };
      if (!train(options, *device).interrupted) break;
      options.resume = scratch / "parts";
    }
    expect_same_files(scratch / "parts", files_of(scratch / "whole"), std::string("target ") + schedule.target);
  }
}

TEST(InterruptedRun, GoesOnToTheSameFilesWhereverItIsKilled) {
  for (const Schedule& schedule : kSchedules) {
    const test::TemporaryDirectory scratch;
    const std::unique_ptr<Device> device = cpu();
    const TrainingResult whole = train(short_run(scratch / "whole", schedule), *device);
    const auto expected = files_of(scratch / "whole");
    for (std::uint64_t k = 1; k <= whole.steps / 256; ++k) {
      const fs::path run = scratch / std::to_string(k);
      const pid_t child = ::fork();
      if (child == 0) {
        TrainingOptions options = short_run(run, schedule);
        options.on_progress = [&](const TrainingProgress& progress) {
          if (progress.iteration == k) ::raise(SIGKILL);
        };
        const std::unique_ptr<Device> own = cpu();
        train(options, *own);
        ::_exit(0);
      }
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
      resume(run);
      expect_same_files(run, expected,
                        std::string("target ") + schedule.target + ", killed after iteration " + std::to_string(k));
    }
  }
}

/// A run's rows of evaluations, by step; of several the last.
std::map<std::uint64_t, nlohmann::json> evaluations_of(const fs::path& run) {
  std::map<std::uint64_t, nlohmann::json> rows;
  std::istringstream lines(test::read_text(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    if (row.contains("eval/mean_return")) rows[row.at("step").get<std::uint64_t>()] = row;
  }
  return rows;
}

TEST(RunEvaluations, TheBestPolicyIsKeptWithItsStep) {
  for (std::int64_t seed : {1, 2, 3}) {
    const test::TemporaryDirectory scratch;
    const std::unique_ptr<Device> device = cpu();
    TrainingOptions options = short_run(scratch / "run", {2, 0, "none"});
    options.config.seed = seed;
    const TrainingResult result = train(options, *device);
    const auto rows = evaluations_of(scratch / "run");
    ASSERT_EQ(rows.size(), 7u);
    EXPECT_EQ(rows.rbegin()->first, result.steps);
    EXPECT_EQ(rows.rbegin()->second.at("eval/episodes"), kFinalEpisodes);
    EXPECT_FLOAT_EQ(rows.rbegin()->second.at("eval/mean_return").get<float>(),
                    static_cast<float>(result.evaluation.mean));
    const auto best = std::max_element(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
      return a.second.at("eval/mean_return") < b.second.at("eval/mean_return");
    });
    ASSERT_TRUE(result.best);
    EXPECT_EQ(result.best->step, best->first) << "seed " << seed;
    // The run up to there ends with the same policy.
    TrainingOptions shorter = short_run(scratch / "shorter", {2, 0, "none"});
    shorter.config.seed = seed;
    std::atomic<bool> interrupt = false;
    shorter.interrupt = &interrupt;
    shorter.on_progress = [&](const TrainingProgress& progress) { interrupt = progress.step >= best->first; };
    train(shorter, *device);
    EXPECT_EQ(load_policy(best_policy(scratch / "run")).parameters,
              load_policy(scratch / "shorter" / "policy.safetensors").parameters);
    EXPECT_EQ(load_policy(best_policy(scratch / "run")).step, best->first);
  }
}

TEST(RunEvaluations, ARunWithoutAnEvaluationHasNoBestPolicy) {
  const test::TemporaryDirectory scratch;
  TrainingOptions options = short_run(scratch / "run", {0, 0, "none"});
  std::atomic<bool> interrupt = false;
  options.interrupt = &interrupt;
  options.on_progress = [&](const TrainingProgress& progress) { interrupt = progress.iteration == 2; };
  const std::unique_ptr<Device> device = cpu();
  EXPECT_FALSE(train(options, *device).best);
  EXPECT_THAT([&] { best_policy(scratch / "run"); }, testing::ThrowsMessage<Error>(HasSubstr("has no best policy")));
  EXPECT_THAT([&] { best_policy(scratch / "run" / "policy.safetensors"); },
              testing::ThrowsMessage<UsageError>(HasSubstr("is no run directory")));
  resume(scratch / "run");
  EXPECT_EQ(load_policy(best_policy(scratch / "run")).parameters,
            load_policy(scratch / "run" / "policy.safetensors").parameters);
}

TEST(RunEvaluations, TheVerdictRestsOnEpisodesOfItsOwn) {
  const test::TemporaryDirectory scratch;
  const std::unique_ptr<Device> device = cpu();
  TrainingOptions options = short_run(scratch / "run", {1, 0, "9"});
  options.config.eval_episodes = 1;
  const TrainingResult result = train(options, *device);
  EXPECT_LT(result.steps, static_cast<std::uint64_t>(options.config.total_timesteps)) << "the target was not reached";
  EXPECT_EQ(result.evaluation.episodes, kFinalEpisodes);
  EXPECT_FALSE(result.solved) << result.evaluation.mean;
  options = short_run(scratch / "many", {0, 0, "none"});
  options.config.eval_episodes = 117;
  EXPECT_EQ(train(options, *device).evaluation.episodes, 117);
}

TEST(Checkpoint, OfTheVersionBeforeTheRecordIsRead) {
  const test::TemporaryDirectory scratch;
  const std::unique_ptr<Device> device = cpu();
  const TrainingOptions options = short_run(scratch / "run", {3, 2, "none"});
  train(options, *device);
  const fs::path path = scratch / "run" / "checkpoint.safetensors";
  const Config config = load_policy(path).config;
  {
    const SafetensorsFile file = SafetensorsFile::load(path);
    std::vector<Tensor> tensors;
    for (const Tensor& tensor : file.tensors()) {
      if (!tensor.name.starts_with("best.")) tensors.push_back(tensor);
    }
    Metadata metadata;
    for (const char* key : {"format", "config", "iteration", "step"}) metadata[key] = file.metadata().at(key);
    metadata["format_version"] = "1";
    write_safetensors(scratch / "old.safetensors", tensors, metadata);
  }
  const Checkpoint now = load_checkpoint(path, config), old = load_checkpoint(scratch / "old.safetensors", config);
  EXPECT_TRUE(now.record.best && now.record.evaluated_iteration == 12);
  EXPECT_TRUE(!old.record.best && old.record.evaluated_iteration == 0 && !old.record.reached_target);
  EXPECT_EQ(old.state, now.state);
}

}  // namespace
}  // namespace perilune
