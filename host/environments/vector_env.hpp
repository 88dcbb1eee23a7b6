// A batch of environments that a caller steps with its own actions, as Gymnasium's VectorEnv has it: what the Python
// package wraps. Observations, rewards and flags are written where the caller says; nothing is copied on the way.
//
// Arrays of one number per environment have N entries, observations are [N][observation_dim] row by row. `step`,
// `reset` and `observe` read and write memory of the device: on the CPU any memory of the process, on CUDA device
// memory; there they only enqueue, and the caller orders them with its own stream by wait_for and signal. Seeds, masks
// and saved states are always host memory.
//
// Randomness: environment i after reset(seed = s) draws what environment i of a training run with seed s draws,
// whatever N is; with a list of seeds it draws what environment 0 of a run with seeds[i] draws.
//
// A call that throws leaves environments and outputs as they were. Errors of actions on CUDA are found by the device:
// from then on steps do nothing, and the next call that synchronises (check, reset, states) throws.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/device/arena.hpp"
#include "host/device/device.hpp"
#include "host/settings/environment_settings.hpp"

namespace perilune {

struct VectorEnvOptions {
  std::string env_id = "CartPole-v1";  // or an alias
  std::int64_t num_envs = 1;
  EnvironmentParameters parameters;
  std::int64_t max_episode_steps = 0;  // 0: the environment's own limit
  Autoreset autoreset = Autoreset::kNextStep;
};

// Which environments a reset restarts, and from what.
struct ResetOptions {
  // At most one of seed and seeds. Neither: the next episode of the seed an environment has, which at first is random.
  std::optional<std::int64_t> seed;
  std::vector<std::optional<std::int64_t>> seeds;  // empty, or one per environment; none: as without a seed
  std::span<const std::uint8_t> mask;              // empty: all; else one per environment, 0 or 1
};

// Where a step's results go. What may be null is not written then.
struct StepOutputs {
  float* observations;       // [N][observation_dim]
  float* rewards;            // [N]
  std::uint8_t* terminated;  // [N], 0 or 1
  std::uint8_t* truncated;   // [N], 0 or 1
  // Of environments whose episode ended in this step; entries of the others stay as they are. May be null.
  float* final_observations;       // [N][observation_dim]; with Autoreset::kSameStep only
  float* episode_returns;          // [N], undiscounted
  std::uint32_t* episode_lengths;  // [N], steps
};

// Everything that `count` environments carry from step to step.
struct EnvironmentStates {
  std::vector<float> fields;                // [count][field_names().size()]
  std::vector<std::uint32_t> episode;       // index of the running episode
  std::vector<std::uint32_t> elapsed;       // steps taken in it
  std::vector<float> episode_return;        // so far
  std::vector<std::uint8_t> ended;          // 1: over, and not yet reset
  std::vector<std::uint32_t> seed, number;  // its random draws are those of environment `number` of a run with `seed`
};

class VectorEnv {
 public:
  // Takes the device's memory for N environments; `device` must outlive it. Throws UsageError for impossible options.
  VectorEnv(const VectorEnvOptions& options, Device& device);

  int num_envs() const { return config_.num_envs; }
  const EnvironmentInfo& environment() const { return environment_; }
  int observation_dim() const { return environment_.observation_dim(); }
  const ActionSpace& action_space() const { return environment_.action_space; }
  std::uint32_t max_episode_steps() const { return episode_limit(config_); }
  Autoreset autoreset() const { return autoreset_; }
  std::span<const char* const> field_names() const { return environment_.field_names; }
  bool was_reset() const { return was_reset_; }   // or given states
  double parameter(std::string_view name) const;  // as set, or its default; throws UsageError if there is none
  Device& device() const { return device_; }

  // Starts episodes and writes the observations of all environments. The first reset must be of all.
  void reset(const ResetOptions& options, float* observations);

  // One step of every environment. actions: [N] kInt32 or kInt64 for choices, [N][action_space().size] kFloat32 or (CPU
  // only) kFloat64 for numbers, which are clipped as the environment says; NaN and unknown choices are UsageErrors,
  // also where an action is ignored because its environment is reset. With Autoreset::kDisabled stepping an environment
  // that has ended is one, too. Returns whether any episode ended in this step; always true on CUDA, where that is not
  // known yet.
  bool step(const void* actions, ActionType type, const StepOutputs& outputs);

  // Writes the observations of all environments.
  void observe(float* observations);

  // Of all environments, or those with these indices, in that order.
  EnvironmentStates states();
  EnvironmentStates states(std::span<const std::int64_t> indices);
  void set_states(const EnvironmentStates& states);
  void set_states(const EnvironmentStates& states, std::span<const std::int64_t> indices);

  // Waits for everything enqueued and throws the UsageError of an action that the device has found.
  void check();

  // What is enqueued here from now on runs after what `stream` (a cudaStream_t) holds now, and the other way round. Do
  // nothing on the CPU.
  void wait_for(void* stream) { device_.wait_for_stream(stream); }
  void signal(void* stream) { device_.signal_stream(stream); }

 private:
  std::size_t count() const { return static_cast<std::size_t>(config_.num_envs); }
  void require_indices(std::span<const std::int64_t> indices) const;
  void require_valid(const EnvironmentStates& states, std::size_t count) const;
  // Throws what `fault` says and forgets it. actions: null where they are not at hand any more.
  [[noreturn]] void report(std::uint64_t fault, const void* actions, ActionType type);
  void reseed(const ResetOptions& options);
  void throw_fault();
  EnvironmentStates read_all();
  void write_all(const EnvironmentStates& states);

  Device& device_;
  Config config_;  // env_id, env_parameters, num_envs, max_episode_steps
  const EnvironmentInfo& environment_;
  const Kernels& kernels_;
  Autoreset autoreset_;
  Arena arena_;
  Slot<std::uint8_t> restart_;
  Slot<StepFlags> flags_;
  EnvironmentBatch batch_{};  // these two point into the arena
  CallerArrays caller_{};
  std::vector<float> narrowed_;  // float64 actions as float32
  bool was_reset_ = false;
  std::atomic<bool> in_use_{false};
};

}  // namespace perilune
