// Policies from files: their outputs against double, their actions, and that they play as evaluation says.
#include "host/runs/policy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <optional>

#include "host/base/error.hpp"
#include "host/device/matrix_library.hpp"
#include "host/runs/checkpoint.hpp"
#include "host/runs/run_directory.hpp"
#include "host/runs/training.hpp"
#include "host/settings/environment_settings.hpp"
#include "tests/kernels/environments.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using test::at;
using test::ByHand;
using test::expect_same_bits;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::unique_ptr<Device> cpu(int threads) { return select_device(DeviceChoice::kCpu, threads).device; }

/// A run of a few iterations, made once for each shape of network.
const std::filesystem::path& run_with(const char* hidden_sizes) {
  static const test::TemporaryDirectory scratch;
  static std::map<std::string, std::filesystem::path> made;
  const auto [entry, is_new] = made.try_emplace(hidden_sizes, scratch / hidden_sizes);
  if (is_new) {
    TrainingOptions options;
    options.config.num_envs = 8;
    options.config.num_steps = 64;
    options.config.total_timesteps = 20 * 8 * 64;
    options.config.learning_rate = 3e-3;
    options.config.eval_episodes = 5;
    set_key(options.config, "hidden_sizes", hidden_sizes);
    set_key(options.config, "precision", "fp32");
    options.run_directory = entry->second;
    train(options, *cpu(2));
  }
  return entry->second;
}

struct Acted {
  std::vector<std::int64_t> choices;
  std::vector<float> outputs;
};

Acted act(Policy& policy, const std::vector<float>& observations, const ActOptions& options = {}) {
  const std::size_t count = observations.size() / 4;
  Acted acted{std::vector<std::int64_t>(count, 77), std::vector<float>(2 * count, 77.0f)};
  policy.act(observations.data(), static_cast<std::int64_t>(count), options,
             {acted.choices.data(), nullptr, acted.outputs.data()});
  return acted;
}

std::vector<float> some_observations(int count, std::uint64_t seed) {
  test::Draws draws(seed);
  std::vector<float> rows(at(4 * count));
  for (float& x : rows) x = draws.uniform(-0.5, 0.5);
  return rows;
}

TEST(Policy, OutputsAreTheNetworksOfTheFile) {
  for (const char* sizes : {"16", "64,64", "24,40"}) {
    const auto device = cpu(2);
    Policy policy(run_with(sizes), *device);
    EXPECT_EQ(policy.observation_dim(), 4);
    EXPECT_EQ(policy.num_actions(), 2);
    EXPECT_EQ(policy.num_outputs(), 2);
    EXPECT_FALSE(policy.is_continuous());
    const SavedPolicy saved = load_policy(policy_path(run_with(sizes)));
    const test::Vector parameters(saved.parameters.begin(), saved.parameters.end());
    const test::Mlp network{model_of(saved.config).actor, 4, 2};
    for (const int count : {1, 7, 33, 257, 3000}) {
      const std::vector<float> rows = some_observations(count, static_cast<std::uint64_t>(count));
      const Acted acted = act(policy, rows);
      test::Vector reference;
      for (int n = 0; n < count; ++n) {
        const test::Vector row(rows.begin() + 4 * n, rows.begin() + 4 * n + 4);
        const test::Vector logits = network.forward(parameters, row).back();
        reference.insert(reference.end(), logits.begin(), logits.end());
        EXPECT_EQ(acted.choices[at(n)], acted.outputs[at(2 * n + 1)] > acted.outputs[at(2 * n)] ? 1 : 0);
      }
      // 4e-6 is the error of a hidden unit's tanh, of which up to 64 are summed with weights below 1 in most.
      test::expect_close(sizes, acted.outputs, reference, {1e-4, 1e-4});
    }
  }
}

/// A policy file with another word for what becomes of outputs.
std::string with_output_activation(const char* word) {
  std::string bytes = policy_bytes(load_policy(policy_path(run_with("64,64"))));
  const std::size_t at_none = bytes.find("none", bytes.find("output_activation = "));
  return bytes.replace(at_none, 4, word);  // of four letters, so that the file stays whole
}

TEST(Policy, OutputsGoThroughTheActivationOfTheFile) {
  const auto device = cpu(2);
  const std::vector<float> rows = some_observations(257, 5);
  for (const char* word : {"relu", "tanh"}) {
    SCOPED_TRACE(word);
    Policy policy(with_output_activation(word), "a file", *device);
    EXPECT_EQ(value_text(policy.config(), "output_activation"), word);
    const SavedPolicy saved = parse_policy(policy.bytes(), "its own bytes");
    const test::Vector parameters(saved.parameters.begin(), saved.parameters.end());
    const test::Mlp network{model_of(saved.config).actor, 4, 2};
    test::Vector reference;
    int zeros = 0;
    for (int n = 0; n < 257; ++n) {
      const test::Vector row(rows.begin() + 4 * n, rows.begin() + 4 * n + 4);
      const test::Vector plain = test::Mlp{[&] {
                                             Network same = network.network;
                                             same.output_activation = OutputActivation::kNone;
                                             return same;
                                           }(),
                                           4, 2}
                                     .forward(parameters, row)
                                     .back();
      for (const double x : plain) {
        reference.push_back(word == std::string("tanh") ? std::tanh(x) : x > 0.0 ? x : 0.0);
        zeros += reference.back() == 0.0;
      }
    }
    test::expect_close(word, act(policy, rows).outputs, reference, {1e-4, 1e-4});
    EXPECT_EQ(zeros > 20, word == std::string("relu"));
    EXPECT_GT(policy.evaluate({.episodes = 3, .seed = 1}).mean, 5.0);
  }
}

TEST(Policy, AnUnknownActivationOfOutputsIsRefused) {
  const auto device = cpu(1);
  EXPECT_THAT([&] { Policy(with_output_activation("gelu"), "a file", *device); },
              ThrowsMessage<Error>(AllOf(HasSubstr("a file"), HasSubstr("output_activation = 'gelu' is unknown"),
                                         HasSubstr("none | relu | tanh"))));
}

TEST(Policy, PlaysAsItIsEvaluated) {
  const auto device = cpu(2);
  for (const char* sizes : {"16", "24,40"}) {
    Policy policy(run_with(sizes), *device);
    EvaluationOptions options;
    options.episodes = 33;
    options.seed = 7;
    const EvaluationResult result = policy.evaluate(options);

    EnvironmentBatch batch{};
    batch.key = {7, kEvaluationStream};
    batch.max_episode_steps = 500;
    std::vector<ByHand> environments;
    for (int n = 0; n < options.episodes; ++n) environments.emplace_back(batch, n);
    std::vector<bool> over(at(options.episodes));
    for (int t = 0; t < 500; ++t) {
      std::vector<float> rows;
      for (const ByHand& one : environments) {
        for (const double x : one.observation()) rows.push_back(static_cast<float>(x));
      }
      const Acted acted = act(policy, rows);
      for (std::size_t n = 0; n < over.size(); ++n) {
        if (!over[n]) over[n] = environments[n].step(static_cast<std::uint32_t>(acted.choices[n])).terminated;
      }
    }
    double sum = 0.0;
    for (const ByHand& one : environments) sum += one.episode_return;
    EXPECT_EQ(result.mean, sum / options.episodes);
  }
}

TEST(Policy, IsEvaluatedInTheTaskThatItWasTrainedFor) {
  const test::TemporaryDirectory scratch;
  const auto device = cpu(2);
  TrainingOptions options;
  options.config.num_envs = 8;
  options.config.num_steps = 16;
  options.config.total_timesteps = 8 * 16;
  options.config.eval_episodes = 50;
  options.config.max_episode_steps = 7;
  set_key(options.config, "env.sutton_barto_reward", "true");
  options.run_directory = scratch / "run";
  // No CartPole falls within 7 steps, and then every reward is 0.
  const EvaluationResult trained = train(options, *device).evaluation;
  Policy policy(scratch / "run", *device);
  const EvaluationResult own = policy.evaluate({});
  for (const EvaluationResult& result : {trained, own}) {
    EXPECT_EQ(result.mean_length, 7.0);
    EXPECT_EQ(result.mean, 0.0);
  }
  const std::vector<Setting> standard = {{"env.sutton_barto_reward", "false"}, {"max_episode_steps", "0"}};
  const Config task = evaluation_task(policy.config(), standard);
  EXPECT_EQ(task_text(policy.config()), "CartPole-v1, up to 7 steps, env.sutton_barto_reward = true");
  EXPECT_EQ(task_text(task), "CartPole-v1, up to 500 steps");
  const EvaluationResult elsewhere = policy.evaluate({}, task);
  EXPECT_GT(elsewhere.mean, 7.0);
  EXPECT_EQ(elsewhere.mean, elsewhere.mean_length);
}

TEST(Policy, TasksToPlayElsewhere) {
  Config config;
  set_key(config, "env_id", "LunarLander-v3");
  set_key(config, "env.fast_solver", "true");
  set_key(config, "env.gravity", "-5");
  const auto task = [&](const std::vector<Setting>& settings) { return evaluation_task(config, settings); };
  EXPECT_EQ(task_text(task({})), "LunarLander-v3, up to 1000 steps, env.gravity = -5, env.fast_solver = true");
  EXPECT_EQ(task_text(task({{"env.enable_wind", "true"}, {"env_id", "lander"}})),
            "Lander-v0, up to 1000 steps, env.gravity = -5, env.enable_wind = true");
  const auto refused = [&](const std::vector<Setting>& settings, const auto& matcher) {
    EXPECT_THAT([&] { task(settings); }, ThrowsMessage<UsageError>(matcher));
  };
  refused({{"gamma", "0.5"}}, HasSubstr("gamma is no part of what an evaluation plays"));
  refused({{"gama", "0.5"}}, HasSubstr("nearest known key is gamma"));
  refused({{"env.gravity", "-12"}}, HasSubstr("out of range"));
  refused({{"env.sutton_barto_reward", "true"}}, HasSubstr("no parameter of LunarLander-v3"));
  refused({{"env_id", "lander"}, {"env.fast_solver", "true"}}, HasSubstr("no parameter of Lander-v0"));
  refused({{"env_id", "cartpole"}},
          AllOf(HasSubstr("8 numbers as observation and 4 choices"), HasSubstr("CartPole-v1 has 4"),
                HasSubstr("allowed: LunarLander-v3, Lander-v0")));
  refused({{"env_id", "lander-continuous"}}, HasSubstr("2 numbers as action"));
}

TEST(Policy, ARowDependsOnNothingElse) {
  const std::vector<float> rows = some_observations(301, 5);
  for (const char* sizes : {"16", "64,64"}) {
    const auto one = cpu(1), two = cpu(2);
    Policy a(run_with(sizes), *one), b(run_with(sizes), *two);
    for (const bool deterministic : {true, false}) {
      const ActOptions options{deterministic, 3, 5};
      const Acted all = act(a, rows, options), again = act(b, rows, options);
      expect_same_bits("outputs", again.outputs, all.outputs);
      EXPECT_EQ(again.choices, all.choices);
      const Acted first = act(b, std::vector<float>(rows.begin(), rows.begin() + 7 * 4), options);
      expect_same_bits("first", first.outputs, std::vector<float>(all.outputs.begin(), all.outputs.begin() + 14));
      EXPECT_TRUE(std::equal(first.choices.begin(), first.choices.end(), all.choices.begin()));
    }
  }
}

TEST(Policy, DrawsFollowTheProbabilities) {
  const auto device = cpu(2);
  Policy policy(run_with("16"), *device);
  constexpr int kCount = 4000;
  std::vector<float> rows;
  const std::vector<float> row = some_observations(1, 9);
  for (int n = 0; n < kCount; ++n) rows.insert(rows.end(), row.begin(), row.end());
  const Acted first = act(policy, rows, {false, 1, 0}), next = act(policy, rows, {false, 1, 1}),
              other = act(policy, rows, {false, 2, 0}), same = act(policy, rows, {false, 1, 0});
  EXPECT_EQ(first.choices, same.choices);
  EXPECT_NE(first.choices, next.choices);
  EXPECT_NE(first.choices, other.choices);
  const double p = 1.0 / (1.0 + std::exp(double{first.outputs[0]} - first.outputs[1]));
  for (const Acted* acted : {&first, &next, &other}) {
    double ones = 0.0;
    for (const std::int64_t choice : acted->choices) ones += static_cast<double>(choice);
    // Five standard deviations.
    EXPECT_NEAR(ones, kCount * p, 5.0 * std::sqrt(kCount * p * (1.0 - p)));
  }
}

TEST(Policy, FromADirectoryACheckpointOrAPolicyFile) {
  const auto device = cpu(1);
  const std::filesystem::path run = run_with("16");
  const std::vector<float> rows = some_observations(9, 1);
  Policy directory(run, *device), checkpoint(checkpoint_path(run), *device), file(policy_path(run), *device);
  expect_same_bits("checkpoint", act(checkpoint, rows).outputs, act(directory, rows).outputs);
  expect_same_bits("policy", act(file, rows).outputs, act(directory, rows).outputs);
  EXPECT_EQ(saved_config(run), directory.config());
  EXPECT_EQ(saved_config(policy_path(run)), directory.config());
}

TEST(Policy, WhatIsRefused) {
  const auto device = cpu(1);
  const test::TemporaryDirectory scratch;
  EXPECT_THAT([&] { Policy(scratch / "none", *device); }, ThrowsMessage<UsageError>(HasSubstr("does not exist")));
  EXPECT_THAT([&] { Policy(scratch.path(), *device); }, ThrowsMessage<UsageError>(HasSubstr("config.toml")));
  std::ofstream(scratch / "torn.safetensors") << "no tensors";
  EXPECT_THROW(Policy(scratch / "torn.safetensors", *device), Error);

  Policy policy(run_with("16"), *device);
  std::vector<float> rows = some_observations(3, 1);
  rows[9] = std::nanf("");
  std::vector<std::int64_t> choices(3, 77);
  const auto refused = [&](std::int64_t count, const ActOptions& options, const auto& matcher) {
    EXPECT_THAT(
        [&] {
          policy.act(rows.data(), count, options, {choices.data(), nullptr, nullptr});
        },
        ThrowsMessage<UsageError>(matcher));
    EXPECT_THAT(choices, testing::Each(77));
  };
  refused(3, {}, HasSubstr("observations[2, 1] = nan"));
  refused(-1, {}, HasSubstr("-1 rows"));
  refused(std::int64_t{1} << 40, {}, HasSubstr("allowed"));
  refused(2, {false, -1, 0}, HasSubstr("seed"));
  EvaluationOptions options;
  options.episodes = 0;
  EXPECT_THAT([&] { policy.evaluate(options); }, ThrowsMessage<UsageError>(HasSubstr("eval_episodes")));
  options.episodes = 1;
  options.seed = -1;
  EXPECT_THAT([&] { policy.evaluate(options); }, ThrowsMessage<UsageError>(HasSubstr("seed")));
  policy.act(nullptr, 0, {}, {nullptr, nullptr, nullptr});
}

}  // namespace
}  // namespace perilune
