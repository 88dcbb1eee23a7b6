// What an iteration tells of itself: the one list of its metrics, beside the names that users see.
//
// A new one is an enumerator, its line in the table, and the line of a kernel that computes it: ReduceGradients
// (optimizer.hpp) knows the minibatches, EndIteration (statistics.hpp) the rest.
#pragma once

#include <cstdint>

namespace perilune {

/// Indexes an iteration's row, in the order of the files' columns. What updates tell is of the last minibatch.
struct Metric {
  enum Index : std::int32_t {
    kEpisodicReturn,
    kEpisodicLength,
    kEpisodes,        ///< that ended
    kLearningRate,    ///< the actor's
    kStepsPerSecond,  ///< 0 in a row: the host knows the time
    kValueLoss,
    kPolicyLoss,
    kEntropy,
    kOldApproxKl,
    kApproxKl,
    kClipFraction,  ///< mean over the policy's minibatches
    kExplainedVariance,
    kGradientNorm,
    kPolicyUpdates,  ///< applied before the KL stop, if any
    kCriticLearningRate,
    kClipCoefficient,
    kObservationStd,  ///< that observations are divided by, mean over their numbers; 0 without norm_obs
    kReturnStd,       ///< that rewards are divided by: of discounted returns; 0 without norm_reward
  };
};

struct MetricInfo {
  Metric::Index metric;
  const char* name;             ///< in metrics.jsonl and TensorBoard; null: in neither
  bool is_per_episode = false;  ///< a row holds the sum over the episodes that ended, users see the mean
};

inline constexpr MetricInfo kMetricInfos[] = {
    {Metric::kEpisodicReturn, "charts/episodic_return", true},
    {Metric::kEpisodicLength, "charts/episodic_length", true},
    {Metric::kEpisodes, "charts/episodes"},
    {Metric::kLearningRate, "charts/learning_rate"},
    {Metric::kStepsPerSecond, "charts/SPS"},
    {Metric::kValueLoss, "losses/value_loss"},
    {Metric::kPolicyLoss, "losses/policy_loss"},
    {Metric::kEntropy, "losses/entropy"},
    {Metric::kOldApproxKl, "losses/old_approx_kl"},
    {Metric::kApproxKl, "losses/approx_kl"},
    {Metric::kClipFraction, "losses/clipfrac"},
    {Metric::kExplainedVariance, "losses/explained_variance"},
    {Metric::kGradientNorm, "losses/gradient_norm"},
    {Metric::kPolicyUpdates, "losses/policy_updates"},
    {Metric::kCriticLearningRate, nullptr},
    {Metric::kClipCoefficient, nullptr},
    {Metric::kObservationStd, "normalization/observation_std"},
    {Metric::kReturnStd, "normalization/return_std"},
};
inline constexpr int kMetrics = sizeof kMetricInfos / sizeof kMetricInfos[0];

constexpr bool metric_infos_are_in_order() {
  for (int k = 0; k < kMetrics; ++k) {
    if (kMetricInfos[k].metric != k) return false;
  }
  return true;
}
static_assert(metric_infos_are_in_order());

/// Where a NaN or Inf was found first.
enum class NonFinite : std::uint32_t {
  kNone,
  kPolicyLoss,
  kValueLoss,
  kActorGradient,
  kCriticGradient,
  kObservation,  ///< looked for where observations are normalised
  kReturn        ///< where rewards are
};
/// As messages name these places.
inline constexpr const char* kNonFiniteNames[] = {
    "nothing",        "the policy loss",    "the value loss", "the actor's gradient", "the critic's gradient",
    "an observation", "a discounted return"};

/// An iteration's row.
struct IterationMetrics {
  std::uint32_t iteration;  ///< 1-based
  NonFinite nonfinite;
  float values[kMetrics];   ///< by Metric
  std::uint32_t steps = 0;  ///< of its batch
};
inline constexpr int kMetricsRing = 1024;  ///< rows kept: how many iterations the host may be behind

}  // namespace perilune
