// The hyper-parameters that kernels read. The configuration of a run (host/settings/config.hpp) has the same fields
// with the same defaults, its numbers in double; rounded() makes those of kernels from it.
//
// Defaults are those of CleanRL's ppo.py. The loss they refer to:
//   policy_loss - ent_coef * entropy + vf_coef * 0.5 * mean((value - target)^2)
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace perilune {

/// Of the hidden layers.
enum class Activation : std::int32_t { kTanh, kRelu };

/// Of both networks' outputs; fused kernels have none.
enum class OutputActivation : std::int32_t { kNone, kRelu, kTanh };

/// What rollouts and updates multiply matrices in; sums, weights, losses and the optimiser are fp32 in all of them.
enum class Precision : std::int32_t { kFp32, kTf32, kBf16 };
/// As users write them.
inline constexpr const char* kPrecisionNames[] = {"fp32", "tf32", "bf16"};

/// A value over the run: constant, linearly to 0, or (learning rates alone) as the policy's KL divergence asks.
enum class Anneal : std::uint32_t { kNone, kLinear, kKl };

/// Epochs over shuffled minibatches with one loss, or policy and then value iterations over the whole batch.
enum class UpdateMode : std::uint32_t { kJoint, kSeparate };

/// Over what advantages are normalised.
enum class Normalization : std::uint32_t { kNone, kMinibatch, kBatch };

/// What values learn: lambda-returns or discounted returns.
enum class ValueTarget : std::uint32_t { kLambda, kDiscounted };

/// When target_kl is looked at: after an epoch, or before each step, of the policy alone (kIteration) or of both
/// networks (kMinibatch).
enum class KlStop : std::uint32_t { kEpoch, kIteration, kMinibatch };

/// kK3: mean(ratio - 1 - log ratio). kK1: mean(old - new log-probability).
enum class KlEstimator : std::uint32_t { kK3, kK1 };

/// Every hyper-parameter that is a number; members of type Real alone, as rounded() takes them.
template <class Real>
struct HyperparameterNumbers {
  Real learning_rate = Real(2.5e-4);      ///< of the actor
  Real critic_learning_rate = Real(0.0);  ///< a configuration's may be 0: learning_rate
  Real epoch_lr_decay = Real(1.0);
  Real desired_kl = Real(0.01);  ///< these three with Anneal::kKl
  Real min_learning_rate = Real(1e-5);
  Real max_learning_rate = Real(1e-2);
  Real adam_beta1 = Real(0.9);
  Real adam_beta2 = Real(0.999);
  Real adam_epsilon = Real(1e-5);
  Real max_grad_norm = Real(0.5);  ///< 0: off
  Real gamma = Real(0.99);
  Real gae_lambda = Real(0.95);
  Real norm_adv_epsilon = Real(1e-8);  ///< added to the standard deviation of advantages
  Real clip_reward = Real(10.0);       ///< of normalised rewards; 0: off
  Real clip_coef = Real(0.2);
  Real clip_vloss_coef = Real(0.0);  ///< of values; a configuration's may be 0: clip_coef
  Real ent_coef = Real(0.01);
  Real vf_coef = Real(0.5);
  Real target_kl = Real(0.0);  ///< 0: off

  bool operator==(const HyperparameterNumbers&) const = default;
};

/// Every other hyper-parameter.
struct HyperparameterChoices {
  Anneal anneal_lr = Anneal::kLinear;
  Anneal anneal_clip_coef = Anneal::kNone;
  Anneal anneal_ent_coef = Anneal::kNone;
  ValueTarget value_target = ValueTarget::kLambda;
  Normalization norm_adv = Normalization::kMinibatch;
  KlStop kl_stop = KlStop::kEpoch;
  KlEstimator kl_estimator = KlEstimator::kK3;
  bool bootstrap_truncated = true;  ///< false: where an episode is truncated it is worth as little as a terminated one
  bool clip_vloss = true;
  bool learn_std = true;  ///< train a continuous policy's standard deviations

  bool operator==(const HyperparameterChoices&) const = default;
};

/// What kernels read; constant during a run.
struct Hyperparameters : HyperparameterNumbers<float>, HyperparameterChoices {
  float adam_beta1_complement, adam_beta2_complement;  ///< 1 - beta, rounded once from double
  std::uint32_t num_iterations;                        ///< over which values are annealed
};

/// Hyper-parameters as kernels read them: each number is rounded once.
inline Hyperparameters rounded(const HyperparameterNumbers<double>& numbers, const HyperparameterChoices& choices,
                               std::uint32_t num_iterations) {
  constexpr std::size_t kCount = sizeof numbers / sizeof(double);
  static_assert(sizeof(HyperparameterNumbers<float>) == kCount * sizeof(float));
  std::array<float, kCount> floats;
  std::ranges::transform(std::bit_cast<std::array<double, kCount>>(numbers), floats.begin(),
                         [](double number) { return static_cast<float>(number); });
  return {std::bit_cast<HyperparameterNumbers<float>>(floats), choices, static_cast<float>(1.0 - numbers.adam_beta1),
          static_cast<float>(1.0 - numbers.adam_beta2), num_iterations};
}

}  // namespace perilune
