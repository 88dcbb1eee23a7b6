// One training iteration: its arrays, what each launch is given, and the order of launches. The trainer, bench_kernels
// and the tests of whole iterations run it, each in memory and with hyper-parameters of its own.
//
// Rollout, normalisation where there is any, advantages, then updates: either epochs over shuffled minibatches, actor
// and critic in each (joint), or policy iterations and then value iterations over the whole batch (separate).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/api.hpp"
#include "kernels/phases.hpp"

namespace perilune {

/// Device memory of an iteration. Shapes as in api.hpp.
struct IterationArrays {
  Control* control;                                       ///< [1]
  float* parameters;                                      ///< [parameter count + statistics]
  float *first_moment, *second_moment;                    ///< [parameter count]
  float* environment_fields;                              ///< [state fields][N]
  std::uint32_t *episode, *elapsed;                       ///< [N]
  float* episode_return;                                  ///< [N]
  float *ended_episodes, *ended_returns, *ended_lengths;  ///< [N], in this iteration
  float* records;                                         ///< [T][N][record floats]
  float* rewards;                                         ///< [T][N]
  float* advantages;                                      ///< [T][N]; may be the rewards array
  float* values;                                          ///< [T + 1][N]; after gae, rows 0..T-1 are the value targets
  std::uint8_t* ends;                                     ///< [T][N]
  float* batch_moments;                                   ///< [kBatchMoments][gae blocks]
  float* chunk_moments;                                   ///< [moment chunks][kChunkMoments][epochs][minibatches]
  float* advantage_scales;                                ///< [epochs][minibatches][2]
  float* partial_gradients;                               ///< [P][parameter count]
  float* gradient;                                        ///< [parameter count]; with P = 1 the partial gradient itself
  float* loss_sums;                                       ///< [kLossSums][P]
  float* square_sums;                                     ///< [reduce blocks]
  AdamStep* adam_step;                                    ///< [1]
  float* running;                                         ///< [kMetrics]
  std::uint32_t *first_sample, *first_episode;            ///< [N]; of whole episodes alone, as the next
  std::uint32_t* samples;                                 ///< [T][N]
  float* workspace;                                       ///< of layer-by-layer networks
  float *observation_rest, *return_rest;                  ///< of their RunningStatistics
  float* discounted_return;                               ///< [N]
  float* bootstraps;                                      ///< [T][N]
  float* statistics_moments;                              ///< [statistics_moments(largest)][gae blocks]
};

/// How large they are.
struct IterationSizes {
  std::size_t envs, steps;  ///< N, T
  std::size_t state_fields, record_floats;
  std::size_t parameters;           ///< of both networks
  std::size_t epochs, minibatches;  ///< whose advantages are normalised apart
  std::size_t partials;             ///< P
  std::size_t gae_blocks, moment_chunks, reduce_blocks;
  std::size_t workspace;
  std::size_t statistics;             ///< floats behind the parameters
  std::size_t observations, returns;  ///< numbers that have statistics: 0 if they are not normalised
  bool whole_episodes = false;
};

/// What is known of an array besides its type.
struct ArrayInfo {
  const char* name;  ///< as listings of memory show it
  std::vector<std::size_t> shape;
  /// The array is part of what an interrupted run needs to go on with the same bits, under this name; null: it is not.
  const char* kept_as = nullptr;
  /// It is kept as a tensor of each layer, and kept_as stands before their names.
  bool by_layer = false;
};

/// Calls f(info, pointer) for each array that has memory of its own. This list is the only one: memory, checkpoints and
/// what is resumed follow from it.
template <class F>
void for_each_array(const IterationSizes& s, IterationArrays& a, F&& f) {
  const std::vector<std::size_t> floats = {s.parameters}, envs = {s.envs};
  f(ArrayInfo{"control", {1}}, a.control);
  f(ArrayInfo{"parameters", {s.parameters + s.statistics}, "", true}, a.parameters);
  f(ArrayInfo{"first moment", floats, "optimizer.exp_avg.", true}, a.first_moment);
  f(ArrayInfo{"second moment", floats, "optimizer.exp_avg_sq.", true}, a.second_moment);
  f(ArrayInfo{"environment fields", {s.state_fields, s.envs}, "environments.fields"}, a.environment_fields);
  f(ArrayInfo{"episode index", envs, "environments.episode"}, a.episode);
  f(ArrayInfo{"elapsed steps", envs, "environments.elapsed"}, a.elapsed);
  f(ArrayInfo{"episode return", envs, "environments.episode_return"}, a.episode_return);
  f(ArrayInfo{"episodes ended", envs}, a.ended_episodes);
  f(ArrayInfo{"returns ended", envs}, a.ended_returns);
  f(ArrayInfo{"lengths ended", envs}, a.ended_lengths);
  f(ArrayInfo{"records", {s.steps, s.envs, s.record_floats}}, a.records);
  f(ArrayInfo{"rewards, advantages", {s.steps, s.envs}}, a.rewards);
  f(ArrayInfo{"values, targets", {s.steps + 1, s.envs}}, a.values);
  f(ArrayInfo{"episode ends", {s.steps, s.envs}}, a.ends);
  f(ArrayInfo{"batch moments", {kBatchMoments, s.gae_blocks}}, a.batch_moments);
  f(ArrayInfo{"minibatch moments", {s.moment_chunks, kChunkMoments, s.epochs, s.minibatches}}, a.chunk_moments);
  f(ArrayInfo{"advantage scales", {s.epochs, s.minibatches, 2}}, a.advantage_scales);
  f(ArrayInfo{"partial gradients", {s.partials, s.parameters}}, a.partial_gradients);
  // The sum of one partial is that partial: it stays in place, which spares a pass over memory.
  if (s.partials > 1) f(ArrayInfo{"gradient", floats}, a.gradient);
  f(ArrayInfo{"loss sums", {kLossSums, s.partials}}, a.loss_sums);
  f(ArrayInfo{"square sums", {s.reduce_blocks}}, a.square_sums);
  f(ArrayInfo{"Adam step", {1}}, a.adam_step);
  f(ArrayInfo{"running metrics", {kMetrics}}, a.running);
  if (s.whole_episodes) {
    f(ArrayInfo{"first samples", envs}, a.first_sample);
    f(ArrayInfo{"first episodes", envs}, a.first_episode);
    f(ArrayInfo{"samples", {s.steps, s.envs}}, a.samples);
  }
  f(ArrayInfo{"workspace", {s.workspace}}, a.workspace);
  if (s.observations > 0) {
    f(ArrayInfo{"statistics' last bits", {2 * s.observations + 1}, "normalization.obs_rest"}, a.observation_rest);
  }
  if (s.returns > 0) {
    f(ArrayInfo{"returns' last bits", {2 * s.returns + 1}, "normalization.return_rest"}, a.return_rest);
    f(ArrayInfo{"discounted returns", envs, "environments.discounted_return"}, a.discounted_return);
    f(ArrayInfo{"bootstraps", {s.steps, s.envs}}, a.bootstraps);
  }
  if (const std::size_t largest = std::max(s.observations, s.returns); largest > 0) {
    const auto rows = static_cast<std::size_t>(statistics_moments(static_cast<std::int32_t>(largest)));
    f(ArrayInfo{"statistics' moments", {rows, s.gae_blocks}}, a.statistics_moments);
  }
}

/// The same for those that are kept, which are of floats or counts.
template <class F>
void for_each_kept_array(const IterationSizes& sizes, IterationArrays& arrays, F&& f) {
  for_each_array(sizes, arrays, [&]<class T>(const ArrayInfo& info, T*& array) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, std::uint32_t>) {
      if (info.kept_as != nullptr) f(info, array);
    }
  });
}

/// As what learning rates that follow the KL divergence are kept: the actor's and the critic's.
inline constexpr const char* kLearningRatesName = "optimizer.learning_rates";

/// Once those have memory: the arrays that share it.
inline void share_arrays(const IterationSizes& sizes, IterationArrays& arrays) {
  arrays.advantages = arrays.rewards;
  if (sizes.partials == 1) arrays.gradient = arrays.partial_gradients;
}

/// What of Control is kept, as kept_as: calls f(name, where two floats are). f takes std::array<float*, 2>.
template <class F>
void for_each_kept_control(Control& control, Anneal anneal_lr, F&& f) {
  f("optimizer.actor_correction", {&control.actor_correction[0], &control.actor_correction[1]});
  f("optimizer.critic_correction", {&control.critic_correction[0], &control.critic_correction[1]});
  if (anneal_lr == Anneal::kKl) f(kLearningRatesName, {&control.actor_learning_rate, &control.critic_learning_rate});
}

/// One update of parameters.
struct Minibatch {
  Losses losses = Losses::kBoth;
  std::int32_t epoch = 0, index = 0;
  bool last_of_epoch = true;  ///< a KL stop after an epoch is looked at
  bool decay_after = false;   ///< learning rates decay by epoch_lr_decay for the minibatches after this one
};

struct Iteration {
  const Machine* machine;
  const Kernels* kernels;
  Hyperparameters hyper;
  Network actor, critic;               ///< where they normalise their inputs, both by the same statistics
  StatisticsPlace returns{};           ///< of discounted returns, where rewards are normalised
  std::int32_t statistics_floats = 0;  ///< of all statistics, which lie behind the networks' parameters
  std::int32_t num_envs, num_steps;
  /// Above 0: the batch is of whole episodes, of at least so many steps together, and num_steps is how many there is
  /// room for, episode_rows().
  std::int32_t whole_steps = 0;
  std::uint64_t total_steps = 0;  ///< over which values are annealed then
  std::uint32_t max_episode_steps;
  bool truncate_at_end = false;
  float env_parameters[kMaxEnvParameters] = {};
  RngKey key;
  UpdateMode update_mode = UpdateMode::kJoint;
  std::int32_t num_minibatches = 1, update_epochs = 1;       ///< kJoint, else 1
  std::int32_t policy_iterations = 0, value_iterations = 0;  ///< kSeparate
  std::int32_t partials = 1;                                 ///< P, at most most_partials()
  std::int32_t workspace_columns = 1;                        ///< of layer-by-layer networks
  IterationArrays arrays{};
  IterationMetrics* ring = nullptr;  ///< [kMetricsRing], memory the host can read
  float* episode_returns = nullptr;  ///< of whole episodes: [kReturnsRing][T][N], memory the host can read

  /// Of whole episodes, the most that there may be.
  std::int32_t batch_size() const { return num_envs * num_steps; }
  std::int32_t minibatch_size() const { return batch_size() / num_minibatches; }
  std::int32_t parameter_count() const { return critic.end; }

  /// As many as there are tiles of a minibatch for, and as the kernels should use.
  std::int32_t most_partials() const {
    const int tiles = (minibatch_size() + kernels->update_tile - 1) / kernels->update_tile;
    return std::min(tiles, kernels->max_partials(std::max(actor.depth, critic.depth)));
  }

  IterationSizes sizes() const {
    const auto size = [](std::int32_t x) { return static_cast<std::size_t>(x); };
    return {.envs = size(num_envs),
            .steps = size(num_steps),
            .state_fields = kernels->environment->field_names.size(),
            .record_floats = size(kernels->record_floats),
            .parameters = size(parameter_count()),
            .epochs = size(update_epochs),
            .minibatches = size(num_minibatches),
            .partials = size(partials),
            .gae_blocks = size(machine->gae_blocks(num_envs)),
            .moment_chunks = size(machine->moment_chunks(minibatch_size())),
            .reduce_blocks = size(machine->reduce_blocks(parameter_count())),
            .workspace = workspace_floats(),
            .statistics = size(statistics_floats),
            .observations = size(actor.inputs.size),
            .returns = size(returns.size),
            .whole_episodes = whole_steps > 0};
  }

  EnvironmentBatch environments() const {
    EnvironmentBatch batch{.fields = arrays.environment_fields,
                           .episode = arrays.episode,
                           .elapsed = arrays.elapsed,
                           .episode_return = arrays.episode_return,
                           .count = num_envs,
                           .max_episode_steps = max_episode_steps,
                           .parameters = {},
                           .key = key};
    std::copy(std::begin(env_parameters), std::end(env_parameters), batch.parameters);
    return batch;
  }
  EpisodeSums episodes() const { return {arrays.ended_episodes, arrays.ended_returns, arrays.ended_lengths}; }
  Workspace workspace() const { return {arrays.workspace, workspace_columns}; }
  Sampling sampling(std::int32_t epoch) const {
    return {.batch_size = batch_size(),
            .minibatch_size = minibatch_size(),
            .shuffled = update_mode == UpdateMode::kJoint ? 1u : 0u,
            .epoch = static_cast<std::uint32_t>(epoch),
            .key = key,
            .samples = whole_steps > 0 ? arrays.samples : nullptr};
  }
  WholeEpisodes whole() const {
    if (whole_steps == 0) return {};
    return {whole_steps, arrays.control, arrays.first_sample, arrays.first_episode, arrays.samples, episode_returns};
  }

  BeginIterationArgs begin_args() const { return {hyper, arrays.control, arrays.running, total_steps}; }

  RolloutArgs rollout_args() const {
    return {.hyper = hyper,
            .environments = environments(),
            .episodes = episodes(),
            .parameters = arrays.parameters,
            .actor = actor,
            .critic = critic,
            .num_steps = num_steps,
            .truncate_at_end = truncate_at_end ? 1u : 0u,
            .records = arrays.records,
            .rewards = arrays.rewards,
            .values = arrays.values,
            .ends = arrays.ends,
            .truncations = nullptr,
            .bootstraps = returns.size > 0 ? arrays.bootstraps : nullptr,
            .workspace = workspace(),
            .whole = whole()};
  }

  RunningStatistics statistics(const StatisticsPlace& place, float* rest) const {
    float* const all = arrays.parameters;
    return {place.size, all + place.mean, all + place.variance, all + place.count, rest};
  }

  NormalizeObservationsArgs normalize_observations_args() const {
    return {.control = arrays.control,
            .statistics = statistics(actor.inputs, arrays.observation_rest),
            .clip = actor.input_clip,
            .record_floats = kernels->record_floats,
            .records = arrays.records,
            .moments = arrays.statistics_moments,
            .count = num_envs,
            .num_steps = num_steps,
            .running = arrays.running};
  }

  DiscountRewardsArgs discount_rewards_args() const {
    return {.hyper = hyper,
            .control = arrays.control,
            .statistics = statistics(returns, arrays.return_rest),
            .rewards = arrays.rewards,
            .ends = arrays.ends,
            .discounted_return = arrays.discounted_return,
            .moments = arrays.statistics_moments,
            .count = num_envs,
            .num_steps = num_steps,
            .running = arrays.running};
  }

  ScaleRewardsArgs scale_rewards_args() const {
    return {.hyper = hyper,
            .statistics = statistics(returns, arrays.return_rest),
            .rewards = arrays.rewards,
            .bootstraps = arrays.bootstraps,
            .batch_size = batch_size()};
  }

  GaeArgs gae_args() const {
    return {.hyper = hyper,
            .control = arrays.control,
            .rewards = arrays.rewards,
            .values = arrays.values,
            .ends = arrays.ends,
            .advantages = arrays.advantages,
            .moments = arrays.batch_moments,
            .count = num_envs,
            .num_steps = num_steps,
            .lengths = whole_steps > 0 ? arrays.ended_lengths : nullptr};
  }

  /// Of every minibatch of the iteration at once: advantages do not change between epochs, only their order.
  AdvantageMomentsArgs advantage_moments_args() const {
    return {.sampling = sampling(0),
            .control = arrays.control,
            .advantages = arrays.advantages,
            .moments = arrays.chunk_moments,
            .scales = arrays.advantage_scales,
            .num_minibatches = num_minibatches,
            .num_epochs = update_epochs,
            .epsilon = hyper.norm_adv_epsilon};
  }

  UpdateArgs update_args(const Minibatch& minibatch) const {
    return {.sampling = sampling(minibatch.epoch),
            .hyper = hyper,
            .control = arrays.control,
            .losses = minibatch.losses,
            .minibatch = minibatch.index,
            .partials = partials,
            .parameters = arrays.parameters,
            .actor = actor,
            .critic = critic,
            .records = arrays.records,
            .advantages = arrays.advantages,
            .targets = arrays.values,
            .scales = arrays.advantage_scales + std::ptrdiff_t{minibatch.epoch} * num_minibatches * 2,
            .gradients = arrays.partial_gradients,
            .sums = arrays.loss_sums,
            .workspace = workspace()};
  }

  ReduceGradientsArgs reduce_args(const Minibatch& minibatch) const {
    return {.hyper = hyper,
            .control = arrays.control,
            .losses = minibatch.losses,
            .minibatch_size = whole_steps > 0 ? 0 : minibatch_size(),
            .partials = partials,
            .parameter_count = parameter_count(),
            .begin = begin_of(minibatch.losses),
            .end = end_of(minibatch.losses),
            .actor_end = actor.end,
            .last_of_epoch = minibatch.last_of_epoch ? 1u : 0u,
            .decay_after = minibatch.decay_after ? 1u : 0u,
            .gradients = arrays.partial_gradients,
            .sums = arrays.loss_sums,
            .gradient = arrays.gradient,
            .square_sums = arrays.square_sums,
            .step = arrays.adam_step,
            .running = arrays.running};
  }

  ApplyGradientsArgs apply_args(const Minibatch& minibatch) const {
    return {.hyper = hyper,
            .step = arrays.adam_step,
            .gradient = arrays.gradient,
            .begin = begin_of(minibatch.losses),
            .end = end_of(minibatch.losses),
            .actor_end = actor.end,
            .parameters = arrays.parameters,
            .first_moment = arrays.first_moment,
            .second_moment = arrays.second_moment};
  }

  EndIterationArgs end_args() const {
    return {.control = arrays.control,
            .episodes = episodes(),
            .running = arrays.running,
            .ring = ring,
            .count = num_envs,
            .batch_size = whole_steps > 0 ? 0 : batch_size()};
  }

 private:
  std::int32_t begin_of(Losses losses) const { return losses == Losses::kValue ? critic.begin : actor.begin; }
  std::int32_t end_of(Losses losses) const { return losses == Losses::kPolicy ? actor.end : critic.end; }

  /// Both launchers look at sizes alone.
  std::size_t workspace_floats() const {
    if (kernels->rollout_workspace == nullptr) return 0;
    return std::max(kernels->rollout_workspace(rollout_args()), kernels->update_workspace(update_args({})));
  }
};

/// Partial gradients, their sum and the verdict, Adam. Scopes: see launch_iteration.
template <class Scopes>
void launch_minibatch(const Iteration& iteration, const Minibatch& minibatch, Scopes& scopes, Queue& queue) {
  {
    [[maybe_unused]] const auto scope = scopes.mark(Phase::kGradient);
    iteration.kernels->update(iteration.update_args(minibatch), queue);
  }
  {
    [[maybe_unused]] const auto scope = scopes.mark(Phase::kReduce);
    iteration.machine->reduce_gradients(iteration.reduce_args(minibatch), queue);
  }
  [[maybe_unused]] const auto scope = scopes.mark(Phase::kApply);
  iteration.machine->apply_gradients(iteration.apply_args(minibatch), queue);
}

/// Epochs over shuffled minibatches, actor and critic in each. A KL stop skips the epochs after it.
template <class Scopes>
void launch_joint_epochs(const Iteration& iteration, Scopes& scopes, Queue& queue) {
  for (int epoch = 0; epoch < iteration.update_epochs; ++epoch) {
    const auto launch = [&, epoch](Queue& inner) {
      for (int index = 0; index < iteration.num_minibatches; ++index) {
        const bool last = index + 1 == iteration.num_minibatches;
        launch_minibatch(iteration,
                         {.epoch = epoch,
                          .index = index,
                          .last_of_epoch = last,
                          .decay_after = last && epoch + 1 < iteration.update_epochs},
                         scopes, inner);
      }
    };
    if (epoch > 0 && iteration.hyper.target_kl > 0.0f) {
      scopes.unless_stopped(queue, iteration.arrays.control, launch);
    } else {
      launch(queue);
    }
  }
}

/// Policy iterations and then value iterations, each over the whole batch. A KL stop skips the policy iterations after
/// it.
template <class Scopes>
void launch_separate_iterations(const Iteration& iteration, Scopes& scopes, Queue& queue) {
  // One condition for several iterations: on a GPU it costs about as much as an iteration that does nothing.
  constexpr int kGroup = 8;
  for (int first = 0; first < iteration.policy_iterations; first += kGroup) {
    const int last = std::min(first + kGroup, iteration.policy_iterations);
    const auto launch = [&, first, last](Queue& inner) {
      for (int i = first; i < last; ++i) launch_minibatch(iteration, {.losses = Losses::kPolicy}, scopes, inner);
    };
    if (first > 0 && iteration.hyper.target_kl > 0.0f) {
      scopes.unless_stopped(queue, iteration.arrays.control, launch);
    } else {
      launch(queue);
    }
  }
  for (int i = 0; i < iteration.value_iterations; ++i) {
    launch_minibatch(iteration, {.losses = Losses::kValue}, scopes, queue);
  }
}

/// Steps of each environment after which the episodes that have ended are of `least` together at the latest: all but
/// the last max_episode_steps - 1 of each are of such.
constexpr std::int64_t episode_rows(std::int64_t least, std::int64_t envs, std::int64_t max_episode_steps) {
  return (least + envs - 1) / envs + max_episode_steps - 1;
}

/// Whole episodes: once there are enough, what is left of the steps is skipped.
template <class Scopes>
void launch_episodes(const Iteration& iteration, Scopes& scopes, Queue& queue) {
  // One condition for several steps: on a GPU it costs about as much as a kernel.
  constexpr int kGroup = 16;
  const RolloutArgs args = iteration.rollout_args();
  const Kernels& kernels = *iteration.kernels;
  kernels.begin_episodes(args, queue);
  for (int first = 0; first < iteration.num_steps; first += kGroup) {
    const int last = std::min(first + kGroup, iteration.num_steps);
    const auto launch = [&, first, last](Queue& inner) { kernels.run_episodes(args, first, last, inner); };
    if (first > 0) {
      scopes.unless_stopped(queue, iteration.arrays.control, launch);
    } else {
      launch(queue);
    }
  }
  kernels.end_episodes(args, queue);
}

/// Launches an iteration. Scopes: mark(phase) returns what ends the phase in its destructor, and unless_stopped(queue,
/// control, f) launches what f(queue) launches, to be skipped on the device once `control` says stop.
template <class Scopes>
void launch_iteration(const Iteration& iteration, Scopes& scopes, Queue& queue) {
  const Machine& machine = *iteration.machine;
  machine.begin_iteration(iteration.begin_args(), queue);
  {
    [[maybe_unused]] const auto scope = scopes.mark(Phase::kRollout);
    if (iteration.whole_steps > 0) {
      launch_episodes(iteration, scopes, queue);
    } else {
      iteration.kernels->rollout(iteration.rollout_args(), queue);
    }
  }
  {
    [[maybe_unused]] const auto scope = scopes.mark(Phase::kGae);
    if (iteration.actor.inputs.size > 0) machine.normalize_observations(iteration.normalize_observations_args(), queue);
    if (iteration.returns.size > 0) {
      machine.discount_rewards(iteration.discount_rewards_args(), queue);
      machine.scale_rewards(iteration.scale_rewards_args(), queue);
    }
    machine.gae(iteration.gae_args(), queue);
  }
  {
    [[maybe_unused]] const auto scope = scopes.mark(Phase::kUpdate);
    if (iteration.hyper.norm_adv == Normalization::kMinibatch)
      machine.advantage_moments(iteration.advantage_moments_args(), queue);
    if (iteration.update_mode == UpdateMode::kJoint) {
      launch_joint_epochs(iteration, scopes, queue);
    } else {
      launch_separate_iterations(iteration, scopes, queue);
    }
  }
  machine.end_iteration(iteration.end_args(), queue);
}

}  // namespace perilune
