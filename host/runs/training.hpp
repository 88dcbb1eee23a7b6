// A training run from start to end: device memory, iterations, metrics, evaluations, checkpoints, stop conditions.
//
// What the algorithm is stands in trainer.cpp; this is what happens around it. The command line and other front ends
// call train() and only present what it reports.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "host/device/device.hpp"
#include "host/runs/resume.hpp"
#include "host/settings/config.hpp"
#include "host/training/evaluation.hpp"

namespace perilune {

// Known once memory is planned, before the first iteration.
struct TrainingPlan {
  std::filesystem::path run_directory;
  std::string device;        // its description
  Precision precision;       // of rollouts and updates
  std::string networks;      // their hidden layers, and what runs them
  std::size_t device_bytes;  // total memory the run takes
  std::string memory_table;  // name, shape and bytes of every array, a line each
  std::uint64_t iterations;  // of the whole run
  std::uint64_t total_steps;
  std::uint64_t first_step;        // > 0 when resumed
  std::vector<std::string> notes;  // of a run that goes on or begins with another's weights; see resume.hpp
};

struct TrainingProgress {
  std::uint64_t iteration, iterations;
  std::uint64_t step, total_steps;
  double seconds;           // since train() began
  double steps_per_second;  // since train() began, of this process
  double episodic_return;   // mean of the episodes that ended lately; NaN before any did
  double approx_kl;
  double seconds_left;  // estimate; NaN while unknown
};

struct TrainingOptions {
  Config config;                                       // ignored with resume: the run's own is used
  std::optional<std::filesystem::path> run_directory;  // else runs/<...>
  std::optional<std::filesystem::path> resume;         // go on with this run
  std::vector<Setting> changes;                        // of its settings, with resume
  std::optional<InitialPolicy> initial_policy;         // begin with its weights; not with resume
  bool use_graph = true;
  const std::atomic<bool>* interrupt = nullptr;  // set by a signal handler: save and return
  std::function<void(const TrainingPlan&)> on_plan;
  std::function<void(const TrainingProgress&)> on_progress;  // after every batch of iterations (many times a second)
};

struct BestResult {
  std::uint64_t step;  // of the run
  double mean;         // return of its evaluation
};

struct TrainingResult {
  Config config;
  std::filesystem::path run_directory;
  std::uint64_t steps = 0;        // of the whole run
  std::uint64_t new_steps = 0;    // of this process
  double seconds = 0.0;           // of this call, until training ended (evaluations that decide to stop included)
  double steps_per_second = 0.0;  // new_steps / seconds
  bool solved = false;            // the evaluation's mean return is at or above the threshold
  double solved_threshold = 0.0;
  bool interrupted = false;
  EvaluationResult evaluation;     // of the last policy, at the end, on max(100, eval_episodes) episodes of its own
  std::optional<BestResult> best;  // evaluated policy so far, which is in best.safetensors
};

// Trains, and leaves a run directory with checkpoint.safetensors, policy.safetensors,
// best.safetensors, metrics and evaluation.json.
// Throws Error (see error.hpp); whatever was saved before stays.
TrainingResult train(const TrainingOptions& options, Device& device);

}  // namespace perilune
