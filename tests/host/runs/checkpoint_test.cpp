// Policies of one kind of action where the other is expected.
#include "host/runs/checkpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace perilune
