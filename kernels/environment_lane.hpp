// One environment per lane: its state and counters between steps, and how they are kept in memory between launches.
#pragma once

#include "kernels/machine/block.hpp"
#include "sims/env.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <class E, class Real>
struct EnvironmentLane {
  typename E::template State<Real> state;
  UInt<Real> episode;
  UInt<Real> elapsed;
  Real episode_return;
  // finished episodes since the launch began
  Real finished;
  Real total_return;
  Real total_length;
};

/// Calls f(field, pointer to the block's part of that field's row) for every state field.
template <class E, class Real, class F>
PERILUNE_DEVICE void for_fields(typename E::template State<Real>& state, float* fields, int count,
                                int first, F&& f) {
  int row = 0;
  state.fields([&](auto& field) {
    f(field, fields + static_cast<std::size_t>(row) * static_cast<std::size_t>(count) + first);
    ++row;
  });
}

template <class E, class B>
PERILUNE_DEVICE void load_environment(const B& block, const EnvironmentBatch& batch, int first,
                                      typename B::Lane lane,
                                      EnvironmentLane<E, typename B::Real>& to) {
  using Real = typename B::Real;
  for_fields<E, Real>(to.state, batch.fields, batch.count, first,
                      [&](Real& field, const float* from) { field = block.load(from, lane); });
  to.episode = block.load(batch.episode + first, lane);
  to.elapsed = block.load(batch.elapsed + first, lane);
  to.episode_return = block.load(batch.episode_return + first, lane);
  to.finished = Real(0.0f);
  to.total_return = Real(0.0f);
  to.total_length = Real(0.0f);
}

/// Goes on with the sums that an earlier launch of the same rollout stored.
template <class E, class B>
PERILUNE_DEVICE void load_sums(const B& block, const EpisodeSums& sums, int first,
                               typename B::Lane lane, EnvironmentLane<E, typename B::Real>& to) {
  to.finished = block.load(sums.count + first, lane);
  to.total_return = block.load(sums.total_return + first, lane);
  to.total_length = block.load(sums.total_length + first, lane);
}

template <class E, class B>
PERILUNE_DEVICE void store_environment(const B& block, const EnvironmentBatch& batch,
                                       const EpisodeSums& sums, int first,
                                       typename B::Lane lane,
                                       EnvironmentLane<E, typename B::Real>& from) {
  using Real = typename B::Real;
  for_fields<E, Real>(from.state, batch.fields, batch.count, first,
                      [&](Real& field, float* to) { block.store(to, lane, field); });
  block.store(batch.episode + first, lane, from.episode);
  block.store(batch.elapsed + first, lane, from.elapsed);
  block.store(batch.episode_return + first, lane, from.episode_return);
  block.store(sums.count + first, lane, from.finished);
  block.store(sums.total_return + first, lane, from.total_return);
  block.store(sums.total_length + first, lane, from.total_length);
}

/// state <- fresh where mask.
template <class E, class Real>
PERILUNE_DEVICE void select_state(Mask<Real> mask, const typename E::template State<Real>& fresh,
                                  typename E::template State<Real>& state) {
  constexpr int kFields = E::template State<Real>::kFields;
  Real from[kFields];
  int count = 0;
  fresh.fields([&](const Real& field) { from[count++] = field; });
  count = 0;
  state.fields([&](Real& field) {
    field = select(mask, from[count], field);
    ++count;
  });
}

/// The first state of an episode. Key: RngKey or LaneKey<Real>.
template <class E, class Real, class Key>
PERILUNE_DEVICE typename E::template State<Real> first_state(const typename E::Params& params,
                                                             Key key, UInt<Real> environment,
                                                             UInt<Real> episode) {
  CounterRandom<Real, Key> random(key, environment, episode, UInt<Real>(0u), Purpose::kReset);
  return E::template reset<Real>(params, random);
}

/// Where `ended`: counts the episode and turns the counters to the next one. The state is the caller's to replace.
template <class E, class Real>
PERILUNE_DEVICE void count_episode(Mask<Real> ended, EnvironmentLane<E, Real>& lane) {
  const Real zero(0.0f);
  lane.finished = lane.finished + select(ended, Real(1.0f), zero);
  lane.total_return = lane.total_return + select(ended, lane.episode_return, zero);
  lane.total_length = lane.total_length + select(ended, to_real<Real>(lane.elapsed), zero);
  lane.episode_return = select(ended, zero, lane.episode_return);
  lane.elapsed = select(ended, UInt<Real>(0u), lane.elapsed);
  lane.episode = select(ended, lane.episode + UInt<Real>(1u), lane.episode);
}

/// Where `ended`: counts the episode and starts the next one.
template <class E, class Real>
PERILUNE_DEVICE void next_episode(const typename E::Params& params, RngKey key,
                                  UInt<Real> environment, Mask<Real> ended,
                                  EnvironmentLane<E, Real>& lane) {
  count_episode(ended, lane);
  const auto fresh = first_state<E, Real>(params, key, environment, lane.episode);
  select_state<E, Real>(ended, fresh, lane.state);
}

/// Starts episode 0 everywhere.
template <Env E>
struct Reset {
  template <class B>
  PERILUNE_DEVICE static void run(B& block, const ResetArgs& args) {
    using Real = typename B::Real;
    const EnvironmentBatch& batch = args.environments;
    const Share mine = block_share(block, batch.count);
    block.activate(mine.count);
    const typename E::Params params = E::params(batch.parameters);
    block.lanes([&](typename B::Lane lane) {
      const UInt<Real> environment =
          block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(mine.first));
      const UInt<Real> zero(0u);
      auto state = first_state<E, Real>(params, batch.key, environment, zero);
      for_fields<E, Real>(state, batch.fields, batch.count, mine.first,
                          [&](Real& field, float* to) { block.store(to, lane, field); });
      block.store(batch.episode + mine.first, lane, zero);
      block.store(batch.elapsed + mine.first, lane, zero);
      block.store(batch.episode_return + mine.first, lane, Real(0.0f));
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
