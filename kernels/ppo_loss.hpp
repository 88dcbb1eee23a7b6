// The clipped surrogate loss of one sample and its derivatives (Schulman et al. 2017), over the number type.
//
// loss = policy - ent_coef * entropy + vf_coef * value, each a mean over the minibatch. Conventions are CleanRL's:
//   policy  max(-A r, -A clip(r, 1 - c, 1 + c)),  r = exp(log p - log p_old)
//   value   0.5 (V - R)^2, or with clip_vloss 0.5 max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2)
#pragma once

#include "kernels/policy.hpp"
#include "sims/math.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <class Real>
struct PolicyTerms {
  Real loss;  ///< the clipped surrogate, without entropy
  Real entropy;
  Real kl1;  ///< log p_old - log p
  Real kl3;  ///< (r - 1) - log r
  Mask<Real> clipped;
};

/// The policy loss of one sample, and the derivatives of loss - ent_coef * entropy in `gradient`.
template <class Policy, class Real>
PERILUNE_HD PolicyTerms<Real> policy_loss(const Policy& policy, const typename Policy::Action& action,
                                          Real old_log_probability, Real advantage, Real clip, Real ent_coef,
                                          typename Policy::Gradient& gradient) {
  const Real log_ratio = policy.log_probability_of(action) - old_log_probability;
  const Real ratio = math::exp(log_ratio);
  const Real one(1.0f);
  const Real plain = -(advantage * ratio);
  const Real limited = -(advantage * min(max(ratio, one - clip), one + clip));
  const Real entropy = policy.entropy();
  const Mask<Real> live = plain >= limited;  // equal inside the clip range
  gradient = policy.gradient(action, select(live, plain, Real(0.0f)), ent_coef, entropy);
  return {select(live, plain, limited), entropy, -log_ratio, (ratio - one) - log_ratio, abs(ratio - one) > clip};
}

/// The value loss of one sample (without vf_coef), and its derivative by `value`.
template <class Real>
PERILUNE_HD Real value_loss(Real value, Real old_value, Real target, Real clip, bool clip_vloss, Real& gradient) {
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
