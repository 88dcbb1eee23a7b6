// What the host of a run holds between two iterations, beside the trainer's state. A checkpoint keeps both, so that a
// run that was stopped goes on to the same evaluations, decisions and files as one that was not.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/api.hpp"

namespace perilune {

// The returns of the episodes that ended in the last iterations, at least a hundred where there are as many.
struct RecentReturns {
  double episodes = 0.0, sum = 0.0;

  void add(const IterationMetrics& row);
  double mean() const;  // NaN before an episode ended
};

// The policy with the highest mean return in an evaluation so far; of equals the first.
struct BestPolicy {
  std::uint64_t step = 0;
  double mean = 0.0;
  std::vector<float> parameters;
};

struct RunRecord {
  RecentReturns returns;
  std::uint64_t evaluated_iteration = 0;  // the last that was evaluated on schedule; 0: none
  std::uint64_t evaluations = 0;          // of it, which are as many rows of the metrics
  bool reached_target = false;            // target_return, in two evaluations
  std::optional<BestPolicy> best;
  std::uint64_t steps = 0;     // that were trained on
  std::uint64_t episodes = 0;  // that were logged
};

}  // namespace perilune
