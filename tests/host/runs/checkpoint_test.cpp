// Policies of one kind of action where the other is expected, and statistics that are damaged.
#include "host/runs/checkpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "host/base/error.hpp"
#include "host/runs/safetensors.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// A policy file for CartPole, with one more tensor if it is given.
void write_policy(const std::filesystem::path& path, const char* more) {
  const Config config;
  const Model model = model_of(config);
  const std::vector<float> parameters = initial_parameters(model, config);
  std::vector<Tensor> tensors;
  for (const ModelTensor& tensor : model.tensors) {
    tensors.push_back(
        make_tensor<float>(tensor.name, tensor.shape, std::span(parameters).subspan(tensor.offset, tensor.size)));
  }
  const std::vector<float> log_std = {0.0f, 0.0f};
  if (more != nullptr) tensors.push_back(make_tensor<float>(more, {2}, std::span(log_std)));
  write_safetensors(path, tensors,
                    {{"format", "perilune policy"}, {"format_version", "1"}, {"config", to_toml(config)}});
}

TEST(Checkpoint, DiscretePoliciesHaveNoStandardDeviation) {
  const test::TemporaryDirectory root;
  write_policy(root / "policy.safetensors", nullptr);
  EXPECT_EQ(load_policy(root / "policy.safetensors").parameters, initial_parameters(model_of(Config()), Config()));
}

TEST(Checkpoint, AContinuousPolicyIsNotTakenForADiscreteOne) {
  const test::TemporaryDirectory root;
  write_policy(root / "policy.safetensors", "actor.log_std");
  EXPECT_THAT([&] { load_policy(root / "policy.safetensors"); },
              testing::ThrowsMessage<Error>(AllOf(HasSubstr("holds a policy of continuous actions"),
                                                  HasSubstr("actor.log_std"), HasSubstr("CartPole-v1 are discrete"))));
}

/// A policy file of a run that normalises, or whose configuration says so, with its tensors changed by `damage`.
template <class Damage>
void write_normalized(const std::filesystem::path& path, const Config& says, Damage&& damage) {
  Config config;
  config.norm_obs = config.norm_reward = true;
  const Model model = model_of(config);
  std::vector<float> parameters = initial_parameters(model, config);
  std::vector<Tensor> tensors;
  for (const ModelTensor& tensor : model.tensors) {
    tensors.push_back(
        make_tensor<float>(tensor.name, tensor.shape, std::span(parameters).subspan(tensor.offset, tensor.size)));
  }
  const auto find = [&](const char* name) {
    return std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& tensor) { return tensor.name == name; });
  };
  damage(
      tensors, [&](const char* name) { return find(name); },
      [&](const char* name, float value) {
        for (const ModelTensor& tensor : model.tensors) {
          if (tensor.name == name) parameters[tensor.offset + tensor.size - 1] = value;
        }
      });
  write_safetensors(path, tensors, {{"format", "perilune policy"}, {"format_version", "3"}, {"config", to_toml(says)}});
}

TEST(Checkpoint, DamagedStatisticsAreRefusedByName) {
  const test::TemporaryDirectory root;
  const std::filesystem::path path = root / "policy.safetensors";
  Config normalized;
  normalized.norm_obs = normalized.norm_reward = true;
  const auto refused = [&](const std::string& name, const std::string& why) {
    EXPECT_THAT([&] { load_policy(path); }, testing::ThrowsMessage<Error>(AllOf(HasSubstr(name), HasSubstr(why))));
  };
  write_normalized(path, normalized, [](auto&, auto&&, auto&&) {});
  EXPECT_EQ(load_policy(path).parameters, initial_parameters(model_of(normalized), normalized));
  for (const char* name : {"obs_mean", "obs_var", "obs_count", "return_mean", "return_var", "return_count"}) {
    write_normalized(path, normalized, [&](auto& tensors, auto&& find, auto&&) { tensors.erase(find(name)); });
    refused(name, "no tensor");
    write_normalized(path, normalized, [&](auto& tensors, auto&& find, auto&&) {
      const auto found = find(name);
      tensors.erase(found);
      static const std::vector<float> few(3, 1.0f);
      tensors.push_back(make_tensor<float>(name, {3}, std::span(few)));
    });
    refused(name, "expected F32");
    for (const float bad : {std::nanf(""), -INFINITY, -1.0f, 0.0f}) {
      const bool is_mean = std::string_view(name).ends_with("mean");
      if (is_mean && std::isfinite(bad)) continue;
      write_normalized(path, normalized, [&](auto&, auto&&, auto&& set) { set(name, bad); });
      refused(name, is_mean ? "allowed: any number" : "allowed: any positive number");
    }
  }
}

TEST(Checkpoint, StatisticsAndConfigurationGoTogether) {
  const test::TemporaryDirectory root;
  write_normalized(root / "policy.safetensors", Config(), [](auto&, auto&&, auto&&) {});
  EXPECT_THAT(
      [&] { load_policy(root / "policy.safetensors"); },
      testing::ThrowsMessage<Error>(AllOf(HasSubstr("has a tensor \"obs_mean\""), HasSubstr("norm_obs = false"))));
}

/// Programs that know nothing of statistics read versions 1 and 2, and say so.
TEST(Checkpoint, StatisticsHaveAFormatVersionOfTheirOwn) {
  Config config;
  const auto version_of = [&] {
    const std::string bytes = policy_bytes({config, initial_parameters(model_of(config), config), 0, {}});
    const auto data = std::as_bytes(std::span(bytes));
    return SafetensorsFile::parse({data.begin(), data.end()}, "a policy").metadata().at("format_version");
  };
  EXPECT_EQ(version_of(), "2");
  config.norm_reward = true;
  EXPECT_EQ(version_of(), "3");
  config.norm_obs = true;
  EXPECT_EQ(version_of(), "3");
}

}  // namespace
}  // namespace perilune
