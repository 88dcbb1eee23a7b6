#include "kernels/replay.hpp"

#include <cstring>
#include <type_traits>

#include "sims/box2d_float.hpp"
#include "sims/tape_random.hpp"
#include PERILUNE_ENVIRONMENT_HEADERS

namespace perilune::inline PERILUNE_LEVEL {
namespace {

/// What Gymnasium's environment computes in, and the draws of a simulator over Real.
template <class E>
struct GymnasiumNumber {
  using Type = double;
};
template <class E>
requires E::kGymnasiumUsesBox2d struct GymnasiumNumber<E> {
  using Type = Box2dFloat;
};
template <class Real>
using Draw = std::conditional_t<std::is_same_v<Real, float>, float, double>;

template <Env E, class Real>
auto action_at(std::span<const double> actions, std::size_t t) {
  if constexpr (E::Action::kContinuous) {
    typename E::Action::template Value<Real> action;
    for (std::size_t k = 0; k < E::Action::kNumbers; ++k) {
      action.at[k] = static_cast<Real>(actions[t * E::Action::kNumbers + k]);
    }
    return action;
  } else {
    return static_cast<UInt<Real>>(actions[t]);
  }
}

template <Env E, class Real>
void append_state(const typename E::Params& params, const typename E::template State<Real>& state, ReplayedSteps& to) {
  Real observation[E::kObsDim];
  E::observe(params, state, observation);
  for (const Real x : observation) to.observations.push_back(static_cast<double>(x));
  if constexpr (E::kBodies > 0) {
    Real bodies[E::kBodies * 6];
    E::bodies(state, bodies);
    for (const Real x : bodies) to.bodies.push_back(static_cast<double>(x));
  }
}

template <Env E, class Real>
ReplayedSteps replay(const ReplayArgs& args) {
  constexpr std::size_t kNumbers = E::Action::kNumbers;
  const typename E::Params params = E::params(args.parameters);
  TapeRandom<Draw<Real>> random({args.draws.begin(), args.draws.end()});
  ReplayedSteps result;
  typename E::template State<Real> state = E::template reset<Real>(params, random);
  append_state<E, Real>(params, state, result);
  for (std::size_t t = 0; t < args.actions.size() / kNumbers; ++t) {
    const Outcome<Real> outcome = E::step(params, state, action_at<E, Draw<Real>>(args.actions, t), random);
    const bool truncated = t + 1 >= args.max_episode_steps;
    append_state<E, Real>(params, state, result);
    result.rewards.push_back(static_cast<double>(outcome.reward));
    result.terminated.push_back(outcome.terminated);
    result.truncated.push_back(truncated);
    if (outcome.terminated || truncated) break;
  }
  return result;
}

template <Env E>
consteval std::size_t draws_of() {
  if constexpr (requires { E::kEpisodeDraws; }) return E::kEpisodeDraws;
  return 0;
}

template <Env E>
constexpr Replays replays_of() {
  return {E::kId, draws_of<E>(), replay<E, float>, replay<E, typename GymnasiumNumber<E>::Type>};
}

constexpr Replays kReplays[] = {
#define PERILUNE_ENVIRONMENT(environment, ...) replays_of<environment>(),
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT
};

}  // namespace
}  // namespace perilune::inline PERILUNE_LEVEL

namespace perilune {

const Replays* find_replays(const char* environment) {
  for (const Replays& replays : kReplays) {
    if (std::strcmp(replays.environment, environment) == 0) return &replays;
  }
  return nullptr;
}

}  // namespace perilune
