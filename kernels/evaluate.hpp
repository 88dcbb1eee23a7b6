// One whole episode in each environment with a frozen policy: no environment plays two, so short episodes are not
// over-counted.
#pragma once

#include "kernels/environment_lane.hpp"
#include "kernels/network.hpp"
#include "kernels/ppo_loss.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <Env E, int Width>
struct Evaluate {
  static constexpr int kActions = E::Action::kCount;

  template <class B>
  using Actor = Mlp<B, E::kObsDim, Width, kActions>;

  template <class B>
  static constexpr int storage_floats(int depth) {
    return (E::kObsDim + kActions) * B::kStride + Actor<B>::Hidden::inference_floats() +
           Actor<B>::storage_floats(depth);
  }

  template <class Real>
  PERILUNE_DEVICE static UInt<Real> choose(const Real (&logits)[kActions], bool deterministic,
                                           CounterRandom<Real>& random) {
    if (!deterministic) {
      const Categorical<Real, kActions> policy(logits);
      return sample_categorical(policy.probability, kActions, random.uniform());
    }
    UInt<Real> action(0u);
    Real best = logits[0];
    for (int i = 1; i < kActions; ++i) {
      action = select(logits[i] > best, UInt<Real>(static_cast<std::uint32_t>(i)), action);
      best = max(logits[i], best);
    }
    return action;
  }

  template <class B>
  PERILUNE_DEVICE static void run(B& block, const EvaluateArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const Share share = block_share(block, args.episodes);
    block.activate(share.count);
    const typename E::Params params = E::params(args.env_parameters);
    Carver<B> carver{block.storage()};
    const Tile<B> observation = carver.tile(E::kObsDim), logits = carver.tile(kActions);
    const auto hidden = Actor<B>::Hidden::for_inference(carver);
    const Actor<B> actor(block, carver, args.parameters, args.actor, hidden);

    PerLane<B, typename E::template State<Real>> states;
    PerLane<B, Real> total, length;
    PerLane<B, Mask<Real>> running;
    const auto number = [&](Lane lane) {
      return block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(share.first));
    };
    const UInt<Real> episode(args.first_episode);
    block.lanes([&](Lane lane) {
      CounterRandom<Real> random(args.key, number(lane), episode, UInt<Real>(0u), Purpose::kReset);
      states[lane] = E::template reset<Real>(params, random);
      total[lane] = Real(0.0f);
      length[lane] = Real(0.0f);
      running[lane] = block.active(lane);
    });
    for (std::uint32_t t = 0; t < args.max_episode_steps && block.any(running); ++t) {
      block.lanes([&](Lane lane) {
        Real values[E::kObsDim];
        E::observe(params, states[lane], values);
        for (int i = 0; i < E::kObsDim; ++i) observation.store(i, lane, values[i]);
      });
      block.sync();
      actor.infer(observation, logits);
      block.lanes([&](Lane lane) {
        Real values[kActions];
        for (int i = 0; i < kActions; ++i) values[i] = logits.load(i, lane);
        const UInt<Real> step(t);
        CounterRandom<Real> draw(args.key, number(lane), episode, step, Purpose::kAction);
        const UInt<Real> action = choose(values, args.deterministic != 0, draw);
        CounterRandom<Real> random(args.key, number(lane), episode, step, Purpose::kStep);
        const Outcome<Real> outcome = E::step(params, states[lane], action, random);
        total[lane] = total[lane] + select(running[lane], outcome.reward, Real(0.0f));
        length[lane] = length[lane] + select(running[lane], Real(1.0f), Real(0.0f));
        running[lane] = running[lane] && !outcome.terminated;
      });
    }
    block.lanes([&](Lane lane) {
      block.store(args.returns + share.first, lane, total[lane]);
      block.store(args.lengths + share.first, lane, length[lane]);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
