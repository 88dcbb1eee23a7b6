// Evaluation of a policy: whole episodes, undiscounted, one per environment, so that short ones are not over-counted.
#pragma once

#include <cstdint>

#include "host/device/device.hpp"
#include "host/settings/config.hpp"

namespace perilune {

struct EvaluationResult {
  int episodes = 0;
  double mean = 0.0, std = 0.0;  // of the returns; std over the population
  double min = 0.0, max = 0.0;
  double mean_length = 0.0;
};

struct EvaluationOptions {
  int episodes = 100;
  bool deterministic = true;  // argmax, or the mean; else actions are sampled
  std::int64_t seed = 1;
  std::uint64_t set = 0;  // 0 .. 2^34-1: sets of the same seed share no episode
};

// Evaluates parameters that lie on the device (laid out as model_of(config) says) in the configuration's task: its
// environment with its parameters, up to episode_limit(config) steps.
EvaluationResult evaluate(const Config& config, Device& device, const float* parameters,
                          const EvaluationOptions& options);

}  // namespace perilune
