// One minibatch's gradient: gather a tile of samples, forward, clipped loss, backward, tile after tile.
//
// Blocks 0..P-1 train the actor and the next P the critic (or only one of them); block p of a network takes the p-th share
// of the tiles and adds their gradients into partial p, which only it writes. Summing the partials in order
// (optimizer.hpp) then gives the same bits whatever thread ran which block.
#pragma once

#include "kernels/gae.hpp"
#include "kernels/network.hpp"
#include "kernels/ppo_loss.hpp"
#include "kernels/sampling.hpp"
#include "sims/env.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Mean and 1 / (standard deviation + 1e-8) to normalise advantages with.
struct AdvantageScale {
  float mean;
  float inverse_std;
};

PERILUNE_DEVICE AdvantageScale advantage_scale(const UpdateArgs& args) {
  if (args.hyper.norm_adv == 0) return {0.0f, 1.0f};
  if (args.hyper.norm_adv == 2) {
    return {args.control->advantage_mean, 1.0f / (args.control->advantage_std + 1e-8f)};
  }
  float sum = 0.0f, squares = 0.0f;
  const float* moments = args.moments + args.minibatch * kMomentChunks * 2;
  for (int c = 0; c < kMomentChunks; ++c) {
    sum += moments[2 * c];
    squares += moments[2 * c + 1];
  }
  const float n = static_cast<float>(args.sampling.minibatch_size);
  return {sum / n, 1.0f / (sqrt(sample_variance(sum, squares, n)) + 1e-8f)};
}

template <Env E, int Width>
struct Update {
  static constexpr int kActions = E::Action::kCount;
  using Row = Record<E>;

  template <class B>
  using Actor = Mlp<B, E::kObsDim, Width, kActions>;
  template <class B>
  using Critic = Mlp<B, E::kObsDim, Width, 1>;

  /// A block trains one of the two networks.
  template <class B>
  static constexpr int storage_floats(int depth) {
    const int actor = Actor<B>::storage_floats(depth), critic = Critic<B>::storage_floats(depth);
    return (E::kObsDim + kActions) * B::kStride + HiddenLayers<B, Width>::training_floats(depth) +
           (actor > critic ? actor : critic);
  }

  /// What both losses share: the tiles, and this block's part of the minibatch.
  template <class B>
  struct Work {
    using Real = typename B::Real;
    B& block;
    const UpdateArgs& args;
    SampleOrder order;
    Carver<B> carver;
    Tile<B> observation, output;
    HiddenLayers<B, Width> hidden;
    int partial, first_tile, last_tile;
    PerLane<B, UInt<Real>> next;  // index of each lane's sample in the tile to come

    PERILUNE_DEVICE Work(B& b, const UpdateArgs& a, int partial_index)
        : block(b),
          args(a),
          order(a.sampling, a.control->iteration),
          carver{b.storage()},
          partial(partial_index) {
      observation = carver.tile(E::kObsDim);
      output = carver.tile(kActions);
      hidden = HiddenLayers<B, Width>::for_training(carver, max_depth(a));
      const std::int64_t tiles = (a.sampling.minibatch_size + B::kLanes - 1) / B::kLanes;
      first_tile = static_cast<int>(tiles * partial / a.partials);
      last_tile = static_cast<int>(tiles * (partial + 1) / a.partials);
      block.activate(B::kLanes);
      block.lanes([&](typename B::Lane lane) { next[lane] = index_of(first_tile, lane); });
    }
    PERILUNE_DEVICE static int max_depth(const UpdateArgs& a) {
      return a.actor.depth > a.critic.depth ? a.actor.depth : a.critic.depth;
    }
    PERILUNE_DEVICE void activate(int tile) {
      const int rest = args.sampling.minibatch_size - tile * B::kLanes;
      block.activate(rest < B::kLanes ? rest : B::kLanes);
    }
    PERILUNE_DEVICE UInt<Real> index_of(int tile, typename B::Lane lane) const {
      return order(args.minibatch, block.numbers(lane) +
                                       UInt<Real>(static_cast<std::uint32_t>(tile * B::kLanes)));
    }
    /// Asks for the samples of the tile after this one, and for their entries of `more`.
    PERILUNE_DEVICE void prefetch_next(int tile, typename B::Lane lane, const float* more) {
      if (tile + 1 == last_tile) return;
      next[lane] = index_of(tile + 1, lane);
      block.template prefetch_rows<Row::kFloats>(args.records, next[lane], lane);
      block.template prefetch_rows<1>(more, next[lane], lane);
    }
    /// Reads one sample: its observation into the tile, the rest returned in `row`. Returns its index.
    PERILUNE_DEVICE UInt<Real> gather(typename B::Lane lane, Real (&row)[Row::kFloats]) {
      const UInt<Real> index = next[lane];
      block.gather_rows(args.records, index, lane, row);
      PERILUNE_UNROLL
      for (int i = 0; i < E::kObsDim; ++i) observation.store(i, lane, row[i]);
      return index;
    }
    PERILUNE_DEVICE float* gradient() const {
      return args.gradients +
             static_cast<std::size_t>(partial) * static_cast<std::size_t>(args.critic.end);
    }
    PERILUNE_DEVICE void write_sum(int which, const PerLane<B, Real>& value) {
      block.activate(B::kLanes);
      const float total = block.sum(value);
      block.one([&] { args.sums[which * args.partials + partial] = total; });
    }
  };

  template <class B>
  PERILUNE_DEVICE static void train_actor(Work<B>& work) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    B& block = work.block;
    const UpdateArgs& args = work.args;
    const Real zero(0.0f), clip(args.control->clip_coef), ent_coef(args.hyper.ent_coef);
    const Real mean_weight(1.0f / static_cast<float>(args.sampling.minibatch_size));
    const AdvantageScale scale = advantage_scale(args);
    Actor<B> actor(block, work.carver, args.parameters, args.actor, work.hidden);
    actor.begin_gradient(work.gradient());
    struct Sample {
      UInt<Real> action;
      Real old_log_probability, advantage;
    };
    PerLane<B, Sample> samples;
    PerLane<B, Real> sums[kValueLoss];
    block.activate(B::kLanes);
    block.lanes([&](Lane lane) {
      for (int k = 0; k < kValueLoss; ++k) sums[k][lane] = zero;
    });
    for (int tile = work.first_tile; tile < work.last_tile; ++tile) {
      work.activate(tile);
      block.lanes([&](Lane lane) {
        Real row[Row::kFloats];
        const UInt<Real> index = work.gather(lane, row);
        const Real advantage = block.gather(args.advantages, index, lane);
        samples[lane] = {to_uint(to_int(row[Row::kAction])), row[Row::kLogProbability],
                         (advantage - Real(scale.mean)) * Real(scale.inverse_std)};
        work.prefetch_next(tile, lane, args.advantages);
      });
      block.sync();
      actor.forward(work.observation, work.output);
      block.lanes([&](Lane lane) {
        const Mask<Real> active = block.active(lane);
        const Sample& sample = samples[lane];
        Real logits[kActions], slope[kActions];
        for (int i = 0; i < kActions; ++i) logits[i] = work.output.load(i, lane);
        const PolicyTerms<Real> terms =
            policy_loss(logits, sample.action, sample.old_log_probability, sample.advantage, clip,
                        ent_coef, slope);
        for (int i = 0; i < kActions; ++i) {
          work.output.store(i, lane, select(active, slope[i] * mean_weight, zero));
        }
        const Real each[kValueLoss] = {terms.loss, terms.entropy, terms.kl1, terms.kl3,
                                       select(terms.clipped, Real(1.0f), zero)};
        for (int k = 0; k < kValueLoss; ++k) {
          sums[k][lane] = sums[k][lane] + select(active, each[k], zero);
        }
      });
      block.sync();
      actor.backward(work.observation, work.output);
    }
    actor.finish_gradient();
    for (int k = 0; k < kValueLoss; ++k) work.write_sum(k, sums[k]);
  }

  template <class B>
  PERILUNE_DEVICE static void train_critic(Work<B>& work) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    B& block = work.block;
    const UpdateArgs& args = work.args;
    const Real zero(0.0f), clip(args.control->clip_coef);
    const Real weight(args.hyper.vf_coef / static_cast<float>(args.sampling.minibatch_size));
    Critic<B> critic(block, work.carver, args.parameters, args.critic, work.hidden);
    critic.begin_gradient(work.gradient());
    struct Sample {
      Real old_value, target;
    };
    PerLane<B, Sample> samples;
    PerLane<B, Real> loss_sum;
    block.activate(B::kLanes);
    block.lanes([&](Lane lane) { loss_sum[lane] = zero; });
    for (int tile = work.first_tile; tile < work.last_tile; ++tile) {
      work.activate(tile);
      block.lanes([&](Lane lane) {
        Real row[Row::kFloats];
        const UInt<Real> index = work.gather(lane, row);
        samples[lane] = {row[Row::kValue], block.gather(args.targets, index, lane)};
        work.prefetch_next(tile, lane, args.targets);
      });
      block.sync();
      critic.forward(work.observation, work.output);
      block.lanes([&](Lane lane) {
        const Mask<Real> active = block.active(lane);
        Real slope;
        const Real loss =
            value_loss(work.output.load(0, lane), samples[lane].old_value, samples[lane].target,
                       clip, args.hyper.clip_vloss != 0, slope);
        work.output.store(0, lane, select(active, slope * weight, zero));
        loss_sum[lane] = loss_sum[lane] + select(active, loss, zero);
      });
      block.sync();
      critic.backward(work.observation, work.output);
    }
    critic.finish_gradient();
    work.write_sum(kValueLoss, loss_sum);
  }

  template <class B>
  PERILUNE_DEVICE static void run(B& block, const UpdateArgs& args) {
    const bool policy = args.losses != Losses::kValue;
    if (args.control->nonfinite != 0 || (policy && args.control->stop_policy != 0)) return;
    const bool actor = policy && block.index() < args.partials;
    Work<B> work(block, args, block.index() % args.partials);
    if (actor) {
      train_actor(work);
    } else {
      train_critic(work);
    }
  }
};

/// Sums of advantages and their squares over each chunk of each minibatch of each epoch. Grid: epochs x minibatches x chunks.
struct AdvantageMoments {
  template <class B>
  PERILUNE_DEVICE static void run(B& block, const AdvantageMomentsArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const int minibatch = block.index() / kMomentChunks % args.num_minibatches;
    const std::int64_t chunk = block.index() % kMomentChunks, size = args.sampling.minibatch_size;
    const int begin = static_cast<int>(size * chunk / kMomentChunks);
    const int end = static_cast<int>(size * (chunk + 1) / kMomentChunks);
    Sampling sampling = args.sampling;
    sampling.epoch += static_cast<std::uint32_t>(block.index() / kMomentChunks / args.num_minibatches);
    const SampleOrder order(sampling, args.control->iteration);
    PerLane<B, Real> sum, squares;
    block.lanes([&](Lane lane) {
      sum[lane] = Real(0.0f);
      squares[lane] = Real(0.0f);
    });
    for (int at = begin; at < end; at += B::kLanes) {
      block.activate(end - at < B::kLanes ? end - at : B::kLanes);
      block.lanes([&](Lane lane) {
        const UInt<Real> position =
            block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(at));
        const Real x = select(block.active(lane),
                              block.gather(args.advantages, order(minibatch, position), lane),
                              Real(0.0f));
        sum[lane] = sum[lane] + x;
        squares[lane] = squares[lane] + x * x;
      });
    }
    block.activate(B::kLanes);
    const float total = block.sum(sum), total_squares = block.sum(squares);
    block.one([&] {
      args.moments[2 * block.index()] = total;
      args.moments[2 * block.index() + 1] = total_squares;
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
