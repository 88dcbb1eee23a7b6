// The simulator alone: T steps of N environments with uniformly random actions, reset inside.
//
// With short episodes most SIMD steps reset some lane, and drawing a first state costs more than a step. So each lane
// keeps the first state of its next episode at hand, and only when a lane ends without one are all missing ones drawn.
// They depend on (environment, episode) alone, so this changes no result. One word of random bits serves 32 steps of an
// environment with two actions; other action counts draw a word each step, and boxes one for each number in [-1, 1).
#pragma once

#include "kernels/environment_lane.hpp"
#include "kernels/rounds.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <Env E>
struct Simulate {
  static constexpr Grid kGrid = Grid::kSimulation;
  using Environment = E;

  template <class Real>
  struct SimulatedLane {
    EnvironmentLane<E, Real> current;
    typename E::template State<Real> next;  // of the next episode, where has_next
    Mask<Real> has_next;
    UInt<Real> bits;
  };

  template <class Real>
  PERILUNE_DEVICE static typename E::Action::template Value<Real> random_action(RngKey key, int t,
                                                                                UInt<Real> environment,
                                                                                SimulatedLane<Real>& lane) {
    CounterRandom<Real> draw(key, environment, lane.current.episode, lane.current.elapsed, Purpose::kAction);
    if constexpr (E::Action::kContinuous) {
      typename E::Action::template Value<Real> action;
      PERILUNE_UNROLL
      for (int i = 0; i < E::Action::kNumbers; ++i) action.at[i] = draw.uniform(-1.0f, 1.0f);
      return action;
    } else {
      constexpr int kChoices = E::Action::kChoices;
      if (kChoices != 2 || t % 32 == 0) lane.bits = draw.bits();
      const UInt<Real> action = kChoices == 2 ? lane.bits & UInt<Real>(1u)
                                              : mul_hi(lane.bits, UInt<Real>(static_cast<std::uint32_t>(kChoices)));
      lane.bits = lane.bits >> 1;
      return action;
    }
  }

  template <class Real>
  PERILUNE_DEVICE static void step(const EnvironmentBatch& batch, const typename E::Params& params, int t,
                                   UInt<Real> environment, SimulatedLane<Real>& lane) {
    EnvironmentLane<E, Real>& mine = lane.current;
    const auto action = random_action(batch.key, t, environment, lane);
    CounterRandom<Real> random(batch.key, environment, mine.episode, mine.elapsed, Purpose::kStep);
    const Outcome<Real> outcome = E::step(params, mine.state, action, random);
    mine.elapsed = mine.elapsed + UInt<Real>(1u);
    mine.episode_return = mine.episode_return + outcome.reward;
    const Mask<Real> ended = outcome.terminated || mine.elapsed >= UInt<Real>(batch.max_episode_steps);
    if (any(ended && !lane.has_next)) {
      const auto fresh = first_state<E, Real>(params, batch.key, environment, mine.episode + UInt<Real>(1u));
      select_state<E, Real>(!lane.has_next, fresh, lane.next);
      lane.has_next = Mask<Real>(true);
    }
    count_episode(ended, mine);
    select_state<E, Real>(ended, lane.next, mine.state);
    lane.has_next = lane.has_next && !ended;
  }

  template <class B>
  static constexpr int storage_floats() {
    return kUneven<E, B> ? Rounds<B>::storage_floats() : 0;
  }

  template <class B>
  PERILUNE_DEVICE static void load(const B& block, const EnvironmentBatch& batch, int first, typename B::Lane lane,
                                   SimulatedLane<typename B::Real>& to) {
    load_environment<E>(block, batch, first, lane, to.current);
    to.next = to.current.state;
    to.has_next = Mask<typename B::Real>(false);
  }

  /// Of more environments than lanes. None keeps a first state at hand: a thread draws one only where its own episode
  /// ends.
  template <class B>
  PERILUNE_DEVICE static void run_in_rounds(B& block, const SimulateArgs& args, const typename E::Params& params,
                                            BlockRange range) {
    using Real = typename B::Real;
    const EnvironmentBatch& batch = args.environments;
    Carver<B> carver{block.storage()};
    Rounds<B> rounds(block, carver, range.count);
    for (int number = block.lane().number; number < range.count; number += B::kLanes) {
      for (float* sums : {args.episodes.count, args.episodes.total_return, args.episodes.total_length}) {
        block.store(sums + range.first, typename B::Lane{number}, 0.0f);
      }
    }
    for (int t = 0; t < args.num_steps; ++t) {
      rounds.sort(block);
      for (int round = 0; round < rounds.count(); ++round) {
        const typename B::Lane place = rounds.place(round, block.lane());
        SimulatedLane<Real> lane;
        load(block, batch, range.first, place, lane);
        load_sums<E>(block, args.episodes, range.first, place, lane.current);
        step(batch, params, t, range.numbers(block, place), lane);
        store_environment<E>(block, batch, args.episodes, range.first, place, lane.current);
        rounds.set_busy(place, E::is_busy(params, lane.current.state));
      }
    }
  }

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const SimulateArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const EnvironmentBatch& batch = args.environments;
    const BlockRange range = environment_range<E>(block, batch.count);
    block.activate(range.count);
    const typename E::Params params = E::params(batch.parameters);
    if constexpr (kUneven<E, B>) {
      if (range.count > B::kLanes) return run_in_rounds(block, args, params, range);
    }
    PerLane<B, SimulatedLane<Real>> lanes;
    block.lanes([&](Lane lane) { load(block, batch, range.first, lane, lanes[lane]); });
    for (int t = 0; t < args.num_steps; ++t) {
      block.lanes([&](Lane lane) { step(batch, params, t, range.numbers(block, lane), lanes[lane]); });
    }
    block.lanes(
        [&](Lane lane) { store_environment<E>(block, batch, args.episodes, range.first, lane, lanes[lane].current); });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
