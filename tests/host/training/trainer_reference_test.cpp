// The Trainer and evaluations against the naive reference in double: every metric and every parameter, over iterations,
// epochs and minibatches, in every mode.
#include <gtest/gtest.h>

#include <cmath>

#include "host/device/arena.hpp"
#include "host/training/evaluation.hpp"
#include "host/training/trainer.hpp"
#include "sims/cartpole.hpp"
#include "sims/lander.hpp"
#include "tests/support/reference_training.hpp"

namespace perilune::test {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

struct Case {
  std::string name;
  Settings settings;
};

/// Odd sizes, several episodes within the run, and a learning rate that moves the policy over its clip range.
Config config_of(const char* env_id, const Settings& settings, int seed) {
  Config config;
  const Settings base = {
      {"env_id", env_id},       {"num_envs", "7"},          {"num_steps", "20"},           {"num_minibatches", "5"},
      {"update_epochs", "3"},   {"total_timesteps", "420"}, {"hidden_width", "16"},        {"learning_rate", "0.01"},
      {"adam_epsilon", "1e-3"}, {"precision", "fp32"},      {"seed", std::to_string(seed)}};
  for (const auto& [key, value] : base) set_key(config, key, value);
  for (const auto& [key, value] : settings) set_key(config, key, value);
  return config;
}

void expect_near(const std::string& what, double actual, double expected, double absolute, double relative) {
  EXPECT_NEAR(actual, expected, absolute + relative * std::abs(expected)) << what;
}

struct Rounding {
  double absolute, relative;
};

/// A lander's reward is a difference of numbers of some 100, each rounded by 4e-6, and 9 steps add up.
constexpr Rounding kReturn = {5e-5, 1e-6};

/// A step of Adam's is rounded by 1e-5 of itself, and 45 of them move a loss by some tenths. Counts are exact.
Rounding rounding_of(Metric::Index metric) {
  switch (metric) {
    case Metric::kEpisodicReturn:
      return kReturn;
    case Metric::kPolicyLoss:
      return {3e-5, 0};
    case Metric::kValueLoss:
      return {1e-5, 1e-4};
    case Metric::kEntropy:
      return {1e-5, 1e-5};
    case Metric::kOldApproxKl:
      return {1e-5, 0};
    case Metric::kApproxKl:
      return {1e-5, 0};
    case Metric::kClipFraction:
      return {1e-6, 0};
    case Metric::kGradientNorm:
      return {1e-5, 2e-4};
    case Metric::kLearningRate:
      return {0, 1e-6};
    case Metric::kCriticLearningRate:
      return {0, 1e-6};
    case Metric::kClipCoefficient:
      return {0, 1e-6};
    case Metric::kExplainedVariance:
      return {1e-5, 1e-4};
    case Metric::kObservationStd:
    case Metric::kReturnStd:
      return {0, 1e-5};
    default:
      return {0, 0};
  }
}

/// Whether rounding can have no say with this seed; if so, the run is compared.
template <class E>
bool follows(const Case& c, int seed) {
  const Config config = config_of(E::kId, c.settings, seed);
  const auto device = select_device(DeviceChoice::kCpu, 2).device;
  Trainer trainer(config, *device);
  trainer.start(std::nullopt, false);
  ReferenceTraining<E> reference(config, trainer.state().parameters());
  std::vector<ReferenceMetrics> expected;
  std::vector<std::uint32_t> batches;
  std::vector<Vector> returns;
  for (std::uint32_t i = 0; i < trainer.iterations(); ++i) {
    expected.push_back(reference.iterate());
    batches.push_back(static_cast<std::uint32_t>(reference.batch()));
    returns.push_back(reference.returns());
  }
  if (reference.closeness.nearest() < 1.0) return false;

  for (std::uint32_t i = 0; i < trainer.iterations(); ++i) {
    SCOPED_TRACE("iteration " + std::to_string(i));
    trainer.enqueue_iteration();
    device->synchronize();
    const IterationMetrics& row = trainer.metrics(i);
    EXPECT_EQ(row.iteration, i + 1);
    EXPECT_EQ(row.nonfinite, NonFinite::kNone);
    EXPECT_EQ(row.steps, batches[i]);
    const std::span<const float> episodes = trainer.returns(i);
    EXPECT_EQ(episodes.size(), returns[i].size());
    for (std::size_t k = 0; k < std::min(episodes.size(), returns[i].size()); ++k) {
      expect_near("return of episode " + std::to_string(k), episodes[k], returns[i][k], kReturn.absolute,
                  kReturn.relative);
    }
    for (const MetricInfo& info : kMetricInfos) {
      const auto [absolute, relative] = rounding_of(info.metric);
      expect_near("metric " + std::to_string(info.metric), row.values[info.metric], expected[i][info.metric], absolute,
                  relative);
    }
  }
  const TrainerState state = trainer.state();
  double worst = 0.0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < state.parameters().size(); ++i) {
    double error = std::abs(state.parameters()[i] - reference.parameters[i]);
    const bool is_statistic = i >= trainer.model().trained_floats();
    if (is_statistic) error /= std::max(1.0, std::abs(reference.parameters[i]));
    if (error > worst) worst = error, where = i;
  }
  // Steps of up to 0.01 each.
  EXPECT_LT(worst, 2e-5) << "parameter " << where << ": " << state.parameters()[where] << " for "
                         << reference.parameters[where];
  return true;
}

/// With two seeds of which rounding decides nothing: no draw, no clip and no stop is near where it goes the other way.
template <class E>
void follow(const std::vector<Case>& cases, int most_seeds = 40) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    int compared = 0;
    for (int seed = 1; seed < most_seeds && compared < 2; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      if (follows<E>(c, seed)) ++compared;
    }
    EXPECT_EQ(compared, 2) << "decisions come too near with nearly every seed";
  }
}

const Settings kSeparate = {{"update_mode", "separate"},
                            {"kl_stop", "iteration"},
                            {"policy_iterations", "9"},
                            {"value_iterations", "5"},
                            {"critic_learning_rate", "0.03"}};

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

TEST(TrainerReference, CartPole) {
  follow<CartPole>({
      {"the defaults", {}},
      {"annealed clip range", {{"anneal_clip_coef", "linear"}, {"anneal_lr", "none"}, {"clip_coef", "0.1"}}},
      {"a clip range of values, annealed", {{"clip_vloss_coef", "0.03"}, {"anneal_clip_coef", "linear"}}},
      {"annealed entropy", {{"anneal_ent_coef", "linear"}, {"ent_coef", "0.3"}}},
      {"a critic's own rate, decaying",
       {{"critic_learning_rate", "0.03"}, {"epoch_lr_decay", "0.7"}, {"clip_vloss", "false"}, {"vf_coef", "1.5"}}},
      {"discounted targets, batch normalisation",
       {{"value_target", "discounted"}, {"norm_adv", "batch"}, {"gamma", "0.9"}, {"gae_lambda", "0.8"}}},
      {"neither normalised nor clipped, short episodes",
       {{"norm_adv", "none"},
        {"max_grad_norm", "0"},
        {"max_episode_steps", "13"},
        {"ent_coef", "0.2"},
        {"learning_rate", "0.003"},
        {"adam_beta1", "0.8"},
        {"adam_beta2", "0.99"}}},
      {"another reward, cut rollouts",
       {{"env.sutton_barto_reward", "true"}, {"truncate_at_rollout_end", "true"}, {"hidden_layers", "3"}}},
      {"truncated episodes are worth nothing, another epsilon of advantages",
       {{"bootstrap_truncated", "false"},
        {"max_episode_steps", "13"},
        {"truncate_at_rollout_end", "true"},
        {"norm_adv_epsilon", "0.3"}}},
      {"the same layer by layer",
       {{"bootstrap_truncated", "false"},
        {"max_episode_steps", "13"},
        {"norm_adv_epsilon", "0.3"},
        {"value_target", "discounted"},
        {"fused", "false"}}},
      {"relu of the outputs, torch's first weights",
       {{"output_activation", "relu"}, {"activation", "relu"}, {"init", "torch"}, {"max_episode_steps", "13"}}},
      {"stopped by KL after an epoch", {{"target_kl", "0.004"}, {"kl_estimator", "k1"}}},
      {"stopped by KL before a minibatch",
       {{"target_kl", "0.004"}, {"kl_stop", "minibatch"}, {"epoch_lr_decay", "0.7"}}},
      {"rates that follow the KL",
       {{"anneal_lr", "kl"}, {"desired_kl", "0.002"}, {"learning_rate", "0.003"}, {"critic_learning_rate", "0.008"}}},
      {"rates that follow the KL, stopped by it, layer by layer",
       {{"anneal_lr", "kl"},
        {"desired_kl", "0.001"},
        {"min_learning_rate", "0.004"},
        {"target_kl", "0.008"},
        {"kl_stop", "minibatch"},
        {"fused", "false"}}},
      {"separate, rates that follow the KL", with(kSeparate, {{"anneal_lr", "kl"}, {"max_learning_rate", "0.05"}})},
      {"separate", kSeparate},
      {"separate, stopped by KL", with(kSeparate, {{"target_kl", "0.003"}})},
      {"normalised, short episodes", {{"norm_obs", "true"}, {"norm_reward", "true"}, {"max_episode_steps", "13"}}},
      {"normalised and clipped",
       {{"norm_obs", "true"}, {"clip_obs", "0.7"}, {"norm_reward", "true"}, {"clip_reward", "0.1"}, {"gamma", "0.9"}}},
      {"normalised, layer by layer, cut rollouts",
       {{"norm_obs", "true"},
        {"clip_obs", "0"},
        {"norm_reward", "true"},
        {"fused", "false"},
        {"truncate_at_rollout_end", "true"}}},
  });
}

TEST(TrainerReference, FourChoices) {
  follow<Lander>({
      {"the defaults", {{"hidden_width", "64"}, {"num_steps", "10"}, {"total_timesteps", "140"}}},
      {"wind, time limit",
       {{"hidden_width", "64"},
        {"num_steps", "10"},
        {"total_timesteps", "140"},
        {"env.enable_wind", "true"},
        {"max_episode_steps", "8"}}},
  });
}

TEST(TrainerReference, ContinuousActions) {
  const Settings shape = {{"hidden_width", "64"}, {"num_steps", "10"}, {"total_timesteps", "140"}};
  follow<LanderContinuous>({
      {"the defaults", shape},
      {"narrow at first", with(shape, {{"log_std_init", "-0.5"}, {"max_episode_steps", "6"}})},
      {"tanh of the outputs, Glorot's first weights",
       with(shape, {{"output_activation", "tanh"}, {"init", "glorot"}, {"learning_rate", "0.005"}})},
      {"a fixed deviation, separate", with(with(shape, kSeparate), {{"learn_std", "false"}})},
      {"normalised", with(shape, {{"norm_obs", "true"}, {"norm_reward", "true"}, {"max_episode_steps", "6"}})},
  });
}

/// A batch that the tutorial's learner would take: of one environment, rewards-to-go less values, normalised, and whole
/// passes with a clipped surrogate and plain squares.
const Settings kRewardsToGo = {
    {"batch_mode", "episodes"},       {"num_envs", "1"},        {"num_steps", "53"},
    {"total_timesteps", "159"},       {"num_minibatches", "1"}, {"update_epochs", "5"},
    {"max_episode_steps", "23"},      {"gamma", "0.95"},        {"gae_lambda", "1"},
    {"bootstrap_truncated", "false"}, {"norm_adv", "batch"},    {"norm_adv_epsilon", "1e-10"},
    {"clip_vloss", "false"},          {"ent_coef", "0"},        {"vf_coef", "2"},
    {"max_grad_norm", "0"},           {"anneal_lr", "none"},    {"activation", "relu"},
    {"output_activation", "relu"},    {"init", "torch"}};

TEST(TrainerReference, WholeEpisodes) {
  const Settings several = with(kRewardsToGo, {{"num_envs", "7"}, {"num_steps", "101"}, {"total_timesteps", "303"}});
  follow<CartPole>(
      {
          {"one environment", kRewardsToGo},
          {"several environments", several},
          {"one step is enough", with(several, {{"num_steps", "1"}, {"total_timesteps", "3"}})},
          {"bootstrapped where truncated, lambda, annealed", with(several, {{"bootstrap_truncated", "true"},
                                                                            {"gae_lambda", "0.9"},
                                                                            {"anneal_lr", "linear"},
                                                                            {"anneal_clip_coef", "linear"},
                                                                            {"norm_adv", "minibatch"},
                                                                            {"max_grad_norm", "0.5"},
                                                                            {"ent_coef", "0.01"}})},
          {"separate", with(with(several, kSeparate), {{"value_target", "discounted"}, {"target_kl", "0.003"}})},
          {"not normalised, stopped by KL", with(several, {{"norm_adv", "none"}, {"target_kl", "0.004"}})},
      },
      200);
}

TEST(TrainerReference, WholeEpisodesOfContinuousActions) {
  const Settings shape = with(
      kRewardsToGo,
      {{"log_std_init", "-0.346574"}, {"learn_std", "false"}, {"max_episode_steps", "9"}, {"learning_rate", "0.003"}});
  follow<LanderContinuous>({
      {"one environment", shape},
      {"several environments, learnt deviations",
       with(shape, {{"num_envs", "7"}, {"num_steps", "60"}, {"learn_std", "true"}})},
  });
}

/// Returns are not lengths, and episodes differ.
template <class E>
void evaluates(const Settings& settings, bool greedy) {
  constexpr int kEpisodes = 37;
  const Config config = config_of(E::kId, settings, 5);
  const auto device = select_device(DeviceChoice::kCpu, 2).device;
  // First parameters would make logits of 0.01, between which rounding often decides.
  std::vector<float> parameters = initial_parameters(model_of(config), config);
  Draws draws(6);
  const Networks networks = reference_networks(config);
  const Vector drawn = networks.draw(draws);
  for (int i : networks.actor.positions()) parameters[at(i)] = static_cast<float>(drawn[at(i)]);
  Arena arena;
  const Slot<float> weights = arena.add<float>("weights", {parameters.size()});
  arena.take(*device);
  device->upload(arena.at(weights), parameters.data(), parameters.size() * sizeof(float));
  int compared = 0;
  for (std::uint32_t set = 3; set < 40 && compared < 2; ++set) {
    Closeness closeness;
    const auto episodes = reference_evaluation<E>(config, parameters, kEpisodes, 11, set, greedy, closeness);
    if (closeness.nearest() < 1.0) continue;
    ++compared;
    Vector returns, lengths;
    for (const PlayedEpisode& played : episodes) {
      returns.push_back(played.total);
      lengths.push_back(played.length);
    }
    const double variance = sample_variance_of(returns) * (kEpisodes - 1) / kEpisodes;
    const EvaluationResult result = evaluate(config, *device, arena.at(weights),
                                             {.episodes = kEpisodes, .deterministic = greedy, .seed = 11, .set = set});
    EXPECT_EQ(result.episodes, kEpisodes);
    expect_near("mean", result.mean, mean(returns), 1e-4, 1e-5);
    expect_near("std", result.std, std::sqrt(variance), 1e-3, 1e-4);
    expect_near("min", result.min, *std::min_element(returns.begin(), returns.end()), 1e-4, 1e-5);
    expect_near("max", result.max, *std::max_element(returns.begin(), returns.end()), 1e-4, 1e-5);
    EXPECT_EQ(result.mean_length, mean(lengths));
    EXPECT_GT(sample_variance_of(lengths), 0.1);
  }
  EXPECT_EQ(compared, 2) << "decisions come too near in nearly every set";
}

TEST(TrainerReference, Evaluations) {
  for (const bool greedy : {true, false}) {
    evaluates<CartPole>({}, greedy);
    evaluates<CartPole>({{"env.sutton_barto_reward", "true"}}, greedy);
    evaluates<Lander>({{"hidden_width", "64"}, {"env.gravity", "-8"}}, greedy);
  }
}

}  // namespace
}  // namespace perilune::test
