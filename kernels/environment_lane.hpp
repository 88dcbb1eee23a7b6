// One environment per lane: its state and counters between steps, and how they are kept in memory between launches.
#pragma once

#include "kernels/machine/block.hpp"
#include "kernels/machine/fragments.hpp"
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

/// Whether lanes wait for the one whose step takes longest.
template <class E, class B>
inline constexpr bool kUneven = B::kThreads&& UnevenEnv<E>;

/// The block's part of n environments. Of uneven ones a launcher may give a block fewer than a warp has lanes, by
/// launching more blocks.
template <class E, class B>
PERILUNE_DEVICE BlockRange environment_range(const B& block, int n) {
  constexpr int kUnit = kUneven<E, B> ? 1 : B::kUnit;
  return block_range<kUnit>(block, n);
}

/// Whether the lane is one of a warp that no environment waits for. It need not step what it repeats.
template <class E, class B>
PERILUNE_DEVICE bool in_idle_warp(const B& block, typename B::Lane lane) {
  if constexpr (kUneven<E, B>) {
    return !block.active(typename B::Lane{lane.number / kWarpLanes * kWarpLanes});
  } else {
    return false;
  }
}

/// A state as an array, for loops over its fields: compiled field by field, 77 of them in every kernel are most of it.
template <class E, class Real>
struct FieldArray {
  static constexpr int kFields = E::template State<Real>::kFields;
  Real at[kFields];

  PERILUNE_DEVICE FieldArray() {}
  PERILUNE_DEVICE explicit FieldArray(const typename E::template State<Real>& state) {
    int count = 0;
    state.fields([&](const Real& field) { at[count++] = field; });
  }
  PERILUNE_DEVICE void copy_to(typename E::template State<Real>& state) const {
    int count = 0;
    state.fields([&](Real& field) { field = at[count++]; });
  }
};

/// Whether a thread of a GPU has its state in registers. Of more fields the state is in memory whatever loops do:
/// unrolled over the 420 of a walker they took a third longer to compile, and its rollout spilled four times as much.
template <class E>
inline constexpr bool kStateInRegisters = E::template State<float>::kFields <= 128;

/// f(number) of all of a state's fields.
template <class E, class F>
PERILUNE_DEVICE void each_field(F&& f) {
  constexpr int kFields = E::template State<float>::kFields;
  if constexpr (kStateInRegisters<E>) {
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < kFields; ++i) f(i);
  } else {
    PERILUNE_ROLLED
    for (int i = 0; i < kFields; ++i) f(i);
  }
}

// An inactive lane steps too, and what it does takes time: collisions from a state of zeros took a pack twice as long
// as sixteen environments. So it steps the last active environment once more, from the same numbers.

/// States in memory are rows, one for each field, `stride` numbers apart; `first` is the block's first environment.
template <class E, class B>
PERILUNE_DEVICE void load_state(const B& block, const float* fields, int stride, int first, typename B::Lane lane,
                                typename E::template State<typename B::Real>& to) {
  FieldArray<E, typename B::Real> row;
  each_field<E>([&](int i) PERILUNE_INLINED {
    row.at[i] = block.load_repeated(fields + static_cast<std::ptrdiff_t>(i) * stride + first, lane);
  });
  row.copy_to(to);
}
template <class E, class B>
PERILUNE_DEVICE void store_state(const B& block, const typename E::template State<typename B::Real>& from,
                                 float* fields, int stride, int first, typename B::Lane lane) {
  const FieldArray<E, typename B::Real> row(from);
  each_field<E>([&](int i) PERILUNE_INLINED {
    block.store(fields + static_cast<std::ptrdiff_t>(i) * stride + first, lane, row.at[i]);
  });
}

template <class E, class B>
PERILUNE_DEVICE void load_environment(const B& block, const EnvironmentBatch& batch, int first, typename B::Lane lane,
                                      EnvironmentLane<E, typename B::Real>& to) {
  using Real = typename B::Real;
  load_state<E>(block, batch.fields, batch.count, first, lane, to.state);
  to.episode = block.load_repeated(batch.episode + first, lane);
  to.elapsed = block.load_repeated(batch.elapsed + first, lane);
  to.episode_return = block.load_repeated(batch.episode_return + first, lane);
  to.finished = Real(0.0f);
  to.total_return = Real(0.0f);
  to.total_length = Real(0.0f);
}

/// Goes on with the sums that an earlier launch of the same rollout stored.
template <class E, class B>
PERILUNE_DEVICE void load_sums(const B& block, const EpisodeSums& sums, int first, typename B::Lane lane,
                               EnvironmentLane<E, typename B::Real>& to) {
  to.finished = block.load(sums.count + first, lane);
  to.total_return = block.load(sums.total_return + first, lane);
  to.total_length = block.load(sums.total_length + first, lane);
}

template <class E, class B>
PERILUNE_DEVICE void store_environment(const B& block, const EnvironmentBatch& batch, const EpisodeSums& sums,
                                       int first, typename B::Lane lane, EnvironmentLane<E, typename B::Real>& from) {
  store_state<E>(block, from.state, batch.fields, batch.count, first, lane);
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
  const FieldArray<E, Real> from(fresh);
  FieldArray<E, Real> to(state);
  each_field<E>([&](int i) PERILUNE_INLINED { to.at[i] = select(mask, from.at[i], to.at[i]); });
  to.copy_to(state);
}

/// The first state of an episode. Key: RngKey or LaneKey<Real>.
template <class E, class Real, class Key>
PERILUNE_DEVICE typename E::template State<Real> first_state(const typename E::Params& params, Key key,
                                                             UInt<Real> environment, UInt<Real> episode) {
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
PERILUNE_DEVICE void next_episode(const typename E::Params& params, RngKey key, UInt<Real> environment,
                                  Mask<Real> ended, EnvironmentLane<E, Real>& lane) {
  count_episode(ended, lane);
  const auto fresh = first_state<E, Real>(params, key, environment, lane.episode);
  select_state<E, Real>(ended, fresh, lane.state);
}

/// Starts episode 0 everywhere.
template <Env E>
struct Reset {
  static constexpr Grid kGrid = Grid::kSteps;
  using Environment = E;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const ResetArgs& args) {
    using Real = typename B::Real;
    const EnvironmentBatch& batch = args.environments;
    const BlockRange range = environment_range<E>(block, batch.count);
    block.activate(range.count);
    const typename E::Params params = E::params(batch.parameters);
    block.lanes([&](typename B::Lane lane) {
      const UInt<Real> environment = range.numbers(block, lane);
      const UInt<Real> zero(0u);
      auto state = first_state<E, Real>(params, batch.key, environment, zero);
      store_state<E>(block, state, batch.fields, batch.count, range.first, lane);
      block.store(batch.episode + range.first, lane, zero);
      block.store(batch.elapsed + range.first, lane, zero);
      block.store(batch.episode_return + range.first, lane, Real(0.0f));
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
