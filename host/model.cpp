#include "host/model.hpp"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <random>
#include <string_view>

namespace perilune {

namespace {

std::size_t align(std::size_t floats) {
  constexpr std::size_t kAlignment = kTensorAlignment;
  return (floats + kAlignment - 1) / kAlignment * kAlignment;
}

Network add_network(Model& model, const std::string& name, const Config& config, int inputs, int outputs) {
  Network network{};
  network.depth = config.hidden_layers;
  network.activation =
      config.activation == Config::Activation::kTanh ? Activation::kTanh : Activation::kRelu;
  network.begin = static_cast<std::int32_t>(model.floats);
  const auto add_tensor = [&](const std::string& part, std::vector<std::uint64_t> shape) {
    std::size_t size = 1;
    for (std::uint64_t extent : shape) size *= extent;
    const std::size_t offset = model.floats;
    model.tensors.push_back({name + "." + part, std::move(shape), offset, size});
    model.floats = align(offset + size);
    return static_cast<std::int32_t>(offset);
  };
  for (int l = 0; l <= network.depth; ++l) {
    const auto in = static_cast<std::uint64_t>(l == 0 ? inputs : config.hidden_width);
    const auto out = static_cast<std::uint64_t>(l == network.depth ? outputs : config.hidden_width);
    const std::string number = std::to_string(2 * l);  // activations take the odd places of the Sequential
    network.weight[l] = add_tensor(number + ".weight", {out, in});
    network.bias[l] = add_tensor(number + ".bias", {out});
  }
  network.end = static_cast<std::int32_t>(model.floats);
  return network;
}

// Standard normals by Box and Muller, so that they do not depend on the standard library.
class Normals {
 public:
  explicit Normals(std::uint64_t seed) : generator_(seed) {}
  double operator()() {
    const double u = (static_cast<double>(generator_() >> 11) + 1.0) * 0x1p-53;
    const double v = static_cast<double>(generator_() >> 11) * 0x1p-53;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }

 private:
  std::mt19937_64 generator_;
};

// Rows (or, if there are more rows than columns, columns) of a random matrix made orthonormal, twice for accuracy, by
// Gram and Schmidt's method; times gain.
std::vector<double> orthogonal(std::size_t rows, std::size_t columns, double gain, Normals& normal) {
  const bool tall = rows > columns;
  const std::size_t count = tall ? columns : rows, length = tall ? rows : columns;
  std::vector<double> vectors(count * length);
  for (double& x : vectors) x = normal();
  for (std::size_t i = 0; i < count; ++i) {
    double* mine = &vectors[i * length];
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t j = 0; j < i; ++j) {
        const double* other = &vectors[j * length];
        double dot = 0.0;
        for (std::size_t k = 0; k < length; ++k) dot += mine[k] * other[k];
        for (std::size_t k = 0; k < length; ++k) mine[k] -= dot * other[k];
      }
    }
    double square = 0.0;
    for (std::size_t k = 0; k < length; ++k) square += mine[k] * mine[k];
    for (std::size_t k = 0; k < length; ++k) mine[k] *= gain / std::sqrt(square);
  }
  if (!tall) return vectors;
  std::vector<double> matrix(rows * columns);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) matrix[r * columns + c] = vectors[c * length + r];
  }
  return matrix;
}

}  // namespace

Model model_of(const Config& config) {
  const EnvironmentInfo& environment = find_environment(config.env_id);
  Model model{};
  model.actor = add_network(model, "actor", config, environment.obs_dim, environment.num_actions);
  model.critic = add_network(model, "critic", config, environment.obs_dim, 1);
  return model;
}

std::vector<float> initial_parameters(const Model& model, std::int64_t seed) {
  std::vector<float> parameters(model.floats, 0.0f);
  Normals normal(static_cast<std::uint64_t>(seed));
  const std::string actor_head = fmt::format("actor.{}.weight", 2 * model.actor.depth);
  const std::string critic_head = fmt::format("critic.{}.weight", 2 * model.critic.depth);
  for (const ModelTensor& tensor : model.tensors) {
    if (tensor.shape.size() != 2) continue;
    double gain = std::numbers::sqrt2;
    if (tensor.name == actor_head) gain = 0.01;
    if (tensor.name == critic_head) gain = 1.0;
    const std::vector<double> values = orthogonal(tensor.shape[0], tensor.shape[1], gain, normal);
    for (std::size_t i = 0; i < tensor.size; ++i) {
      parameters[tensor.offset + i] = static_cast<float>(values[i]);
    }
  }
  return parameters;
}

}  // namespace perilune
