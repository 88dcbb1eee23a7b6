#include "host/training/trainer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/planning/precision.hpp"
#include "host/settings/environment_settings.hpp"
#include "host/training/nonfinite.hpp"

namespace perilune {

const KeptArray& TrainerState::array(std::string_view name) const {
  const auto found = std::find_if(arrays.begin(), arrays.end(), [&](const KeptArray& a) { return a.name == name; });
  if (found == arrays.end()) throw std::logic_error("no array is kept as " + std::string(name));
  return *found;
}
bool TrainerState::has(std::string_view name) const {
  return std::any_of(arrays.begin(), arrays.end(), [&](const KeptArray& a) { return a.name == name; });
}
const std::vector<float>& TrainerState::floats(std::string_view name) const {
  return std::get<std::vector<float>>(array(name).values);
}
const std::vector<std::uint32_t>& TrainerState::counts(std::string_view name) const {
  return std::get<std::vector<std::uint32_t>>(array(name).values);
}
std::vector<float>& TrainerState::floats(std::string_view name) {
  return const_cast<std::vector<float>&>(std::as_const(*this).floats(name));
}
std::vector<std::uint32_t>& TrainerState::counts(std::string_view name) {
  return const_cast<std::vector<std::uint32_t>&>(std::as_const(*this).counts(name));
}

namespace {

std::size_t elements(const std::vector<std::size_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

// read(array, count): the values of an array.
template <class Read>
TrainerState state_of(Control& control, Anneal anneal_lr, const IterationSizes& sizes, IterationArrays arrays,
                      Read&& read) {
  TrainerState state;
  state.iteration = control.iteration;
  state.steps = control.steps;
  for_each_kept_control(control, anneal_lr, [&](const char* name, std::array<float*, 2> values) {
    state.arrays.push_back({name, {2}, false, std::vector<float>{*values[0], *values[1]}});
  });
  for_each_kept_array(sizes, arrays, [&](const ArrayInfo& info, auto* array) {
    state.arrays.push_back({info.kept_as, info.shape, info.by_layer, read(array, elements(info.shape))});
  });
  return state;
}

// What the device does with marks and conditions, for launch_iteration.
struct DeviceScopes {
  Device& device;
  PhaseScope mark(Phase phase) const { return PhaseScope(device.phases(), phase); }
  void unless_stopped(Queue& queue, Control* control, const std::function<void(Queue&)>& launch) const {
    device.unless_stopped(queue, control, launch);
  }
};

}  // namespace

TrainerState TrainerState::of_zeros(const Config& config, const Model& model) {
  Control control{};
  IterationSizes sizes{};
  sizes.envs = static_cast<std::size_t>(config.num_envs);
  sizes.state_fields = find_environment(config.env_id).field_names.size();
  sizes.parameters = model.trained_floats();
  sizes.statistics = model.floats - model.trained_floats();
  sizes.observations = static_cast<std::size_t>(model.actor.inputs.size);
  sizes.returns = static_cast<std::size_t>(model.returns.size);
  return state_of(control, config.anneal_lr, sizes, {},
                  []<class T>(T*, std::size_t count) { return std::vector<T>(count); });
}

Trainer::Trainer(const Config& config, Device& device)
    : config_(config),
      device_(device),
      precision_(choose_precision(config, device)),
      kernels_(choose_kernels(config, device, precision_)),
      model_(model_of(config)) {
  const bool whole_episodes = has_whole_episodes(config);
  const auto batch = static_cast<std::uint64_t>(whole_episodes ? most_samples(config) : batch_size(config));
  // Kernels index samples and record floats with 32 bits.
  const std::uint64_t limit = std::min<std::uint64_t>(
      (std::uint64_t{1} << 32) / static_cast<std::uint64_t>(kernels_.record_floats), (std::uint64_t{1} << 31) - 1);
  if (batch > limit) {
    throw UsageError(
        whole_episodes
            ? formatted("whole episodes may be {} samples per iteration - allowed: at most {} - lower num_steps, "
                        "num_envs or max_episode_steps",
                        batch, limit)
            : formatted("num_envs * num_steps is {} samples per iteration - allowed: at most {} - lower either", batch,
                        limit));
  }
  iterations_ = static_cast<std::uint32_t>(iteration_count(config));

  Iteration& plan = plan_;
  plan.machine = &device.machine();
  plan.kernels = &kernels_;
  plan.hyper = hyperparameters(config);
  plan.actor = model_.actor;
  plan.critic = model_.critic;
  plan.returns = model_.returns;
  plan.statistics_floats = static_cast<std::int32_t>(model_.floats - model_.trained_floats());
  plan.num_envs = config.num_envs;
  plan.num_steps = whole_episodes ? static_cast<std::int32_t>(most_rows(config)) : config.num_steps;
  if (whole_episodes) {
    plan.whole_steps = config.num_steps;
    plan.total_steps = static_cast<std::uint64_t>(config.total_timesteps);
  }
  plan.max_episode_steps = episode_limit(config);
  plan.truncate_at_end = config.truncate_at_rollout_end;
  copy_env_parameters(config, plan.env_parameters);
  plan.key = {static_cast<std::uint32_t>(config.seed), kTrainingStream};
  plan.update_mode = config.update_mode;
  if (plan.update_mode == UpdateMode::kJoint) {
    plan.num_minibatches = config.num_minibatches;
    plan.update_epochs = config.update_epochs;
  } else {
    plan.policy_iterations = config.policy_iterations;
    plan.value_iterations = config.value_iterations;
  }
  plan.partials = plan.most_partials();
  if (is_layerwise(kernels_)) {
    matrix_library_ = &device.matrix_library(precision_);
    plan.workspace_columns = workspace_columns(model_, std::max(plan.num_envs, plan.minibatch_size()));
  }
  for_each_array(plan.sizes(), plan.arrays, [&]<class T>(const ArrayInfo& info, T*) {
    slots_.push_back(arena_.add<T>(info.name, info.shape).index);
  });
}

Trainer::~Trainer() {
  if (plan_.ring != nullptr) device_.release_shared(plan_.ring);
  if (plan_.episode_returns != nullptr) device_.release_shared(plan_.episode_returns);
}

std::uint64_t Trainer::steps_per_iteration() const { return static_cast<std::uint64_t>(plan_.batch_size()); }

void Trainer::start(const std::optional<TrainerState>& state, bool use_graph, const std::vector<float>& initial) {
  arena_.take(device_);
  plan_.ring = static_cast<IterationMetrics*>(device_.allocate_shared(kMetricsRing * sizeof(IterationMetrics)));
  if (plan_.whole_steps > 0) {
    plan_.episode_returns =
        static_cast<float*>(device_.allocate_shared(kReturnsRing * steps_per_iteration() * sizeof(float)));
  }
  const auto upload = [this](const auto& values, auto* to) {
    device_.upload(to, values.data(), values.size() * sizeof(values[0]));
  };
  const IterationSizes sizes = plan_.sizes();
  auto slot = slots_.begin();
  for_each_array(sizes, plan_.arrays,
                 [&]<class T>(const ArrayInfo&, T*& array) { array = arena_.at(Slot<T>{*slot++}); });
  share_arrays(sizes, plan_.arrays);
  if (state) {
    Control control{};
    control.iteration = state->iteration;
    control.steps = state->steps;
    for_each_kept_control(control, config_.anneal_lr, [&](const char* name, std::array<float*, 2> values) {
      if (!state->has(name)) return;  // learning rates of a run that did not adapt them: they begin anew
      for (std::size_t k = 0; k < 2; ++k) *values[k] = state->floats(name)[k];
    });
    device_.upload(plan_.arrays.control, &control, sizeof control);
    for_each_kept_array(sizes, plan_.arrays, [&]<class T>(const ArrayInfo& info, T* array) {
      upload(std::get<std::vector<T>>(state->array(info.kept_as).values), array);
    });
  } else {
    upload(initial.empty() ? initial_parameters(model_, config_) : initial, plan_.arrays.parameters);
    kernels_.reset({plan_.environments()}, device_.queue());
  }
  device_.synchronize();
  record(use_graph);
}

void Trainer::record(bool as_graph) {
  recording_ = device_.record(
      [this](Queue& queue) {
        queue.matrix = matrix_library_;
        DeviceScopes scopes{device_};
        launch_iteration(plan_, scopes, queue);
      },
      as_graph);
}

void Trainer::enqueue_iteration() {
  const PhaseScope phase(device_.phases(), Phase::kIteration);
  recording_->launch();
}

const IterationMetrics& Trainer::metrics(std::uint64_t iteration) const { return plan_.ring[iteration % kMetricsRing]; }

std::span<const float> Trainer::returns(std::uint64_t iteration) const {
  if (plan_.episode_returns == nullptr) return {};
  const auto episodes = static_cast<std::size_t>(metrics(iteration).values[Metric::kEpisodes]);
  return {plan_.episode_returns + iteration % kReturnsRing * steps_per_iteration(), episodes};
}

TrainerState Trainer::state() const {
  Control control{};
  device_.download(&control, plan_.arrays.control, sizeof control);
  return state_of(control, config_.anneal_lr, plan_.sizes(), plan_.arrays,
                  [this](const auto* array, std::size_t count) { return download(array, count); });
}

template <class T>
std::vector<T> Trainer::download(const T* from, std::size_t size) const {
  std::vector<T> values(size);
  device_.download(values.data(), from, size * sizeof(T));
  return values;
}

std::vector<float> Trainer::host_parameters() const { return download(parameters(), model_.floats); }

std::string Trainer::find_nonfinite_tensor() const {
  std::vector<float> values = host_parameters();
  // The largest magnitude in a tensor; a NaN counts as infinite.
  const auto largest = [&](const ModelTensor& tensor) {
    float result = 0.0f;
    for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
      if (!std::isfinite(values[i])) return std::numeric_limits<float>::infinity();
      result = std::max(result, std::abs(values[i]));
    }
    return result;
  };
  for (const ModelTensor& tensor : model_.tensors) {
    if (std::isinf(largest(tensor))) return tensor.name;
  }
  values = download(plan_.arrays.gradient, model_.trained_floats());
  const auto trained = std::find_if(model_.tensors.begin(), model_.tensors.end(),
                                    [&](const ModelTensor& tensor) { return model_.is_statistic(tensor); });
  const auto worst = std::max_element(model_.tensors.begin(), trained, [&](const ModelTensor& a, const ModelTensor& b) {
    return largest(a) < largest(b);
  });
  return worst->name + (std::isinf(largest(*worst)) ? " (gradient)" : " (largest gradient)");
}

std::string Trainer::explain_nonfinite(std::uint64_t iterations, const std::string& what,
                                       const std::string& stopped) const {
  const IterationArrays& arrays = plan_.arrays;
  Control control{};
  device_.download(&control, arrays.control, sizeof control);
  const std::size_t envs = plan_.sizes().envs, steps = plan_.whole_steps > 0 ? control.rows : plan_.sizes().steps;
  const auto record_floats = static_cast<std::size_t>(kernels_.record_floats);
  const TrainerState now = state();
  const auto records = download(arrays.records, envs * steps * record_floats);
  const auto ends = download(arrays.ends, envs * steps);
  const auto lengths = download(arrays.ended_lengths, envs);
  const auto environment =
      find_nonfinite_environment({.count = envs,
                                  .num_steps = steps,
                                  .record_floats = record_floats,
                                  .observation_dim = static_cast<std::size_t>(kernels_.environment->observation_dim()),
                                  .records = records,
                                  .ends = ends,
                                  .ended_lengths = lengths,
                                  .fields = now.floats("environments.fields"),
                                  .episode = now.counts("environments.episode"),
                                  .elapsed = now.counts("environments.elapsed")});
  if (!environment) {
    // A GPU may have gone on, and have reset an environment since.
    const char* cause = now.iteration == iterations ? "every environment is finite, so the networks diverged: " : "";
    return formatted("{}, first in {} - {} - {}lower learning_rate, or set max_grad_norm", what,
                     find_nonfinite_tensor(), stopped, cause);
  }
  const std::string replay =
      iterations > 1
          ? formatted("with checkpoint_every={} the same run saves the states before it, and train --resume replays it",
                      iterations - 1)
          : "the same run replays it";
  return formatted(
      "{}, from environment {}, which is not finite after step {} of episode {} of {} with seed {}{} - {} - "
      "the cause is the simulator or its parameters and not how it is trained, please report it; {}",
      what, environment->environment, environment->step, environment->episode, config_.env_id, config_.seed,
      environment->field ? formatted(" ({})", kernels_.environment->field_names[*environment->field]) : "", stopped,
      replay);
}

}  // namespace perilune
