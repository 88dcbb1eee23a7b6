// The networks of a run: which tensors they have, where each lies in the parameter array, and their first values.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "host/settings/config.hpp"
#include "kernels/api.hpp"

namespace perilune {

// One weight or bias, named as PyTorch names it in Sequential(Linear, activation, ...): "actor.0.weight",
// "critic.4.bias"; "actor.log_std", the logarithms of a continuous policy's standard deviations, whose means the
// actor says; or running statistics: with norm_obs "obs_mean", "obs_var" and "obs_count", with norm_reward
// "return_mean", "return_var" and "return_count" of discounted returns.
struct ModelTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // weight [out, in], bias [out], log_std [actions], statistics [numbers] or [1]
  std::size_t offset;                // floats from the start of the parameter array
  std::size_t size;
};

struct Model {
  Network actor, critic;
  StatisticsPlace returns;  // of discounted returns; size 0 without norm_reward
  std::vector<ModelTensor> tensors;
  std::size_t floats;  // of the parameter array, padding between tensors included (always zero)

  // Statistics, which are not trained, lie behind the networks.
  std::size_t trained_floats() const { return static_cast<std::size_t>(critic.end); }
  bool is_statistic(const ModelTensor& tensor) const { return tensor.offset >= trained_floats(); }
};

inline constexpr const char* kLogStdName = "actor.log_std";

// For config.env_id, or for the networks that `config` would have in another environment.
Model model_of(const Config& config);
Model model_of(const Config& config, const EnvironmentInfo& environment);

// As config.init says, from the seed; log_std_init; and statistics as Gymnasium's wrappers begin: mean 0 and variance
// 1, of a ten-thousandth of a sample.
//   orthogonal  orthogonal weights (Saxe et al. 2014; gain sqrt 2, actor head 0.01, critic head 1), zero biases
//   torch       weights and biases of torch.nn.Linear: uniform within 1 / sqrt(inputs)
//   glorot      weights uniform within sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010), zero biases, as in Keras
std::vector<float> initial_parameters(const Model& model, const Config& config);

// Another model's parameters as those of this one, whose networks are the same: statistics that the other does not have
// begin anew.
std::vector<float> parameters_from(const Model& other, const std::vector<float>& parameters, const Model& model);

// What is wrong with the statistics among the parameters: a number that is not finite, a variance or count that is not
// above 0. "" for nothing.
std::string statistics_fault(const Model& model, const std::vector<float>& parameters);

}  // namespace perilune
