// What no single key can tell about a configuration: combinations that are refused, and those that are warned of.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/settings/config.hpp"
#include "host/settings/environment_settings.hpp"
#include "kernels/api.hpp"

namespace perilune {
namespace {

// Of whole episodes: how many there are only shows as they end, which goes with nothing that must know it before.
void validate_whole_episodes(const Config& config) {
  if (!has_whole_episodes(config)) {
    if (!config.log_episodes) return;
    throw UsageError(
        "log_episodes = true is for batch_mode = episodes, which alone has episodes in order - set that, or "
        "log_episodes = false");
  }
  if (config.truncate_at_rollout_end) {
    throw UsageError(
        "truncate_at_rollout_end = true has no meaning with batch_mode = episodes, whose rollouts cut no episode - set "
        "one of them back");
  }
  if (config.update_mode == UpdateMode::kJoint && config.num_minibatches != 1) {
    throw UsageError(
        formatted("num_minibatches = {} does not fit batch_mode = episodes, whose batches are of any size - allowed: 1 "
                  "- set num_minibatches = 1, or batch_mode = steps",
                  config.num_minibatches));
  }
  if (config.fused == Config::Fused::kTrue) {
    throw UsageError(
        "fused = true does not go with batch_mode = episodes: fused kernels run a fixed number of steps - set fused = "
        "auto, which trains layer by layer, or batch_mode = steps");
  }
  if (config.norm_obs || config.norm_reward) {
    throw UsageError(
        formatted("{} = true does not go with batch_mode = episodes: statistics are of every step of a rollout, and "
                  "whole episodes leave some out - set {} = false, or batch_mode = steps",
                  config.norm_obs ? "norm_obs" : "norm_reward", config.norm_obs ? "norm_obs" : "norm_reward"));
  }
  // Lengths of episodes are summed in float32.
  constexpr std::int64_t kMostRows = 1 << 24;
  constexpr std::int64_t kMostSamples = std::numeric_limits<int>::max();
  if (most_rows(config) > kMostRows || most_samples(config) > kMostSamples) {
    throw UsageError(formatted(
        "batch_mode = episodes with num_steps = {}, num_envs = {} and episodes of up to {} steps needs room "
        "for {} steps of each environment - allowed: up to {}, and {} of all together - lower "
        "max_episode_steps, num_steps or num_envs",
        config.num_steps, config.num_envs, episode_limit(config), most_rows(config), kMostRows, kMostSamples));
  }
}

void validate_batch(const Config& config) {
  const std::int64_t batch = batch_size(config);
  const std::string product = has_whole_episodes(config) ? formatted("num_steps = {}", batch)
                                                         : formatted("num_envs * num_steps = {} * {} = {}",
                                                                     config.num_envs, config.num_steps, batch);
  if (batch > std::numeric_limits<int>::max()) {
    throw UsageError(
        formatted("{} is too large - allowed: up to {} - lower one of them", product, std::numeric_limits<int>::max()));
  }
  if (batch > config.total_timesteps) {
    throw UsageError(
        formatted("total_timesteps = {} is less than one iteration, {} - raise total_timesteps, or lower "
                  "num_envs or num_steps",
                  config.total_timesteps, product));
  }
  if (iteration_count(config) > std::numeric_limits<std::uint32_t>::max()) {
    throw UsageError(
        formatted("total_timesteps = {} are {} iterations of {} - allowed: up to {} iterations - lower "
                  "total_timesteps, or raise num_envs or num_steps",
                  config.total_timesteps, iteration_count(config), product, std::numeric_limits<std::uint32_t>::max()));
  }
  if (config.update_mode == UpdateMode::kJoint && batch % config.num_minibatches != 0) {
    std::int64_t below = std::min<std::int64_t>(config.num_minibatches, batch);
    while (batch % below != 0) --below;
    std::int64_t above = config.num_minibatches;
    while (above < batch && batch % above != 0) ++above;
    throw UsageError(formatted("{} is not divisible by num_minibatches = {} - the nearest that divide it are {} and {}",
                               product, config.num_minibatches, below, std::min(above, batch)));
  }
}

void validate_update_mode(const Config& config) {
  const bool separate = config.update_mode == UpdateMode::kSeparate;
  if (separate && config.epoch_lr_decay != 1.0) {
    throw UsageError(
        formatted("epoch_lr_decay = {} has no meaning with update_mode = separate, which has no epochs - "
                  "set epoch_lr_decay = 1 or update_mode = joint",
                  shortest_text(config.epoch_lr_decay)));
  }
  if (config.target_kl > 0.0 && separate != (config.kl_stop == KlStop::kIteration)) {
    throw UsageError(
        formatted("kl_stop = {} does not fit update_mode = {} - allowed: joint with epoch or minibatch, separate with "
                  "iteration - change one of them, or set target_kl = 0",
                  value_text(config, "kl_stop"), value_text(config, "update_mode")));
  }
}

// A Gaussian policy's keys say nothing where actions are discrete.
void validate_policy(const Config& config) {
  const EnvironmentInfo& environment = find_environment(config.env_id);
  if (environment.action_space.continuous) return;
  for (const KeyInfo& key : config_keys()) {
    if (!is_gaussian_key(key.name) || value_of(config, key.name) == key.default_value) continue;
    throw UsageError(
        formatted("{} = {} is for continuous actions, those of {} are discrete ({} choices) - leave it out, or "
                  "choose an environment with continuous actions",
                  key.name, value_text(config, key.name), environment.id, environment.action_space.size));
  }
}

void validate_target(const Config& config) {
  if (!config.target_return) return;
  const std::string target = shortest_text(*config.target_return);
  if (config.eval_every == 0) {
    throw UsageError(
        formatted("target_return = {} is never looked at with eval_every = 0 - set eval_every to the "
                  "iterations between evaluations, or target_return = none",
                  target));
  }
  const std::optional<double> highest = highest_return(config);
  if (highest && *config.target_return > *highest) {
    throw UsageError(
        formatted("target_return = {} is more than any episode can return in {} - allowed: none, or up to {} - lower "
                  "it, or change "
                  "the task",
                  target, task_text(config), shortest_text(*highest)));
  }
}

// anneal_lr = kl: rates that begin where they may be, and nothing else that changes them.
void validate_adaptive_rates(const Config& config) {
  if (config.anneal_lr != Anneal::kKl) return;
  const std::string range = formatted("{} .. {}, from min_learning_rate to max_learning_rate",
                                      shortest_text(config.min_learning_rate), shortest_text(config.max_learning_rate));
  if (config.min_learning_rate > config.max_learning_rate) {
    throw UsageError(
        formatted("min_learning_rate = {} is above max_learning_rate = {} - allowed: up to it - lower one or "
                  "raise the other",
                  shortest_text(config.min_learning_rate), shortest_text(config.max_learning_rate)));
  }
  const std::pair<std::string_view, double> rates[] = {{"learning_rate", config.learning_rate},
                                                       {"critic_learning_rate", critic_learning_rate(config)}};
  for (const auto& [key, rate] : rates) {
    if (rate >= config.min_learning_rate && rate <= config.max_learning_rate) continue;
    throw UsageError(formatted("{} = {} is beyond what anneal_lr = kl may set - allowed: {} - change one of them", key,
                               shortest_text(rate), range));
  }
  if (config.epoch_lr_decay != 1.0) {
    throw UsageError(formatted(
        "epoch_lr_decay = {} does not go with anneal_lr = kl, which carries rates from iteration to iteration - "
        "allowed: 1 - set epoch_lr_decay = 1 or another anneal_lr",
        shortest_text(config.epoch_lr_decay)));
  }
}

void validate_learning(const Config& config) {
  if (config.learning_rate > 0.0 || config.critic_learning_rate > 0.0) return;
  throw UsageError(
      "learning_rate = 0 changes no weight, and critic_learning_rate = 0 is the same - allowed: above 0 - set "
      "learning_rate (a policy is played without training by perilune eval)");
}

// fused = true: layers of one size without an activation behind the last one, and kernels for it.
void require_fused(const Config& config, std::span<const int> widths) {
  if (config.output_activation != OutputActivation::kNone) {
    throw UsageError(
        formatted("output_activation = {} has no fused kernels - allowed with fused = true: none - set fused = auto, "
                  "which goes layer by layer, or output_activation = none",
                  value_text(config, "output_activation")));
  }
  const std::vector<int> sizes = layer_sizes(config);
  const bool uniform = std::count(sizes.begin(), sizes.end(), sizes[0]) == static_cast<std::ptrdiff_t>(sizes.size());
  if (uniform && sizes.size() <= kMaxFusedLayers && std::find(widths.begin(), widths.end(), sizes[0]) != widths.end()) {
    return;
  }
  throw UsageError(
      formatted("hidden layers of {} units have no fused kernels - allowed with fused = true: 1 to {} layers "
                "of {} - choose one of them, or set fused = auto",
                joined(sizes), kMaxFusedLayers, joined(widths, " or ")));
}

// A setting that does nothing, why, and what would make it do something.
struct Idle {
  bool is_idle;
  std::string_view key;
  std::string_view why;
  std::string_view remedy;
};

std::vector<Idle> idle_settings(const Config& config) {
  const bool separate = config.update_mode == UpdateMode::kSeparate, no_kl = config.target_kl == 0.0;
  const bool one_step = config.num_steps == 1 && !has_whole_episodes(config), myopic = config.gamma == 0.0;
  const bool no_wind = value_of(config, "env.enable_wind") == Value(false);
  const std::int64_t iterations = iteration_count(config);
  constexpr std::string_view kJoint = "set update_mode = joint", kSeparate = "set update_mode = separate";
  constexpr std::string_view kFull = "with update_mode = separate every update takes the whole batch";
  constexpr std::string_view kMinibatches = "with update_mode = joint the batch is trained on in minibatches";
  constexpr std::string_view kNoKl = "with target_kl = 0 no update is stopped";
  const bool fixed_rates = config.anneal_lr != Anneal::kKl;
  constexpr std::string_view kNoAdaption = "with another anneal_lr than kl no learning rate is adapted",
                             kAdapt = "set anneal_lr = kl";
  constexpr std::string_view kCalm = "with env.enable_wind = false the air is still";
  constexpr std::string_view kShort = "the run has fewer iterations", kLonger = "lower it, or raise total_timesteps";
  return {
      {separate, "num_minibatches", kFull, kJoint},
      {separate, "update_epochs", kFull, kJoint},
      {!separate, "policy_iterations", kMinibatches, kSeparate},
      {!separate, "value_iterations", kMinibatches, kSeparate},
      {!separate && config.update_epochs == 1, "epoch_lr_decay", "it decays between epochs, and update_epochs = 1",
       "raise update_epochs"},
      {iterations == 1 && config.anneal_lr != Anneal::kKl, "anneal_lr",
       "the run is one iteration, which has the first value", "raise total_timesteps"},
      {fixed_rates, "desired_kl", kNoAdaption, kAdapt},
      {fixed_rates, "min_learning_rate", kNoAdaption, kAdapt},
      {fixed_rates, "max_learning_rate", kNoAdaption, kAdapt},
      {iterations == 1, "anneal_clip_coef", "the run is one iteration, which has the first value",
       "raise total_timesteps"},
      {iterations == 1, "anneal_ent_coef", "the run is one iteration, which has the first value",
       "raise total_timesteps"},
      {iterations > 1 && config.ent_coef == 0.0, "anneal_ent_coef", "with ent_coef = 0 there is no entropy bonus",
       "set ent_coef"},
      {!config.clip_vloss, "clip_vloss_coef", "with clip_vloss = false the value loss is not clipped",
       "set clip_vloss = true"},
      {no_kl, "kl_stop", kNoKl, "set target_kl"},
      {no_kl, "kl_estimator", kNoKl, "set target_kl"},
      {one_step, "gae_lambda", "with num_steps = 1 there is no later step to weigh", "raise num_steps"},
      {!one_step && myopic, "gae_lambda", "with gamma = 0 no later step counts", "raise gamma"},
      {config.norm_adv == Normalization::kNone, "norm_adv_epsilon", "with norm_adv = none nothing is normalised",
       "set norm_adv"},
      {find_environment(config.env_id).action_space.continuous && !config.learn_std, "ent_coef",
       "with learn_std = false the entropy is constant", "set learn_std = true"},
      {config.eval_every > iterations, "eval_every", kShort, kLonger},
      {config.checkpoint_every > iterations, "checkpoint_every", kShort, kLonger},
      {config.eval_every > iterations, "target_return", "the run has fewer iterations than eval_every",
       "lower eval_every, or raise total_timesteps"},
      {!config.norm_obs, "clip_obs", "with norm_obs = false observations are taken as they are", "set norm_obs = true"},
      {!config.norm_reward, "clip_reward", "with norm_reward = false rewards are taken as they are",
       "set norm_reward = true"},
      {no_wind, "env.wind_power", kCalm, "set env.enable_wind = true"},
      {no_wind, "env.turbulence_power", kCalm, "set env.enable_wind = true"},
  };
}

// Terms of the loss that vanish, and tasks that differ between training and evaluation.
std::vector<std::string> contradictions(const Config& config) {
  std::vector<std::string> list;
  const bool joint = config.update_mode == UpdateMode::kJoint;
  const std::int64_t batch = batch_size(config);
  if (config.norm_adv != Normalization::kNone && advantage_normalization(config) == Normalization::kNone) {
    list.push_back(formatted(
        "norm_adv = {} normalises nothing: a {} is one sample, whose advantage less its mean would be 0 - {}, or set "
        "norm_adv = none",
        value_text(config, "norm_adv"), batch == 1 ? "batch" : "minibatch",
        batch == 1 ? std::string("raise num_envs or num_steps")
                   : formatted("lower num_minibatches to at most {}", batch / 2)));
  }
  if (config.learning_rate == 0.0)
    list.push_back("learning_rate = 0: the actor does not change, only the critic learns");
  const int policy_steps = joint ? config.num_minibatches * config.update_epochs : config.policy_iterations;
  if (config.anneal_lr == Anneal::kKl && policy_steps == 1) {
    list.push_back(
        formatted("anneal_lr = kl adapts nothing: an iteration's only policy step is of the policy that acted - {}, or "
                  "set anneal_lr = none",
                  joint ? "raise update_epochs or num_minibatches" : "raise policy_iterations"));
  }
  if (config.vf_coef == 0.0) {
    list.push_back("vf_coef = 0: the critic does not learn, advantages are measured against its initial values");
  }
  if (config.gamma == 0.0) list.push_back("gamma = 0: the policy learns to maximise its next reward alone");
  if (config.clip_coef == 0.0 && (!joint || config.num_minibatches > 1 || config.update_epochs > 1)) {
    list.push_back(
        "clip_coef = 0: after an iteration's first update no action is made more probable where that pays - set it "
        "above 0 (10 clips next to nothing)");
  }
  if (joint && config.epoch_lr_decay == 0.0 && config.update_epochs > 1) {
    list.push_back(
        "epoch_lr_decay = 0: only the first epoch of an iteration learns - set it above 0, or update_epochs = 1");
  }
  if (find_environment(config.env_id).action_space.continuous && config.log_std_init < -5.0) {
    list.push_back(
        formatted("log_std_init = {}: actions hardly vary, so that there is next to nothing to learn from - "
                  "set it above -5",
                  shortest_text(config.log_std_init)));
  }
  const auto limit = static_cast<std::int64_t>(episode_limit(config));
  if (has_whole_episodes(config) && config.num_envs > 1 && config.num_envs * limit > config.num_steps) {
    list.push_back(
        formatted("num_envs = {} with batch_mode = episodes: episodes that still run when there are num_steps = {} "
                  "steps of others "
                  "are dropped, so that of episodes of up to {} steps short ones are learned from more often than they "
                  "occur - lower "
                  "num_envs to 1, or raise num_steps",
                  config.num_envs, config.num_steps, limit));
  }
  if (config.truncate_at_rollout_end && config.num_steps < limit) {
    list.push_back(formatted(
        "truncate_at_rollout_end = true ends every episode of the training after num_steps = {} at the latest, while "
        "evaluations play up to {} steps - raise num_steps, or set max_episode_steps = {}",
        config.num_steps, limit, config.num_steps));
  }
  const EnvironmentInfo& environment = find_environment(config.env_id);
  const std::optional<double> highest = highest_return(config);
  if (highest && *highest < environment.solved_return) {
    list.push_back(formatted(
        "{} counts as solved at {}, but no episode of this task ({}) can return more than {}: this "
        "run cannot be found solved",
        environment.id, shortest_text(environment.solved_return), task_text(config), shortest_text(*highest)));
  }
  return list;
}

}  // namespace

void validate(const Config& config, std::span<const int> widths) {
  validate_environment(config);
  validate_policy(config);
  validate_whole_episodes(config);
  validate_batch(config);
  validate_update_mode(config);
  validate_learning(config);
  validate_adaptive_rates(config);
  validate_target(config);
  if (config.fused == Config::Fused::kTrue) require_fused(config, widths);
}

void require_fixed_kept(const Config& before, const Config& after, std::string_view source) {
  std::string here, there;
  for (const std::string& key : differing_keys(before, after)) {
    if (find_key(key).may_change) continue;
    here += formatted("{}{} = {}", here.empty() ? "" : ", ", key, value_text(after, key));
    there += formatted("{}{} = {}", there.empty() ? "" : ", ", key, value_text(before, key));
  }
  if (here.empty()) return;
  throw UsageError(
      formatted("{}, but {} has {}, which is fixed for a run - set it back, or begin another run with its "
                "weights by train --from",
                here, source, there));
}

std::vector<std::string> config_warnings(const Config& config, const Config& base) {
  std::vector<std::string> warnings = environment_warnings(config);
  const std::vector<std::string> changed = differing_keys(config, base);
  for (const Idle& idle : idle_settings(config)) {
    if (!idle.is_idle || std::find(changed.begin(), changed.end(), idle.key) == changed.end()) continue;
    warnings.push_back(formatted("{} = {} has no effect: {} - leave it out, or {}", idle.key,
                                 value_text(config, idle.key), idle.why, idle.remedy));
  }
  const std::vector<std::string> more = contradictions(config);
  warnings.insert(warnings.end(), more.begin(), more.end());
  return warnings;
}

}  // namespace perilune
