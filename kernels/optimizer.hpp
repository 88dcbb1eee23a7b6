// From partial gradients to new parameters: fixed-order sum, global-norm clip, Adam (Kingma and Ba 2015).
//
// Two kernels a minibatch besides the update. ReduceGradients sums the partials; its last block knows every sum,
// decides what the minibatch means (losses, norm, KL stop, NaN) and is the only one that writes Control. It leaves an
// AdamStep, which ApplyGradients carries out. Adam's bias corrections 1 - beta^t are kept as running values, c <- beta
// c + (1 - beta), which stays exact where the difference would cancel.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

PERILUNE_HD bool is_finite(float x) { return x - x == 0.0f; }

PERILUNE_DEVICE bool skipped(const Control& control, Losses losses) {
  return control.nonfinite != NonFinite::kNone || (losses != Losses::kValue && control.stop_policy != 0);
}

/// What the sums of a minibatch say.
struct Verdict {
  float mean[kLossSums];  ///< of those that were trained, else 0
  float gradient_norm;
  NonFinite nonfinite;
  bool beyond_target_kl;
};

struct ReduceGradients {
  static constexpr Grid kGrid = Grid::kColumns;
  /// Partials that are loaded together, so that a lane does not wait for one after the other.
  static constexpr int kAhead = 4;
  /// For the parts of a column of lanes (kSplit).
  template <class B>
  static constexpr int storage_floats() {
    return B::kSplit > 1 ? B::kLanes : 0;
  }

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const ReduceGradientsArgs& args) {
    if (skipped(*args.control, args.losses)) {
      if (block.index() == 0) block.one([&] { args.step->apply = 0; });
      return;
    }
    sum_partials(block, args);
    if (!block.last_of_grid(args.control->reduce_ticket)) return;
    const Verdict verdict = judge(block, args);
    block.one([&] { conclude(args, verdict); });
  }

  /// This block's columns of the gradient, and the sum of their squares.
  template <class B>
  PERILUNE_DEVICE static void sum_partials(B& block, const ReduceGradientsArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const int first = args.begin + block.index() * B::kColumns;
    block.activate(args.end - first < B::kColumns ? args.end - first : B::kColumns);
    PerLane<B, Real> total, squares;
    block.lanes([&](Lane lane) {
      total[lane] = Real(0.0f);
      for (int p = B::part(lane); p < args.partials; p += kAhead * B::kSplit) {
        Real terms[kAhead];
        PERILUNE_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          const int partial = p + i * B::kSplit;
          const float* from =
              args.gradients + static_cast<std::size_t>(partial) * static_cast<std::size_t>(args.parameter_count);
          terms[i] = partial < args.partials ? block.load(from + first, B::column(lane)) : Real(0.0f);
        }
        PERILUNE_UNROLL
        for (int i = 0; i < kAhead; ++i) total[lane] = total[lane] + terms[i];
      }
    });
    if constexpr (B::kSplit > 1) {
      float* const parts = block.storage();
      block.lanes([&](Lane lane) { B::store_lane(parts + B::part(lane) * B::kColumns, B::column(lane), total[lane]); });
      block.sync();
      block.lanes([&](Lane lane) {
        total[lane] = Real(0.0f);
        for (int part = 0; part < B::kSplit; ++part) {
          total[lane] = total[lane] + B::load_lane(parts + part * B::kColumns, B::column(lane));
        }
      });
    }
    block.lanes([&](Lane lane) {  // the first part's lanes are the columns
      if (block.part(lane) == 0) block.store(args.gradient + first, lane, total[lane]);
      squares[lane] = total[lane] * total[lane];
    });
    const float sum = block.sum(squares);
    block.one([&] { args.square_sums[block.index()] = sum; });
  }

  template <class B>
  PERILUNE_DEVICE static Verdict judge(B& block, const ReduceGradientsArgs& args) {
    const int actor_parameters = args.actor_end > args.begin ? args.actor_end - args.begin : 0;
    const int actor_blocks = (actor_parameters + B::kColumns - 1) / B::kColumns;
    const float* arrays[kLossSums + 2];
    int sizes[kLossSums + 2];
    PERILUNE_UNROLL
    for (int k = 0; k < kLossSums; ++k) {
      const bool trained = args.losses == Losses::kBoth || (k == kValueLoss) == (args.losses == Losses::kValue);
      arrays[k] = args.sums + k * args.partials;
      sizes[k] = trained ? args.partials : 0;
    }
    arrays[kLossSums] = args.square_sums;
    sizes[kLossSums] = actor_blocks;
    arrays[kLossSums + 1] = args.square_sums + actor_blocks;
    sizes[kLossSums + 1] = block.count() - actor_blocks;
    const Sums<kLossSums + 2> sums = sum_arrays(block, arrays, sizes);
    const float samples =
        args.minibatch_size > 0 ? static_cast<float>(args.minibatch_size) : static_cast<float>(args.control->samples);
    Verdict verdict{};
    PERILUNE_UNROLL
    for (int k = 0; k < kLossSums; ++k) verdict.mean[k] = sums[k] / samples;
    const float actor = sums[kLossSums], critic = sums[kLossSums + 1];
    verdict.gradient_norm = sqrt(actor + critic);
    verdict.nonfinite = !is_finite(verdict.mean[kPolicyLoss])  ? NonFinite::kPolicyLoss
                        : !is_finite(verdict.mean[kValueLoss]) ? NonFinite::kValueLoss
                        : !is_finite(actor)                    ? NonFinite::kActorGradient
                        : !is_finite(actor + critic)           ? NonFinite::kCriticGradient
                                                               : NonFinite::kNone;
    const float kl = args.hyper.kl_estimator == KlEstimator::kK1 ? verdict.mean[kKl1] : verdict.mean[kKl3];
    verdict.beyond_target_kl =
        args.losses != Losses::kValue && args.hyper.target_kl > 0.0f && kl > args.hyper.target_kl;
    return verdict;
  }

  /// Counters, KL stop, NaN check and running metrics; and what Adam is to do. Called by one lane.
  PERILUNE_DEVICE static void conclude(const ReduceGradientsArgs& args, const Verdict& verdict) {
    Control& control = *args.control;
    const Hyperparameters& hyper = args.hyper;
    const bool policy = args.losses != Losses::kValue, value = args.losses != Losses::kPolicy;
    float* running = args.running;
    if (policy) {
      running[Metric::kPolicyLoss] = verdict.mean[kPolicyLoss];
      running[Metric::kEntropy] = verdict.mean[kEntropy];
      running[Metric::kOldApproxKl] = verdict.mean[kKl1];
      running[Metric::kApproxKl] = verdict.mean[kKl3];
      running[Metric::kClipFraction] += verdict.mean[kClipped];
      running[Metric::kPolicyUpdates] += 1.0f;  // also one that target_kl refuses
    }
    if (value) running[Metric::kValueLoss] = verdict.mean[kValueLoss];
    running[Metric::kGradientNorm] = verdict.gradient_norm;

    // An iteration's first step is of the policy that acted, whose divergence is 0 but for rounding.
    if (policy && control.policy_steps > 0 && hyper.anneal_lr == Anneal::kKl && verdict.nonfinite == NonFinite::kNone) {
      control.actor_learning_rate = adapted(hyper, verdict.mean[kKl3], control.actor_learning_rate);
      control.critic_learning_rate = adapted(hyper, verdict.mean[kKl3], control.critic_learning_rate);
    }
    const bool each = hyper.kl_stop != KlStop::kEpoch;
    const bool step_is_beyond = verdict.beyond_target_kl && each;
    control.nonfinite = verdict.nonfinite;
    if (verdict.beyond_target_kl && (each || args.last_of_epoch != 0)) control.stop_policy = 1;
    args.step->apply = verdict.nonfinite == NonFinite::kNone && !step_is_beyond ? 1 : 0;
    if (args.step->apply == 0) return;

    if (policy) {
      control.policy_steps += 1;
      advance(hyper, control.actor_correction);
    }
    if (value) advance(hyper, control.critic_correction);
    const float limit = hyper.max_grad_norm;
    AdamStep step;
    step.apply = 1;
    step.gradient_factor = limit > 0.0f ? min(1.0f, limit / (verdict.gradient_norm + 1e-6f)) : 1.0f;
    step.actor_learning_rate = control.actor_learning_rate;
    step.critic_learning_rate = control.critic_learning_rate;
    for (int k = 0; k < 2; ++k) {
      step.actor_correction[k] = control.actor_correction[k];
      step.critic_correction[k] = control.critic_correction[k];
    }
    *args.step = step;
    if (args.decay_after != 0) {
      control.actor_learning_rate *= hyper.epoch_lr_decay;
      control.critic_learning_rate *= hyper.epoch_lr_decay;
    }
  }

  /// The learning rate that keeps each step's divergence near desired_kl: rsl_rl's and rl_games' rule.
  PERILUNE_DEVICE static float adapted(const Hyperparameters& hyper, float kl, float learning_rate) {
    if (kl > 2.0f * hyper.desired_kl) return max(learning_rate / 1.5f, hyper.min_learning_rate);
    if (kl < 0.5f * hyper.desired_kl) return min(learning_rate * 1.5f, hyper.max_learning_rate);
    return learning_rate;
  }

  PERILUNE_DEVICE static void advance(const Hyperparameters& hyper, float (&correction)[2]) {
    correction[0] = hyper.adam_beta1 * correction[0] + hyper.adam_beta1_complement;
    correction[1] = hyper.adam_beta2 * correction[1] + hyper.adam_beta2_complement;
  }
};

struct ApplyGradients {
  static constexpr Grid kGrid = Grid::kElements;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const ApplyGradientsArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const AdamStep step = *args.step;
    if (step.apply == 0) return;
    const Hyperparameters& hyper = args.hyper;
    const int first = args.begin + block.index() * B::kLanes;
    block.activate(args.end - first < B::kLanes ? args.end - first : B::kLanes);
    block.lanes([&](Lane lane) {
      const Mask<Real> actor = block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(first)) <
                               UInt<Real>(static_cast<std::uint32_t>(args.actor_end));
      const auto pick = [&](float a, float c) { return select(actor, Real(a), Real(c)); };
      const Real learning_rate = pick(step.actor_learning_rate, step.critic_learning_rate);
      const Real correction1 = pick(step.actor_correction[0], step.critic_correction[0]);
      const Real correction2 = pick(step.actor_correction[1], step.critic_correction[1]);
      const Real g = block.load(args.gradient + first, lane) * Real(step.gradient_factor);
      const Real m =
          Real(hyper.adam_beta1) * block.load(args.first_moment + first, lane) + Real(hyper.adam_beta1_complement) * g;
      const Real v = Real(hyper.adam_beta2) * block.load(args.second_moment + first, lane) +
                     Real(hyper.adam_beta2_complement) * (g * g);
      const Real change = learning_rate * (m / correction1) / (sqrt(v / correction2) + Real(hyper.adam_epsilon));
      block.store(args.first_moment + first, lane, m);
      block.store(args.second_moment + first, lane, v);
      block.store(args.parameters + first, lane, block.load(args.parameters + first, lane) - change);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
