// A trained policy on a device, to ask for actions: observations in, actions and the network's outputs out. In fp32, as
// evaluation is, so that it acts in a Gymnasium environment as it was measured.
//
// `act` reads and writes memory of the device (see vector_env.hpp) and on CUDA only enqueues.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "host/device/arena.hpp"
#include "host/device/device.hpp"
#include "host/networks/model.hpp"
#include "host/runs/safetensors.hpp"
#include "host/settings/config.hpp"
#include "host/training/evaluation.hpp"

namespace perilune {

struct SavedPolicy;  // host/runs/checkpoint.hpp

struct ActOptions {
  bool deterministic = true;  // the most probable action (Box: the mean); else a draw
  std::int64_t seed = 0;      // of the draws: row i of call c draws by (seed, c, i), whatever the batch
  std::uint32_t call = 0;
};

// Null: not written.
struct ActOutputs {
  std::int64_t* choices;  // [count]: actions of Discrete
  float* numbers;         // [count][num_actions()]: actions of Box, as drawn, not clipped
  float* outputs;         // [count][num_outputs()]: of the network's head: logits (Box: means)
};

class Policy {
 public:
  // Loads a run directory (its newest readable checkpoint), a checkpoint or a policy file. `device` must outlive it.
  // Throws Error or UsageError that says what is wrong with it.
  Policy(const std::filesystem::path& run_or_file, Device& device);
  // From the bytes of a policy file, which errors call `source`.
  Policy(std::string_view bytes, const std::string& source, Device& device);

  const Config& config() const { return config_; }
  int observation_dim() const { return kernels_.environment->observation_dim(); }
  bool is_continuous() const { return kernels_.environment->action_space.continuous; }
  int num_actions() const { return kernels_.environment->action_space.size; }
  int num_outputs() const { return kernels_.policy_outputs; }

  // observations: [count][observation_dim()]. On the CPU a NaN among them is a UsageError, before anything is written.
  void act(const float* observations, std::int64_t count, const ActOptions& options, const ActOutputs& outputs);

  // Whole episodes of a task (see evaluation_task), as `perilune eval` plays them; without one, of the policy's own.
  EvaluationResult evaluate(const EvaluationOptions& options) { return evaluate(options, config_); }
  EvaluationResult evaluate(const EvaluationOptions& options, const Config& task);

  // It as a policy file. Waits for the device.
  std::string bytes();

  Device& device() const { return device_; }
  void wait_for(void* stream) { device_.wait_for_stream(stream); }
  void signal(void* stream) { device_.signal_stream(stream); }

 private:
  Policy(const SavedPolicy& saved, Device& device);
  void reserve_workspace(ActArgs& args);
  void require_numbers(const float* observations, std::int64_t count) const;

  Device& device_;
  Config config_;
  std::uint64_t step_;  // these two as SavedPolicy's
  Metadata metadata_;
  const Kernels& kernels_;
  Model model_;
  Arena arena_;
  float* parameters_ = nullptr;  // in the arena
  std::unique_ptr<Arena> workspace_;
  float* workspace_data_ = nullptr;
  std::int32_t workspace_columns_ = 0;
  std::atomic<bool> in_use_{false};
};

// The file whose policy that is: a run directory's newest checkpoint, or the file itself. Throws as the constructor.
std::filesystem::path policy_file(const std::filesystem::path& run_or_file);

// The policy file of a run's best evaluation. Throws UsageError if it is no run directory, Error if it has none.
std::filesystem::path best_policy(const std::filesystem::path& run);

// The configuration that a run directory, checkpoint or policy file was made with. Throws as the constructor.
Config saved_config(const std::filesystem::path& run_or_file);

}  // namespace perilune
