// The small kernels around an iteration, one block each: annealing, and what the host is told.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Sets this iteration's learning rates, clip ranges and weight of the entropy, and forgets the last iteration's stop
/// and metrics.
struct BeginIteration {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const BeginIterationArgs& args) {
    block.one([&] {
      Control& control = *args.control;
      const Hyperparameters& hyper = args.hyper;
      float left = 1.0f - static_cast<float>(control.iteration) / static_cast<float>(hyper.num_iterations);
      if (args.total_steps > 0) {
        left = max(0.0f, 1.0f - static_cast<float>(control.steps) / static_cast<float>(args.total_steps));
      }
      if (hyper.anneal_lr != Anneal::kKl || control.actor_learning_rate == 0.0f) {
        const float lr = hyper.anneal_lr == Anneal::kLinear ? left : 1.0f;
        control.actor_learning_rate = hyper.learning_rate * lr;
        control.critic_learning_rate = hyper.critic_learning_rate * lr;
      }
      const float clip = hyper.anneal_clip_coef == Anneal::kLinear ? left : 1.0f;
      control.clip_coef = hyper.clip_coef * clip;
      control.clip_vloss_coef = hyper.clip_vloss_coef * clip;
      control.ent_coef = hyper.ent_coef * (hyper.anneal_ent_coef == Anneal::kLinear ? left : 1.0f);
      control.stop_policy = 0;
      control.policy_steps = 0;
      for (int k = 0; k < kMetrics; ++k) args.running[k] = 0.0f;
    });
  }
};

/// Sums the finished episodes, hands the host its row of metrics, and moves on to the next iteration.
struct EndIteration {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const EndIterationArgs& args) {
    const EpisodeSums& episodes = args.episodes;
    const Sums<3> totals = sum_arrays(block, {episodes.count, episodes.total_return, episodes.total_length},
                                      {args.count, args.count, args.count});
    block.one([&] {
      Control& control = *args.control;
      IterationMetrics row;
      row.iteration = control.iteration + 1;
      row.nonfinite = control.nonfinite;
      row.steps = args.batch_size > 0 ? static_cast<std::uint32_t>(args.batch_size) : control.samples;
      if (args.batch_size == 0) control.steps += control.samples;
      PERILUNE_UNROLL
      for (int k = 0; k < kMetrics; ++k) row.values[k] = args.running[k];
      const float minibatches = row.values[Metric::kPolicyUpdates];
      if (minibatches > 0.0f) row.values[Metric::kClipFraction] /= minibatches;
      row.values[Metric::kEpisodes] = totals[0];
      row.values[Metric::kEpisodicReturn] = totals[1];
      row.values[Metric::kEpisodicLength] = totals[2];
      row.values[Metric::kLearningRate] = control.actor_learning_rate;
      row.values[Metric::kCriticLearningRate] = control.critic_learning_rate;
      row.values[Metric::kClipCoefficient] = control.clip_coef;
      row.values[Metric::kExplainedVariance] = 1.0f - control.residual_variance / control.target_variance;
      row.values[Metric::kPolicyUpdates] = static_cast<float>(control.policy_steps);
      args.ring[control.iteration % kMetricsRing] = row;
      control.iteration += 1;
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
