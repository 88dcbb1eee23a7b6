// What LunarLander asks of a pilot, whatever moves the lander: the draws of a reset, wind, engines,
// observation, reward and end of an episode, as in Gymnasium 1.x's LunarLander-v3. The simulators
// are lunar_lander.hpp (bodies, joints and contacts) and lander.hpp (one body on yielding legs).
//
// Gymnasium computes this part in float64 and rounds when it hands numbers to Box2D; here it is
// float, but for tests that give Number<Real> another meaning. Rewards are differences of a
// potential of up to some hundreds, so they are off by up to 1e-4.
#pragma once

#include <array>

#include "sims/env.hpp"
#include "sims/math.hpp"
#include "sims/rigid_body.hpp"

namespace perilune::inline PERILUNE_LEVEL {
namespace lunar {

inline constexpr float kTimeStep = 0.02f;
inline constexpr double kScale = 30;
inline constexpr double kWidth = 600 / kScale, kHeight = 400 / kScale;
inline constexpr double kPadHeight = kHeight / 4;
inline constexpr int kHeights = 11;      // of the ground, at x = 0, 2, .. 20
inline constexpr float kSpacing = 2.0f;  // between them
inline constexpr float kStartForce = 1000.0f;

using DiscreteEngines = Discrete<4>;  // nothing, left, main, right
using ContinuousEngines = Box<2>;     // main, left and right

struct TaskParams {
  float gravity;
  bool enable_wind;
  float wind_power;
  float turbulence_power;
};
PERILUNE_HD TaskParams task_params(const float* values) { return {values[0], values[1] != 0.0f, values[2], values[3]}; }

/// What both simulators are said to be. Ranges are Gymnasium's: what it asserts, and what it warns of.
struct TaskInfo {
  static constexpr int kBodies = 3;
  static constexpr int kMaxEpisodeSteps = 1000;
  static constexpr double kSolvedReturn = 200.0;

  static constexpr Range kAnyWind = {-1e30, 1e30};  // of 1e36 and more float32 makes infinities and NaN, as in Box2D
  static constexpr std::array<EnvironmentParameter, 4> kTaskParameters = {
      {{.name = "gravity",
        .type = ParameterType::kNumber,
        .default_value = -10.0,
        .allowed = {-12.0, 0.0, true},
        .help = "acceleration upwards (m/s^2)"},
       boolean_parameter("enable_wind", false, "wind and turbulence until a leg touches the ground"),
       {.name = "wind_power",
        .type = ParameterType::kNumber,
        .default_value = 15.0,
        .allowed = kAnyWind,
        .help = "largest force of the wind (N)",
        .advised = {0.0, 20.0}},
       {.name = "turbulence_power",
        .type = ParameterType::kNumber,
        .default_value = 1.5,
        .allowed = kAnyWind,
        .help = "largest torque of the turbulence (N m)",
        .advised = {0.0, 2.0}}}};

  static constexpr double kTurn = 2 * 3.141592653589793;
  static constexpr std::array<ObservationNumber, 8> kObservation = {{{"x", -2.5, 2.5},
                                                                     {"y", -2.5, 2.5},
                                                                     {"vx", -10, 10},
                                                                     {"vy", -10, 10},
                                                                     {"angle", -kTurn, kTurn},
                                                                     {"spin", -10, 10},
                                                                     {"right_leg_contact", 0, 1},
                                                                     {"left_leg_contact", 0, 1}}};
  static constexpr int kObsDim = int{kObservation.size()};
};

/// What both simulators remember for the task.
template <class Real>
struct TaskState {
  Real shaping;     // the potential whose change is the reward
  Real wind_index;  // integers
  Real torque_index;

  template <class F>
  PERILUNE_HD void fields(F&& f) {
    f(shaping), f(wind_index), f(torque_index);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    f(shaping), f(wind_index), f(torque_index);
  }
};

/// The ground's height at x = 0, 2, .. 20 from the twelve draws of a reset: smoothed, and flat
/// around the landing pad at x from 8 to 12.
template <class Real, class Rng>
PERILUNE_HD void draw_ground(Rng& rng, Real (&heights)[kHeights]) {
  using N = Number<Real>;
  N drawn[kHeights + 1];
  PERILUNE_UNROLL
  for (N& height : drawn) {
    height = rng.uniform(math::Scalar<N>(0), math::constant<N>(kHeight / 2));
  }
  PERILUNE_UNROLL
  for (int i = 3; i < 8; ++i) drawn[i] = N(math::constant<N>(kPadHeight));
  PERILUNE_UNROLL
  for (int i = 0; i < kHeights; ++i) {
    const N& left = drawn[i == 0 ? kHeights : i - 1];  // Gymnasium's index -1 is the last draw
    heights[i] = Real(math::constant<N>(0.33) * (left + drawn[i] + drawn[i + 1]));
  }
}

/// The force that throws the lander into the episode, for its first step.
template <class Real, class Rng>
PERILUNE_HD Vec2<Real> draw_start_force(Rng& rng) {
  const math::Scalar<Number<Real>> most = kStartForce;
  const Real x(rng.uniform(-most, most));
  const Real y(rng.uniform(-most, most));
  return {x, y};
}

template <class Real, class Rng>
PERILUNE_HD TaskState<Real> begin_task(const TaskParams& params, Rng& rng) {
  TaskState<Real> task = {Real(0.0f), Real(0.0f), Real(0.0f)};
  if (params.enable_wind) {
    task.wind_index = Real(rng.integer(-9999, 9999));
    task.torque_index = Real(rng.integer(-9999, 9999));
  }
  return task;
}

/// tanh(sin(k / 50) + sin(pi k / 100)) for an integer |k| < 2^14: reduced by exact steps, as the
/// rounded argument of a float sine would be off by 1e-5.
template <class N>
PERILUNE_HD N gust(N k) {
  // pi k / 100 repeats after k = 200.
  const N cycle = k - N(200.0f) * math::floor(k * math::constant<N>(0.005));
  const N slow = math::sin(math::constant<N>(3.141592653589793 / 100) * cycle);
  // k / 50 - 2 pi n, with 1 / 50 and 2 pi in parts whose products with integers are exact.
  constexpr double kFiftieth = 0.01995849609375, kTurn = 6.28125;
  const N n = math::floor(k * math::constant<N>(0.02 / 6.283185307179586));
  const N fast = ((k * math::constant<N>(kFiftieth) - n * math::constant<N>(kTurn)) -
                  n * math::constant<N>(6.283185307179586 - kTurn)) +
                 k * math::constant<N>(0.02 - kFiftieth);
  return math::tanh(math::sin(fast) + slow);
}

template <class Real>
struct Wind {
  Real force;  // along x (N)
  Real torque;
};

/// The wind of this step, where the lander flies; its time goes on only there.
template <class Real>
PERILUNE_HD Wind<Real> blow(const TaskParams& params, Mask<Real> landed, TaskState<Real>& task) {
  using N = Number<Real>;
  const Real zero(0.0f);
  if (!params.enable_wind) return {zero, zero};
  const Real force(gust(N(task.wind_index)) * N(params.wind_power));
  const Real torque(gust(N(task.torque_index)) * N(params.turbulence_power));
  const Real tick = select(landed, zero, Real(1.0f));
  task.wind_index = task.wind_index + tick;
  task.torque_index = task.torque_index + tick;
  return {select(landed, zero, force), select(landed, zero, torque)};
}

/// How strongly each engine fires: 0, or 0.5 to 1; and to which side, -1 or 1.
template <class N>
struct Throttle {
  N main;
  N side;
  N direction;
};
template <class N>
PERILUNE_HD Throttle<N> throttle(UInt<N> action) {
  const N zero(0.0f), one(1.0f);
  const Mask<N> left = action == UInt<N>(1u), right = action == UInt<N>(3u);
  return {select(action == UInt<N>(2u), one, zero), select(left || right, one, zero), select(left, -one, one)};
}
template <class N, class Real>
PERILUNE_HD Throttle<N> throttle(const ContinuousEngines::Value<Real>& action) {
  const N zero(0.0f), half(0.5f), one(1.0f);
  const N main(action.at[0]), sideways(action.at[1]);
  const N side = abs(sideways);
  return {select(main > zero, (min(main, one) + one) * half, zero), select(side > half, min(side, one), zero),
          select(sideways < zero, -one, one)};
}

/// A step's two draws, for engines that may not even fire.
template <class Real, class Rng>
PERILUNE_HD Vec2<Number<Real>> draw_dispersion(Rng& rng) {
  using N = Number<Real>;
  const math::Scalar<N> one = 1;
  const N first = math::divide_by_constant(N(rng.uniform(-one, one)), kScale);
  const N second = math::divide_by_constant(N(rng.uniform(-one, one)), kScale);
  return {first, second};
}

/// Fires the engines of the body whose frame is the hull's. The thrust varies by half with the first
/// draw. The side engines' height is 14 where it turns the lander
/// but 17 where it does not: Gymnasium's, and part of the task.
template <class Real>
PERILUNE_HD void fire_engines(const Throttle<Number<Real>>& throttle, const MassData& mass,
                              Vec2<Number<Real>> dispersion, Body<Real>& body) {
  using N = Number<Real>;
  using math::constant;
  const math::SinCos<N> q = math::sincos(N(body.angle));
  const Vec2<Real> origin = body.frame(mass).origin;
  const Vec2<N> position = {N(origin.x), N(origin.y)};
  const Vec2<N> tip = {q.sin, q.cos}, side = {-q.cos, q.sin};
  const N d0 = dispersion.x, d1 = dispersion.y;
  const auto fire = [&](N along, N across, Vec2<N> at, N power) {
    const Vec2<N> offset = {tip.x * along + side.x * across, -tip.y * along - side.y * across};
    const Vec2<N> point = position + (offset + at), impulse = -(power * offset);
    body.apply_impulse(mass, Vec2<Real>{Real(point.x), Real(point.y)} - body.center,
                       {Real(impulse.x), Real(impulse.y)});
  };
  const N zero(0.0f);
  if (any(throttle.main > zero)) {
    fire(constant<N>(4 / kScale) + N(2.0f) * d0, d1, {zero, zero}, N(13.0f) * throttle.main);
  }
  if (any(throttle.side > zero)) {
    fire(d0, N(3.0f) * d1 + throttle.direction * constant<N>(12 / kScale),
         {-(tip.x * constant<N>(17 / kScale)), tip.y * constant<N>(14 / kScale)}, constant<N>(0.6) * throttle.side);
  }
}

/// Position and velocity relative to the pad, in units of the screen; angle; legs. `position` is
/// the hull's origin, `velocity` that of its centre of mass.
template <class Real>
PERILUNE_HD void observe_lander(Vec2<Real> position, Vec2<Real> velocity, Real angle, Real spin, Real right_leg,
                                Real left_leg, Real* out) {
  using math::constant;
  out[0] = (position.x - constant<Real>(kWidth / 2)) * constant<Real>(2 / kWidth);
  out[1] = (position.y - constant<Real>(kPadHeight + 18 / kScale)) * constant<Real>(2 / kHeight);
  out[2] = velocity.x * constant<Real>(kWidth / 2 / 50);
  out[3] = velocity.y * constant<Real>(kHeight / 2 / 50);
  out[4] = angle;
  out[5] = spin * constant<Real>(20.0 / 50);
  out[6] = right_leg;
  out[7] = left_leg;
}

/// The potential: near, slow, upright, on its legs.
template <class Real>
PERILUNE_HD Real shaping_of(const Real* observation) {
  const Real hundred(100.0f);
  const auto norm = [](Real a, Real b) { return sqrt(a * a + b * b); };
  return -hundred * norm(observation[0], observation[1]) - hundred * norm(observation[2], observation[3]) -
         hundred * abs(observation[4]) + Real(10.0f) * observation[6] + Real(10.0f) * observation[7];
}

/// Reward and end of a step. `crashed`: the hull touched the ground. Asleep is landed, whatever
/// else happened.
template <class Real>
PERILUNE_HD Outcome<Real> judge(const Real* observation, Real x, const Throttle<Number<Real>>& throttle,
                                Mask<Real> crashed, Mask<Real> asleep, TaskState<Real>& task) {
  const Real shaping = shaping_of(observation);
  const Real reward = shaping - task.shaping - Real(throttle.main) * Real(0.3f) - Real(throttle.side) * Real(0.03f);
  task.shaping = shaping;
  const Real middle(math::constant<Real>(kWidth / 2));
  const Mask<Real> lost = crashed || abs(x - middle) >= middle;
  return {select(asleep, Real(100.0f), select(lost, Real(-100.0f), reward)), lost || asleep};
}

}  // namespace lunar
}  // namespace perilune::inline PERILUNE_LEVEL
