// Checkpoints (everything a run needs to go on) and policy files (the weights alone), as safetensors.
//
// Tensors: actor.* and critic.* as in host/networks/model.hpp, with actor.log_std where actions are continuous; in a
// checkpoint also optimizer.exp_avg.<name>, optimizer.exp_avg_sq.<name>, optimizer.{actor,critic}_correction [2],
// environments.fields [state fields, N], environments.{episode, elapsed} (U32) and environments.episode_return [N].
// With norm_obs also obs_mean, obs_var and obs_count, with norm_reward return_mean, return_var and return_count; and in
// a checkpoint normalization.obs_rest, normalization.return_rest and environments.discounted_return [N]. Metadata:
// format ("perilune checkpoint" or "perilune policy"), format_version, config (TOML), step; of the best policy
// mean_return; of the others iteration. A checkpoint's metadata also hold the run's record (run_record.hpp) and whether
// it was saved on schedule; the tensors of the best policy so far are best.<name>, left out where it is the policy
// itself. In a policy file with continuous actions action_low and action_high, to which the actor's outputs are to be
// clipped; in one with norm_obs how its actor's inputs are to be normalised (obs_normalization), and clipped
// (obs_clip).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "host/networks/model.hpp"
#include "host/runs/run_record.hpp"
#include "host/runs/safetensors.hpp"
#include "host/settings/config.hpp"
#include "host/training/trainer.hpp"

namespace perilune {

struct Checkpoint {
  Config config;  // that it was made with
  TrainerState state;
  RunRecord record;
  bool on_schedule = true;  // else saved where a run was stopped, or at its end
};

// Writes RUN/policy.safetensors and RUN/checkpoint.safetensors, each atomically. keep_previous: the checkpoint that was
// there stays as checkpoint.previous.safetensors. Throws Error; what was there stays then.
void save_checkpoint(const std::filesystem::path& run, const Model& model, const Checkpoint& checkpoint,
                     std::uint64_t step, bool keep_previous);

// A checkpoint to resume from with `config`; one of format version 1 has an empty record. Throws Error if the file is
// damaged, no checkpoint or of another format version, and UsageError if keys differ that are fixed for a run.
Checkpoint load_checkpoint(const std::filesystem::path& path, const Config& config);

struct SavedPolicy {
  Config config;
  std::vector<float> parameters;  // as model_of(config) lays them out
  std::uint64_t step = 0;         // of its run
  Metadata metadata;              // iteration, mean_return, from_path, where its file has them
};

// Writes a policy file, atomically.
void save_policy(const std::filesystem::path& path, const SavedPolicy& policy);

// The weights and configuration in a checkpoint or policy file. Throws Error as load_checkpoint does.
SavedPolicy load_policy(const std::filesystem::path& path);
// The same of a file's bytes, which errors call `source`; and the bytes of a policy file.
SavedPolicy parse_policy(std::string_view bytes, const std::string& source);
std::string policy_bytes(const SavedPolicy& policy);

}  // namespace perilune
