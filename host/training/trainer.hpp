// Proximal policy optimisation (Schulman et al. 2017) on a device: memory and hyper-parameters of the iteration in
// kernels/iteration.hpp, and its state.
//
// Everything that changes between iterations lives in device memory (Control), so that one Recording serves the whole
// run. What happens around iterations (metrics files, evaluation, checkpoints) is in training.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "host/device/arena.hpp"
#include "host/device/device.hpp"
#include "host/networks/model.hpp"
#include "host/networks/networks.hpp"
#include "host/settings/config.hpp"
#include "kernels/iteration.hpp"

namespace perilune {

// An array that is kept when a run is saved, under the name that kernels/iteration.hpp marks it with.
struct KeptArray {
  std::string name;
  std::vector<std::size_t> shape;
  bool by_layer;  // a tensor of each layer, and the name stands before theirs
  std::variant<std::vector<float>, std::vector<std::uint32_t>> values;

  bool operator==(const KeptArray&) const = default;
};

// All that an interrupted run needs to go on with the same bits.
struct TrainerState {
  std::uint32_t iteration = 0;
  std::uint64_t steps = 0;  // of whole episodes: in all batches so far
  std::vector<KeptArray> arrays;

  // As kept, of zeros: what a state of this configuration has.
  static TrainerState of_zeros(const Config& config, const Model& model);

  // By name; it must be there. The parameters' name is "".
  bool has(std::string_view name) const;
  const KeptArray& array(std::string_view name) const;
  std::vector<float>& floats(std::string_view name);
  const std::vector<float>& floats(std::string_view name) const;
  std::vector<std::uint32_t>& counts(std::string_view name);
  const std::vector<std::uint32_t>& counts(std::string_view name) const;
  const std::vector<float>& parameters() const { return floats(""); }  // [model floats]

  bool operator==(const TrainerState&) const = default;
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
  std::uint64_t steps_per_iteration() const;                // of whole episodes, at most

  // Takes the memory and starts from `state`, or afresh: from these parameters [model floats], or if there are none
  // from drawn ones. use_graph: see Device::record.
  void start(const std::optional<TrainerState>& state, bool use_graph, const std::vector<float>& initial = {});

  // Records the iteration again, as a graph or not; it goes on where it is.
  void record(bool as_graph);

  // Enqueues one iteration. Its metrics are valid after Device::synchronize, and until kMetricsRing iterations later.
  void enqueue_iteration();
  const IterationMetrics& metrics(std::uint64_t iteration) const;  // 0-based
  // Of whole episodes: the returns of those in an iteration's batch, in its order. Valid until kReturnsRing later.
  std::span<const float> returns(std::uint64_t iteration) const;

  // They wait for what was enqueued.
  TrainerState state() const;
  std::vector<float> host_parameters() const;  // [model floats]
  // The text of an error: `what` is not finite after that many iterations, where that began, `stopped`, and what to do.
  // It began in an environment or, where the newest rollout has none that is not finite, in the networks.
  std::string explain_nonfinite(std::uint64_t iterations, const std::string& what, const std::string& stopped) const;

  const float* parameters() const { return plan_.arrays.parameters; }

 private:
  // Names the first tensor with a parameter that is not finite, or else the one whose last gradient is largest: the sum
  // of its squares overflows before it does.
  std::string find_nonfinite_tensor() const;
  // Reads an array of the plan from the device.
  template <class T>
  std::vector<T> download(const T* from, std::size_t size) const;

  Config config_;
  Device& device_;
  Precision precision_;
  const Kernels& kernels_;
  MatrixLibrary* matrix_library_ = nullptr;  // where kernels_ are layer by layer
  Model model_;
  std::uint32_t iterations_ = 0;
  Arena arena_;
  Iteration plan_{};                // its arrays are there once start() has taken them
  std::vector<std::size_t> slots_;  // of the arrays, in the order of for_each_array
  std::unique_ptr<Recording> recording_;
};

}  // namespace perilune
