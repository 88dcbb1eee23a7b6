// Lander-v0 and LanderContinuous-v0: the task of LunarLander-v3 with one rigid body on two massless
// legs instead of three bodies and a constraint solver. Some twenty times as fast, and pilots score
// nearly the same in both: it is for learning, lunar_lander.hpp is for the truth.
//
// What the legs must do is yield. In the original a motor of 40 N m holds each leg against an inner
// stop, and a hard landing turns it outwards. Here a leg is an angle: the ground's push on it is
// limited to what that motor bears; beyond it the leg splays, so that its foot stays on the ground,
// up to an outer stop that bears everything; and it returns at the motor's 0.3 rad/s, lifting the
// lander. Each leg touches with the one of its corners that is lowest. A corner of the hull that
// touches is a crash.
#pragma once

#include <array>

#include "sims/lander_task.hpp"

namespace perilune::inline PERILUNE_LEVEL {

namespace lunar {

/// Hull and legs, these at rest on their inner stops, as one body.
PERILUNE_HD constexpr MassData lander_mass() { return {1.0f / 4.958889f, 1.0f / 0.91231f, {0.0f, 0.08867f}}; }
inline constexpr float kHullCenter = 0.101307191f;  // whose velocity is observed
inline constexpr float kHullAbove = kHullCenter - lander_mass().center.y;

inline constexpr float kLegRest = 0.345f;  // angles of a leg to the hull, outwards (rad)
inline constexpr float kLegStart = 0.492f;
inline constexpr float kLegStop = 0.85f;
inline constexpr float kLegSpeed = 0.3f;  // of the motor (rad/s)
// What a leg bears before it splays (N m s). The motor gives 40 N m; with 35 pilots score and crash as in
// the original, where some of a landing goes into the legs themselves (tests/gymnasium/fidelity.py).
inline constexpr float kLegImpulse = 35.0f * kTimeStep;
inline constexpr float kLegFriction = 0.141421363f;
inline constexpr float kRestGap = 0.015f;  // of what lies on the ground, between cores without skins
inline constexpr float kTouchGap = 0.02f;  // of what touches it
inline constexpr float kReach = 1.2f;      // of hull and legs from the hull's origin
inline constexpr int kContactIterations = 4;

/// Ground below the lander: three edges, which reach 2 m to both sides of it.
template <class Real>
struct LocalGround {
  Real start;  // x of the first vertex
  Real top;
  Real height[3];  // at the edges' left ends
  Real slope[3];
  Real cosine[3];

  PERILUNE_HD LocalGround(const Real (&heights)[kHeights], Real x) {
    const Int<Real> first = to_int(clamp(Real(0.5f) * x - Real(1.0f), Real(0.0f), Real(7.0f)));
    Real ends[4] = {heights[0], heights[1], heights[2], heights[3]};
    for (int i = 1; i + 3 < kHeights; ++i) {
      const Mask<Real> here = first == Int<Real>(i);
      for (int k = 0; k < 4; ++k) ends[k] = select(here, heights[i + k], ends[k]);
    }
    start = Real(kSpacing) * to_real<Real>(first);
    top = max(max(ends[0], ends[1]), max(ends[2], ends[3]));
    for (int k = 0; k < 3; ++k) {
      height[k] = ends[k];
      slope[k] = (ends[k + 1] - ends[k]) * Real(1.0f / kSpacing);
    }
  }
  /// Before below() is asked.
  PERILUNE_HD void prepare() {
    for (int k = 0; k < 3; ++k) {
      cosine[k] = Real(1.0f) / sqrt(Real(1.0f) + slope[k] * slope[k]);
    }
  }

  struct Point {
    Real gap;
    Vec2<Real> normal;
  };
  /// The distance of a point to the edge below it, along its normal.
  PERILUNE_HD Point below(Vec2<Real> p) const {
    const Real x = p.x - start;
    const Mask<Real> second = x >= Real(kSpacing), third = x >= Real(2.0f * kSpacing);
    const auto pick = [&](const Real(&of)[3]) { return select(third, of[2], select(second, of[1], of[0])); };
    const Real left = select(third, Real(2.0f * kSpacing), select(second, Real(kSpacing), Real(0.0f)));
    const Real grade = pick(slope), upright = pick(cosine);
    return {(p.y - pick(height) - grade * (x - left)) * upright, {-grade * upright, upright}};
  }
};

/// The lower corner of a leg's end: `arm` is from the hull's origin, with the hull at `angle`.
template <class Real>
struct Foot {
  Vec2<Real> arm;
  Real gap;
  Vec2<Real> normal;
};
template <class Real>
PERILUNE_HD Foot<Real> lowest_corner(const LocalGround<Real>& ground, Vec2<Real> origin, Real angle, Real leg,
                                     float side) {
  constexpr float kX[] = {18 / 30.0f, 22 / 30.0f};  // of the lower end; the upper one is never first
  const Rotation<Real> q = rotation(angle + Real(side) * leg);
  Foot<Real> foot;
  PERILUNE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const Vec2<Real> arm = rotate(q, Vec2<Real>{Real(side * kX[i]), Real(-26 / 30.0f)});
    const auto point = ground.below(origin + arm);
    const Mask<Real> lower = i == 0 ? Mask<Real>(true) : point.gap < foot.gap;
    foot.arm = i == 0 ? arm : select(lower, arm, foot.arm);
    foot.normal = i == 0 ? point.normal : select(lower, point.normal, foot.normal);
    foot.gap = i == 0 ? point.gap : min(point.gap, foot.gap);
  }
  return foot;
}

}  // namespace lunar

/// All but how a pilot asks for thrust.
struct LanderBase : lunar::TaskInfo {
  using Params = lunar::TaskParams;
  static constexpr std::array<EnvironmentParameter, 4> kParameters = kTaskParameters;
  PERILUNE_HD static Params params(const float* values) { return lunar::task_params(values); }

  template <class Real>
  struct State {
    static constexpr int kFields = 29;
    Body<Real> body;
    Real legs[2];         // angles of the right and the left leg, outwards
    Real leg_contact[2];  // 1 or 0
    Real normal[2];       // the ground's last impulses, where the next step begins
    Real friction[2];
    Real quiet_time;
    Real heights[lunar::kHeights];
    lunar::TaskState<Real> task;

    template <class F>
    PERILUNE_HD void fields(F&& f) {
      each_field(*this, f);
    }
    template <class F>
    PERILUNE_HD void fields(F&& f) const {
      each_field(*this, f);
    }

   private:
    template <class S, class F>
    PERILUNE_HD static void each_field(S& s, F& f) {
      s.body.fields(f);
      f(s.legs[0]), f(s.legs[1]), f(s.leg_contact[0]), f(s.leg_contact[1]);
      f(s.normal[0]), f(s.normal[1]), f(s.friction[0]), f(s.friction[1]);
      f(s.quiet_time);
      for (auto& height : s.heights) f(height);
      s.task.fields(f);
    }
  };

  // clang-format off
  static constexpr std::array<const char*, 29> kFieldNames = {
      "x", "y", "angle", "vx", "vy", "spin",
      "right_leg_angle", "left_leg_angle", "right_leg_contact", "left_leg_contact",
      "right_leg_normal", "left_leg_normal", "right_leg_friction", "left_leg_friction",
      "quiet_time",
      "height0", "height1", "height2", "height3", "height4", "height5", "height6", "height7",
      "height8", "height9", "height10",
      "shaping", "wind_index", "torque_index"};
  // clang-format on

  /// A CPU's is what two cores of a Xeon (357 GFLOP/s) took, a GPU's is the length of the code.
  static constexpr StepCost step_cost(const double*) { return {.cpu_flop = 6.7e3, .gpu_instructions = 3.5e3}; }

  /// The first step of the original, whose solver pulls the legs into place, is linear in the
  /// starting force, up to where the solver limits how far a body moves; these are its measured coefficients.
  template <class Real, class Rng>
  PERILUNE_OUTLINED_ON_CPU static State<Real> reset(const Params& params, Rng& rng) {
    using lunar::kTimeStep;
    const Real zero(0.0f);
    State<Real> state;
    lunar::draw_ground<Real>(rng, state.heights);
    Vec2<Real> force = lunar::draw_start_force<Real>(rng);
    state.task = lunar::begin_task<Real>(params, rng);
    const lunar::Wind<Real> wind = lunar::blow(params, Mask<Real>(false), state.task);
    lunar::draw_dispersion<Real>(rng);  // of engines that do not fire
    const Real most(physics::kMaxTranslation / kTimeStep / 0.0040428f), fastest(physics::kMaxRotation / kTimeStep);
    force.x = clamp(force.x + wind.force, -most, most);
    Body<Real>& body = state.body;
    body.spin =
        clamp(Real(-4.57877e-4f) * force.x + Real(kTimeStep * lunar::lander_mass().inverse_inertia) * wind.torque,
              -fastest, fastest);
    body.angle = Real(6.6e-6f) - Real(9.24994e-6f) * force.x;
    const Vec2<Real> origin = {Real(10.0f) + Real(7.98268e-5f) * force.x,
                               Real(13.3395f + kTimeStep * kTimeStep * params.gravity) + Real(8.06632e-5f) * force.y};
    const Vec2<Real> hull_velocity = {Real(0.0040428f) * force.x,
                                      Real(kTimeStep * params.gravity) + Real(0.00403316f) * force.y};
    const Rotation<Real> q = rotation(body.angle);
    body.center = origin + rotate(q, vec2<Real>(lunar::lander_mass().center));
    body.velocity = hull_velocity - hull_motion(body.spin, q);
    state.legs[0] = state.legs[1] = Real(lunar::kLegStart);
    for (int i = 0; i < 2; ++i) state.leg_contact[i] = state.normal[i] = state.friction[i] = zero;
    state.quiet_time = zero;
    Real observation[kObsDim];
    observe(params, state, observation);
    state.task.shaping = lunar::shaping_of(observation);
    return state;
  }

  template <class Real>
  PERILUNE_HD static void observe(const Params&, const State<Real>& state, Real* out) {
    const Body<Real>& body = state.body;
    const Frame<Real> frame = body.frame(lunar::lander_mass());
    lunar::observe_lander(frame.origin, body.velocity + hull_motion(body.spin, frame.q), body.angle, body.spin,
                          state.leg_contact[0], state.leg_contact[1], out);
  }

  /// As LunarLander's: the hull, the right and the left leg, which move with it.
  template <class Real>
  PERILUNE_HD static void bodies(const State<Real>& state, Real* out) {
    const Body<Real>& body = state.body;
    const Frame<Real> frame = body.frame(lunar::lander_mass());
    for (int b = 0; b < kBodies; ++b) {
      const Real side(b == 0 ? 0.0f : b == 1 ? 1.0f : -1.0f);
      const Real leg = b == 0 ? Real(0.0f) : state.legs[b == 2];
      const Real angle = body.angle + side * leg;
      const Vec2<Real> arm = b == 0 ? rotate(frame.q, Vec2<Real>{Real(0.0f), Real(lunar::kHullCenter)})
                                    : rotate(rotation(angle), Vec2<Real>{side * Real(20 / 30.0f), Real(-18 / 30.0f)});
      const Vec2<Real> place = b == 0 ? frame.origin : frame.origin + arm;
      const Vec2<Real> velocity = body.velocity_at(frame.origin + arm - body.center);
      const Real values[6] = {place.x, place.y, angle, velocity.x, velocity.y, body.spin};
      for (int i = 0; i < 6; ++i) out[6 * b + i] = values[i];
    }
  }

 protected:
  template <class Real>
  PERILUNE_OUTLINED_ON_CPU static Outcome<Real> advance(const Params& params, State<Real>& state,
                                                        const lunar::Throttle<Number<Real>>& engines,
                                                        Vec2<Number<Real>> dispersion) {
    using namespace lunar;
    const Real h(kTimeStep), zero(0.0f);
    Body<Real>& body = state.body;
    const Mask<Real> landed = state.leg_contact[0] + state.leg_contact[1] > zero;
    const Wind<Real> wind = blow(params, landed, state.task);
    fire_engines(engines, lander_mass(), dispersion, body);
    // The wind blows on the hull's centre of mass, which is above the whole's.
    body.apply_impulse(lander_mass(), rotate(rotation(body.angle), Vec2<Real>{zero, Real(kHullAbove)}),
                       {h * wind.force, zero});
    body.velocity.y = body.velocity.y + h * Real(params.gravity);
    body.spin = body.spin + Real(kTimeStep * lander_mass().inverse_inertia) * wind.torque;

    Real leg_rates[2];  // outwards
    for (int i = 0; i < 2; ++i) {
      leg_rates[i] = max(Real(-kLegSpeed), (Real(kLegRest) - state.legs[i]) * Real(1 / kTimeStep));
    }
    LocalGround<Real> ground(state.heights, body.center.x);
    const Real lowest = body.center.y - Real(kReach) + h * min(body.velocity.y, zero);
    Mask<Real> crashed(false);
    const Mask<Real> near = lowest <= ground.top + Real(kTouchGap);
    if (any(near)) {
      ground.prepare();
      meet_ground(ground, near, state, leg_rates, crashed);
    } else {
      integrate_position(body, h);
      for (int i = 0; i < 2; ++i) {
        state.legs[i] = state.legs[i] + h * leg_rates[i];
        state.leg_contact[i] = state.normal[i] = state.friction[i] = zero;
      }
    }

    const Real turning = abs(body.spin) + max(abs(leg_rates[0]), abs(leg_rates[1]));
    const Mask<Real> quiet =
        turning <= Real(physics::kAngularSleepTolerance) &&
        dot(body.velocity, body.velocity) <= Real(physics::kLinearSleepTolerance * physics::kLinearSleepTolerance);
    state.quiet_time = select(quiet, state.quiet_time + h, zero);
    const Mask<Real> asleep = state.quiet_time >= Real(physics::kTimeToSleep);
    Real observation[kObsDim];
    observe(params, state, observation);
    return judge(observation, body.frame(lander_mass()).origin.x, engines, crashed, asleep, state.task);
  }

 private:
  /// How much faster the hull's centre of mass moves than the whole's.
  template <class Real>
  PERILUNE_HD static Vec2<Real> hull_motion(Real spin, Rotation<Real> q) {
    const Real above(lunar::kHullAbove);
    return {-(spin * (q.cos * above)), -(spin * (q.sin * above))};
  }

  /// Pushes of the ground, motion over a step, and where the legs are after it. Where not `near` the
  /// same as in free flight.
  template <class Real>
  PERILUNE_HD static void meet_ground(const lunar::LocalGround<Real>& ground, Mask<Real> near, State<Real>& state,
                                      Real (&leg_rates)[2], Mask<Real>& crashed) {
    using namespace lunar;
    const Real h(kTimeStep), zero(0.0f), one(1.0f);
    Body<Real>& body = state.body;
    const Frame<Real> frame = body.frame(lander_mass());

    struct Row {
      Vec2<Real> r, n, t;     // from the centre of mass; normal and tangent of the ground
      Real kn, kt;            // effective masses
      Real target;            // least normal velocity
      Real slip;              // tangential velocity of the leg itself
      Real lever_n, lever_t;  // moments of unit impulses on the leg, outwards
      Real bearing;           // the most that the leg's motor bears of them
      Real normal, friction;  // impulses
    } rows[2];
    Mask<Real> pushed(false);
    for (int i = 0; i < 2; ++i) {
      const float side = i == 0 ? 1.0f : -1.0f;
      const Foot<Real> foot = lowest_corner(ground, frame.origin, body.angle, state.legs[i], side);
      Row& row = rows[i];
      row.r = frame.origin + foot.arm - body.center;
      row.n = foot.normal;
      row.t = right_normal(foot.normal);
      const Real rn = cross(row.r, row.n), rt = cross(row.r, row.t);
      row.kn = one / (Real(lander_mass().inverse_mass) + Real(lander_mass().inverse_inertia) * rn * rn);
      row.kt = one / (Real(lander_mass().inverse_mass) + Real(lander_mass().inverse_inertia) * rt * rt);
      row.lever_n = Real(side) * cross(foot.arm, row.n);
      row.lever_t = Real(side) * cross(foot.arm, row.t);
      row.target = -(leg_rates[i] * row.lever_n) - (foot.gap - Real(kRestGap)) * Real(1 / kTimeStep);
      row.target = select(foot.gap < Real(kRestGap), -(leg_rates[i] * row.lever_n), row.target);
      row.slip = leg_rates[i] * row.lever_t;
      row.bearing = select(state.legs[i] >= Real(kLegStop), Real(1e9f), Real(kLegImpulse));
      row.normal = select(near, state.normal[i], zero);
      row.friction = select(near, state.friction[i], zero);
      pushed = pushed || (near && (row.normal > zero || dot(body.velocity_at(row.r), row.n) < row.target));
    }
    PERILUNE_UNROLL
    for (const Row& row : rows) {
      body.apply_impulse(lander_mass(), row.r, row.normal * row.n + row.friction * row.t);
    }
    PERILUNE_ROLLED
    for (int iteration = 0; iteration < kContactIterations && any(pushed); ++iteration) {
      PERILUNE_UNROLL
      for (Row& row : rows) {
        const Real most = Real(kLegFriction) * row.normal;
        const Real friction =
            select(pushed, clamp(row.friction - row.kt * (dot(body.velocity_at(row.r), row.t) + row.slip), -most, most),
                   row.friction);
        body.apply_impulse(lander_mass(), row.r, (friction - row.friction) * row.t);
        row.friction = friction;
        // lever_n <= 0 is a push onto the inner stop
        const Real borne =
            select(row.lever_n > Real(1e-3f), (row.bearing - row.friction * row.lever_t) / row.lever_n, Real(1e9f));
        const Real normal = select(
            pushed,
            clamp(row.normal - row.kn * (dot(body.velocity_at(row.r), row.n) - row.target), zero, max(borne, zero)),
            row.normal);
        body.apply_impulse(lander_mass(), row.r, (normal - row.normal) * row.n);
        row.normal = normal;
      }
    }
    for (int i = 0; i < 2; ++i) {
      state.normal[i] = rows[i].normal;
      state.friction[i] = rows[i].friction;
    }
    integrate_position(body, h);

    const Frame<Real> now = body.frame(lander_mass());
    for (int i = 0; i < 2; ++i) {
      const float side = i == 0 ? 1.0f : -1.0f;
      const Real before = state.legs[i];
      Real leg = before + h * leg_rates[i];
      const Foot<Real> foot = lowest_corner(ground, now.origin, body.angle, leg, side);
      const Real lever = Real(side) * cross(foot.arm, foot.normal);
      const Real deep = select(near, max(Real(kRestGap) - foot.gap, zero), zero);
      const Real splayed = select(near, min(leg + deep / max(lever, Real(0.1f)), Real(kLegStop)), leg);
      const Real rest = deep - (splayed - leg) * lever;  // what the leg could not give way
      body.center = body.center + Real(physics::kBaumgarte) * max(rest, zero) * foot.normal;
      state.legs[i] = splayed;
      leg_rates[i] = select(near, (splayed - before) * Real(1 / kTimeStep), leg_rates[i]);
      state.leg_contact[i] = select(near && foot.gap <= Real(kTouchGap), one, zero);
    }
    constexpr float kX[] = {17 / 30.0f, 17 / 30.0f, 14 / 30.0f};
    constexpr float kY[] = {-10 / 30.0f, 0.0f, 17 / 30.0f};
    PERILUNE_UNROLL
    for (int i = 0; i < 6; ++i) {
      const Vec2<Real> corner = {Real(i < 3 ? kX[i % 3] : -kX[i % 3]), Real(kY[i % 3])};
      crashed = crashed || (near && ground.below(now.to_world(corner)).gap <= Real(kTouchGap));
    }
    // A peak of the ground under the hull's floor.
    PERILUNE_UNROLL
    for (int k = 1; k < 3; ++k) {
      const Vec2<Real> peak = now.to_local({ground.start + Real(kSpacing * static_cast<float>(k)), ground.height[k]});
      crashed = crashed || (near && abs(peak.x) <= Real(17 / 30.0f) && abs(peak.y) <= Real(10 / 30.0f + kTouchGap));
    }
  }
};

template <class Engines>
struct LanderWith : LanderBase {
  static constexpr const char* kId = Engines::kContinuous ? "LanderContinuous-v0" : "Lander-v0";
  static constexpr std::array<const char*, 1> kAliases = {Engines::kContinuous ? "lander-continuous" : "lander"};
  using Action = Engines;

  template <class Real, class Rng>
  PERILUNE_HD static Outcome<Real> step(const Params& params, State<Real>& state,
                                        typename Action::template Value<Real> action, Rng& rng) {
    return advance(params, state, lunar::throttle<Number<Real>>(action), lunar::draw_dispersion<Real>(rng));
  }
};

using Lander = LanderWith<lunar::DiscreteEngines>;
using LanderContinuous = LanderWith<lunar::ContinuousEngines>;

static_assert(Env<Lander> && Env<LanderContinuous>);

}  // namespace perilune::inline PERILUNE_LEVEL
