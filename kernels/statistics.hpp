// The small kernels around an iteration, one block each: annealing, and what the host is told.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Sets this iteration's learning rates and clip range, and forgets the last iteration's stop and metrics.
struct BeginIteration {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <class B>
  PERILUNE_DEVICE static void run(B& block, const BeginIterationArgs& args) {
    block.one([&] {
      Control& control = *args.control;
      const Hyperparameters& hyper = args.hyper;
      const float left = 1.0f - static_cast<float>(control.iteration) / static_cast<float>(hyper.num_iterations);
      const float lr = hyper.anneal_lr == Anneal::kLinear ? left : 1.0f;
      control.actor_learning_rate = hyper.learning_rate * lr;
      control.critic_learning_rate = hyper.critic_learning_rate * lr;
      control.clip_coef = hyper.clip_coef * (hyper.anneal_clip_coef == Anneal::kLinear ? left : 1.0f);
      control.stop_policy = 0;
      control.policy_steps = 0;
      for (int k = 0; k < kRunningMetrics; ++k) args.running[k] = 0.0f;
    });
  }
};

/// Sums the finished episodes, hands the host its row of metrics, and moves on to the next iteration.
struct EndIteration {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <class B>
  PERILUNE_DEVICE static void run(B& block, const EndIterationArgs& args) {
    const EpisodeSums& episodes = args.episodes;
    const Sums<3> totals = sum_arrays(block, {episodes.count, episodes.total_return, episodes.total_length},
                                      {args.count, args.count, args.count});
    block.one([&] {
      Control& control = *args.control;
      const float* running = args.running;
      const float steps = running[kRunPolicyCount];
      IterationMetrics row;
      row.nonfinite = control.nonfinite;
      row.episodes = totals[0];
      row.episode_return_sum = totals[1];
      row.episode_length_sum = totals[2];
      row.policy_loss = running[kRunPolicyLoss];
      row.value_loss = running[kRunValueLoss];
      row.entropy = running[kRunEntropy];
      row.old_approx_kl = running[kRunKl1];
      row.approx_kl = running[kRunKl3];
      row.clip_fraction = steps > 0.0f ? running[kRunClipFractionSum] / steps : 0.0f;
      row.gradient_norm = running[kRunGradientNorm];
      row.actor_learning_rate = control.actor_learning_rate;
      row.critic_learning_rate = control.critic_learning_rate;
      row.clip_coef = control.clip_coef;
      row.explained_variance = 1.0f - control.residual_variance / control.target_variance;
      row.policy_steps = static_cast<float>(control.policy_steps);
      row.iteration = control.iteration + 1;
      args.ring[control.iteration % kMetricsRing] = row;
      control.iteration += 1;
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
