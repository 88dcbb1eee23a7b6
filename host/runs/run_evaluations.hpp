// The evaluations of a training run: when they are due, which episodes they play, and what follows from them.
//
// On schedule, every eval_every iterations, a policy plays eval_episodes episodes. Where their mean return is at or
// above target_return it plays as many others, since one crossing can be luck; if those are as good, training stops.
// The last policy of a run is judged on episodes of its own, at least a hundred, that no decision to stop has seen; no
// two evaluations of a run play the same episode.
#pragma once

#include <cstdint>
#include <vector>

#include "host/device/device.hpp"
#include "host/runs/run_record.hpp"
#include "host/settings/config.hpp"
#include "host/training/evaluation.hpp"
#include "host/training/trainer.hpp"

namespace perilune {

// Fewest episodes that a run is called solved by.
inline constexpr int kFinalEpisodes = 100;

class RunEvaluations {
 public:
  // All must outlive it. record: of the run, kept up to date.
  RunEvaluations(const Config& config, Device& device, const Trainer& trainer, RunRecord& record)
      : config_(config), device_(device), trainer_(trainer), record_(record) {}

  // Whether the schedule asks for one after `iteration` that has not been yet. The last iteration has the final one.
  bool is_due(std::uint64_t iteration) const;

  // Both judge the trainer's parameters as they are after `iteration`. If they throw (OutOfMemoryError), nothing
  // changed.
  std::vector<EvaluationResult> evaluate_on_schedule(std::uint64_t iteration);  // one or two
  EvaluationResult evaluate_at_end(std::uint64_t iteration);

 private:
  EvaluationResult play(std::uint64_t set, int episodes) const;
  void keep_if_best(double mean);

  const Config& config_;
  Device& device_;
  const Trainer& trainer_;
  RunRecord& record_;
};

}  // namespace perilune
