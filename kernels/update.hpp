// One minibatch's gradient: gather a tile of samples, forward, clipped loss, backward, tile after tile.
//
// Blocks 0..P-1 train the actor and the next P the critic (or only one of them); block p of a network takes the p-th
// share of the tiles and adds their gradients into partial p, which only it writes. Summing the partials in order
// (optimizer.hpp) then gives the same bits whatever thread ran which block.
#pragma once

#include "kernels/machine/prefetched_rows.hpp"
#include "kernels/moments.hpp"
#include "kernels/network.hpp"
#include "kernels/ppo_loss.hpp"
#include "kernels/sampling.hpp"
#include "sims/env.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Mean and 1 / (standard deviation + norm_adv_epsilon) to normalise advantages with.
struct AdvantageScale {
  float mean;
  float inverse_std;
};

PERILUNE_DEVICE AdvantageScale advantage_scale(const UpdateArgs& args) {
  if (args.hyper.norm_adv == Normalization::kNone) return {0.0f, 1.0f};
  if (args.hyper.norm_adv == Normalization::kBatch) {
    return {args.control->advantage_mean, 1.0f / (args.control->advantage_std + args.hyper.norm_adv_epsilon)};
  }
  return {args.scales[2 * args.minibatch], args.scales[2 * args.minibatch + 1]};
}

/// The policy loss over the samples that a block takes: their terms, summed lane by lane.
template <class I, class B>
class PolicyLosses {
 public:
  using Real = typename B::Real;
  using Lane = typename B::Lane;
  using Row = Record<I>;
  using Policy = PolicyOf<I, Real>;
  static constexpr int kOutputs = Policy::kOutputs;
  static constexpr int kSums = kValueLoss;  // LossSum begins with them
  struct Sample {
    typename Policy::Action action;
    Real old_log_probability, advantage;
  };

  PERILUNE_DEVICE static const Network& network(const UpdateArgs& args) { return args.actor; }
  /// What a sample's loss needs besides its record.
  PERILUNE_DEVICE static const float* per_sample(const UpdateArgs& args) { return args.advantages; }

  /// samples: of the minibatch. Every lane must be active.
  PERILUNE_DEVICE PolicyLosses(B& block, const UpdateArgs& args, int samples)
      : block_(block),
        clip_(args.control->clip_coef),
        ent_coef_(args.control->ent_coef),
        weight_(1.0f / static_cast<float>(samples)),
        scale_(advantage_scale(args)),
        args_(args) {
    block.lanes([&](Lane lane) {
      for (int k = 0; k < kSums; ++k) sums_[k][lane] = Real(0.0f);
      for (int i = 0; i < Policy::kSpread; ++i) spread_gradients_[i][lane] = Real(0.0f);
    });
  }
  PERILUNE_DEVICE Sample sample(const Real (&row)[Row::kFloats], Real advantage) const {
    return {Policy::read(row + Row::kAction), row[Row::kLogProbability],
            (advantage - Real(scale_.mean)) * Real(scale_.inverse_std)};
  }
  /// Adds a sample's terms. Replaces the network's outputs by d(loss)/d(outputs), 0 in inactive lanes.
  PERILUNE_DEVICE void add(Lane lane, const Sample& sample, Real (&outputs)[kOutputs]) {
    const Mask<Real> active = block_.active(lane);
    const Real zero(0.0f);
    typename Policy::Gradient gradient;
    const typename Policy::Spread spread(args_.parameters + args_.actor.log_std);
    const PolicyTerms<Real> terms = policy_loss(Policy(outputs, spread), sample.action, sample.old_log_probability,
                                                sample.advantage, Real(clip_), Real(ent_coef_), gradient);
    for (int i = 0; i < kOutputs; ++i) {
      outputs[i] = select(active, gradient.outputs[i] * Real(weight_), zero);
    }
    if constexpr (Policy::kSpread > 0) {
      PERILUNE_UNROLL
      for (int i = 0; i < Policy::kSpread; ++i) {
        spread_gradients_[i][lane] =
            spread_gradients_[i][lane] + select(active, gradient.spread[i] * Real(weight_), zero);
      }
    }
    const Real each[kSums] = {terms.loss, terms.entropy, terms.kl1, terms.kl3, select(terms.clipped, Real(1.0f), zero)};
    for (int k = 0; k < kSums; ++k) {
      sums_[k][lane] = sums_[k][lane] + select(active, each[k], zero);
    }
  }
  /// Calls f(which sum, total). Collective; every lane must be active.
  template <class F>
  PERILUNE_DEVICE void totals(F&& f) {
    const Sums<kSums> totals = block_.sums(sums_);
    PERILUNE_UNROLL
    for (int k = 0; k < kSums; ++k) f(k, totals[k]);
  }
  /// Calls f(which parameter, d(loss)/d(it)) for those beside the network, unless they are fixed. As totals.
  template <class F>
  PERILUNE_DEVICE void spread_gradients(F&& f) {
    if constexpr (Policy::kSpread > 0) {
      if (!args_.hyper.learn_std) return;
      const Sums<Policy::kSpread> gradient = block_.sums(spread_gradients_);
      PERILUNE_UNROLL
      for (int i = 0; i < Policy::kSpread; ++i) f(args_.actor.log_std + i, gradient[i]);
    }
  }

 private:
  B& block_;
  float clip_, ent_coef_, weight_;
  AdvantageScale scale_;
  const UpdateArgs& args_;
  PerLane<B, Real> sums_[kSums];
  PerLane<B, Real> spread_gradients_[Policy::kSpread > 0 ? Policy::kSpread : 1];
};

/// The same of the value loss.
template <class I, class B>
class ValueLosses {
 public:
  using Real = typename B::Real;
  using Lane = typename B::Lane;
  using Row = Record<I>;
  static constexpr int kOutputs = 1;
  struct Sample {
    Real old_value, target;
  };

  PERILUNE_DEVICE static const Network& network(const UpdateArgs& args) { return args.critic; }
  PERILUNE_DEVICE static const float* per_sample(const UpdateArgs& args) { return args.targets; }

  PERILUNE_DEVICE ValueLosses(B& block, const UpdateArgs& args, int samples)
      : block_(block),
        clip_(args.control->clip_vloss_coef),
        weight_(args.hyper.vf_coef / static_cast<float>(samples)),
        clip_vloss_(args.hyper.clip_vloss) {
    block.lanes([&](Lane lane) { sum_[lane] = Real(0.0f); });
  }
  PERILUNE_DEVICE Sample sample(const Real (&row)[Row::kFloats], Real target) const {
    return {row[Row::kValue], target};
  }
  PERILUNE_DEVICE void add(Lane lane, const Sample& sample, Real (&value)[1]) {
    const Mask<Real> active = block_.active(lane);
    const Real zero(0.0f);
    Real derivative;
    const Real loss = value_loss(value[0], sample.old_value, sample.target, Real(clip_), clip_vloss_, derivative);
    value[0] = select(active, derivative * Real(weight_), zero);
    sum_[lane] = sum_[lane] + select(active, loss, zero);
  }
  template <class F>
  PERILUNE_DEVICE void totals(F&& f) {
    f(kValueLoss, block_.sum(sum_));
  }
  template <class F>
  PERILUNE_DEVICE void spread_gradients(F&&) {}

 private:
  B& block_;
  float clip_, weight_;
  bool clip_vloss_;
  PerLane<B, Real> sum_;
};

/// I: an Interface. MaxDepth: hidden layers that the networks have at most.
template <class I, int Width, int MaxDepth = kMaxFusedLayers>
struct Update {
  static constexpr Grid kGrid = Grid::kTiles;
  using Row = Record<I>;
  // A multiprocessor has shared memory for three blocks with networks in bf16 up to this width, and for two in tf32.
  template <Precision P>
  static constexpr int kTensorThreads = Width <= 32 || (P == Precision::kBf16 && Width == 64 && MaxDepth <= 2) ? 384
                                                                                                               : 256;

  template <class B>
  using Actor = Mlp<B, I::kObsDim, Width, kPolicyOutputs<I>, MaxDepth>;
  template <class B>
  using Critic = Mlp<B, I::kObsDim, Width, 1, MaxDepth>;

  /// A block trains one of the two networks.
  template <class B>
  static constexpr int storage_floats(int depth) {
    const int actor = Actor<B>::storage_floats(depth), critic = Critic<B>::storage_floats(depth);
    return Observations<B, I::kObsDim>::floats() + Outputs<B, kPolicyOutputs<I>>::training_floats() +
           PrefetchedRows<B, Row::kFloats>::storage_floats() + HiddenLayers<B, Width>::training_floats(depth) +
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
    Observations<B, I::kObsDim> observation;
    HiddenLayers<B, Width> hidden;
    int partial, first_tile, last_tile;
    PrefetchedRows<B, Row::kFloats> rows;

    /// per_sample: what the losses need besides records.
    PERILUNE_DEVICE Work(B& b, const UpdateArgs& a, int partial_index, const float* per_sample)
        : block(b),
          args(a),
          order(a.sampling, a.control->iteration),
          carver{b.storage()},
          observation(carver),
          hidden(HiddenLayers<B, Width>::for_training(carver, max_depth(a))),
          partial(partial_index),
          rows(b, carver, a.records, per_sample) {
      const std::int64_t tiles = (a.sampling.minibatch_size + B::kLanes - 1) / B::kLanes;
      first_tile = static_cast<int>(tiles * partial / a.partials);
      last_tile = static_cast<int>(tiles * (partial + 1) / a.partials);
      block.activate(B::kLanes);
      if (first_tile < last_tile) block.lanes([&](typename B::Lane lane) { ask(first_tile, lane); });
    }
    PERILUNE_DEVICE static int max_depth(const UpdateArgs& a) {
      return a.actor.depth > a.critic.depth ? a.actor.depth : a.critic.depth;
    }
    PERILUNE_DEVICE void activate(int tile) {
      const int rest = args.sampling.minibatch_size - tile * B::kLanes;
      block.activate(rest < B::kLanes ? rest : B::kLanes);
    }
    PERILUNE_DEVICE void ask(int tile, typename B::Lane lane) {
      rows.ask(lane,
               order(args.minibatch, block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(tile * B::kLanes))));
    }
    /// Reads one sample and asks for that of the next tile: its observation into the tile, the rest returned in `row`.
    /// Returns its entry of per_sample; NaN where the observation is not finite, of which networks need not make one: a
    /// ReLU does not, nor do numbers rounded to tf32 by an addition.
    PERILUNE_DEVICE Real gather(int tile, typename B::Lane lane, Real (&row)[Row::kFloats]) {
      const Real more = rows.read(lane, row);
      Real values[I::kObsDim], none(0.0f);
      PERILUNE_UNROLL
      for (int i = 0; i < I::kObsDim; ++i) {
        values[i] = row[i];
        none = none + Real(0.0f) * row[i];
      }
      observation.store(lane, values);
      if (tile + 1 < last_tile) ask(tile + 1, lane);
      return more + none;
    }
    PERILUNE_DEVICE float* gradient() const {
      return args.gradients + static_cast<std::size_t>(partial) * static_cast<std::size_t>(args.critic.end);
    }
  };

  /// Trains one network on this block's tiles.
  template <class Net, class Terms, class B>
  PERILUNE_DEVICE static void train(Work<B>& work, const Network& network) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    constexpr int kOutputs = Terms::kOutputs;
    B& block = work.block;
    const UpdateArgs& args = work.args;
    const auto outputs = Outputs<B, kOutputs>::for_training(work.carver);
    Net net(block, work.carver, args.parameters, network, work.hidden);
    net.begin_gradient(work.gradient());
    PerLane<B, typename Terms::Sample> samples;
    block.activate(B::kLanes);
    Terms losses(block, args, args.sampling.minibatch_size);
    for (int tile = work.first_tile; tile < work.last_tile; ++tile) {
      work.activate(tile);
      block.lanes([&](Lane lane) {
        Real row[Row::kFloats];
        const Real more = work.gather(tile, lane, row);
        samples[lane] = losses.sample(row, more);
      });
      block.sync();
      net.forward(work.observation, outputs);
      block.lanes([&](Lane lane) {
        Real output[kOutputs];
        outputs.load(lane, output);
        losses.add(lane, samples[lane], output);
        net.set_gradient(lane, outputs, output);
      });
      block.sync();
      net.backward(work.observation, outputs);
    }
    block.activate(B::kLanes);
    net.finish_gradient();
    losses.totals(
        [&](int which, float total) { block.one([&] { args.sums[which * args.partials + work.partial] = total; }); });
    losses.spread_gradients([&](int at, float derivative) { block.one([&] { work.gradient()[at] = derivative; }); });
  }

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const UpdateArgs& args) {
    const bool policy = args.losses != Losses::kValue;
    if (args.control->nonfinite != NonFinite::kNone || (policy && args.control->stop_policy != 0)) return;
    const bool actor = policy && block.index() < args.partials;
    const float* const per_sample = actor ? PolicyLosses<I, B>::per_sample(args) : ValueLosses<I, B>::per_sample(args);
    Work<B> work(block, args, block.index() % args.partials, per_sample);
    if (actor) {
      train<Actor<B>, PolicyLosses<I, B>>(work, args.actor);
    } else {
      train<Critic<B>, ValueLosses<I, B>>(work, args.critic);
    }
  }
};

/// Calls f with the Update for networks of this depth. Tensor blocks keep the gradients of hidden weights in registers,
/// of which those of three layers leave none for another block at width 64; narrower ones do, and wider ones have them
/// in memory.
template <class M, class I, int Width, Precision P, class F>
auto with_update(int depth, F&& f) {
  if constexpr (M::kTensorCores && P != Precision::kFp32 && Width == 64) {
    if (depth <= 2) return f(Update<I, Width, 2>{});
  }
  return f(Update<I, Width>{});
}

/// Moments of the advantages of each chunk of each minibatch of each epoch; then, in the last block, each minibatch's
/// scale. Grid: epochs x minibatches x chunks. Of any number of chunks: Machine::moment_chunks says how many suit a
/// machine.
struct AdvantageMoments {
  static constexpr Grid kGrid = Grid::kScan;
  /// Samples of a lane that are gathered together: their loads do not wait for each other. A CPU looks ahead by itself.
  template <class B>
  static constexpr int kAhead = B::kSplit > 1 ? 4 : 1;

  /// For the moments of the parts of a minibatch's chunks (kSplit).
  template <class B>
  static constexpr int storage_floats() {
    return B::kSplit > 1 ? kChunkMoments * B::kLanes : 0;
  }

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const AdvantageMomentsArgs& args) {
    const int groups = args.num_epochs * args.num_minibatches, chunks = block.count() / groups;
    chunk_moments(block, args, groups, chunks);
    if (!block.last_of_grid(args.control->moments_ticket)) return;
    for (int first = 0; first < groups; first += B::kColumns) scale_columns(block, args, groups, chunks, first);
  }

 private:
  PERILUNE_DEVICE static int chunk_begin(const AdvantageMomentsArgs& args, int chunk, int chunks) {
    return static_cast<int>(std::int64_t{args.sampling.minibatch_size} * chunk / chunks);
  }

  /// Those of this block's chunk, to its place in args.moments.
  template <class B>
  PERILUNE_DEVICE static void chunk_moments(B& block, const AdvantageMomentsArgs& args, int groups, int chunks) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const int group = block.index() / chunks, chunk = block.index() % chunks;
    const int minibatch = group % args.num_minibatches, epoch = group / args.num_minibatches;
    const int begin = chunk_begin(args, chunk, chunks), end = chunk_begin(args, chunk + 1, chunks);
    Sampling sampling = args.sampling;
    sampling.epoch += static_cast<std::uint32_t>(epoch);
    const SampleOrder order(sampling, args.control->iteration);
    PerLane<B, Moments<Real>> moments;
    block.lanes([&](Lane lane) { moments[lane] = Moments<Real>::none(); });
    for (int at = begin; at < end; at += kAhead<B> * B::kLanes) {
      block.activate(end - at < B::kLanes ? end - at : B::kLanes);
      block.lanes([&](Lane lane) {
        Real x[kAhead<B>];
        Mask<Real> within[kAhead<B>];
        PERILUNE_UNROLL
        for (int i = 0; i < kAhead<B>; ++i) {
          const UInt<Real> position = block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(at + i * B::kLanes));
          within[i] = position < UInt<Real>(static_cast<std::uint32_t>(end));
          x[i] = block.gather(args.advantages, order(minibatch, position), lane);
        }
        Moments<Real>& mine = moments[lane];
        if (at == begin) mine.origin = x[0];
        PERILUNE_UNROLL
        for (int i = 0; i < kAhead<B>; ++i) {
          mine.add(select(within[i], x[i], mine.origin));
          mine.count = mine.count + select(within[i], Real(1.0f), Real(0.0f));
        }
      });
    }
    block.activate(B::kLanes);
    const float count = static_cast<float>(end - begin);
    Moments<float> all[1];
    combine_lanes(
        block, count, all, [&](Lane lane, int) -> const auto& { return moments[lane]; });
    block.one([&] {
      float* const to = args.moments + chunk * kChunkMoments * groups + group;
      to[0] = count;
      to[groups] = all[0].origin;
      to[2 * groups] = all[0].squares;
    });
  }

  /// The scales of the minibatches from `first` on, one in each column of lanes.
  template <class B>
  PERILUNE_DEVICE static void scale_columns(B& block, const AdvantageMomentsArgs& args, int groups, int chunks,
                                            int first) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const float n = static_cast<float>(args.sampling.minibatch_size);
    block.activate(groups - first < B::kColumns ? groups - first : B::kColumns);
    PerLane<B, Moments<Real>> moments;
    block.lanes([&](Lane lane) {
      const Lane column = B::column(lane);
      const int from = chunks * B::part(lane) / B::kSplit, to = chunks * (B::part(lane) + 1) / B::kSplit;
      const int samples = chunk_begin(args, to, chunks) - chunk_begin(args, from, chunks);
      moments[lane] = combine_in_order<Real>(static_cast<float>(samples), from, to, [&](int c) {
        const float* const chunk = args.moments + c * kChunkMoments * groups + first;
        return Moments<Real>{block.load(chunk, column), block.load(chunk + groups, column), Real(0.0f),
                             block.load(chunk + 2 * groups, column)};
      });
    });
    if constexpr (B::kSplit > 1) {
      const auto slot = [&](int k, int part) { return block.storage() + (k * B::kSplit + part) * B::kColumns; };
      block.lanes([&](Lane lane) {
        const Real numbers[kChunkMoments] = {moments[lane].count, moments[lane].origin, moments[lane].squares};
        PERILUNE_UNROLL
        for (int k = 0; k < kChunkMoments; ++k) B::store_lane(slot(k, B::part(lane)), B::column(lane), numbers[k]);
      });
      block.sync();
      block.lanes([&](Lane lane) {
        const Lane column = B::column(lane);
        moments[lane] = combine_in_order<Real>(n, 0, B::kSplit, [&](int part) {
          return Moments<Real>{B::load_lane(slot(0, part), column), B::load_lane(slot(1, part), column), Real(0.0f),
                               B::load_lane(slot(2, part), column)};
        });
      });
      block.sync();  // before the next columns are stored
    }
    block.lanes([&](Lane lane) {  // the first part's lanes are the columns
      const Real deviation = sqrt(sample_variance(moments[lane].squares, n));
      const Real scale[2] = {moments[lane].origin, Real(1.0f) / (deviation + Real(args.epsilon))};
      block.store_row(args.scales + 2 * first, lane, scale);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
