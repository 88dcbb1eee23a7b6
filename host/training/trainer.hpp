// Proximal policy optimisation (Schulman et al. 2017) on a device: its arrays, and one iteration as a sequence of
// launches. trainer.cpp reads top to bottom like the algorithm.
//
// Everything that changes between iterations lives in device memory (Control), so that one Recording serves the whole
// run. What happens around iterations (metrics files, evaluation, checkpoints) is in training.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "host/device/arena.hpp"
#include "host/device/device.hpp"
#include "host/networks/model.hpp"
#include "host/networks/networks.hpp"
#include "host/settings/config.hpp"

namespace perilune {

// All that an interrupted run needs to go on with the same bits.
struct TrainerState {
  std::uint32_t iteration = 0;
  std::vector<float> parameters, first_moment, second_moment;  // [model floats]
  std::vector<float> actor_correction, critic_correction;      // [2]
  std::vector<float> environment_fields;                       // [state fields, N]
  std::vector<std::uint32_t> episode, elapsed;                 // [N]
  std::vector<float> episode_return;                           // [N]
};

class Trainer {
 public:
  // Plans the run's memory; nothing is taken yet. Throws UsageError if this build has no kernels for the configuration.
  Trainer(const Config& config, Device& device);
  ~Trainer();

  const Arena& arena() const { return arena_; }
  const Model& model() const { return model_; }
  Precision precision() const { return precision_; }
  std::string networks() const { return networks_text(config_, kernels_, device_, precision_); }
  std::uint32_t iterations() const { return iterations_; }  // total_timesteps in whole iterations, rounded up
  std::uint64_t steps_per_iteration() const;

  // Takes the memory and starts from `state`, or afresh: from these parameters [model floats], or if there are none
  // from drawn ones. use_graph: see Device::record.
  void start(const std::optional<TrainerState>& state, bool use_graph, const std::vector<float>& initial = {});

  // Records the iteration again, as a graph or not; it goes on where it is.
  void record(bool as_graph);

  // Enqueues one iteration. Its metrics are valid after Device::synchronize, and until kMetricsRing iterations later.
  void enqueue_iteration();
  const IterationMetrics& metrics(std::uint64_t iteration) const;  // 0-based

  // They wait for what was enqueued.
  TrainerState state() const;
  std::vector<float> host_parameters() const;  // [model floats]
  // The text of an error: `what` is not finite after that many iterations, where that began, `stopped`, and what to do.
  // It began in an environment or, where the newest rollout has none that is not finite, in the networks.
  std::string explain_nonfinite(std::uint64_t iterations, const std::string& what, const std::string& stopped) const;

  const float* parameters() const;

 private:
  struct Arrays;

  // Names the first tensor with a parameter that is not finite, or else the one whose last gradient is largest: the sum
  // of its squares overflows before it does.
  std::string find_nonfinite_tensor() const;
  EnvironmentBatch environments() const;
  RngKey training_key() const;
  void record_iteration(Queue& queue) const;
  void record_joint_epochs(Queue& queue) const;
  void record_separate_iterations(Queue& queue) const;
  void record_advantage_moments(Queue& queue, const Sampling& sampling, int minibatches, int epochs) const;
  void record_minibatch(Queue& queue, Losses losses, const Sampling& sampling, int minibatch, bool last_of_epoch,
                        bool decay_after) const;

  Config config_;
  Device& device_;
  const Machine& machine_;
  Precision precision_;
  const Kernels& kernels_;
  MatrixLibrary* matrix_library_ = nullptr;  // where kernels_ are layer by layer
  Model model_;
  Hyperparameters hyper_{};
  std::uint32_t iterations_ = 0;
  int batch_size_ = 0;
  int partials_ = 1;
  int columns_ = 1;  // of the workspace of layer-by-layer networks
  Arena arena_;
  std::unique_ptr<Arrays> arrays_;
  IterationMetrics* ring_ = nullptr;
  std::unique_ptr<Recording> iteration_;
};

}  // namespace perilune
