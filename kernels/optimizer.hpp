// From partial gradients to new parameters: fixed-order sum, global-norm clip, Adam (Kingma and Ba 2015).
//
// Three kernels a minibatch besides the update: ReduceGradients (many blocks), ApplyGradients (many blocks, each works out
// the same norm and verdict from the same numbers), FinishMinibatch (one block, the only one that writes Control).
// Adam's bias corrections 1 - beta^t are kept as running values, c <- beta c + (1 - beta), which stays exact where the
// difference would cancel.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

PERILUNE_HD bool is_finite(float x) { return x - x == 0.0f; }

/// What the sums of a minibatch say; every block computes the same from the same arrays.
struct Verdict {
  float policy_loss, value_loss, entropy, kl1, kl3, clip_fraction;
  float gradient_norm;
  NonFinite nonfinite;
  bool stop;  ///< this policy step is beyond target_kl and must not be applied
};

template <class Args>
PERILUNE_DEVICE Verdict judge(const Args& args) {
  float sums[kLossSums] = {};
  const bool policy = args.losses != Losses::kValue, value = args.losses != Losses::kPolicy;
  for (int p = 0; p < args.partials; ++p) {
    PERILUNE_UNROLL
    for (int k = 0; k < kLossSums; ++k) {
      const bool written = k == kValueLoss ? value : policy;
      if (written) sums[k] += args.sums[p * kLossSums + k];
    }
  }
  float squares = 0.0f;
  bool actor_finite = true;
  for (int i = 0; i < args.square_sum_count; ++i) {
    squares += args.square_sums[i];
    if (i < args.actor_square_sums) actor_finite = actor_finite && is_finite(args.square_sums[i]);
  }
  const float scale = 1.0f / static_cast<float>(args.minibatch_size);
  Verdict verdict{sums[kPolicyLoss] * scale, sums[kValueLoss] * scale, sums[kEntropy] * scale,
                  sums[kKl1] * scale, sums[kKl3] * scale, sums[kClipped] * scale, sqrt(squares),
                  NonFinite::kNone, false};
  if (!is_finite(verdict.policy_loss)) {
    verdict.nonfinite = NonFinite::kPolicyLoss;
  } else if (!is_finite(verdict.value_loss)) {
    verdict.nonfinite = NonFinite::kValueLoss;
  } else if (!is_finite(squares)) {
    verdict.nonfinite = actor_finite ? NonFinite::kCriticGradient : NonFinite::kActorGradient;
  }
  const float kl = args.hyper.kl_k1 != 0 ? verdict.kl1 : verdict.kl3;
  verdict.stop = policy && args.hyper.kl_stop_each_iteration != 0 &&
                 args.hyper.target_kl > 0.0f && kl > args.hyper.target_kl;
  return verdict;
}

PERILUNE_DEVICE bool skipped(const Control& control, Losses losses) {
  return control.nonfinite != 0 || (losses != Losses::kValue && control.stop_policy != 0);
}

struct ReduceGradients {
  template <class B>
  PERILUNE_DEVICE static void run(B& block, const ReduceGradientsArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    if (skipped(*args.control, args.losses)) return;
    const int first = args.begin + block.index() * B::kLanes;
    block.activate(args.end - first < B::kLanes ? args.end - first : B::kLanes);
    PerLane<B, Real> squares;
    block.lanes([&](Lane lane) {
      Real total(0.0f);
      for (int p = 0; p < args.partials; ++p) {
        const float* partial = args.gradients + static_cast<std::size_t>(p) *
                                                    static_cast<std::size_t>(args.parameter_count);
        total = total + block.load(partial + first, lane);
      }
      block.store(args.gradient + first, lane, total);
      squares[lane] = total * total;
    });
    const float sum = block.sum(squares);
    block.one([&] { args.square_sums[block.index()] = sum; });
  }
};

struct ApplyGradients {
  template <class B>
  PERILUNE_DEVICE static void run(B& block, const ApplyGradientsArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const Control& control = *args.control;
    if (skipped(control, args.losses)) return;
    const Verdict verdict = judge(args);
    if (verdict.nonfinite != NonFinite::kNone || verdict.stop) return;
    const Hyperparameters& hyper = args.hyper;
    const float limit = hyper.max_grad_norm;
    const float factor = limit > 0.0f ? min(1.0f, limit / (verdict.gradient_norm + 1e-6f)) : 1.0f;
    const int first = args.begin + block.index() * B::kLanes;
    block.activate(args.end - first < B::kLanes ? args.end - first : B::kLanes);
    block.lanes([&](Lane lane) {
      const Mask<Real> actor =
          block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(first)) <
          UInt<Real>(static_cast<std::uint32_t>(args.actor_end));
      const auto pick = [&](float a, float c) { return select(actor, Real(a), Real(c)); };
      const auto correction = [&](float beta, float complement, float a, float c) {
        return Real(beta) * pick(a, c) + Real(complement);
      };
      const Real learning_rate = pick(control.actor_learning_rate, control.critic_learning_rate);
      const Real correction1 =
          correction(hyper.adam_beta1, hyper.adam_beta1_complement, control.actor_correction[0],
                     control.critic_correction[0]);
      const Real correction2 =
          correction(hyper.adam_beta2, hyper.adam_beta2_complement, control.actor_correction[1],
                     control.critic_correction[1]);
      const Real g = block.load(args.gradient + first, lane) * Real(factor);
      const Real m = Real(hyper.adam_beta1) * block.load(args.first_moment + first, lane) +
                     Real(hyper.adam_beta1_complement) * g;
      const Real v = Real(hyper.adam_beta2) * block.load(args.second_moment + first, lane) +
                     Real(hyper.adam_beta2_complement) * (g * g);
      const Real step = learning_rate * (m / correction1) /
                        (sqrt(v / correction2) + Real(hyper.adam_epsilon));
      block.store(args.first_moment + first, lane, m);
      block.store(args.second_moment + first, lane, v);
      block.store(args.parameters + first, lane, block.load(args.parameters + first, lane) - step);
    });
  }
};

/// Closes a minibatch: counters, KL stop, non-finite check, running metrics. One block.
struct FinishMinibatch {
  template <class B>
  PERILUNE_DEVICE static void run(B& block, const FinishMinibatchArgs& args) {
    block.one([&] {
      Control& control = *args.control;
      if (skipped(control, args.losses)) return;
      const Verdict verdict = judge(args);
      const bool policy = args.losses != Losses::kValue, value = args.losses != Losses::kPolicy;
      float* running = args.running;
      if (policy) {
        running[kRunPolicyLoss] = verdict.policy_loss;
        running[kRunEntropy] = verdict.entropy;
        running[kRunKl1] = verdict.kl1;
        running[kRunKl3] = verdict.kl3;
        running[kRunClipFractionSum] += verdict.clip_fraction;
        running[kRunPolicyCount] += 1.0f;
      }
      if (value) running[kRunValueLoss] = verdict.value_loss;
      running[kRunGradientNorm] = verdict.gradient_norm;
      control.nonfinite = static_cast<std::uint32_t>(verdict.nonfinite);
      if (verdict.stop) control.stop_policy = 1;
      if (verdict.stop || verdict.nonfinite != NonFinite::kNone) return;
      if (policy) {
        control.policy_steps += 1;
        advance(args.hyper, control.actor_correction);
        const float kl = args.hyper.kl_k1 != 0 ? verdict.kl1 : verdict.kl3;
        if (args.last_of_epoch != 0 && args.hyper.kl_stop_each_iteration == 0 &&
            args.hyper.target_kl > 0.0f && kl > args.hyper.target_kl) {
          control.stop_policy = 1;
        }
      }
      if (value) advance(args.hyper, control.critic_correction);
    });
  }

  PERILUNE_DEVICE static void advance(const Hyperparameters& hyper, float (&correction)[2]) {
    correction[0] = hyper.adam_beta1 * correction[0] + hyper.adam_beta1_complement;
    correction[1] = hyper.adam_beta2 * correction[1] + hyper.adam_beta2_complement;
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
