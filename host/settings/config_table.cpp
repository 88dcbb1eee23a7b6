// The rows of the key table. See config_table.hpp.
#include "host/settings/config_table.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "host/base/text.hpp"
#include "kernels/api.hpp"

namespace perilune {
namespace {

template <class T>
struct Named {
  std::string_view name;
  T value;
  std::optional<bool> boolean = std::nullopt;
};

// In the order in which users see them.
constexpr Named<UpdateMode> kUpdateModes[] = {{"joint", UpdateMode::kJoint}, {"separate", UpdateMode::kSeparate}};
constexpr Named<Anneal> kAnneals[] = {{"none", Anneal::kNone, false}, {"linear", Anneal::kLinear, true}};
constexpr Named<Anneal> kRateAnneals[] = {
    {"none", Anneal::kNone, false}, {"linear", Anneal::kLinear, true}, {"kl", Anneal::kKl}};
constexpr Named<ValueTarget> kValueTargets[] = {{"lambda", ValueTarget::kLambda},
                                                {"discounted", ValueTarget::kDiscounted}};
constexpr Named<Normalization> kNormalizations[] = {{"minibatch", Normalization::kMinibatch, true},
                                                    {"batch", Normalization::kBatch},
                                                    {"none", Normalization::kNone, false}};
constexpr Named<KlStop> kKlStops[] = {
    {"epoch", KlStop::kEpoch}, {"minibatch", KlStop::kMinibatch}, {"iteration", KlStop::kIteration}};
constexpr Named<KlEstimator> kKlEstimators[] = {{"k1", KlEstimator::kK1}, {"k3", KlEstimator::kK3}};
constexpr Named<Activation> kActivations[] = {{"tanh", Activation::kTanh}, {"relu", Activation::kRelu}};
constexpr Named<OutputActivation> kOutputActivations[] = {
    {"none", OutputActivation::kNone}, {"relu", OutputActivation::kRelu}, {"tanh", OutputActivation::kTanh}};
constexpr Named<Config::Init> kInits[] = {
    {"orthogonal", Config::Init::kOrthogonal}, {"torch", Config::Init::kTorch}, {"glorot", Config::Init::kGlorot}};
constexpr Named<std::optional<Precision>> kPrecisions[] = {{"auto", std::nullopt},
                                                           {kPrecisionNames[0], Precision::kFp32},
                                                           {kPrecisionNames[1], Precision::kTf32},
                                                           {kPrecisionNames[2], Precision::kBf16}};
constexpr Named<Config::BatchMode> kBatchModes[] = {{"steps", Config::BatchMode::kSteps},
                                                    {"episodes", Config::BatchMode::kEpisodes}};
constexpr Named<Config::Fused> kFused[] = {
    {"auto", Config::Fused::kAuto}, {"true", Config::Fused::kTrue}, {"false", Config::Fused::kFalse}};

template <auto member, const auto& table>
ChoiceField choice() {
  ChoiceField field;
  for (const auto& row : table) field.names.push_back({row.name, row.boolean});
  field.get = [](const Config& config) {
    const auto is_set = [&](const auto& row) { return row.value == config.*member; };
    return static_cast<std::size_t>(std::find_if(std::begin(table), std::end(table), is_set) - std::begin(table));
  };
  field.set = [](Config& config, std::size_t which) { config.*member = table[which].value; };
  return field;
}

constexpr double kMaxInt = std::numeric_limits<int>::max();
constexpr double kMaxLayerSize = 16384;

std::string limit_text(double value) {
  const bool is_plain_integer = value == std::floor(value) && std::abs(value) < 1e10;
  return is_plain_integer ? std::to_string(static_cast<std::int64_t>(value)) : shortest_text(value);
}

}  // namespace

const std::vector<Key>& keys() {
  constexpr OnResume kFixed = OnResume::kFixed;
  static const std::vector<Key> table = {
      {"name", &Config::name, 0, 0, "name of the run, part of its directory's name"},
      {"env_id", &Config::env_id, 0, 0, "environment", kFixed},
      {"seed", &Config::seed, 0, 4294967295.0, "every random number follows from it", kFixed},
      {"total_timesteps", &Config::total_timesteps, 1, 1e15, "environment steps to train for"},
      {"max_episode_steps", &Config::max_episode_steps, 0, kMaxInt,
       "time limit of an episode; 0: the environment's own", kFixed},
      {"truncate_at_rollout_end", &Config::truncate_at_rollout_end, 0, 0, "truncate every episode where a rollout ends",
       kFixed},
      {"num_envs", &Config::num_envs, 1, 4194304, "environments side by side", kFixed},
      {"num_steps", &Config::num_steps, 1, 1048576,
       "steps of each environment per iteration; of whole episodes: of all together, at least", kFixed},
      {"batch_mode", choice<&Config::batch_mode, kBatchModes>(), 0, 0,
       "what an iteration learns from: num_steps of each environment, or whole episodes of num_steps and more", kFixed},
      {"num_minibatches", &Config::num_minibatches, 1, kMaxInt,
       "minibatches per epoch (joint mode); divides num_envs * num_steps"},
      {"update_epochs", &Config::update_epochs, 1, 10000, "epochs per iteration (joint mode)"},
      {"update_mode", choice<&Config::update_mode, kUpdateModes>(), 0, 0,
       "one loss in minibatches, or policy then value iterations over the full batch"},
      {"policy_iterations", &Config::policy_iterations, 1, 100000, "policy updates per iteration (separate mode)"},
      {"value_iterations", &Config::value_iterations, 1, 100000, "value updates per iteration (separate mode)"},
      {"learning_rate", &Config::learning_rate, 0, 1, "of the actor, and of the critic unless it has its own"},
      {"critic_learning_rate", &Config::critic_learning_rate, 0, 1, "of the critic; 0: learning_rate"},
      {"anneal_lr", choice<&Config::anneal_lr, kRateAnneals>(), 0, 0,
       "learning rates over the run: constant, linearly to 0, or kl: adapted before each policy step to desired_kl"},
      {"desired_kl", &Config::desired_kl, 1e-9, 100,
       "anneal_lr = kl: rates / 1.5 where the minibatch's k3 is above twice this, * 1.5 where below half of it"},
      {"min_learning_rate", &Config::min_learning_rate, 1e-12, 1, "the lowest rate that anneal_lr = kl sets"},
      {"max_learning_rate", &Config::max_learning_rate, 1e-12, 1, "the highest rate that anneal_lr = kl sets"},
      {"epoch_lr_decay", &Config::epoch_lr_decay, 0, 1,
       "the learning rates decay by it after each epoch of an iteration (joint mode)"},
      {"adam_beta1", &Config::adam_beta1, 0, 0.99999, "decay of Adam's first moment"},
      {"adam_beta2", &Config::adam_beta2, 0, 0.99999, "decay of Adam's second moment"},
      {"adam_epsilon", &Config::adam_epsilon, 1e-20, 1, "added to the root of Adam's second moment"},
      {"max_grad_norm", &Config::max_grad_norm, 0, 1e6, "clip of the global gradient norm; 0: off"},
      {"gamma", &Config::gamma, 0, 1, "discount"},
      {"gae_lambda", &Config::gae_lambda, 0, 1, "lambda of generalised advantage estimation"},
      {"value_target", choice<&Config::value_target, kValueTargets>(), 0, 0,
       "what values learn: lambda-returns or discounted returns"},
      {"bootstrap_truncated", &Config::bootstrap_truncated, 0, 0,
       "count gamma * V(final observation) where an episode is truncated; false: nothing, as where one terminates"},
      {"norm_obs", &Config::norm_obs, 0, 0,
       "normalise observations by their running mean and standard deviation, which the policy keeps", kFixed},
      {"clip_obs", &Config::clip_obs, 0, 1e6, "clip range of normalised observations; 0: off", kFixed},
      {"norm_reward", &Config::norm_reward, 0, 0,
       "divide rewards by the running standard deviation of discounted returns", kFixed},
      {"clip_reward", &Config::clip_reward, 0, 1e6, "clip range of normalised rewards; 0: off"},
      {"norm_adv", choice<&Config::norm_adv, kNormalizations>(), 0, 0, "where advantages are normalised"},
      {"norm_adv_epsilon", &Config::norm_adv_epsilon, 1e-20, 1, "added to the standard deviation of advantages"},
      {"clip_coef", &Config::clip_coef, 0, 10, "clip range of the probability ratio"},
      {"anneal_clip_coef", choice<&Config::anneal_clip_coef, kAnneals>(), 0, 0,
       "clip ranges over the run: constant, or linearly to 0"},
      {"clip_vloss", &Config::clip_vloss, 0, 0, "clip the value loss as the policy loss is"},
      {"clip_vloss_coef", &Config::clip_vloss_coef, 0, 1000, "clip range of values (clip_vloss); 0: clip_coef"},
      {"ent_coef", &Config::ent_coef, 0, 100, "weight of the entropy bonus"},
      {"anneal_ent_coef", choice<&Config::anneal_ent_coef, kAnneals>(), 0, 0,
       "weight of the entropy bonus over the run: constant, or linearly to 0"},
      {"vf_coef", &Config::vf_coef, 0, 100, "weight of the value loss, 0.5 * mean((value - target)^2)"},
      {"target_kl", &Config::target_kl, 0, 100,
       "stop an iteration's policy updates above this KL (1.5 times what Stable-Baselines3 and Spinning Up call so); "
       "0: off"},
      {"kl_stop", choice<&Config::kl_stop, kKlStops>(), 0, 0,
       "when target_kl is looked at: after an epoch or before each minibatch's step (joint), or each policy "
       "iteration's (separate)"},
      {"kl_estimator", choice<&Config::kl_estimator, kKlEstimators>(), 0, 0,
       "of target_kl: k1 = mean(old - new log-probability), k3 = mean(ratio - 1 - log ratio)"},
      {"hidden_width", &Config::hidden_width, 1, kMaxLayerSize, "units per hidden layer", kFixed},
      {"hidden_layers", &Config::hidden_layers, 1, kMaxHiddenLayers, "hidden layers of the actor and of the critic",
       kFixed},
      {"hidden_sizes", &Config::hidden_sizes, 1, kMaxLayerSize,
       "units of each hidden layer, instead of hidden_width and hidden_layers", kFixed},
      {"activation", choice<&Config::activation, kActivations>(), 0, 0, "of the hidden layers", kFixed},
      {"output_activation", choice<&Config::output_activation, kOutputActivations>(), 0, 0,
       "of both networks' outputs: the policy's and the value; others than none go layer by layer", kFixed},
      {"init", choice<&Config::init, kInits>(), 0, 0,
       "first weights: orthogonal (gain sqrt 2, heads 0.01 and 1), torch.nn.Linear's default, or Glorot's uniform",
       kFixed},
      {"log_std_init", &Config::log_std_init, -10, 5,
       "logarithm of the standard deviation of continuous actions, at first", kFixed},
      {"learn_std", &Config::learn_std, 0, 0,
       "train the standard deviation of continuous actions; false: as log_std_init says"},
      {"precision", choice<&Config::precision, kPrecisions>(), 0, 0,
       "of matrix products in training; auto: the fastest that the device has", kFixed},
      {"fused", choice<&Config::fused, kFused>(), 0, 0,
       "fused kernels (see `perilune info`) or a matrix library; auto: fused where there are any", kFixed},
      {"eval_every", &Config::eval_every, 0, kMaxInt, "iterations between evaluations; 0: only at the end"},
      {"eval_episodes", &Config::eval_episodes, 1, 1000000, "episodes per evaluation"},
      {"target_return", &Config::target_return, -1e9, 1e9,
       "stop when an evaluation reaches this mean return (needs eval_every)"},
      {"checkpoint_every", &Config::checkpoint_every, 0, kMaxInt, "iterations between checkpoints; 0: only at the end"},
      {"log_episodes", &Config::log_episodes, 0, 0,
       "give TensorBoard each episode's return as `reward` (batch_mode = episodes)", kFixed},
  };
  return table;
}

bool is_uniform_key(std::string_view name) {
  return std::find(kUniformKeys.begin(), kUniformKeys.end(), name) != kUniformKeys.end();
}

std::string range_text(const Key& key) { return limit_text(key.min) + " .. " + limit_text(key.max); }

std::string choices_text(const ChoiceField& field) {
  std::vector<std::string_view> names;
  for (const ChoiceName& choice : field.names) names.push_back(choice.name);
  return joined(names, " | ");
}

}  // namespace perilune
