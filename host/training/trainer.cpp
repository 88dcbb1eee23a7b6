#include "host/training/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/planning/precision.hpp"
#include "host/settings/environment_settings.hpp"
#include "host/training/nonfinite.hpp"

namespace perilune {

namespace {

Hyperparameters hyperparameters_of(const Config& config, std::uint32_t iterations) {
  Hyperparameters hyper{};
  const auto number = [](double x) { return static_cast<float>(x); };
  hyper.gamma = number(config.gamma);
  hyper.gae_lambda = number(config.gae_lambda);
  hyper.clip_coef = number(config.clip_coef);
  hyper.ent_coef = number(config.ent_coef);
  hyper.vf_coef = number(config.vf_coef);
  hyper.max_grad_norm = number(config.max_grad_norm);
  hyper.target_kl = number(config.target_kl);
  hyper.actor_learning_rate = number(config.learning_rate);
  hyper.critic_learning_rate =
      number(config.critic_learning_rate > 0.0 ? config.critic_learning_rate : config.learning_rate);
  hyper.epoch_lr_decay = number(config.epoch_lr_decay);
  hyper.adam_beta1 = number(config.adam_beta1);
  hyper.adam_beta2 = number(config.adam_beta2);
  hyper.adam_beta1_complement = number(1.0 - config.adam_beta1);
  hyper.adam_beta2_complement = number(1.0 - config.adam_beta2);
  hyper.adam_epsilon = number(config.adam_epsilon);
  hyper.num_iterations = iterations;
  hyper.anneal_lr = config.anneal_lr == Config::Anneal::kLinear;
  hyper.anneal_clip_coef = config.anneal_clip_coef == Config::Anneal::kLinear;
  hyper.clip_vloss = config.clip_vloss;
  hyper.fixed_std = !config.learn_std;
  const Config::Normalization normalization = advantage_normalization(config);
  hyper.norm_adv = normalization == Config::Normalization::kNone        ? 0
                   : normalization == Config::Normalization::kMinibatch ? 1
                                                                        : 2;
  hyper.kl_stop_each_iteration = config.kl_stop == Config::KlStop::kIteration;
  hyper.kl_k1 = config.kl_estimator == Config::KlEstimator::kK1;
  hyper.discounted_target = config.value_target == Config::ValueTarget::kDiscounted;
  return hyper;
}

}  // namespace

struct Trainer::Arrays {
  Slot<Control> control;
  Slot<float> parameters, first_moment, second_moment, gradient;  // [model floats]
  Slot<float> environment_fields;                                 // [state fields, N]
  Slot<std::uint32_t> episode, elapsed;                           // [N]
  Slot<float> episode_return;                                     // [N]
  Slot<float> episodes_count, episodes_return, episodes_length;   // [N]
  Slot<float> records;                                            // [T, N, record floats]
  Slot<float> rewards;                                            // [T, N]; advantages after gae
  Slot<float> values;                                             // [T + 1, N]; value targets after gae
  Slot<std::uint8_t> ends;                                        // [T, N]
  Slot<float> batch_moments;                                      // [kBatchMoments, gae blocks]
  Slot<float> chunk_moments;                                      // [moment chunks, kChunkMoments, epochs, minibatches]
  Slot<float> advantage_scales;                                   // [epochs, minibatches, 2]
  Slot<float> partial_gradients;                                  // [P, model floats]
  Slot<float> loss_sums;                                          // [kLossSums, P]
  Slot<float> square_sums;                                        // [reduce blocks]
  Slot<AdamStep> adam_step;                                       // [1]
  Slot<float> running;                                            // [kRunningMetrics]
  Slot<float> workspace;                                          // of layer-by-layer networks
};

Trainer::Trainer(const Config& config, Device& device)
    : config_(config),
      device_(device),
      machine_(device.machine()),
      precision_(choose_precision(config, device)),
      kernels_(choose_kernels(config, device, precision_)),
      model_(model_of(config)),
      arrays_(new Arrays) {
  const auto steps = static_cast<std::size_t>(config.num_steps);
  const auto envs = static_cast<std::size_t>(config.num_envs);
  const std::uint64_t batch = static_cast<std::uint64_t>(steps) * envs;
  const auto record = static_cast<std::uint64_t>(kernels_.record_floats);
  // Kernels index samples and record floats with 32 bits.
  const std::uint64_t limit = std::min<std::uint64_t>((std::uint64_t{1} << 32) / record, (std::uint64_t{1} << 31) - 1);
  if (batch > limit) {
    throw UsageError(formatted("num_envs * num_steps is {} samples per iteration - allowed: at most {} - lower either",
                               batch, limit));
  }
  batch_size_ = static_cast<int>(batch);
  iterations_ = static_cast<std::uint32_t>(iteration_count(config));
  hyper_ = hyperparameters_of(config, iterations_);

  const bool joint = config.update_mode == Config::UpdateMode::kJoint;
  const int minibatches = joint ? config.num_minibatches : 1;
  const int epochs = joint ? config.update_epochs : 1;
  const int tiles = (batch_size_ / minibatches + kernels_.update_tile - 1) / kernels_.update_tile;
  partials_ = std::min(tiles, kernels_.max_partials(std::max(model_.actor.depth, model_.critic.depth)));
  if (is_layerwise(kernels_)) {
    matrix_library_ = &device.matrix_library(precision_);
    columns_ = workspace_columns(model_, std::max(config.num_envs, batch_size_ / minibatches));
  }

  const auto partials = static_cast<std::size_t>(partials_);
  Arrays& a = *arrays_;
  a.control = arena_.add<Control>("control", {1});
  a.parameters = arena_.add<float>("parameters", {model_.floats});
  a.first_moment = arena_.add<float>("first moment", {model_.floats});
  a.second_moment = arena_.add<float>("second moment", {model_.floats});
  a.environment_fields =
      arena_.add<float>("environment fields", {static_cast<std::size_t>(kernels_.state_fields), envs});
  a.episode = arena_.add<std::uint32_t>("episode index", {envs});
  a.elapsed = arena_.add<std::uint32_t>("elapsed steps", {envs});
  a.episode_return = arena_.add<float>("episode return", {envs});
  a.episodes_count = arena_.add<float>("episodes ended", {envs});
  a.episodes_return = arena_.add<float>("returns ended", {envs});
  a.episodes_length = arena_.add<float>("lengths ended", {envs});
  a.records = arena_.add<float>("records", {steps, envs, static_cast<std::size_t>(record)});
  a.rewards = arena_.add<float>("rewards, advantages", {steps, envs});
  a.values = arena_.add<float>("values, targets", {steps + 1, envs});
  a.ends = arena_.add<std::uint8_t>("episode ends", {steps, envs});
  a.batch_moments = arena_.add<float>("batch moments",
                                      {kBatchMoments, static_cast<std::size_t>(machine_.gae_blocks(config.num_envs))});
  const auto chunks = static_cast<std::size_t>(machine_.moment_chunks(batch_size_ / minibatches));
  a.chunk_moments = arena_.add<float>("minibatch moments", {chunks, kChunkMoments, static_cast<std::size_t>(epochs),
                                                            static_cast<std::size_t>(minibatches)});
  a.advantage_scales = arena_.add<float>("advantage scales",
                                         {static_cast<std::size_t>(epochs), static_cast<std::size_t>(minibatches), 2});
  a.partial_gradients = arena_.add<float>("partial gradients", {partials, model_.floats});
  // The sum of one partial is that partial: it stays in place, which spares a pass over memory.
  a.gradient = partials_ == 1 ? a.partial_gradients : arena_.add<float>("gradient", {model_.floats});
  a.loss_sums = arena_.add<float>("loss sums", {kLossSums, partials});
  a.square_sums = arena_.add<float>(
      "square sums", {static_cast<std::size_t>(machine_.reduce_blocks(static_cast<int>(model_.floats)))});
  a.adam_step = arena_.add<AdamStep>("Adam step", {1});
  a.running = arena_.add<float>("running metrics", {kRunningMetrics});
  a.workspace = arena_.add<float>("workspace",
                                  {training_workspace(kernels_, config, model_, batch_size_ / minibatches, columns_)});
}

Trainer::~Trainer() {
  if (ring_ != nullptr) device_.release_shared(ring_);
}

std::uint64_t Trainer::steps_per_iteration() const { return static_cast<std::uint64_t>(batch_size_); }

const float* Trainer::parameters() const { return arena_.at(arrays_->parameters); }

// ---- one iteration ----

void Trainer::record_iteration(Queue& queue) const {
  const Arrays& a = *arrays_;
  Control* control = arena_.at(a.control);
  const EpisodeSums episodes{arena_.at(a.episodes_count), arena_.at(a.episodes_return), arena_.at(a.episodes_length)};

  queue.matrix = matrix_library_;
  machine_.begin_iteration({hyper_, control, arena_.at(a.running)}, queue);

  RolloutArgs rollout{};
  rollout.environments = environments();
  rollout.episodes = episodes;
  rollout.parameters = arena_.at(a.parameters);
  rollout.actor = model_.actor;
  rollout.critic = model_.critic;
  rollout.num_steps = config_.num_steps;
  rollout.gamma = hyper_.gamma;
  rollout.truncate_at_end = config_.truncate_at_rollout_end;
  rollout.records = arena_.at(a.records);
  rollout.rewards = arena_.at(a.rewards);
  rollout.values = arena_.at(a.values);
  rollout.ends = arena_.at(a.ends);
  rollout.workspace = {arena_.at(a.workspace), columns_};
  {
    const PhaseScope phase(device_.phases(), Phase::kRollout);
    kernels_.rollout(rollout, queue);
  }

  GaeArgs gae{};
  gae.control = control;
  gae.rewards = arena_.at(a.rewards);
  gae.values = arena_.at(a.values);
  gae.ends = arena_.at(a.ends);
  gae.advantages = arena_.at(a.rewards);
  gae.moments = arena_.at(a.batch_moments);
  gae.count = config_.num_envs;
  gae.num_steps = config_.num_steps;
  gae.gamma = hyper_.gamma;
  gae.gae_lambda = hyper_.gae_lambda;
  gae.discounted_target = hyper_.discounted_target;
  {
    const PhaseScope phase(device_.phases(), Phase::kGae);
    machine_.gae(gae, queue);
  }

  {
    const PhaseScope phase(device_.phases(), Phase::kUpdate);
    if (config_.update_mode == Config::UpdateMode::kJoint) {
      record_joint_epochs(queue);
    } else {
      record_separate_iterations(queue);
    }
  }

  machine_.end_iteration({control, episodes, arena_.at(a.running), ring_, config_.num_envs}, queue);
}

// Epochs over shuffled minibatches, actor and critic in each. A KL stop skips the epochs after it.
void Trainer::record_joint_epochs(Queue& queue) const {
  Sampling sampling{batch_size_, batch_size_ / config_.num_minibatches, 1, 0, training_key()};
  record_advantage_moments(queue, sampling, config_.num_minibatches, config_.update_epochs);
  for (int epoch = 0; epoch < config_.update_epochs; ++epoch) {
    sampling.epoch = static_cast<std::uint32_t>(epoch);
    const bool decays = epoch + 1 < config_.update_epochs;
    const auto record = [&](Queue& inner) {
      for (int minibatch = 0; minibatch < config_.num_minibatches; ++minibatch) {
        const bool last = minibatch + 1 == config_.num_minibatches;
        record_minibatch(inner, Losses::kBoth, sampling, minibatch, last, last && decays);
      }
    };
    if (epoch > 0 && config_.target_kl > 0.0) {
      device_.unless_stopped(queue, arena_.at(arrays_->control), record);
    } else {
      record(queue);
    }
  }
}

// Policy iterations and then value iterations, each over the whole batch. A KL stop skips the policy iterations after
// it.
void Trainer::record_separate_iterations(Queue& queue) const {
  // One condition for several iterations: on a GPU it costs about as much as an iteration that does nothing.
  constexpr int kGroup = 8;
  const Sampling sampling{batch_size_, batch_size_, 0, 0, training_key()};
  record_advantage_moments(queue, sampling, 1, 1);
  for (int first = 0; first < config_.policy_iterations; first += kGroup) {
    const int last = std::min(first + kGroup, config_.policy_iterations);
    const auto record = [&](Queue& inner) {
      for (int i = first; i < last; ++i) record_minibatch(inner, Losses::kPolicy, sampling, 0, true, false);
    };
    if (first > 0 && config_.target_kl > 0.0) {
      device_.unless_stopped(queue, arena_.at(arrays_->control), record);
    } else {
      record(queue);
    }
  }
  for (int i = 0; i < config_.value_iterations; ++i) {
    record_minibatch(queue, Losses::kValue, sampling, 0, true, false);
  }
}

// Of every minibatch of the iteration at once: advantages do not change between epochs, only their order.
void Trainer::record_advantage_moments(Queue& queue, const Sampling& sampling, int minibatches, int epochs) const {
  if (advantage_normalization(config_) != Config::Normalization::kMinibatch) return;
  machine_.advantage_moments(
      {sampling, arena_.at(arrays_->control), arena_.at(arrays_->rewards), arena_.at(arrays_->chunk_moments),
       arena_.at(arrays_->advantage_scales), minibatches, epochs},
      queue);
}

// Partial gradients, their sum and the verdict, Adam.
void Trainer::record_minibatch(Queue& queue, Losses losses, const Sampling& sampling, int minibatch, bool last_of_epoch,
                               bool decay_after) const {
  const Arrays& a = *arrays_;
  Control* control = arena_.at(a.control);

  UpdateArgs update{};
  update.sampling = sampling;
  update.hyper = hyper_;
  update.control = control;
  update.losses = losses;
  update.minibatch = minibatch;
  update.partials = partials_;
  update.parameters = arena_.at(a.parameters);
  update.actor = model_.actor;
  update.critic = model_.critic;
  update.records = arena_.at(a.records);
  update.advantages = arena_.at(a.rewards);
  update.targets = arena_.at(a.values);
  update.scales =
      arena_.at(a.advantage_scales) + sampling.epoch * static_cast<std::uint32_t>(config_.num_minibatches * 2);
  update.gradients = arena_.at(a.partial_gradients);
  update.sums = arena_.at(a.loss_sums);
  update.workspace = {arena_.at(a.workspace), columns_};
  {
    const PhaseScope phase(device_.phases(), Phase::kGradient);
    kernels_.update(update, queue);
  }

  ReduceGradientsArgs reduce{};
  reduce.hyper = hyper_;
  reduce.control = control;
  reduce.losses = losses;
  reduce.minibatch_size = sampling.minibatch_size;
  reduce.partials = partials_;
  reduce.parameter_count = static_cast<std::int32_t>(model_.floats);
  reduce.begin = losses == Losses::kValue ? model_.critic.begin : model_.actor.begin;
  reduce.end = losses == Losses::kPolicy ? model_.actor.end : model_.critic.end;
  reduce.actor_end = model_.actor.end;
  reduce.last_of_epoch = last_of_epoch;
  reduce.decay_after = decay_after;
  reduce.gradients = update.gradients;
  reduce.sums = update.sums;
  reduce.gradient = arena_.at(a.gradient);
  reduce.square_sums = arena_.at(a.square_sums);
  reduce.step = arena_.at(a.adam_step);
  reduce.running = arena_.at(a.running);
  {
    const PhaseScope phase(device_.phases(), Phase::kReduce);
    machine_.reduce_gradients(reduce, queue);
  }

  const PhaseScope phase(device_.phases(), Phase::kApply);
  machine_.apply_gradients({hyper_, reduce.step, reduce.gradient, reduce.begin, reduce.end, model_.actor.end,
                            arena_.at(a.parameters), arena_.at(a.first_moment), arena_.at(a.second_moment)},
                           queue);
}

// ---- state ----

EnvironmentBatch Trainer::environments() const {
  const Arrays& a = *arrays_;
  EnvironmentBatch batch{};
  batch.fields = arena_.at(a.environment_fields);
  batch.episode = arena_.at(a.episode);
  batch.elapsed = arena_.at(a.elapsed);
  batch.episode_return = arena_.at(a.episode_return);
  batch.count = config_.num_envs;
  batch.max_episode_steps = episode_limit(config_);
  copy_env_parameters(config_, batch.parameters);
  batch.key = training_key();
  return batch;
}

RngKey Trainer::training_key() const { return {static_cast<std::uint32_t>(config_.seed), kTrainingStream}; }

void Trainer::start(const std::optional<TrainerState>& state, bool use_graph, const std::vector<float>& initial) {
  arena_.take(device_);
  ring_ = static_cast<IterationMetrics*>(device_.allocate_shared(kMetricsRing * sizeof(IterationMetrics)));
  const Arrays& a = *arrays_;
  const auto put = [&](auto slot, const auto& values) {
    device_.upload(arena_.at(slot), values.data(), values.size() * sizeof(values[0]));
  };
  if (state) {
    Control control{};
    control.iteration = state->iteration;
    std::copy_n(state->actor_correction.begin(), 2, control.actor_correction);
    std::copy_n(state->critic_correction.begin(), 2, control.critic_correction);
    device_.upload(arena_.at(a.control), &control, sizeof control);
    put(a.parameters, state->parameters);
    put(a.first_moment, state->first_moment);
    put(a.second_moment, state->second_moment);
    put(a.environment_fields, state->environment_fields);
    put(a.episode, state->episode);
    put(a.elapsed, state->elapsed);
    put(a.episode_return, state->episode_return);
  } else {
    put(a.parameters, initial.empty() ? initial_parameters(model_, config_) : initial);
    kernels_.reset({environments()}, device_.queue());
  }
  device_.synchronize();
  record(use_graph);
}

void Trainer::record(bool as_graph) {
  iteration_ = device_.record([this](Queue& queue) { record_iteration(queue); }, as_graph);
}

void Trainer::enqueue_iteration() {
  const PhaseScope phase(device_.phases(), Phase::kIteration);
  iteration_->launch();
}

const IterationMetrics& Trainer::metrics(std::uint64_t iteration) const { return ring_[iteration % kMetricsRing]; }

TrainerState Trainer::state() const {
  const Arrays& a = *arrays_;
  TrainerState state;
  const auto get = [&](auto slot, auto& values) {
    values.resize(arena_.size(slot));
    device_.download(values.data(), arena_.at(slot), values.size() * sizeof(values[0]));
  };
  Control control{};
  device_.download(&control, arena_.at(a.control), sizeof control);
  state.iteration = control.iteration;
  state.actor_correction.assign(control.actor_correction, control.actor_correction + 2);
  state.critic_correction.assign(control.critic_correction, control.critic_correction + 2);
  get(a.parameters, state.parameters);
  get(a.first_moment, state.first_moment);
  get(a.second_moment, state.second_moment);
  get(a.environment_fields, state.environment_fields);
  get(a.episode, state.episode);
  get(a.elapsed, state.elapsed);
  get(a.episode_return, state.episode_return);
  return state;
}

std::vector<float> Trainer::host_parameters() const {
  std::vector<float> values(model_.floats);
  device_.download(values.data(), parameters(), values.size() * sizeof(float));
  return values;
}

std::string Trainer::find_nonfinite_tensor() const {
  std::vector<float> values(model_.floats);
  // The largest magnitude in a tensor; a NaN counts as infinite.
  const auto largest = [&](const ModelTensor& tensor) {
    float result = 0.0f;
    for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
      if (!std::isfinite(values[i])) return std::numeric_limits<float>::infinity();
      result = std::max(result, std::abs(values[i]));
    }
    return result;
  };
  device_.download(values.data(), arena_.at(arrays_->parameters), values.size() * sizeof(float));
  for (const ModelTensor& tensor : model_.tensors) {
    if (std::isinf(largest(tensor))) return tensor.name;
  }
  device_.download(values.data(), arena_.at(arrays_->gradient), values.size() * sizeof(float));
  const auto worst =
      std::max_element(model_.tensors.begin(), model_.tensors.end(),
                       [&](const ModelTensor& a, const ModelTensor& b) { return largest(a) < largest(b); });
  return worst->name + (std::isinf(largest(*worst)) ? " (gradient)" : " (largest gradient)");
}

std::string Trainer::explain_nonfinite(std::uint64_t iterations, const std::string& what,
                                       const std::string& stopped) const {
  const Arrays& a = *arrays_;
  const auto download = [&](auto slot) {
    std::vector<std::remove_pointer_t<decltype(arena_.at(slot))>> values(arena_.size(slot));
    device_.download(values.data(), arena_.at(slot), values.size() * sizeof(values[0]));
    return values;
  };
  const TrainerState now = state();
  const auto records = download(a.records);
  const auto ends = download(a.ends);
  const auto lengths = download(a.episodes_length);
  const auto environment = find_nonfinite_environment(
      {static_cast<std::size_t>(config_.num_envs), static_cast<std::size_t>(config_.num_steps),
       static_cast<std::size_t>(kernels_.record_floats), static_cast<std::size_t>(kernels_.observation_dim), records,
       ends, lengths, now.environment_fields, now.episode, now.elapsed});
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
      environment->field ? formatted(" ({})", kernels_.field_names[*environment->field]) : "", stopped, replay);
}

}  // namespace perilune
