// What an environment is: the concept every simulator satisfies and every kernel body asks for.
//
// An environment is a struct of constants, types and static functions over the number type Real. It
// sees one environment (or the pack of them in a SIMD register), never batches, memory layouts or
// threads. It does not know its time limit: the caller counts steps, truncates and resets.
//
//   kId, kAliases      Gymnasium's id, other names
//   kObservation       what each number of an observation is, and its range; kObsDim is how many
//   kMaxEpisodeSteps   default time limit, for the caller
//   kSolvedReturn      mean return from which the task is called solved
//   Action             Discrete<N> or Box<N>; a step takes an Action::Value<Real>
//   kBodies            how many rigid bodies bodies(state, out) describes, 0 if it has none: x, y,
//                      angle, vx, vy, w of each (body origin, velocity of the centre of mass)
//   kFieldNames        a name for each field of the state
//   State<Real>        fields(f) calls f(field) for each of the kFields Real fields, in fixed
//                      order: the caller decides how states are laid out in memory
//   Params             floats and bools, the same for all environments; params(values) makes it
//                      from one value per entry of kParameters, in that order
//   reset<Real>(params, rng)           a fresh episode's state
//   step(params, state, action, rng)   advances the state; says reward and whether it terminated
//   observe(params, state, out)        writes kObsDim numbers
//   step_cost(values)                  what a step costs with these parameters, on the host
//   highest_return(values, steps)      (optional) the most that an episode can return, on the host
//   kGymnasiumUsesBox2d                (optional) true where Gymnasium computes in Box2D's floats: replays do, too
//   kEpisodeDraws                      (optional) how many draws a recorded episode has, where that does not depend on
//                                      its length
//   is_busy(params, state)             (optional) where a step takes much longer than elsewhere; being wrong costs time
//   alone
#pragma once

#include <concepts>
#include <cstddef>
#include <iterator>

#include "sims/environment_info.hpp"
#include "sims/lanes_probe.hpp"
#include "sims/portable.hpp"
#include "sims/real.hpp"
#include "sims/rng.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// An action that is one of N choices, 0 to N - 1.
template <int N>
struct Discrete {
  static constexpr int kChoices = N;
  static constexpr int kNumbers = 1;
  static constexpr bool kContinuous = false;
  template <class Real>
  using Value = UInt<Real>;
};

/// An action that is N numbers. Any are accepted; the environment clips them to its bounds of -1
/// and 1, as Gymnasium's do.
template <int N>
struct Box {
  static constexpr int kNumbers = N;
  static constexpr bool kContinuous = true;
  template <class Real>
  struct Value {
    Real at[N];
  };
};

/// What a step returns besides the state. `terminated` is the environment's own end, never the time
/// limit.
template <class Real>
struct Outcome {
  Real reward;
  Mask<Real> terminated;
};

/// Accepts any field: stands for the caller's function in the concept below.
struct AnyField {
  template <class T>
  PERILUNE_HD void operator()(T&) const {}
};

// clang-format off
template <class E>
concept Env = requires(const typename E::Params& params,
                       typename E::template State<float>& state,
                       const typename E::template State<float>& const_state,
                       const typename E::Action::template Value<float>& action,
                       CounterRandom<float>& rng, float* out, const float* values, const double* parameters) {
  { E::kId } -> std::convertible_to<const char*>;
  { list_of(E::kAliases) } -> std::same_as<List<const char*>>;
  { list_of(E::kObservation) } -> std::same_as<List<ObservationNumber>>;
  requires std::size(E::kObservation) == std::size_t{E::kObsDim};
  { E::kMaxEpisodeSteps } -> std::convertible_to<int>;
  { E::kSolvedReturn } -> std::convertible_to<double>;
  { E::Action::kNumbers } -> std::convertible_to<int>;
  { E::Action::kContinuous } -> std::convertible_to<bool>;
  { E::kBodies } -> std::convertible_to<int>;
  { E::template State<float>::kFields } -> std::convertible_to<int>;
  { list_of(E::kParameters) } -> std::same_as<List<EnvironmentParameter>>;
  { list_of(E::kFieldNames) } -> std::same_as<List<const char*>>;
  requires std::size(E::kFieldNames) == std::size_t{E::template State<float>::kFields};
  { E::params(values) } -> std::same_as<typename E::Params>;
  { E::template reset<float>(params, rng) } -> std::same_as<typename E::template State<float>>;
  { E::step(params, state, action, rng) } -> std::same_as<Outcome<float>>;
  state.fields(AnyField{});
  const_state.fields(AnyField{});
  E::observe(params, const_state, out);
  { E::step_cost(parameters) } -> std::same_as<StepCost>;
} && (!kHasPacks || kTakesPacks<E>);
// clang-format on

/// An environment that has busy states.
template <class E>
concept UnevenEnv = Env<E> &&
    requires(const typename E::Params& params, const typename E::template State<float>& state) {
  { E::is_busy(params, state) } -> std::same_as<bool>;
};

template <class Action>
consteval ActionSpace action_space() {
  if constexpr (Action::kContinuous) {
    return {.continuous = true, .size = Action::kNumbers};
  } else {
    return {.continuous = false, .size = Action::kChoices};
  }
}

/// What E says of itself.
template <Env E>
consteval EnvironmentInfo environment_info() {
  EnvironmentInfo info = {.id = E::kId,
                          .aliases = list_of(E::kAliases),
                          .observation = list_of(E::kObservation),
                          .action_space = action_space<typename E::Action>(),
                          .max_episode_steps = E::kMaxEpisodeSteps,
                          .solved_return = E::kSolvedReturn,
                          .parameters = list_of(E::kParameters),
                          .field_names = list_of(E::kFieldNames),
                          .bodies = E::kBodies,
                          .uneven = UnevenEnv<E>,
                          .step_cost = E::step_cost,
                          .highest_return = nullptr};
  if constexpr (requires { E::highest_return; }) info.highest_return = E::highest_return;
  return info;
}

template <Env E>
inline constexpr EnvironmentInfo kInfoOf = environment_info<E>();

}  // namespace perilune::inline PERILUNE_LEVEL
