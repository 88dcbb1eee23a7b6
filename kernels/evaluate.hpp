// One whole episode in each environment with a frozen policy: no environment plays two, so short episodes are not
// over-counted.
#pragma once

#include "kernels/environment_lane.hpp"
#include "kernels/network.hpp"
#include "kernels/policy.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// One episode that is being played.
template <Env E, class Real>
struct PlayedLane {
  typename E::template State<Real> state;
  Real total, length;
  Mask<Real> running;
};

template <Env E, class Real>
PERILUNE_DEVICE void begin_play(const EvaluateArgs& args, const typename E::Params& params, UInt<Real> environment,
                                Mask<Real> running, PlayedLane<E, Real>& lane) {
  lane.state = first_state<E, Real>(params, args.key, environment, UInt<Real>(args.first_episode));
  lane.total = Real(0.0f);
  lane.length = Real(0.0f);
  lane.running = running;
}

/// Step t. An episode that is over no longer counts, and is stepped on only beside others of its SIMD register that
/// run.
template <Env E, class Real>
PERILUNE_DEVICE void play_step(const EvaluateArgs& args, const typename E::Params& params, UInt<Real> environment,
                               std::uint32_t t, const Real (&outputs)[kPolicyOutputs<E>],
                               const typename PolicyOf<E, Real>::Spread& spread, PlayedLane<E, Real>& lane) {
  if (!any(lane.running)) return;
  const UInt<Real> step(t), episode(args.first_episode);
  CounterRandom<Real> draw(args.key, environment, episode, step, Purpose::kAction);
  const auto action = choose_action<PolicyOf<E, Real>>(outputs, spread, args.deterministic != 0, draw);
  CounterRandom<Real> random(args.key, environment, episode, step, Purpose::kStep);
  const Outcome<Real> outcome = E::step(params, lane.state, action, random);
  lane.total = lane.total + select(lane.running, outcome.reward, Real(0.0f));
  lane.length = lane.length + select(lane.running, Real(1.0f), Real(0.0f));
  lane.running = lane.running && !outcome.terminated;
}

template <Env E, int Width>
struct Evaluate {
  static constexpr Grid kGrid = Grid::kEnvironments;
  using Environment = E;
  template <class B>
  using Actor = Mlp<B, E::kObsDim, Width, kPolicyOutputs<E>>;

  template <class B>
  static constexpr int storage_floats(int depth) {
    return Observations<B, E::kObsDim>::floats() + Outputs<B, kPolicyOutputs<E>>::inference_floats() +
           Actor<B>::Hidden::inference_floats() + Actor<B>::storage_floats(depth);
  }

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const EvaluateArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const BlockRange range = environment_range<E>(block, args.episodes);
    block.activate(range.count);
    const typename E::Params params = E::params(args.env_parameters);
    Carver<B> carver{block.storage()};
    const Observations<B, E::kObsDim> observation(carver);
    const auto outputs = Outputs<B, kPolicyOutputs<E>>::for_inference(carver);
    const auto hidden = Actor<B>::Hidden::for_inference(carver);
    const Actor<B> actor(block, carver, args.parameters, args.actor, hidden);

    const typename PolicyOf<E, Real>::Spread spread(args.parameters + args.actor.log_std);
    PerLane<B, PlayedLane<E, Real>> lanes;
    PerLane<B, Mask<Real>> running;
    const auto number = [&](Lane lane) { return range.numbers(block, lane); };
    block.lanes([&](Lane lane) {
      running[lane] = block.active(lane);
      begin_play<E, Real>(args, params, number(lane), running[lane], lanes[lane]);
    });
    for (std::uint32_t t = 0; t < args.max_episode_steps && block.any(running); ++t) {
      block.lanes([&](Lane lane) {
        Real values[E::kObsDim];
        E::observe(params, lanes[lane].state, values);
        normalize_inputs(args.actor, args.parameters, values);
        observation.store(lane, values);
      });
      block.sync();
      actor.infer(observation, outputs);
      block.lanes([&](Lane lane) {
        Real values[kPolicyOutputs<E>];
        outputs.load(lane, values);
        play_step<E, Real>(args, params, number(lane), t, values, spread, lanes[lane]);
        running[lane] = lanes[lane].running;
      });
    }
    block.lanes([&](Lane lane) {
      block.store(args.returns + range.first, lane, lanes[lane].total);
      block.store(args.lengths + range.first, lane, lanes[lane].length);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
