// Whole runs on CPU devices that differ from the usual: memory runs out in the middle, or nothing is skipped.
#include "host/runs/training.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/networks/model.hpp"
#include "host/runs/checkpoint.hpp"
#include "tests/support/forwarding_device.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using testing::HasSubstr;

/// Only so many allocations.
class ScarceDevice : public test::ForwardingDevice {
 public:
  explicit ScarceDevice(int allocations) : left_(allocations) {}
  void* allocate(std::size_t bytes) override {
    if (left_-- == 0) throw OutOfMemoryError("no bytes are left");
    return ForwardingDevice::allocate(bytes);
  }

 private:
  int left_;
};

/// Launches what a KL stop or a NaN makes pointless, as a GPU does without a graph: kernels see for themselves.
class EagerDevice : public test::ForwardingDevice {
 public:
  void unless_stopped(Queue& queue, const Control*, const std::function<void(Queue&)>& body) override { body(queue); }
};

TrainingOptions small_run(const std::filesystem::path& directory) {
  TrainingOptions options;
  options.config.num_envs = 8;
  options.config.num_steps = 16;
  options.config.total_timesteps = 10 * 8 * 16;
  options.config.hidden_width = 16;
  options.config.eval_every = 3;
  options.config.eval_episodes = 5;
  options.run_directory = directory;
  return options;
}

TEST(Training, OutOfMemoryInAnEvaluationLosesNothing) {
  const test::TemporaryDirectory scratch;
  ScarceDevice enough(-1);
  train(small_run(scratch / "whole"), enough);

  // The first allocation is the run's own, the second the evaluation after iteration 3; the third after iteration 6.
  const TrainingOptions options = small_run(scratch / "short");
  ScarceDevice scarce(2);
  try {
    train(options, scarce);
    FAIL() << "trained without memory";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    EXPECT_THAT(error.what(), HasSubstr("evaluation after iteration 6"));
    EXPECT_THAT(error.what(), HasSubstr("partial gradients")) << "the plan is not named";
  }
  TrainingOptions rest;
  rest.resume = options.run_directory;
  EXPECT_EQ(train(rest, enough).new_steps, 4u * 8u * 16u);
  EXPECT_EQ(test::read_text(*options.run_directory / "checkpoint.safetensors"),
            test::read_text(scratch / "whole" / "checkpoint.safetensors"));
}

TEST(Training, OutOfMemoryAtTheStartNamesThePlan) {
  const test::TemporaryDirectory scratch;
  ScarceDevice none(0);
  EXPECT_THAT([&] { train(small_run(scratch / "run"), none); },
              testing::ThrowsMessage<OutOfMemoryError>(HasSubstr("partial gradients")));
}

/// A metric of each iteration of a run; rows of evaluations have none of them.
std::vector<double> metric(const std::filesystem::path& run, const char* name) {
  std::vector<double> result;
  std::istringstream lines(test::read_text(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    if (!row.contains("eval/mean_return")) result.push_back(row.at(name).get<double>());
  }
  return result;
}

/// Those of a run with a KL target.
std::vector<double> policy_updates(const std::filesystem::path& run) { return metric(run, "losses/policy_updates"); }

TEST(Training, MinibatchesOfOneSampleTeachTheActor) {
  struct Case {
    const char *norm_adv, *mode;
    int envs, steps, minibatches;
  };
  for (const Case& c :
       {Case{"minibatch", "joint", 4, 4, 16}, Case{"minibatch", "joint", 1, 1, 1}, Case{"batch", "joint", 1, 1, 1},
        Case{"minibatch", "separate", 1, 1, 1}, Case{"minibatch", "joint", 4, 4, 8}}) {
    for (const char* sizes : {"16", "9,9"}) {  // fused, and layer by layer
      const test::TemporaryDirectory scratch;
      TrainingOptions options = small_run(scratch / "run");
      options.config.num_envs = c.envs;
      options.config.num_steps = c.steps;
      options.config.num_minibatches = c.minibatches;
      options.config.total_timesteps = 10 * c.envs * c.steps;
      options.config.policy_iterations = options.config.value_iterations = 3;
      options.config.ent_coef = 0.0;  // which would teach it something else
      set_key(options.config, "hidden_sizes", sizes);
      set_key(options.config, "norm_adv", c.norm_adv);
      set_key(options.config, "update_mode", c.mode);
      ScarceDevice cpu(-1);
      train(options, cpu);
      const std::vector<double> losses = metric(scratch / "run", "losses/policy_loss");
      EXPECT_EQ(std::count(losses.begin(), losses.end(), 0.0), 0)
          << c.norm_adv << ' ' << c.mode << ' ' << c.minibatches;
    }
  }
}

/// Every update moves the policy further than this.
constexpr const char* kTinyKl = "1e-12";

TEST(Training, AKlTargetStopsAfterTheEpochThatPassesIt) {
  const test::TemporaryDirectory scratch;
  TrainingOptions options = small_run(scratch / "run");
  options.config.num_minibatches = 2;
  options.config.update_epochs = 3;
  set_key(options.config, "target_kl", kTinyKl);
  ScarceDevice cpu(-1);
  train(options, cpu);
  // The second minibatch of the first epoch is beyond the target, and still applied.
  EXPECT_THAT(policy_updates(scratch / "run"), testing::AllOf(testing::SizeIs(10), testing::Each(2.0)));
  options.run_directory = scratch / "none";
  set_key(options.config, "target_kl", "0");
  train(options, cpu);
  EXPECT_THAT(policy_updates(scratch / "none"), testing::Each(6.0));
}

TEST(Training, AKlTargetStopsBeforeThePolicyIterationBeyondIt) {
  const test::TemporaryDirectory scratch;
  TrainingOptions options = small_run(scratch / "run");
  options.config.policy_iterations = 20;
  options.config.value_iterations = 2;
  set_key(options.config, "update_mode", "separate");
  set_key(options.config, "kl_stop", "iteration");
  set_key(options.config, "target_kl", kTinyKl);
  ScarceDevice cpu(-1);
  train(options, cpu);
  // The first one starts from the old policy itself, at a divergence of 0.
  EXPECT_THAT(policy_updates(scratch / "run"), testing::AllOf(testing::SizeIs(10), testing::Each(1.0)));
}

TEST(Training, LaunchesAfterAKlStopChangeNothing) {
  for (const char* mode : {"joint", "separate"}) {
    const test::TemporaryDirectory scratch;
    TrainingOptions options = small_run(scratch / "skipping");
    set_key(options.config, "update_mode", mode);
    set_key(options.config, "kl_stop", mode == std::string("joint") ? "epoch" : "iteration");
    set_key(options.config, "target_kl", "2e-4");
    options.config.policy_iterations = 20;
    ScarceDevice skipping(-1);
    train(options, skipping);
    options.run_directory = scratch / "eager";
    EagerDevice eager;
    train(options, eager);
    EXPECT_EQ(test::read_text(scratch / "skipping" / "checkpoint.safetensors"),
              test::read_text(scratch / "eager" / "checkpoint.safetensors"))
        << mode;
    EXPECT_EQ(policy_updates(scratch / "skipping"), policy_updates(scratch / "eager"));
  }
}

/// What stops a run that goes on from `options`' checkpoint after one of its environments was spoilt: fields[field, n],
/// in an episode that has `elapsed` steps if given.
std::string spoilt(const TrainingOptions& options, std::size_t field, std::size_t n,
                   std::optional<std::uint32_t> elapsed = std::nullopt) {
  const std::filesystem::path path = *options.run_directory / "checkpoint.safetensors";
  const Config config = load_policy(path).config;
  Checkpoint checkpoint = load_checkpoint(path, config);
  TrainerState& state = checkpoint.state;
  const auto count = static_cast<std::size_t>(config.num_envs);
  state.floats("environments.fields")[field * count + n] = std::numeric_limits<float>::quiet_NaN();
  if (elapsed) state.counts("environments.elapsed")[n] = *elapsed;
  save_checkpoint(*options.run_directory, model_of(config), checkpoint, state.iteration * 128u, true);
  TrainingOptions rest;
  rest.resume = options.run_directory;
  ScarceDevice cpu(-1);
  try {
    train(rest, cpu);
  } catch (const Error& error) {
    return formatted("{} | was: step {} of episode {}", error.what(), state.counts("environments.elapsed")[n],
                     state.counts("environments.episode")[n]);
  }
  return "trained on";
}

TEST(Training, ANonFiniteEnvironmentIsNamed) {
  const test::TemporaryDirectory scratch;
  for (const char* environment : {"CartPole-v1", "Lander-v0"}) {
    TrainingOptions options = small_run(scratch / environment);
    set_key(options.config, "env_id", environment);
    set_key(options.config, "checkpoint_every", "4");
    set_key(options.config, "seed", "11");
    options.config.hidden_width = environment == std::string("CartPole-v1") ? 16 : 64;
    options.config.eval_every = 0;
    ScarceDevice cpu(-1);
    std::atomic<bool> interrupt = false;  // after one iteration, with a checkpoint
    options.interrupt = &interrupt;
    options.on_progress = [&](const TrainingProgress&) { interrupt = true; };
    train(options, cpu);
    const std::string text = spoilt(options, 2, 5);
    const std::string place = text.substr(text.find("| was: ") + 7);
    EXPECT_THAT(text, HasSubstr("at iteration 2, from environment 5, which is not finite after " + place + " of " +
                                environment + " with seed 11"));
    EXPECT_THAT(text, HasSubstr("the last good checkpoint is "));
    EXPECT_THAT(text, HasSubstr("checkpoint_every=1 the same run"));
    EXPECT_THAT(text, testing::Not(HasSubstr("learning_rate")));
    // The time limit ends its episode within the rollout.
    const std::uint32_t last = 3;
    const std::uint32_t limit = episode_limit(options.config);
    EXPECT_THAT(spoilt(options, 2, 5, limit - last),
                HasSubstr(formatted("not finite after step {} of episode", limit - last)));
  }
}

}  // namespace
}  // namespace perilune
