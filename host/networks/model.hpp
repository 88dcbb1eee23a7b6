// The networks of a run: which tensors they have, where each lies in the parameter array, and their first values.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "host/settings/config.hpp"
#include "kernels/api.hpp"

namespace perilune {

// One weight or bias, named as PyTorch names it in Sequential(Linear, activation, ...): "actor.0.weight",
// "critic.4.bias"; or "actor.log_std", the logarithms of a continuous policy's standard deviations, whose means the
// actor says.
struct ModelTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // weight [out, in], bias [out], log_std [actions]
  std::size_t offset;                // floats from the start of the parameter array
  std::size_t size;
};

struct Model {
  Network actor, critic;
  std::vector<ModelTensor> tensors;
  std::size_t floats;  // of the parameter array, padding between tensors included (always zero)
};

inline constexpr const char* kLogStdName = "actor.log_std";

// For config.env_id, or for the networks that `config` would have in another environment.
Model model_of(const Config& config);
Model model_of(const Config& config, const EnvironmentInfo& environment);

// As config.init says, from the seed; and log_std_init.
//   orthogonal  orthogonal weights (Saxe et al. 2014; gain sqrt 2, actor head 0.01, critic head 1), zero biases
//   torch       weights and biases of torch.nn.Linear: uniform within 1 / sqrt(inputs)
//   glorot      weights uniform within sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010), zero biases, as in Keras
std::vector<float> initial_parameters(const Model& model, const Config& config);

}  // namespace perilune
