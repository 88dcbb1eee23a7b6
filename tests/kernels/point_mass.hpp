// A task for tests of continuous actions, small and with a known best policy: push a point to its target, in two
// dimensions that do not meet.
//
// e <- e + kPush clip(a, -1, 1) + kGust g per dimension, where e is the offset from the target and g the gust, which is
// drawn anew after each step and observed before it acts. Reward -(e^2 + effort a^2), summed over the dimensions, of
// the offset before the step. Without clipping the best action is linear in what is seen: best_gain (Bertsekas, Dynamic
// Programming and Optimal Control, section 4.1).
#pragma once

#include <array>
#include <cmath>

#include "sims/env.hpp"
#include "sims/math.hpp"

namespace perilune::inline PERILUNE_LEVEL {

struct PointMass {
  static constexpr const char* kId = "PointMass";
  static constexpr std::array<const char*, 0> kAliases = {};
  using Action = Box<2>;
  static constexpr int kBodies = 0;
  static constexpr int kMaxEpisodeSteps = 30;
  static constexpr double kSolvedReturn = -10.0;

  struct Params {
    float effort;
  };
  static constexpr std::array<EnvironmentParameter, 1> kParameters = {
      {{"effort", ParameterType::kNumber, 0.1, {0.0, 1e6}, "what an action costs"}}};
  static constexpr std::array<ObservationNumber, 5> kObservation = {
      {{"x"}, {"y"}, {"target_x"}, {"target_y"}, {"gust"}}};
  static constexpr int kObsDim = int{kObservation.size()};

  template <class Real>
  struct State {
    static constexpr int kFields = 5;
    Real x, y, target_x, target_y, gust;

    template <class F>
    PERILUNE_HD void fields(F&& f) {
      f(x), f(y), f(target_x), f(target_y), f(gust);
    }
    template <class F>
    PERILUNE_HD void fields(F&& f) const {
      f(x), f(y), f(target_x), f(target_y), f(gust);
    }
  };
  static constexpr std::array<const char*, 5> kFieldNames = {"x", "y", "target_x", "target_y", "gust"};

  static constexpr float kPush = 0.25f;
  static constexpr float kGust = 0.125f;
  static constexpr float kLimit = 2.0f;  // of |x| and |y|

  static constexpr StepCost step_cost(const double*) { return {.cpu_flop = 200.0}; }
  PERILUNE_HD static Params params(const float* values) { return {values[0]}; }

  template <class Real, class Rng>
  PERILUNE_HD static State<Real> reset(const Params&, Rng& rng) {
    State<Real> state;
    state.x = rng.uniform(-1.5f, 1.5f);
    state.y = rng.uniform(-1.5f, 1.5f);
    state.target_x = rng.uniform(-0.5f, 0.5f);
    state.target_y = rng.uniform(-0.5f, 0.5f);
    state.gust = rng.uniform(-1.0f, 1.0f);
    return state;
  }

  template <class Real, class Rng>
  PERILUNE_HD static Outcome<Real> step(const Params& params, State<Real>& state,
                                        const typename Action::Value<Real>& action, Rng& rng) {
    const Real one(1.0f), limit(kLimit);
    const Real a = min(max(action.at[0], -one), one), b = min(max(action.at[1], -one), one);
    const Real dx = state.x - state.target_x, dy = state.y - state.target_y;
    const Real cost = (dx * dx + dy * dy) + params.effort * (a * a + b * b);
    state.x = state.x + kPush * a + kGust * state.gust;
    state.y = state.y + kPush * b + kGust * state.gust;
    state.gust = rng.uniform(-1.0f, 1.0f);
    return {-cost, abs(state.x) > limit || abs(state.y) > limit};
  }

  template <class Real>
  PERILUNE_HD static void observe(const Params&, const State<Real>& state, Real* out) {
    out[0] = state.x;
    out[1] = state.y;
    out[2] = state.target_x;
    out[3] = state.target_y;
    out[4] = state.gust;
  }
};

static_assert(Env<PointMass>);

/// The best action for an offset and a gust where nothing clips: -k (e + kGust g). Discounted by gamma, with the cost
/// to come p e^2 + ... that p = 1 + gamma p effort / (effort + gamma p kPush^2) says.
inline double best_gain(double effort, double gamma) {
  const double b = double{PointMass::kPush};
  double p = 1.0;
  for (int i = 0; i < 1000; ++i) p = 1.0 + gamma * p * effort / (effort + gamma * p * b * b);
  return gamma * p * b / (effort + gamma * p * b * b);
}

}  // namespace perilune::inline PERILUNE_LEVEL
