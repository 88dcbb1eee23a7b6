#include "host/networks/model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/networks/orthogonal.hpp"

namespace perilune {

namespace {

std::size_t align(std::size_t floats) {
  constexpr std::size_t kAlignment = kTensorAlignment;
  return (floats + kAlignment - 1) / kAlignment * kAlignment;
}

constexpr float kFirstCount = 1e-4f;

// Appends a tensor to the parameter array. Returns its offset.
std::int32_t add_tensor(Model& model, const Config& config, std::string name, std::vector<std::uint64_t> shape) {
  std::size_t size = 1;
  for (std::uint64_t extent : shape) size *= extent;
  const std::size_t offset = model.floats;
  model.tensors.push_back({std::move(name), std::move(shape), offset, size});
  model.floats = align(offset + size);
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();  // offsets in Network, indices in kernels
  if (model.floats > kMost) {
    throw UsageError(
        formatted("hidden layers of {} units have more parameters than fit - allowed: up to {} - choose "
                  "fewer or smaller ones",
                  joined(layer_sizes(config)), kMost));
  }
  return static_cast<std::int32_t>(offset);
}

Network add_network(Model& model, const std::string& name, const Config& config, int inputs, int outputs) {
  Network network{};
  std::vector<int> sizes = layer_sizes(config);
  network.depth = static_cast<std::int32_t>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), network.width);
  sizes.insert(sizes.begin(), inputs);
  sizes.push_back(outputs);
  network.activation = config.activation;
  network.output_activation = config.output_activation;
  network.begin = static_cast<std::int32_t>(model.floats);
  for (int l = 0; l <= network.depth; ++l) {
    const auto in = static_cast<std::uint64_t>(sizes[static_cast<std::size_t>(l)]);
    const auto out = static_cast<std::uint64_t>(sizes[static_cast<std::size_t>(l) + 1]);
    const std::string layer = formatted("{}.{}.", name, 2 * l);  // activations take the odd places of the Sequential
    network.weight[l] = add_tensor(model, config, layer + "weight", {out, in});
    network.bias[l] = add_tensor(model, config, layer + "bias", {out});
  }
  network.end = static_cast<std::int32_t>(model.floats);
  return network;
}

std::vector<double> orthogonal_values(const Model& model, const ModelTensor& tensor, Normals& normal) {
  if (tensor.shape.size() != 2) return std::vector<double>(tensor.size, 0.0);
  double gain = std::numbers::sqrt2;
  if (tensor.name == formatted("actor.{}.weight", 2 * model.actor.depth)) gain = 0.01;
  if (tensor.name == formatted("critic.{}.weight", 2 * model.critic.depth)) gain = 1.0;
  return random_orthogonal(tensor.shape[0], tensor.shape[1], gain, normal);
}

// weight: of the layer that the tensor belongs to.
std::vector<double> uniform_values(Config::Init init, const ModelTensor& tensor, const ModelTensor& weight,
                                   Normals& numbers) {
  const auto inputs = static_cast<double>(weight.shape[1]), outputs = static_cast<double>(weight.shape[0]);
  std::vector<double> values(tensor.size, 0.0);
  if (init == Config::Init::kGlorot && tensor.shape.size() != 2) return values;
  const double limit = init == Config::Init::kGlorot ? std::sqrt(6.0 / (inputs + outputs)) : 1.0 / std::sqrt(inputs);
  for (double& value : values) value = numbers.uniform(limit);
  return values;
}

StatisticsPlace add_statistics(Model& model, const Config& config, const std::string& name, int size) {
  const auto shape = std::vector<std::uint64_t>{static_cast<std::uint64_t>(size)};
  const auto add = [&](const char* what, std::vector<std::uint64_t> extents) {
    return add_tensor(model, config, name + what, std::move(extents));
  };
  return {.size = size, .mean = add("_mean", shape), .variance = add("_var", shape), .count = add("_count", {1})};
}

// Parameters of zeros with the statistics that a run begins with.
std::vector<float> first_statistics(const Model& model) {
  std::vector<float> parameters(model.floats, 0.0f);
  for (const ModelTensor& tensor : model.tensors) {
    if (!model.is_statistic(tensor)) continue;
    const float first = tensor.name.ends_with("_var") ? 1.0f : tensor.name.ends_with("_count") ? kFirstCount : 0.0f;
    std::fill_n(&parameters[tensor.offset], tensor.size, first);
  }
  return parameters;
}

}  // namespace

Model model_of(const Config& config) { return model_of(config, find_environment(config.env_id)); }

Model model_of(const Config& config, const EnvironmentInfo& environment) {
  Model model{};
  model.actor = add_network(model, "actor", config, environment.observation_dim(), environment.action_space.size);
  if (environment.action_space.continuous) {
    const auto actions = static_cast<std::uint64_t>(environment.action_space.size);
    model.actor.log_std = add_tensor(model, config, kLogStdName, {actions});
    model.actor.end = static_cast<std::int32_t>(model.floats);
  }
  model.critic = add_network(model, "critic", config, environment.observation_dim(), 1);
  if (config.norm_obs) {
    model.actor.inputs = add_statistics(model, config, "obs", environment.observation_dim());
    model.actor.input_clip = static_cast<float>(clip_limit(config.clip_obs));
    model.critic.inputs = model.actor.inputs;
    model.critic.input_clip = model.actor.input_clip;
  }
  if (config.norm_reward) model.returns = add_statistics(model, config, "return", 1);
  return model;
}

std::vector<float> initial_parameters(const Model& model, const Config& config) {
  std::vector<float> parameters = first_statistics(model);
  Normals normal(static_cast<std::uint64_t>(config.seed));
  const ModelTensor* weight = nullptr;  // of the layer that is at hand: its bias follows it
  for (const ModelTensor& tensor : model.tensors) {
    if (model.is_statistic(tensor)) continue;
    if (tensor.name == kLogStdName) {
      std::fill_n(&parameters[tensor.offset], tensor.size, static_cast<float>(config.log_std_init));
      continue;
    }
    if (tensor.shape.size() == 2) weight = &tensor;
    const std::vector<double> values = config.init == Config::Init::kOrthogonal
                                           ? orthogonal_values(model, tensor, normal)
                                           : uniform_values(config.init, tensor, *weight, normal);
    for (std::size_t i = 0; i < tensor.size; ++i) {
      parameters[tensor.offset + i] = static_cast<float>(values[i]);
    }
  }
  return parameters;
}

std::vector<float> parameters_from(const Model& other, const std::vector<float>& parameters, const Model& model) {
  std::vector<float> result = first_statistics(model);
  for (const ModelTensor& tensor : model.tensors) {
    for (const ModelTensor& source : other.tensors) {
      if (source.name == tensor.name) std::copy_n(&parameters[source.offset], tensor.size, &result[tensor.offset]);
    }
  }
  return result;
}

std::string statistics_fault(const Model& model, const std::vector<float>& parameters) {
  for (const ModelTensor& tensor : model.tensors) {
    if (!model.is_statistic(tensor)) continue;
    const bool is_positive = tensor.name.ends_with("_var") || tensor.name.ends_with("_count");
    for (std::size_t i = 0; i < tensor.size; ++i) {
      const float value = parameters[tensor.offset + i];
      if (std::isfinite(value) && (value > 0.0f || !is_positive)) continue;
      return formatted("tensor \"{}\" [{}] is {} - allowed: any {}number", tensor.name, i, shortest_text(value),
                       is_positive ? "positive " : "");
    }
  }
  return "";
}

}  // namespace perilune
