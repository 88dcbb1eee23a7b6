// Models of any shape: where their tensors lie, and first weights that are orthogonal.
#include "host/networks/model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "host/base/error.hpp"

namespace perilune {
namespace {

Config with_sizes(const char* sizes) {
  Config config;
  set_key(config, "hidden_sizes", sizes);
  return config;
}

TEST(Model, TensorsFollowEachOtherAsTheNetworkSays) {
  const Model model = model_of(with_sizes("7,33,5"));
  const std::vector<std::vector<std::uint64_t>> shapes = {{7, 4}, {7}, {33, 7}, {33}, {5, 33}, {5}, {2, 5}, {2},
                                                          {7, 4}, {7}, {33, 7}, {33}, {5, 33}, {5}, {1, 5}, {1}};
  ASSERT_EQ(model.tensors.size(), shapes.size());
  std::size_t end = 0;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const ModelTensor& tensor = model.tensors[i];
    const Network& network = i < 8 ? model.actor : model.critic;
    const std::size_t layer = i % 8 / 2;
    EXPECT_EQ(tensor.name, std::string(i < 8 ? "actor." : "critic.") + std::to_string(2 * layer) +
                               (i % 2 == 0 ? ".weight" : ".bias"));
    EXPECT_EQ(tensor.shape, shapes[i]) << tensor.name;
    EXPECT_EQ(tensor.offset, static_cast<std::size_t>(i % 2 == 0 ? network.weight[layer] : network.bias[layer]));
    EXPECT_GE(tensor.offset, end);
    EXPECT_EQ(tensor.offset % kTensorAlignment, 0u);
    end = tensor.offset + tensor.size;
  }
  EXPECT_EQ(model.actor.depth, 3);
  EXPECT_THAT(std::span(model.critic.width, 3), testing::ElementsAre(7, 33, 5));
}

/// A task with numbers for actions.
EnvironmentInfo box_environment() {
  EnvironmentInfo info = find_environment("CartPole-v1");
  info.observation.count = 8;
  info.action_space = {.continuous = true, .size = 3};
  return info;
}

TEST(Model, AContinuousPolicyHasStandardDeviationsBehindItsLayers) {
  Config config = with_sizes("7,33");
  config.log_std_init = -0.75;
  const Model model = model_of(config, box_environment());
  ASSERT_EQ(model.tensors.size(), 13u);
  EXPECT_EQ(model.tensors[0].shape, (std::vector<std::uint64_t>{7, 8}));
  EXPECT_EQ(model.tensors[4].shape, (std::vector<std::uint64_t>{3, 33}));
  const ModelTensor& log_std = model.tensors[6];
  EXPECT_EQ(log_std.name, "actor.log_std");
  EXPECT_EQ(log_std.shape, std::vector<std::uint64_t>{3});
  EXPECT_EQ(log_std.offset, static_cast<std::size_t>(model.actor.log_std));
  EXPECT_GE(model.actor.log_std, model.actor.bias[2] + 3);
  EXPECT_LE(model.actor.log_std + 3, model.actor.end) << "norm clip and Adam take the actor's range";
  EXPECT_EQ(model.critic.begin, model.actor.end);
  EXPECT_EQ(model.critic.log_std, 0);
  EXPECT_EQ(model_of(config).actor.log_std, 0) << "a policy of discrete actions has none";

  const std::vector<float> parameters = initial_parameters(model, config);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(parameters[log_std.offset + i], -0.75f);
  for (std::size_t i = log_std.offset + 3; i < static_cast<std::size_t>(model.actor.end); ++i) {
    EXPECT_EQ(parameters[i], 0.0f) << "padding";
  }
}

TEST(Model, MoreParametersThanCanBeIndexed) {
  EXPECT_THAT([] { model_of(with_sizes("16384,16384,16384,16384,16384,16384,16384,16384")); },
              testing::ThrowsMessage<UsageError>(testing::HasSubstr("parameters")));
}

/// Rows, or columns where they are fewer, have the gain's length and are at right angles.
void expect_orthogonal(const ModelTensor& tensor, const std::vector<float>& parameters, double gain) {
  const std::size_t rows = tensor.shape[0], columns = tensor.shape[1];
  const bool tall = rows > columns;
  const std::size_t count = std::min(rows, columns), length = std::max(rows, columns);
  const auto at = [&](std::size_t vector, std::size_t i) {
    const std::size_t index = tall ? i * columns + vector : vector * columns + i;
    return static_cast<double>(parameters[tensor.offset + index]);
  };
  double worst = 0.0;
  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = 0; b <= a; ++b) {
      double dot = 0.0;
      for (std::size_t i = 0; i < length; ++i) dot += at(a, i) * at(b, i);
      worst = std::max(worst, std::abs(dot / (gain * gain) - (a == b ? 1.0 : 0.0)));
    }
  }
  EXPECT_LT(worst, 1e-6) << tensor.name;  // what rounding the weights to float leaves
}

TEST(Model, FirstWeightsAreOrthogonal) {
  for (const char* sizes : {"16", "64,64", "7,33,5", "300,200", "65,64,129,130"}) {
    SCOPED_TRACE(sizes);
    Config config = with_sizes(sizes);
    const Model model = model_of(config);
    const std::vector<float> parameters = initial_parameters(model, config);
    EXPECT_EQ(parameters, initial_parameters(model, config));
    config.seed += 1;
    EXPECT_NE(parameters, initial_parameters(model, config));
    for (const ModelTensor& tensor : model.tensors) {
      if (tensor.shape.size() == 1) {
        for (std::size_t i = 0; i < tensor.size; ++i) ASSERT_EQ(parameters[tensor.offset + i], 0.0f);
        continue;
      }
      const bool head = tensor.shape[0] <= 2;
      expect_orthogonal(tensor, parameters, !head ? std::sqrt(2.0) : tensor.name.starts_with("actor") ? 0.01 : 1.0);
    }
  }
}

/// Against the bounds of torch.nn.Linear and of Keras's GlorotUniform; the moments of so many numbers are within 5 of
/// their standard deviations.
TEST(Model, FirstWeightsAreUniform) {
  for (const bool glorot : {false, true}) {
    for (const char* sizes : {"64,64", "7,33,5", "300,200"}) {
      SCOPED_TRACE(sizes);
      Config config = with_sizes(sizes);
      set_key(config, "init", glorot ? "glorot" : "torch");
      const Model model = model_of(config, box_environment());
      const std::vector<float> parameters = initial_parameters(model, config);
      EXPECT_EQ(parameters, initial_parameters(model, config));
      config.seed += 1;
      EXPECT_NE(parameters, initial_parameters(model, config));
      double inputs = 0.0, outputs = 0.0;
      for (const ModelTensor& tensor : model.tensors) {
        const std::span<const float> values(&parameters[tensor.offset], tensor.size);
        if (tensor.name == kLogStdName) {
          for (const float x : values) ASSERT_EQ(x, 0.0f);
          continue;
        }
        const bool weight = tensor.shape.size() == 2;
        if (weight) {
          outputs = static_cast<double>(tensor.shape[0]);
          inputs = static_cast<double>(tensor.shape[1]);
        }
        const double limit = !glorot ? 1.0 / std::sqrt(inputs) : weight ? std::sqrt(6.0 / (inputs + outputs)) : 0.0;
        double sum = 0.0, squares = 0.0, largest = 0.0;
        for (const double x : values) {
          sum += x;
          squares += x * x;
          largest = std::max(largest, std::abs(x));
        }
        EXPECT_LE(largest, limit * (1.0 + 1e-7)) << tensor.name;
        const auto n = static_cast<double>(tensor.size);
        EXPECT_NEAR(sum / n, 0.0, 5.0 * limit / std::sqrt(3.0 * n)) << tensor.name;
        EXPECT_NEAR(squares / n, limit * limit / 3.0, 5.0 * limit * limit * std::sqrt(4.0 / 45.0 / n)) << tensor.name;
        EXPECT_TRUE(tensor.size < 1000 || largest > 0.99 * limit) << tensor.name;
      }
      for (int i = model.actor.log_std + 3; i < model.actor.end; ++i)
        EXPECT_EQ(parameters[static_cast<std::size_t>(i)], 0.0f);
    }
  }
}

}  // namespace
}  // namespace perilune
