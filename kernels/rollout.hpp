// T steps of N environments with the policy in the loop: observe, actor and critic, sample, step, store the record.
//
// An environment stays in its lane's registers for the whole launch. An episode that ends is counted and reset inside
// the step. Where one is truncated by the time limit, gamma * V(final observation) is added to the stored reward, so
// that the advantage scan only needs to know where episodes end (Pardo et al. 2018), unless bootstrap_truncated says
// otherwise. Sampling draws by (environment, episode, step), so a rollout does not depend on how lanes are grouped into
// blocks. Records hold observations as they are; where they are normalised for the networks, a pass over the records
// follows (normalization.hpp).
#pragma once

#include "kernels/environment_lane.hpp"
#include "kernels/network.hpp"
#include "kernels/policy.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Where in a rollout a lane is.
template <class B>
struct RolloutPlace {
  BlockRange range;
  typename B::Lane lane;
  int t;
};

/// What the networks are given and say.
template <Env E, class Real>
struct Inference {
  Real observation[E::kObsDim];
  Real outputs[kPolicyOutputs<E>];  ///< of the actor
  Real value;
};

template <class Real>
struct RolloutStep {
  Real reward;
  Mask<Real> ended;
  Mask<Real> truncated;  ///< by the time limit, or by the rollout's end where truncate_at_end
};

/// One lane's step of a rollout: samples an action, steps, and stores the record and the value.
template <Env E, class B, class Real>
PERILUNE_DEVICE RolloutStep<Real> policy_step(B& block, const RolloutArgs& args, const typename E::Params& params,
                                              const RolloutPlace<B>& place, const Inference<E, Real>& inference,
                                              const typename PolicyOf<E, Real>::Spread& spread,
                                              EnvironmentLane<E, Real>& mine) {
  using Policy = PolicyOf<E, Real>;
  const EnvironmentBatch& batch = args.environments;
  const UInt<Real> environment = place.range.numbers(block, place.lane);
  const Policy policy(inference.outputs, spread);
  CounterRandom<Real> draw(batch.key, environment, mine.episode, mine.elapsed, Purpose::kAction);
  const typename Policy::Action action = policy.sample(draw);

  using Row = Record<E>;
  Real record[Row::kFloats];
  for (int i = 0; i < Row::kFloats; ++i) record[i] = Real(0.0f);
  for (int i = 0; i < E::kObsDim; ++i) record[i] = inference.observation[i];
  Policy::write(action, record + Row::kAction);
  record[Row::kLogProbability] = policy.log_probability_of(action);
  record[Row::kValue] = inference.value;
  const std::size_t row = static_cast<std::size_t>(place.t) * static_cast<std::size_t>(batch.count);
  block.scatter_rows(args.records + row * Row::kFloats, environment, place.lane, record);
  block.store(args.values + row + place.range.first, place.lane, inference.value);

  CounterRandom<Real> random(batch.key, environment, mine.episode, mine.elapsed, Purpose::kStep);
  const Outcome<Real> outcome = E::step(params, mine.state, action, random);
  mine.elapsed = mine.elapsed + UInt<Real>(1u);
  mine.episode_return = mine.episode_return + outcome.reward;
  const bool last = args.truncate_at_end != 0 && place.t + 1 == args.num_steps;
  const Mask<Real> truncated =
      !outcome.terminated && (mine.elapsed >= UInt<Real>(batch.max_episode_steps) || Mask<Real>(last));
  return {outcome.reward, outcome.terminated || truncated, truncated};
}

template <Env E, int Width>
struct Rollout {
  static constexpr Grid kGrid = Grid::kEnvironments;
  using Environment = E;
  /// Whether a machine may give each network a team of threads. Narrower networks are a small part of a step, as all
  /// are of one whose state is in memory or of an uneven environment, which is spread over more blocks; at width 128
  /// each team would need block storage for a layer.
  template <Precision P>
  static constexpr bool kHasTeams = P != Precision::kFp32&& Width == 64 && kStateInRegisters<E> && !UnevenEnv<E>;

  template <class B>
  using Actor = Mlp<B, E::kObsDim, Width, kPolicyOutputs<E>>;
  template <class B>
  using Critic = Mlp<B, E::kObsDim, Width, 1>;

  template <class B>
  static constexpr int storage_floats(int depth) {
    return Observations<B, E::kObsDim>::floats() + Outputs<B, kPolicyOutputs<E>>::inference_floats() +
           Outputs<B, 1>::inference_floats() + HiddenLayers<B, Width>::inference_floats() +
           Actor<B>::storage_floats(depth) + Critic<B>::storage_floats(depth);
  }

  template <class B>
  struct Tiles {
    Observations<B, E::kObsDim> observation;
    Outputs<B, kPolicyOutputs<E>> action;
    Outputs<B, 1> value;
    PERILUNE_DEVICE explicit Tiles(Carver<B>& carver)
        : observation(carver),
          action(Outputs<B, kPolicyOutputs<E>>::for_inference(carver)),
          value(Outputs<B, 1>::for_inference(carver)) {}
    PERILUNE_DEVICE typename B::Real value_of(typename B::Lane lane) const {
      typename B::Real row[1];
      value.load(lane, row);
      return row[0];
    }
  };

  template <class B>
  PERILUNE_DEVICE static void observe(B& block, const RolloutArgs& args, const typename E::Params& params,
                                      PerLane<B, EnvironmentLane<E, typename B::Real>>& lanes,
                                      const Observations<B, E::kObsDim>& to) {
    using Real = typename B::Real;
    block.lanes([&](typename B::Lane lane) {
      Real observation[E::kObsDim];
      E::observe(params, lanes[lane].state, observation);
      normalize_inputs(args.actor, args.parameters, observation);
      to.store(lane, observation);
    });
    block.sync();
  }

  /// Both networks' outputs: one after the other, or by a team each.
  template <class B>
  PERILUNE_DEVICE static void infer(B& block, const Actor<B>& actor, const Critic<B>& critic, const Tiles<B>& tiles) {
    if constexpr (B::kTeams == 2) {
      static_assert(HiddenLayers<B, Width>::inference_floats() == 0, "teams would share the layers between");
      if (block.team() == 0) {
        actor.infer(tiles.observation, tiles.action);
      } else {
        critic.infer(tiles.observation, tiles.value);
      }
      block.sync();
    } else {
      actor.infer(tiles.observation, tiles.action);
      critic.infer(tiles.observation, tiles.value);
    }
  }
  /// The critic's alone.
  template <class B>
  PERILUNE_DEVICE static void infer_value(B& block, const Critic<B>& critic, const Tiles<B>& tiles) {
    if constexpr (B::kTeams == 2) {
      if (block.team() == 1) critic.infer(tiles.observation, tiles.value);
      block.sync();
    } else {
      critic.infer(tiles.observation, tiles.value);
    }
  }
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const RolloutArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const EnvironmentBatch& batch = args.environments;
    const BlockRange range = environment_range<E>(block, batch.count);
    block.activate(range.count);
    const typename E::Params params = E::params(batch.parameters);
    Carver<B> carver{block.storage()};
    const Tiles<B> tiles(carver);
    const auto hidden = HiddenLayers<B, Width>::for_inference(carver);
    const Actor<B> actor(block, carver, args.parameters, args.actor, hidden);
    const Critic<B> critic(block, carver, args.parameters, args.critic, hidden);
    const typename PolicyOf<E, Real>::Spread spread(args.parameters + args.actor.log_std);
    PerLane<B, EnvironmentLane<E, Real>> lanes;
    PerLane<B, Real> reward;
    PerLane<B, Mask<Real>> ended, truncated;
    block.lanes([&](Lane lane) { load_environment<E>(block, batch, range.first, lane, lanes[lane]); });
    observe(block, args, params, lanes, tiles.observation);
    for (int t = 0; t < args.num_steps; ++t) {
      const std::size_t row =
          static_cast<std::size_t>(t) * static_cast<std::size_t>(batch.count) + static_cast<std::size_t>(range.first);
      infer(block, actor, critic, tiles);
      block.lanes([&](Lane lane) {
        if (in_idle_warp<E>(block, lane)) {
          ended[lane] = truncated[lane] = Mask<Real>(false);
          return;
        }
        Inference<E, Real> inference;
        if (args.bootstraps != nullptr) block.store(args.bootstraps + row, lane, Real(0.0f));
        E::observe(params, lanes[lane].state, inference.observation);
        tiles.action.load(lane, inference.outputs);
        inference.value = tiles.value_of(lane);
        const RolloutStep<Real> step =
            policy_step<E>(block, args, params, {range, lane, t}, inference, spread, lanes[lane]);
        reward[lane] = step.reward;
        ended[lane] = step.ended;
        truncated[lane] = step.truncated;
      });
      if (args.hyper.bootstrap_truncated && block.any(truncated)) {
        observe(block, args, params, lanes, tiles.observation);
        infer_value(block, critic, tiles);
        block.lanes([&](Lane lane) {
          const Real bootstrap = Real(args.hyper.gamma) * tiles.value_of(lane);
          const Real added = select(truncated[lane], bootstrap, Real(0.0f));
          if (args.bootstraps == nullptr) {
            reward[lane] = reward[lane] + added;
          } else {
            block.store(args.bootstraps + row, lane, added);
          }
        });
      }
      block.lanes([&](Lane lane) {
        block.store(args.rewards + row, lane, reward[lane]);
        block.store(args.ends + row, lane, ended[lane]);
        if (args.truncations != nullptr) block.store(args.truncations + row, lane, truncated[lane]);
        if (any(ended[lane])) {
          next_episode<E>(params, batch.key, range.numbers(block, lane), ended[lane], lanes[lane]);
        }
      });
      observe(block, args, params, lanes, tiles.observation);
    }
    infer_value(block, critic, tiles);
    const std::size_t last = static_cast<std::size_t>(args.num_steps) * static_cast<std::size_t>(batch.count) +
                             static_cast<std::size_t>(range.first);
    block.lanes([&](Lane lane) {
      block.store(args.values + last, lane, tiles.value_of(lane));
      store_environment<E>(block, batch, args.episodes, range.first, lane, lanes[lane]);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
