// What a run begins with that is not new: an earlier run that goes on, or the weights of another policy.
//
// A run that goes on keeps what its checkpoint and its past depend on (the keys of which KeyInfo::may_change is false);
// everything else may be set anew and holds from the next iteration on.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/device/device.hpp"
#include "host/runs/checkpoint.hpp"
#include "host/runs/run_directory.hpp"
#include "host/settings/config.hpp"

namespace perilune {

// The configuration of the run, with `changes`. Throws UsageError for one of a key that is fixed for a run.
Config resumed_config(const std::filesystem::path& run, std::span<const Setting> changes);

struct StartingPoint {
  std::optional<RunDirectory> directory;  // none yet for a new run
  Config config;                          // with its chosen precision
  bool is_changed = false;                // from what the directory's config.toml says
  std::optional<TrainerState> state;      // of a run that goes on; none before its first checkpoint
  std::vector<float> initial_parameters;  // where there is no state: those of another policy; empty: drawn
  std::vector<std::string> notes;         // what changes, and what becomes of the schedules; a sentence each
  RunRecord record = {};                  // of the checkpoint that the state is from
  bool on_schedule = true;                // that checkpoint
};
// Locks the run and reads its newest checkpoint that is not damaged. Throws UsageError if its config.toml or `changes`
// do not go with the checkpoint, or if total_timesteps are over already. Writes nothing yet.
StartingPoint resume_run(const std::filesystem::path& run, std::span<const Setting> changes, const Device& device);

// What becomes of learning rates, clip range and weight of the entropy when a run that was configured as `before` goes
// on as `after` from `iteration` (0-based), after so many steps, which count with whole episodes; nothing if they go on
// as they would have.
std::vector<std::string> schedule_notes(const Config& before, const Config& after, std::uint32_t iteration,
                                        std::uint64_t steps = 0);

// A policy whose weights a new run begins with.
struct InitialPolicy {
  std::filesystem::path path;
  SavedPolicy policy;
  std::vector<std::string> notes;  // where it comes from, and what was taken from it; a sentence each
};
// Loads it from a run directory, a checkpoint or a policy file. What of the networks' shape and of their inputs'
// normalisation is not among the `given` keys, `config` takes from it. Throws UsageError if the policy does not fit the
// environment or what was given.
InitialPolicy initial_policy(const std::filesystem::path& run_or_file, Config& config,
                             std::span<const std::string> given);

// The parameters that a run with this configuration, whose networks are the same, begins with: statistics that the
// policy does not have begin anew.
std::vector<float> first_parameters(const SavedPolicy& policy, const Config& config);

// Keeps it in a run directory to be, as RUN/initial_policy.safetensors, with the metadata from_path and step.
void save_initial_policy(const std::filesystem::path& run, const InitialPolicy& initial);

}  // namespace perilune
