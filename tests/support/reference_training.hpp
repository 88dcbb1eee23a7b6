// Proximal policy optimisation as host/training/trainer.cpp runs it, naively and in double: one environment, one sample
// at a time.
//
// It shares with the kernels only what has tests of its own: the simulators, the counters of the random numbers, the
// order in which samples are visited, and where parameters lie. Simulators run in float32, whose bits are the same on
// every machine, so that the same actions lead to the same episodes.
#pragma once

#include <array>
#include <optional>

#include "host/networks/model.hpp"
#include "kernels/shuffle.hpp"
#include "sims/env.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {

/// What an iteration says of itself, by Metric: IterationMetrics in double.
using ReferenceMetrics = std::array<double, kMetrics>;

/// An environment's episode that is being played.
template <class E>
struct ReferenceEpisode {
  typename E::template State<float> state;
  std::uint32_t episode, elapsed;
  double total;
};

/// How far decisions were from going the other way, where rounding could have turned them: 1 is far enough.
class Closeness {
 public:
  void see(double distance, double allowed) { nearest_ = std::min(nearest_, std::abs(distance) / allowed); }
  double nearest() const { return nearest_; }

 private:
  double nearest_ = 1e9;
};

/// What a policy does in a state.
template <class E>
struct ReferenceAction {
  typename E::Action::template Value<float> action;
  int choice = 0;
  Vector numbers;
  double log_probability = 0.0;
};

inline std::vector<double> to_double(const std::vector<float>& x) { return {x.begin(), x.end()}; }

inline Networks reference_networks(const Config& config) {
  const Model model = model_of(config);
  const EnvironmentInfo& environment = find_environment(config.env_id);
  return {{model.actor, environment.observation_dim(), environment.action_space.size},
          {model.critic, environment.observation_dim(), 1},
          model.critic.end};
}

/// greedy: the most probable choice, or the mean.
template <class E>
ReferenceAction<E> reference_action(const Mlp& actor, const Vector& parameters, const Vector& observation, bool greedy,
                                    CounterRandom<float> random, Closeness& closeness) {
  ReferenceAction<E> result;
  const Vector outputs = actor.forward(parameters, actor.given(parameters, observation)).back();
  if constexpr (E::Action::kContinuous) {
    const Vector log_std = actor.log_std(parameters);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const double drawn = greedy ? 0.0 : std::exp(log_std[i]) * double{random.normal()};
      result.action.at[i] = static_cast<float>(outputs[i] + drawn);
      result.numbers.push_back(outputs[i] + drawn);
    }
    result.log_probability = log_density(outputs, log_std, result.numbers);
  } else {
    const Vector log_p = log_softmax(outputs);
    const double u = random.uniform();
    double sum = 0.0;
    int best = 0;
    for (std::size_t i = 0; i + 1 < log_p.size(); ++i) {
      sum += std::exp(log_p[i]);
      if (u >= sum) result.choice = static_cast<int>(i) + 1;
      if (!greedy) closeness.see(u - sum, 3e-6);
      if (outputs[i + 1] > outputs[at(best)]) best = static_cast<int>(i) + 1;
    }
    for (std::size_t i = 0; greedy && i < outputs.size(); ++i) {
      if (static_cast<int>(i) != best) closeness.see(outputs[i] - outputs[at(best)], 1e-5);
    }
    if (greedy) result.choice = best;
    result.action = static_cast<std::uint32_t>(result.choice);
    result.log_probability = log_p[at(result.choice)];
  }
  return result;
}

template <class E>
Vector reference_observation(const typename E::Params& params, const typename E::template State<float>& state) {
  float observation[E::kObsDim];
  E::observe(params, state, observation);
  return Vector(observation, observation + E::kObsDim);
}

/// A run of `config` from these first parameters.
template <class E>
class ReferenceTraining {
 public:
  ReferenceTraining(const Config& config, const std::vector<float>& first_parameters)
      : networks(reference_networks(config)),
        parameters(to_double(first_parameters)),
        config_(config),
        key_{static_cast<std::uint32_t>(config.seed), kTrainingStream},
        batch_(config.num_envs * config.num_steps),
        first_moment_(parameters.size(), 0.0),
        second_moment_(parameters.size(), 0.0),
        actor_adam_{config.adam_beta1, config.adam_beta2, config.adam_epsilon},
        critic_adam_(actor_adam_) {
    float values[kMaxEnvParameters] = {};
    int count = 0;
    for (const EnvironmentParameter& parameter : find_environment(config.env_id).parameters) {
      values[count++] = static_cast<float>(env_parameter(config, parameter));
    }
    params_ = E::params(values);
    for (int n = 0; n < config.num_envs; ++n) episodes_.push_back(first(n, 0));
  }

  ReferenceMetrics iterate() {
    metrics_ = {};
    policy_minibatches_ = 0.0;
    const auto total = static_cast<double>(config_.total_timesteps);
    const double left = has_whole_episodes(config_) ? std::max(0.0, 1.0 - steps_ / total)
                                                    : 1.0 - iteration_ / std::ceil(total / batch_);
    const double lr = config_.anneal_lr == Anneal::kLinear ? left : 1.0;
    const double critic_rate = config_.critic_learning_rate > 0 ? config_.critic_learning_rate : config_.learning_rate;
    if (config_.anneal_lr != Anneal::kKl || iteration_ == 0) {
      actor_rate_ = config_.learning_rate * lr;
      critic_rate_ = critic_rate * lr;
    }
    settings_ = {config_.clip_coef * (config_.anneal_clip_coef == Anneal::kLinear ? left : 1.0),
                 config_.ent_coef * (config_.anneal_ent_coef == Anneal::kLinear ? left : 1.0), config_.vf_coef,
                 config_.clip_vloss};
    if (config_.clip_vloss_coef > 0)
      settings_.own_value_clip = config_.clip_vloss_coef * settings_.clip / config_.clip_coef;
    metrics_[Metric::kClipCoefficient] = settings_.clip;
    has_whole_episodes(config_) ? play_whole_episodes() : roll_out();
    steps_ += batch_;
    if (config_.update_mode == UpdateMode::kJoint) {
      update_jointly();
    } else {
      update_separately();
    }
    metrics_[Metric::kLearningRate] = actor_rate_;
    metrics_[Metric::kCriticLearningRate] = critic_rate_;
    if (policy_minibatches_ > 0) metrics_[Metric::kClipFraction] /= policy_minibatches_;
    ++iteration_;
    return metrics_;
  }

  /// Of the last iteration.
  int batch() const { return batch_; }
  const Vector& returns() const { return whole_returns_; }

  Networks networks;
  Vector parameters;
  Closeness closeness;

 private:
  ReferenceEpisode<E> first(int n, std::uint32_t episode) const {
    CounterRandom<float> random(key_, static_cast<std::uint32_t>(n), episode, 0, Purpose::kReset);
    return {E::template reset<float>(params_, random), episode, 0, 0.0};
  }
  double value_of(const Vector& observation) const {
    return networks.critic.forward(parameters, networks.critic.given(parameters, observation)).back()[0];
  }

  /// One episode after the other where there is one environment; several take their steps in turn, and what has not
  /// ended when there are enough steps is forgotten.
  void play_whole_episodes() {
    struct Episode {
      std::vector<Step> steps;
      std::vector<Sample> samples;
    };
    std::vector<std::vector<Episode>> played(at(config_.num_envs));
    for (int n = 0; n < config_.num_envs; ++n) {
      ReferenceEpisode<E>& mine = episodes_[at(n)];
      if (mine.elapsed > 0) mine = first(n, mine.episode + 1);
      played[at(n)].emplace_back();
    }
    for (batch_ = 0; batch_ < config_.num_steps;) {
      for (int n = 0; n < config_.num_envs; ++n) {
        Episode& now = played[at(n)].back();
        now.samples.emplace_back();
        now.steps.push_back(step(n, 0, episodes_[at(n)], now.samples.back()));
        if (!now.steps.back().terminated && !now.steps.back().truncated) continue;
        batch_ += static_cast<int>(now.steps.size());
        played[at(n)].emplace_back();
      }
    }
    batch_samples_.clear();
    whole_returns_.clear();
    Vector targets, residuals, advantages;
    for (std::vector<Episode>& of_environment : played) {
      of_environment.pop_back();
      for (const Episode& episode : of_environment) {
        const std::vector<Advantage> all = advantages_of(episode.steps, 0.0, config_.gamma, config_.gae_lambda);
        double total = 0.0, to_go = 0.0;
        for (std::size_t t = episode.steps.size(); t-- > 0;) {
          const Step& now = episode.steps[t];
          to_go = now.reward + config_.gamma * (now.truncated ? now.final_value : to_go);
          if (config_.gae_lambda == 1.0) {
            EXPECT_NEAR(all[t].advantage, to_go - now.value, 1e-9);
          }
          total += now.reward;
        }
        whole_returns_.push_back(total);
        for (std::size_t t = 0; t < episode.steps.size(); ++t) {
          batch_samples_.push_back(episode.samples[t]);
          Sample& sample = batch_samples_.back();
          sample.advantage = all[t].advantage;
          sample.target = config_.value_target == ValueTarget::kDiscounted ? all[t].discounted_return
                                                                           : sample.advantage + sample.old_value;
          advantages.push_back(sample.advantage);
          targets.push_back(sample.target);
          residuals.push_back(sample.target - sample.old_value);
        }
      }
    }
    set_moments(advantages, targets, residuals);
  }

  void roll_out() {
    batch_samples_.assign(at(batch_), {});
    observed_.clear();
    Vector targets, residuals, advantages, last_values;
    std::vector<std::vector<Step>> rollouts;
    for (int n = 0; n < config_.num_envs; ++n) {
      ReferenceEpisode<E>& mine = episodes_[at(n)];
      std::vector<Step> steps;
      for (int t = 0; t < config_.num_steps; ++t) {
        Sample& sample = batch_samples_[at(t * config_.num_envs + n)];
        steps.push_back(step(n, t, mine, sample));
      }
      last_values.push_back(value_of(reference_observation<E>(params_, mine.state)));
      rollouts.push_back(steps);
    }
    normalize(rollouts);
    for (int n = 0; n < config_.num_envs; ++n) {
      const std::vector<Advantage> all =
          advantages_of(rollouts[at(n)], last_values[at(n)], config_.gamma, config_.gae_lambda);
      for (int t = 0; t < config_.num_steps; ++t) {
        Sample& sample = batch_samples_[at(t * config_.num_envs + n)];
        sample.advantage = all[at(t)].advantage;
        sample.target = config_.value_target == ValueTarget::kDiscounted ? all[at(t)].discounted_return
                                                                         : sample.advantage + sample.old_value;
        advantages.push_back(sample.advantage);
        targets.push_back(sample.target);
        residuals.push_back(sample.target - sample.old_value);
      }
    }
    set_moments(advantages, targets, residuals);
  }

  void set_moments(const Vector& advantages, const Vector& targets, const Vector& residuals) {
    batch_mean_ = mean(advantages);
    batch_std_ = std::sqrt(sample_variance_of(advantages));
    metrics_[Metric::kExplainedVariance] = 1.0 - sample_variance_of(residuals) / sample_variance_of(targets);
  }

  /// Rewards by the statistics that follow from the rollout; and those of observations, for the next.
  void normalize(std::vector<std::vector<Step>>& rollouts) {
    if (config_.norm_obs) {
      const StatisticsPlace& place = networks.actor.network.inputs;
      double sum = 0.0;
      for (int i = 0; i < place.size; ++i) {
        Vector numbers;
        for (const Vector& observation : observed_) numbers.push_back(observation[at(i)]);
        sum += std::sqrt(join(place, i, numbers) + 1e-8);
      }
      parameters[at(place.count)] += static_cast<double>(observed_.size());
      metrics_[Metric::kObservationStd] = sum / place.size;
    }
    if (!config_.norm_reward) return;
    Vector returns;
    discounted_.resize(rollouts.size(), 0.0);
    for (std::size_t n = 0; n < rollouts.size(); ++n) {
      for (const Step& step : rollouts[n]) {
        returns.push_back(discounted_[n] = discounted_[n] * config_.gamma + step.reward);
        if (step.terminated || step.truncated) discounted_[n] = 0.0;
      }
    }
    const double std = std::sqrt(join(returns_, 0, returns) + 1e-8);
    parameters[at(returns_.count)] += static_cast<double>(returns.size());
    metrics_[Metric::kReturnStd] = std;
    const double limit = clip_limit(config_.clip_reward);
    for (std::vector<Step>& steps : rollouts) {
      for (Step& step : steps) step.reward = std::clamp(step.reward / std, -limit, limit);
    }
  }

  /// Adds numbers to one's statistics, as update_mean_var_count_from_moments of Gymnasium does. Returns the variance.
  double join(const StatisticsPlace& place, int i, const Vector& numbers) {
    double& old_mean = parameters[at(place.mean + i)];
    double& old_variance = parameters[at(place.variance + i)];
    const double n = static_cast<double>(numbers.size()), before = parameters[at(place.count)], all = before + n;
    const double delta = mean(numbers) - old_mean;
    double squares = old_variance * before + delta * delta * before * n / all;
    for (const double x : numbers) squares += (x - mean(numbers)) * (x - mean(numbers));
    old_mean += delta * n / all;
    return old_variance = squares / all;
  }

  Step step(int n, int t, ReferenceEpisode<E>& mine, Sample& sample) {
    const auto environment = static_cast<std::uint32_t>(n);
    const Vector observation = reference_observation<E>(params_, mine.state);
    observed_.push_back(observation);
    sample.observation = networks.actor.given(parameters, observation);
    const ReferenceAction<E> chosen =
        reference_action<E>(networks.actor, parameters, observation, false,
                            {key_, environment, mine.episode, mine.elapsed, Purpose::kAction}, closeness);
    sample.action = chosen.choice;
    sample.numbers = chosen.numbers;
    sample.old_log_probability = chosen.log_probability;
    sample.old_value = value_of(observation);
    CounterRandom<float> random(key_, environment, mine.episode, mine.elapsed, Purpose::kStep);
    const Outcome<float> outcome = E::step(params_, mine.state, chosen.action, random);
    ++mine.elapsed;
    mine.total += outcome.reward;
    const bool at_end = config_.truncate_at_rollout_end && t + 1 == config_.num_steps;
    Step result{outcome.reward, sample.old_value, outcome.terminated,
                !outcome.terminated && (mine.elapsed == episode_limit(config_) || at_end), 0.0};
    if (result.truncated && config_.bootstrap_truncated) {
      result.final_value = value_of(reference_observation<E>(params_, mine.state));
    }
    if (result.terminated || result.truncated) {
      metrics_[Metric::kEpisodes] += 1;
      metrics_[Metric::kEpisodicReturn] += mine.total;
      metrics_[Metric::kEpisodicLength] += mine.elapsed;
      mine = first(n, mine.episode + 1);
    }
    return result;
  }

  /// Samples [from, from + size) of an epoch's order, their advantages normalised.
  std::vector<Sample> minibatch(const std::vector<std::uint32_t>& order, int from, int size) const {
    std::vector<Sample> samples;
    Vector advantages;
    for (int i = from; i < from + size; ++i) {
      samples.push_back(batch_samples_[order[at(i)]]);
      advantages.push_back(samples.back().advantage);
    }
    const bool each = config_.norm_adv == Normalization::kMinibatch;
    if (config_.norm_adv == Normalization::kNone) return samples;
    const double center = each ? mean(advantages) : batch_mean_;
    const double deviation = (each ? std::sqrt(sample_variance_of(advantages)) : batch_std_) + config_.norm_adv_epsilon;
    for (Sample& sample : samples) sample.advantage = (sample.advantage - center) / deviation;
    return samples;
  }

  void update_jointly() {
    const int size = batch_ / config_.num_minibatches;
    for (int epoch = 0; epoch < config_.update_epochs; ++epoch) {
      const Shuffle shuffle(static_cast<std::uint32_t>(batch_), key_, iteration_, static_cast<std::uint32_t>(epoch));
      std::vector<std::uint32_t> order;
      for (int i = 0; i < batch_; ++i) order.push_back(shuffle(static_cast<std::uint32_t>(i)));
      double kl = 0.0;
      for (int m = 0; m < config_.num_minibatches; ++m) {
        kl = learn(minibatch(order, m * size, size), true, true);
        if (config_.kl_stop == KlStop::kMinibatch && beyond(kl)) return;
      }
      if (epoch + 1 == config_.update_epochs) return;
      actor_rate_ *= config_.epoch_lr_decay;
      critic_rate_ *= config_.epoch_lr_decay;
      if (beyond(kl)) return;
    }
  }

  void update_separately() {
    std::vector<std::uint32_t> order;
    for (int i = 0; i < batch_; ++i) order.push_back(static_cast<std::uint32_t>(i));
    const std::vector<Sample> all = minibatch(order, 0, batch_);
    bool stopped = false;
    for (int i = 0; i < config_.policy_iterations && !stopped; ++i) stopped = beyond(learn(all, true, false));
    for (int i = 0; i < config_.value_iterations; ++i) learn(all, false, true);
  }

  bool beyond(double kl) {
    if (config_.target_kl <= 0.0) return false;
    closeness.see(kl - config_.target_kl, 1e-5);
    return kl > config_.target_kl;
  }

  /// rsl_rl's schedule "adaptive": what it calls desired_kl decides of the step that is about to be taken.
  void adapt(double kl) {
    closeness.see(kl - 2.0 * config_.desired_kl, 1e-5);
    closeness.see(kl - config_.desired_kl / 2.0, 1e-5);
    for (double* rate : {&actor_rate_, &critic_rate_}) {
      if (kl > 2.0 * config_.desired_kl) *rate = std::max(config_.min_learning_rate, *rate / 1.5);
      if (kl < config_.desired_kl / 2.0) *rate = std::min(config_.max_learning_rate, *rate * 1.5);
    }
  }

  /// One minibatch: losses, and the step they ask for. Returns the KL that target_kl is for.
  double learn(const std::vector<Sample>& samples, bool policy, bool value) {
    const double n = static_cast<double>(samples.size());
    Vector gradient(parameters.size(), 0.0);
    const LossTotals sums = loss_totals(networks, parameters, samples, settings_, &gradient);
    for (int i = 0; !config_.learn_std && networks.actor.is_gaussian() && i < networks.actor.outputs; ++i) {
      gradient[at(networks.actor.network.log_std + i)] = 0.0;
    }
    see_switches(samples);
    const int boundary = networks.actor.network.end, end = networks.parameter_count;
    const int from = policy ? 0 : boundary, to = value ? end : boundary;
    double squares = 0.0;
    for (int i = from; i < to; ++i) squares += gradient[at(i)] * gradient[at(i)];
    const double norm = std::sqrt(squares);
    metrics_[Metric::kGradientNorm] = norm;
    if (value) metrics_[Metric::kValueLoss] = sums.value / n;
    if (policy) {
      metrics_[Metric::kPolicyLoss] = sums.policy / n;
      metrics_[Metric::kEntropy] = sums.entropy / n;
      metrics_[Metric::kOldApproxKl] = sums.kl1 / n;
      metrics_[Metric::kApproxKl] = sums.kl3 / n;
      metrics_[Metric::kClipFraction] += sums.clipped / n;
      policy_minibatches_ += 1;
    }
    if (policy && config_.anneal_lr == Anneal::kKl && metrics_[Metric::kPolicyUpdates] > 0) adapt(sums.kl3 / n);
    const double kl = (config_.kl_estimator == KlEstimator::kK1 ? sums.kl1 : sums.kl3) / n;
    if (policy && config_.kl_stop != KlStop::kEpoch && beyond(kl)) return kl;
    if (config_.max_grad_norm > 0.0) {
      for (double& g : gradient) g *= std::min(1.0, config_.max_grad_norm / (norm + 1e-6));
    }
    if (policy) actor_adam_.apply(gradient, actor_rate_, 0, boundary, parameters, first_moment_, second_moment_);
    if (value) critic_adam_.apply(gradient, critic_rate_, boundary, end, parameters, first_moment_, second_moment_);
    if (policy) metrics_[Metric::kPolicyUpdates] += 1;
    return kl;
  }

  /// How near the losses of samples come to where clipping switches, and ReLUs to 0.
  void see_switches(const std::vector<Sample>& samples) {
    constexpr double kFar = 3e-5;
    const double c = settings_.clip, v = settings_.value_clip();
    for (const Sample& sample : samples) {
      const auto actor = networks.actor.forward(parameters, sample.observation);
      const auto critic = networks.critic.forward(parameters, sample.observation);
      closeness.see(networks.actor.nearest_kink(parameters, actor), kFar);
      closeness.see(networks.critic.nearest_kink(parameters, critic), kFar);
      const double log_p = networks.actor.is_gaussian()
                               ? log_density(actor.back(), networks.actor.log_std(parameters), sample.numbers)
                               : log_softmax(actor.back())[at(sample.action)];
      const double ratio = std::exp(log_p - sample.old_log_probability);
      closeness.see(std::abs(ratio - 1.0) - c, kFar);
      const double moved = critic.back()[0] - sample.old_value;
      if (!config_.clip_vloss) continue;
      closeness.see(std::abs(moved) - v, kFar);
      if (std::abs(moved) > v) {
        closeness.see(critic.back()[0] + sample.old_value + std::copysign(v, moved) - 2.0 * sample.target, kFar);
      }
    }
  }

  const Config config_;
  const RngKey key_;
  int batch_;
  double steps_ = 0.0;
  Vector whole_returns_;  // of whole episodes, environment by environment
  typename E::Params params_;
  std::vector<ReferenceEpisode<E>> episodes_;
  std::vector<Sample> batch_samples_;  // (t, n) at t * N + n
  const StatisticsPlace returns_ = model_of(config_).returns;
  Vector discounted_;             // returns of the episodes that are being played
  std::vector<Vector> observed_;  // in this rollout, as they are
  Vector first_moment_, second_moment_;
  Adam actor_adam_, critic_adam_;
  LossSettings settings_{};
  ReferenceMetrics metrics_{};
  double policy_minibatches_ = 0.0;
  double actor_rate_ = 0.0, critic_rate_ = 0.0, batch_mean_ = 0.0, batch_std_ = 0.0;
  std::uint32_t iteration_ = 0;
};

/// Return and length of one evaluated episode.
struct PlayedEpisode {
  double total = 0.0;
  std::uint32_t length = 0;
};

/// Episode `set` of environments 0 .. episodes - 1, as evaluate() plays them.
template <class E>
std::vector<PlayedEpisode> reference_evaluation(const Config& config, const std::vector<float>& parameters,
                                                int episodes, std::uint32_t seed, std::uint32_t set, bool greedy,
                                                Closeness& closeness) {
  const Networks networks = reference_networks(config);
  const Vector exact = to_double(parameters);
  const RngKey key{seed, kEvaluationStream};
  float values[kMaxEnvParameters] = {};
  int count = 0;
  for (const EnvironmentParameter& parameter : find_environment(config.env_id).parameters) {
    values[count++] = static_cast<float>(env_parameter(config, parameter));
  }
  const typename E::Params params = E::params(values);
  std::vector<PlayedEpisode> result;
  for (int n = 0; n < episodes; ++n) {
    const auto environment = static_cast<std::uint32_t>(n);
    CounterRandom<float> start(key, environment, set, 0, Purpose::kReset);
    typename E::template State<float> state = E::template reset<float>(params, start);
    PlayedEpisode played;
    for (bool over = false; !over; ++played.length) {
      const Vector observation = reference_observation<E>(params, state);
      const auto chosen = reference_action<E>(networks.actor, exact, observation, greedy,
                                              {key, environment, set, played.length, Purpose::kAction}, closeness);
      CounterRandom<float> random(key, environment, set, played.length, Purpose::kStep);
      const Outcome<float> outcome = E::step(params, state, chosen.action, random);
      played.total += outcome.reward;
      over = outcome.terminated || played.length + 1 == episode_limit(config);
    }
    result.push_back(played);
  }
  return result;
}

}  // namespace perilune::test
