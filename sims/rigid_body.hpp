// Rigid bodies as Box2D 2.3 moves them: constants, the moving state of a body, integration, and
// where a body is within a step.
//
// Everything here and in revolute_joint.hpp, contact.hpp and time_of_impact.hpp does what Box2D
// does, operation for operation in float, so that the same bodies move through the same numbers
// (up to the last bit of a sine). Names are Box2D's. Bodies that a lane does not use are not
// skipped but frozen by select: a lane's result never depends on its neighbours.
#pragma once

#include "sims/vec2.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// What the solver knows about lengths (m) and angles (rad).
namespace physics {
inline constexpr float kPi = 3.14159265359f;
inline constexpr float kLinearSlop = 0.005f;
inline constexpr float kAngularSlop = 2.0f / 180.0f * kPi;
inline constexpr float kPolygonRadius = 2.0f * kLinearSlop;  // every shape has this skin
inline constexpr float kMaxLinearCorrection = 0.2f;
inline constexpr float kMaxAngularCorrection = 8.0f / 180.0f * kPi;
inline constexpr float kMaxTranslation = 2.0f;  // in a step
inline constexpr float kMaxRotation = 0.5f * kPi;
inline constexpr float kBaumgarte = 0.2f;
inline constexpr float kTimeOfImpactBaumgarte = 0.75f;
inline constexpr float kTimeToSleep = 0.5f;
inline constexpr float kLinearSleepTolerance = 0.01f;
inline constexpr float kAngularSleepTolerance = 2.0f / 180.0f * kPi;
inline constexpr int kMaxSubSteps = 8;
inline constexpr float kOverRelaxation = 1.7f;  // of the fast solver; Box2D has none
}  // namespace physics

/// Mass properties, those of a polygon of even density about its centre of mass.
struct MassData {
  float inverse_mass;
  float inverse_inertia;
  Vec2<float> center;  // in the body's frame
};

/// `center` is where the centre of mass is; the body's frame has its origin elsewhere.
template <class Real>
struct Body {
  Vec2<Real> center;
  Real angle;
  Vec2<Real> velocity;
  Real spin;

  PERILUNE_HD Vec2<Real> velocity_at(Vec2<Real> r) const { return {velocity.x - spin * r.y, velocity.y + spin * r.x}; }
  PERILUNE_HD void apply_impulse(const MassData& mass, Vec2<Real> r, Vec2<Real> impulse) {
    velocity = velocity + Real(mass.inverse_mass) * impulse;
    spin = spin + Real(mass.inverse_inertia) * cross(r, impulse);
  }
  /// The same for positions, as the position solvers' pseudo-impulses.
  PERILUNE_HD void apply_correction(const MassData& mass, Vec2<Real> r, Vec2<Real> impulse) {
    center = center + Real(mass.inverse_mass) * impulse;
    angle = angle + Real(mass.inverse_inertia) * cross(r, impulse);
  }
  PERILUNE_HD Frame<Real> frame(const MassData& mass) const {
    const Rotation<Real> q = rotation(angle);
    return {center - rotate(q, vec2<Real>(mass.center)), q};
  }

  template <class F>
  PERILUNE_HD void fields(F&& f) {
    f(center.x), f(center.y), f(angle), f(velocity.x), f(velocity.y), f(spin);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    f(center.x), f(center.y), f(angle), f(velocity.x), f(velocity.y), f(spin);
  }
};

template <class Real>
PERILUNE_HD Body<Real> select(Mask<Real> mask, const Body<Real>& a, const Body<Real>& b) {
  return {select(mask, a.center, b.center), select(mask, a.angle, b.angle), select(mask, a.velocity, b.velocity),
          select(mask, a.spin, b.spin)};
}

/// x within [low, high]; low if they cross.
template <class Real>
PERILUNE_HD Real clamp(Real x, Real low, Real high) {
  return max(low, min(x, high));
}

/// Moves the body over `seconds`, not further than the solver allows in a step.
template <class Real>
PERILUNE_HD void integrate_position(Body<Real>& body, Real seconds) {
  const Vec2<Real> translation = seconds * body.velocity;
  const Real squared = dot(translation, translation);
  const Mask<Real> fast = squared > Real(physics::kMaxTranslation * physics::kMaxTranslation);
  const Real rotation = seconds * body.spin;
  const Mask<Real> spinning = rotation * rotation > Real(physics::kMaxRotation * physics::kMaxRotation);
  if (any(fast || spinning)) {
    const Real slower = Real(physics::kMaxTranslation) / sqrt(squared);
    body.velocity = select(fast, slower * body.velocity, body.velocity);
    body.spin = select(spinning, body.spin * (Real(physics::kMaxRotation) / abs(rotation)), body.spin);
  }
  body.center = body.center + seconds * body.velocity;
  body.angle = body.angle + seconds * body.spin;
}

/// Where all bodies are slow enough to fall asleep.
template <class Real, int kCount>
PERILUNE_HD Mask<Real> is_quiet(const Body<Real> (&bodies)[kCount]) {
  using namespace physics;
  Mask<Real> quiet(true);
  for (const Body<Real>& body : bodies) {
    quiet = quiet && body.spin * body.spin <= Real(kAngularSleepTolerance * kAngularSleepTolerance) &&
            dot(body.velocity, body.velocity) <= Real(kLinearSleepTolerance * kLinearSleepTolerance);
  }
  return quiet;
}

/// Six numbers of each of a model's bodies: x, y (of its frame's origin), angle, vx, vy (of its centre of mass), w.
template <class Model, class Real>
PERILUNE_HD void describe_bodies(const Body<Real> (&bodies)[Model::kBodies], Real* out) {
  for (int b = 0; b < Model::kBodies; ++b) {
    const Body<Real>& body = bodies[b];
    const Vec2<Real> origin = body.frame(Model::mass(b)).origin;
    const Real values[6] = {origin.x, origin.y, body.angle, body.velocity.x, body.velocity.y, body.spin};
    for (int i = 0; i < 6; ++i) out[6 * b + i] = values[i];
  }
}

/// A body's way through a step: from its pose at time `start` to its pose at time 1 (Box2D's
/// sweep).
template <class Real>
struct Sweep {
  Vec2<Real> from_center;
  Real from_angle;
  Vec2<Real> to_center;
  Real to_angle;
  Real start;

  /// The pose at `beta` in [0, 1] of what is left of the step.
  PERILUNE_HD Frame<Real> frame(const MassData& mass, Real beta) const {
    const Real rest = Real(1.0f) - beta;
    const Vec2<Real> center = rest * from_center + beta * to_center;
    const Rotation<Real> q = rotation(rest * from_angle + beta * to_angle);
    return {center - rotate(q, vec2<Real>(mass.center)), q};
  }
  /// Begins at `time` >= start.
  PERILUNE_HD void advance(Real time) {
    const Real beta = (time - start) / (Real(1.0f) - start);
    const Real rest = Real(1.0f) - beta;
    from_center = rest * from_center + beta * to_center;
    from_angle = rest * from_angle + beta * to_angle;
    start = time;
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
