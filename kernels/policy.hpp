// What a network's outputs say about the action: a probability distribution over the environment's kind of action.
//
// A policy is made for one sample over the number type Real, and has
//   kOutputs, kActionFloats   outputs of the actor network; numbers of an action in a record
//   kSpread                   parameters beside the network, the same in every state (none, or log standard deviations)
//   Action, Spread, Gradient  what a step takes; where those parameters are; derivatives by all of it
//   P(outputs, spread)        the distribution
//   sample(random), mode(outputs)       a draw; the action to play greedily
//   log_probability_of(action), entropy()
//   gradient(action, by_log_probability, ent_coef, entropy)
//                             the derivative of by_log_probability * log p(action) - ent_coef * entropy
//   write(action, to), read(from)       an action's kActionFloats numbers in a record
#pragma once

#include "sims/env.hpp"
#include "sims/math.hpp"
#include "sims/real.hpp"
#include "sims/rng.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// One of N actions, from their logits.
template <class Real, int N>
struct Categorical {
  static constexpr int kOutputs = N;
  static constexpr int kActionFloats = 1;
  static constexpr int kSpread = 0;
  using Action = UInt<Real>;
  struct Spread {
    PERILUNE_HD explicit Spread(const math::Scalar<Real>*) {}
  };
  struct Gradient {
    Real outputs[N];
  };

  Real log_probability[N];
  Real probability[N];

  PERILUNE_HD Categorical(const Real (&logits)[N], const Spread&) {
    Real top = logits[0];
    for (int i = 1; i < N; ++i) top = max(top, logits[i]);
    Real total(0.0f);
    for (int i = 0; i < N; ++i) {
      probability[i] = math::exp(logits[i] - top);
      total = total + probability[i];
    }
    const Real log_total = math::log(total);
    const Real scale = Real(1.0f) / total;
    for (int i = 0; i < N; ++i) {
      log_probability[i] = logits[i] - top - log_total;
      probability[i] = probability[i] * scale;
    }
  }

  template <class Random>
  PERILUNE_HD Action sample(Random& random) const {
    return sample_categorical(probability, N, random.uniform());
  }

  /// The first of the most probable ones.
  PERILUNE_HD static Action mode(const Real (&logits)[N]) {
    Action action(0u);
    Real best = logits[0];
    for (int i = 1; i < N; ++i) {
      action = select(logits[i] > best, UInt<Real>(static_cast<std::uint32_t>(i)), action);
      best = max(logits[i], best);
    }
    return action;
  }

  PERILUNE_HD Real log_probability_of(Action action) const {
    Real chosen = log_probability[0];
    for (int i = 1; i < N; ++i) {
      chosen = select(action == UInt<Real>(static_cast<std::uint32_t>(i)), log_probability[i], chosen);
    }
    return chosen;
  }

  PERILUNE_HD Real entropy() const {
    Real total(0.0f);
    for (int i = 0; i < N; ++i) total = total - probability[i] * log_probability[i];
    return total;
  }

  PERILUNE_HD Gradient gradient(Action action, Real by_log_probability, Real ent_coef, Real entropy) const {
    const Real one(1.0f);
    Gradient result;
    for (int i = 0; i < N; ++i) {
      const Real p = probability[i];
      const Real indicator = select(action == UInt<Real>(static_cast<std::uint32_t>(i)), one, Real(0.0f));
      result.outputs[i] = by_log_probability * (indicator - p) + ent_coef * p * (log_probability[i] + entropy);
    }
    return result;
  }

  PERILUNE_HD static void write(Action action, Real* to) { to[0] = to_real<Real>(action); }
  PERILUNE_HD static Action read(const Real* from) { return to_uint(to_int(from[0])); }
};

/// N numbers, each normal and independent of the others: the network says the means, and the logarithms of the standard
/// deviations are parameters that no state changes. Derivatives: Williams 1992, section 6. Actions are not clipped
/// here, neither drawn nor judged: that is the environment's business, and the distribution stays a normal one.
template <class Real, int N>
struct DiagonalGaussian {
  static constexpr int kOutputs = N;
  static constexpr int kActionFloats = N;
  static constexpr int kSpread = N;
  static constexpr double kHalfLogTwoPi = 0.91893853320467274178;
  using Scalar = math::Scalar<Real>;
  using Action = typename Box<N>::template Value<Real>;
  /// Only where they are: what follows from them would take registers for as long as a kernel runs.
  struct Spread {
    const Scalar* log_std;
    PERILUNE_HD explicit Spread(const Scalar* at) : log_std(at) {}
  };
  struct Gradient {
    Real outputs[N];
    Real spread[N];
  };

  Real mean[N];
  Scalar std[N];
  Scalar inverse_std[N];
  Scalar log_stds;  ///< their sum

  PERILUNE_HD DiagonalGaussian(const Real (&means)[N], const Spread& spread) : log_stds(0.0f) {
    PERILUNE_UNROLL
    for (int i = 0; i < N; ++i) {
      mean[i] = means[i];
      std[i] = math::exp(spread.log_std[i]);
      inverse_std[i] = Scalar(1.0f) / std[i];
      log_stds = log_stds + spread.log_std[i];
    }
  }

  template <class Random>
  PERILUNE_HD Action sample(Random& random) const {
    Action action;
    PERILUNE_UNROLL
    for (int i = 0; i < N; ++i) action.at[i] = mean[i] + std[i] * random.normal();
    return action;
  }

  PERILUNE_HD static Action mode(const Real (&means)[N]) {
    Action action;
    PERILUNE_UNROLL
    for (int i = 0; i < N; ++i) action.at[i] = means[i];
    return action;
  }

  PERILUNE_HD Real log_probability_of(const Action& action) const {
    Real squares(0.0f);
    PERILUNE_UNROLL
    for (int i = 0; i < N; ++i) squares = squares + deviation(action, i) * deviation(action, i);
    return Real(math::constant<Real>(-N * kHalfLogTwoPi) - log_stds) - Real(0.5f) * squares;
  }

  PERILUNE_HD Real entropy() const { return Real(math::constant<Real>(N * (0.5 + kHalfLogTwoPi)) + log_stds); }

  PERILUNE_HD Gradient gradient(const Action& action, Real by_log_probability, Real ent_coef, Real) const {
    Gradient result;
    PERILUNE_UNROLL
    for (int i = 0; i < N; ++i) {
      const Real z = deviation(action, i);
      result.outputs[i] = by_log_probability * (z * inverse_std[i]);
      result.spread[i] = by_log_probability * (z * z - Real(1.0f)) - ent_coef;
    }
    return result;
  }

  PERILUNE_HD static void write(const Action& action, Real* to) {
    PERILUNE_UNROLL
    for (int i = 0; i < N; ++i) to[i] = action.at[i];
  }
  PERILUNE_HD static Action read(const Real* from) {
    Action action;
    PERILUNE_UNROLL
    for (int i = 0; i < N; ++i) action.at[i] = from[i];
    return action;
  }

 private:
  /// From the mean, in standard deviations.
  PERILUNE_HD Real deviation(const Action& action, int i) const { return (action.at[i] - mean[i]) * inverse_std[i]; }
};

template <class Action, class Real>
struct PolicyFor;
template <int N, class Real>
struct PolicyFor<Discrete<N>, Real> {
  using Type = Categorical<Real, N>;
};
template <int N, class Real>
struct PolicyFor<Box<N>, Real> {
  using Type = DiagonalGaussian<Real, N>;
};

/// The policy for environment E's actions.
template <class E, class Real>
using PolicyOf = typename PolicyFor<typename E::Action, Real>::Type;

/// Outputs of the actor's network for E's actions, and numbers of an action in a record.
template <class E>
inline constexpr int kPolicyOutputs = PolicyOf<E, float>::kOutputs;
template <class E>
inline constexpr int kActionFloats = PolicyOf<E, float>::kActionFloats;

/// The action to play: the policy's mode, or a draw.
template <class Policy, class Real, class Random>
PERILUNE_HD typename Policy::Action choose_action(const Real (&outputs)[Policy::kOutputs],
                                                  const typename Policy::Spread& spread, bool deterministic,
                                                  Random& random) {
  if (deterministic) return Policy::mode(outputs);
  return Policy(outputs, spread).sample(random);
}

}  // namespace perilune::inline PERILUNE_LEVEL
