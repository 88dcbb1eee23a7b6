// Environments that a caller steps: one step with given actions, restarts, and what is wrong with a
// step before it is made.
//
// A step reads and writes everything of an environment once: for CartPole 33 bytes in (state 16,
// action 8, counters 9) and 47 out. Seeds and numbers are read only where something is drawn.
#pragma once

#include "kernels/environment_lane.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// The actions of one lane, as E::step takes them. Float32 for numbers, int32 or int64 for choices.
template <Env E, class B>
PERILUNE_DEVICE auto load_action(const B& block, const StepArgs& args, int first, typename B::Lane lane) {
  using Action = typename E::Action;
  using Real = typename B::Real;
  typename Action::template Value<Real> action;
  if constexpr (Action::kContinuous) {
    const float* from = static_cast<const float*>(args.actions);
    block.load_row(from + static_cast<std::ptrdiff_t>(first) * Action::kNumbers, lane, action.at);
  } else if (args.action_type == ActionType::kInt64) {
    action = block.load_choice(static_cast<const std::int64_t*>(args.actions) + first, lane);
  } else {
    action = block.load_choice(static_cast<const std::int32_t*>(args.actions) + first, lane);
  }
  return action;
}

/// Looks for actions that are none, and with Autoreset::kDisabled for environments that wait for a
/// reset.
template <Env E>
struct CheckStep {
  static constexpr Grid kGrid = Grid::kChecks;
  using Environment = E;
  using Action = typename E::Action;

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const StepArgs& args) {
    using Real = typename B::Real;
    const BlockRange range = block_range(block, args.environments.count);
    block.activate(range.count);
    block.lanes([&](typename B::Lane lane) {
      if (args.autoreset == Autoreset::kDisabled) {
        const Mask<Real> ended = block.load(args.caller.ended + range.first, lane);
        if (any(ended)) {
          block.each(lane, ended,
                     [&](int number) { report(block, args, range.first + number, FaultKind::kEnded, 0u); });
        }
      }
      const auto action = load_action<E>(block, args, range.first, lane);
      Mask<Real> wrong(false);
      if constexpr (Action::kContinuous) {
        for (int k = 0; k < Action::kNumbers; ++k) wrong = wrong || action.at[k] != action.at[k];
      } else {
        wrong = action >= UInt<Real>(static_cast<std::uint32_t>(Action::kChoices));
      }
      if (any(wrong)) {
        block.each(lane, wrong, [&](int number) { report_action(block, args, range.first + number); });
      }
    });
  }

 private:
  template <class B>
  PERILUNE_DEVICE static void report(B& block, const StepArgs& args, int place, FaultKind kind, std::uint32_t value) {
    const auto index = static_cast<std::uint64_t>(place);
    block.lower(args.flags->fault, index << 33 | static_cast<std::uint64_t>(kind) << 32 | value);
  }

  template <class B>
  PERILUNE_DEVICE static void report_action(B& block, const StepArgs& args, int environment) {
    if constexpr (Action::kContinuous) {
      const float* from = static_cast<const float*>(args.actions);
      for (int k = 0; k < Action::kNumbers; ++k) {
        const int place = environment * Action::kNumbers + k;
        if (from[place] != from[place]) {
          report(block, args, place, FaultKind::kAction, as_uint(from[place]));
        }
      }
    } else {
      constexpr std::int64_t kMost = 0x7FFFFFFF, kLeast = -kMost - 1;
      std::int64_t value = args.action_type == ActionType::kInt64
                               ? static_cast<const std::int64_t*>(args.actions)[environment]
                               : static_cast<const std::int32_t*>(args.actions)[environment];
      value = value > kMost ? kMost : value < kLeast ? kLeast : value;
      report(block, args, environment, FaultKind::kAction, static_cast<std::uint32_t>(value));
    }
  }
};

/// What both kernels below know of their environments.
template <Env E, class B>
struct SteppedLanes {
  using Real = typename B::Real;
  using Lane = typename B::Lane;
  using State = typename E::template State<Real>;

  const B& block;
  const EnvironmentBatch& batch;
  const CallerArrays& caller;
  typename E::Params params;
  int first;

  PERILUNE_DEVICE LaneKey<Real> key(Lane lane) const {
    return {block.load_repeated(caller.seed + first, lane), batch.key.stream};
  }
  PERILUNE_DEVICE UInt<Real> number(Lane lane) const { return block.load_repeated(caller.number + first, lane); }
  PERILUNE_DEVICE State load(Lane lane) const {
    State state;
    load_state<E>(block, batch.fields, batch.count, first, lane, state);
    return state;
  }
  PERILUNE_DEVICE void store(Lane lane, const State& state) const {
    store_state<E>(block, state, batch.fields, batch.count, first, lane);
  }
  /// Where mask: the first state of the next episode.
  PERILUNE_DEVICE void start_next(Lane lane, Mask<Real> mask, State& state) const {
    const UInt<Real> before = block.load_repeated(batch.episode + first, lane);
    const UInt<Real> episode = select(mask, before + UInt<Real>(1u), before);
    const State fresh = first_state<E, Real>(params, key(lane), number(lane), episode);
    select_state<E, Real>(mask, fresh, state);
    block.store(batch.episode + first, lane, episode);
  }
  /// to: null, or rows of all environments.
  template <class... Where>
  PERILUNE_DEVICE void observe(Lane lane, const State& state, float* to, Where... where) const {
    if (to == nullptr) return;
    Real observation[E::kObsDim];
    E::observe(params, state, observation);
    block.store_row(to + static_cast<std::ptrdiff_t>(first) * E::kObsDim, lane, observation, where...);
  }
};

template <Env E>
struct RestartEnvironments {
  static constexpr Grid kGrid = Grid::kSteps;
  using Environment = E;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const RestartArgs& args) {
    using Real = typename B::Real;
    const EnvironmentBatch& batch = args.environments;
    const BlockRange range = environment_range<E>(block, batch.count);
    block.activate(range.count);
    const SteppedLanes<E, B> lanes{block, batch, args.caller, E::params(batch.parameters), range.first};
    block.lanes([&](typename B::Lane lane) {
      auto state = lanes.load(lane);
      Mask<Real> restart(false);
      if (args.restart != nullptr) restart = block.load_repeated(args.restart + range.first, lane);
      if (any(restart)) {
        lanes.start_next(lane, restart, state);
        lanes.store(lane, state);
        block.store_where(batch.elapsed + range.first, lane, UInt<Real>(0u), restart);
        block.store_where(batch.episode_return + range.first, lane, Real(0.0f), restart);
        const Mask<Real> ended = block.load(args.caller.ended + range.first, lane);
        block.store(args.caller.ended + range.first, lane, ended && !restart);
      }
      lanes.observe(lane, state, args.observations);
    });
  }
};

template <Env E>
struct StepEnvironments {
  static constexpr Grid kGrid = Grid::kSteps;
  using Environment = E;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const StepArgs& args) {
    if (args.flags->fault != kNoFault) return;
    const EnvironmentBatch& batch = args.environments;
    const BlockRange range = environment_range<E>(block, batch.count);
    block.activate(range.count);
    const SteppedLanes<E, B> lanes{block, batch, args.caller, E::params(batch.parameters), range.first};
    block.lanes([&](typename B::Lane lane) PERILUNE_INLINED { step(block, args, lanes, lane); });
  }

 private:
  template <class B>
  PERILUNE_DEVICE static void step(const B& block, const StepArgs& args, const SteppedLanes<E, B>& lanes,
                                   typename B::Lane lane) {
    using Real = typename B::Real;
    const EnvironmentBatch& batch = args.environments;
    const int first = lanes.first;
    Mask<Real> over(false);  // what is reset instead of stepped
    if (args.autoreset == Autoreset::kNextStep) over = block.load_repeated(args.caller.ended + first, lane);
    auto state = lanes.load(lane);
    const UInt<Real> before = block.load_repeated(batch.elapsed + first, lane);

    CounterRandom<Real, LaneKey<Real>> random(lanes.key(lane), lanes.number(lane),
                                              block.load_repeated(batch.episode + first, lane), before, Purpose::kStep);
    const Outcome<Real> outcome = E::step(lanes.params, state, load_action<E>(block, args, first, lane), random);
    UInt<Real> elapsed = before + UInt<Real>(1u);
    Real episode_return = block.load(batch.episode_return + first, lane) + outcome.reward;
    const Mask<Real> live = !over;
    const Mask<Real> terminated = live && outcome.terminated;
    const Mask<Real> truncated = live && elapsed >= UInt<Real>(batch.max_episode_steps);
    const Mask<Real> ended = terminated || truncated;
    if (any(ended)) {
      // Inactive lanes of a GPU may read what the last active one has written meanwhile.
      if (any(ended && block.active(lane))) block.raise(args.flags->any_ended);
      if (args.episode_returns != nullptr) {
        block.store_where(args.episode_returns + first, lane, episode_return, ended);
      }
      if (args.episode_lengths != nullptr) {
        block.store_where(args.episode_lengths + first, lane, elapsed, ended);
      }
    }
    Mask<Real> fresh = over;
    if (args.autoreset == Autoreset::kSameStep) fresh = ended;
    if (any(fresh)) {
      if (args.autoreset == Autoreset::kSameStep) {
        lanes.observe(lane, state, args.final_observations, ended);
      }
      lanes.start_next(lane, fresh, state);
      elapsed = select(fresh, UInt<Real>(0u), elapsed);
      episode_return = select(fresh, Real(0.0f), episode_return);
    }
    lanes.observe(lane, state, args.observations);
    block.store(args.rewards + first, lane, select(over, Real(0.0f), outcome.reward));
    block.store(args.terminated + first, lane, terminated);
    block.store(args.truncated + first, lane, truncated);
    lanes.store(lane, state);
    block.store(batch.elapsed + first, lane, elapsed);
    block.store(batch.episode_return + first, lane, episode_return);
    if (args.autoreset != Autoreset::kSameStep) block.store(args.caller.ended + first, lane, ended);
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
