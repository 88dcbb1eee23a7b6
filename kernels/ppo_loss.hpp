// The clipped surrogate loss of one sample and its derivatives (Schulman et al. 2017), over the number type.
//
// loss = policy - ent_coef * entropy + vf_coef * value, each a mean over the minibatch. Conventions are CleanRL's:
//   policy  max(-A r, -A clip(r, 1 - c, 1 + c)),  r = exp(log p - log p_old)
//   value   0.5 (V - R)^2, or with clip_vloss 0.5 max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2)
#pragma once

#include "sims/math.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A categorical distribution over N actions, from its logits.
template <class Real, int N>
struct Categorical {
  Real log_probability[N];
  Real probability[N];

  PERILUNE_HD explicit Categorical(const Real (&logits)[N]) {
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

  PERILUNE_HD Real log_probability_of(UInt<Real> action) const {
    Real chosen = log_probability[0];
    for (int i = 1; i < N; ++i) {
      chosen = select(action == UInt<Real>(static_cast<std::uint32_t>(i)), log_probability[i],
                      chosen);
    }
    return chosen;
  }

  PERILUNE_HD Real entropy() const {
    Real total(0.0f);
    for (int i = 0; i < N; ++i) total = total - probability[i] * log_probability[i];
    return total;
  }
};

template <class Real>
struct PolicyTerms {
  Real loss;      ///< the clipped surrogate, without entropy
  Real entropy;
  Real kl1;       ///< log p_old - log p
  Real kl3;       ///< (r - 1) - log r
  Mask<Real> clipped;
};

/// The policy loss of one sample, and d(loss - ent_coef * entropy)/d(logits) in `gradient`.
template <class Real, int N>
PERILUNE_HD PolicyTerms<Real> policy_loss(const Real (&logits)[N], UInt<Real> action,
                                          Real old_log_probability, Real advantage, Real clip,
                                          Real ent_coef, Real (&gradient)[N]) {
  const Categorical<Real, N> policy(logits);
  const Real log_ratio = policy.log_probability_of(action) - old_log_probability;
  const Real ratio = math::exp(log_ratio);
  const Real one(1.0f);
  const Real plain = -(advantage * ratio);
  const Real limited = -(advantage * min(max(ratio, one - clip), one + clip));
  const Real entropy = policy.entropy();
  const Mask<Real> live = plain >= limited;  // equal inside the clip range
  const Real slope = select(live, plain, Real(0.0f));
  for (int i = 0; i < N; ++i) {
    const Real p = policy.probability[i];
    const Real indicator = select(action == UInt<Real>(static_cast<std::uint32_t>(i)), one,
                                  Real(0.0f));
    gradient[i] = slope * (indicator - p) + ent_coef * p * (policy.log_probability[i] + entropy);
  }
  return {select(live, plain, limited), entropy, -log_ratio, (ratio - one) - log_ratio,
          abs(ratio - one) > clip};
}

/// The value loss of one sample (without vf_coef), and its derivative by `value`.
template <class Real>
PERILUNE_HD Real value_loss(Real value, Real old_value, Real target, Real clip, bool clip_vloss,
                            Real& gradient) {
  const Real error = value - target;
  const Real square = error * error;
  if (!clip_vloss) {
    gradient = error;
    return Real(0.5f) * square;
  }
  const Real moved = value - old_value;
  const Real limited = old_value + min(max(moved, -clip), clip) - target;
  const Real limited_square = limited * limited;
  // Equal inside the clip range but for rounding, which must not decide there.
  const Mask<Real> live = abs(moved) <= clip || square >= limited_square;
  gradient = select(live, error, Real(0.0f));
  return Real(0.5f) * select(live, square, limited_square);
}

}  // namespace perilune::inline PERILUNE_LEVEL
