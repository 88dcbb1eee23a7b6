// The networks of a run: which tensors they have, where each lies in the parameter array, and their first values.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "host/config.hpp"
#include "kernels/api.hpp"

namespace perilune {

// One weight or bias, named as PyTorch names it in Sequential(Linear, activation, ...): "actor.0.weight", "critic.4.bias".
struct ModelTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // weight [out, in], bias [out]
  std::size_t offset;                // floats from the start of the parameter array
  std::size_t size;
};

struct Model {
  Network actor, critic;
  std::vector<ModelTensor> tensors;
  std::size_t floats;  // of the parameter array, padding between tensors included (always zero)
};

Model model_of(const Config& config);

// Orthogonal weights (Saxe et al. 2014; gain sqrt 2, actor head 0.01, critic head 1) and zero biases, from the seed.
std::vector<float> initial_parameters(const Model& model, std::int64_t seed);

}  // namespace perilune
