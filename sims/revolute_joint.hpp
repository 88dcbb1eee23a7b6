// A revolute joint with motor and limit between two bodies, solved as Box2D 2.3 does.
//
// Velocities: the motor's angular impulse, bounded by its torque; then limit and point together as
// one 3x3 block if the limit acts, or the point alone as a 2x2 block. The limit acts for a whole
// step if the joint's angle was at or beyond it when the step began. Positions: the limit's error
// beyond a slop, then the point's.
//
// RevoluteBlock is a faster substitute for the velocities.
#pragma once

#include "sims/rigid_body.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// The fixed part of a joint. The motor may be another in every step; its bounds are then arguments.
struct RevoluteJointDef {
  Vec2<float> anchor_a;  // from the centre of mass, in the body's frame
  Vec2<float> anchor_b;
  float reference_angle;  // of b relative to a, where the joint's angle is 0
  float lower_angle;
  float upper_angle;
};

template <class Real>
struct RevoluteMotor {
  Real speed;
  Real max_impulse;  // torque times the time step
};

/// Impulses that a step leaves to the next one as its first guess. The limit's is >= 0 at the lower
/// limit, <= 0 at the upper one and 0 between them.
template <class Real>
struct RevoluteImpulses {
  Vec2<Real> point;
  Real limit;
  Real motor;

  template <class F>
  PERILUNE_HD void fields(F&& f) {
    f(point.x), f(point.y), f(limit), f(motor);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    f(point.x), f(point.y), f(limit), f(motor);
  }
};

template <class Real>
PERILUNE_HD RevoluteImpulses<Real> select(Mask<Real> mask, const RevoluteImpulses<Real>& a,
                                          const RevoluteImpulses<Real>& b) {
  return {select(mask, a.point, b.point), select(mask, a.limit, b.limit), select(mask, a.motor, b.motor)};
}

/// One joint during one step.
template <class Real>
struct RevoluteJoint {
  Vec2<Real> ra, rb;  // from the centres of mass to the anchor
  // K, the inverse effective mass, symmetric: rows are x, y and angle
  Real k11, k12, k13, k22, k23, k33;
  Real c1, c2, c3;  // the column product that Cramer's rule needs in every iteration
  Real minus_inverse_determinant, inverse_determinant2;
  Real motor_mass;
  Mask<Real> at_lower, at_upper;
  Real lowest_limit, highest_limit;  // what the limit's impulse may be; none if it does not act
  RevoluteImpulses<Real> given;      // so far

  /// Prepares the step and applies the last step's impulses.
  PERILUNE_HD void init_velocity(const RevoluteJointDef& def, const MassData& mass_a, const MassData& mass_b,
                                 const RevoluteMotor<Real>&, const RevoluteImpulses<Real>& last, Body<Real>& a,
                                 Body<Real>& b) {
    const Real ma(mass_a.inverse_mass), mb(mass_b.inverse_mass);
    const Real ia(mass_a.inverse_inertia), ib(mass_b.inverse_inertia);
    ra = rotate(rotation(a.angle), vec2<Real>(def.anchor_a));
    rb = rotate(rotation(b.angle), vec2<Real>(def.anchor_b));
    k11 = ma + mb + ra.y * ra.y * ia + rb.y * rb.y * ib;
    k12 = -ra.y * ra.x * ia - rb.y * rb.x * ib;
    k13 = -ra.y * ia - rb.y * ib;
    k22 = ma + mb + ra.x * ra.x * ia + rb.x * rb.x * ib;
    k23 = ra.x * ia + rb.x * ib;
    k33 = ia + ib;
    c1 = k22 * k33 - k23 * k23;
    c2 = k23 * k13 - k12 * k33;
    c3 = k12 * k23 - k22 * k13;
    minus_inverse_determinant = -(Real(1.0f) / (k11 * c1 + k12 * c2 + k13 * c3));
    inverse_determinant2 = Real(1.0f) / (k11 * k22 - k12 * k12);
    motor_mass = Real(1.0f) / k33;

    const Real angle = b.angle - a.angle - Real(def.reference_angle);
    at_lower = angle <= Real(def.lower_angle);
    at_upper = !at_lower && angle >= Real(def.upper_angle);
    const Real zero(0.0f), infinity(3.4e38f);
    lowest_limit = select(at_lower, zero, select(at_upper, -infinity, infinity));
    highest_limit = select(at_lower, infinity, select(at_upper, zero, -infinity));
    given = last;
    given.limit = select(at_lower, max(last.limit, zero), select(at_upper, min(last.limit, zero), zero));
    apply(mass_a, mass_b, given.point, cross(ra, given.point) + given.motor + given.limit,
          cross(rb, given.point) + given.motor + given.limit, a, b);
  }

  PERILUNE_HD RevoluteImpulses<Real> impulses() const { return given; }

  template <bool /*relax*/ = false>
  PERILUNE_HD void solve_velocity(const MassData& mass_a, const MassData& mass_b, const RevoluteMotor<Real>& motor,
                                  Body<Real>& a, Body<Real>& b) {
    // A saturated motor and a limit that holds are the usual case: what is only tested for is not
    // waited for.
    const Real zero(0.0f);
    const Real turn =
        clamp(given.motor - motor_mass * (b.spin - a.spin - motor.speed), -motor.max_impulse, motor.max_impulse);
    const Real change = turn - given.motor;
    if (any(change != zero)) {
      given.motor = turn;
      a.spin = a.spin - Real(mass_a.inverse_inertia) * change;
      b.spin = b.spin + Real(mass_b.inverse_inertia) * change;
    }

    const Vec2<Real> dv = {b.velocity.x - b.spin * rb.y - a.velocity.x + a.spin * ra.y,
                           b.velocity.y + b.spin * rb.x - a.velocity.y - a.spin * ra.x};
    const Real dw = b.spin - a.spin;
    // Limit and point: Cramer's rule, each component as a triple product.
    Vec2<Real> point = {minus_inverse_determinant * (dv.x * c1 + dv.y * c2 + dw * c3),
                        minus_inverse_determinant * (k11 * (dv.y * k33 - dw * k23) + k12 * (dw * k13 - dv.x * k33) +
                                                     k13 * (dv.x * k23 - dv.y * k13))};
    Real turned = minus_inverse_determinant *
                  (k11 * (k22 * dw - k23 * dv.y) + k12 * (k23 * dv.x - k12 * dw) + k13 * (k12 * dv.y - k22 * dv.x));
    Real limit = given.limit + turned;
    const Mask<Real> free = limit < lowest_limit || limit > highest_limit;
    if (any(free)) {
      // The point alone, with the limit's impulse taken back.
      const Vec2<Real> rhs = {given.limit * k13 - dv.x, given.limit * k23 - dv.y};
      const Vec2<Real> alone = {inverse_determinant2 * (k22 * rhs.x - k12 * rhs.y),
                                inverse_determinant2 * (k11 * rhs.y - k12 * rhs.x)};
      point = select(free, alone, point);
      turned = select(free, -given.limit, turned);
      limit = select(free, zero, limit);
    }
    given.point = given.point + point;
    given.limit = limit;
    apply(mass_a, mass_b, point, cross(ra, point) + turned, cross(rb, point) + turned, a, b);
  }

  /// Moves the bodies towards the joint; says where it was satisfied before that.
  PERILUNE_HD Mask<Real> solve_position(const RevoluteJointDef& def, const MassData& mass_a, const MassData& mass_b,
                                        Body<Real>& a, Body<Real>& b) const {
    using physics::kAngularSlop;
    const Real ma(mass_a.inverse_mass), mb(mass_b.inverse_mass);
    const Real ia(mass_a.inverse_inertia), ib(mass_b.inverse_inertia);
    const Real zero(0.0f), most(physics::kMaxAngularCorrection);
    const Real angle = b.angle - a.angle - Real(def.reference_angle);
    const Real below = angle - Real(def.lower_angle);
    const Real above = angle - Real(def.upper_angle);
    const Real correction = select(at_lower, clamp(below + Real(kAngularSlop), -most, zero),
                                   select(at_upper, clamp(above - Real(kAngularSlop), zero, most), zero));
    const Real angular_error = select(at_lower, -below, select(at_upper, above, zero));
    const Real turn = motor_mass * correction;
    a.angle = a.angle + ia * turn;
    b.angle = b.angle - ib * turn;

    const Vec2<Real> arm_a = rotate(rotation(a.angle), vec2<Real>(def.anchor_a));
    const Vec2<Real> arm_b = rotate(rotation(b.angle), vec2<Real>(def.anchor_b));
    const Vec2<Real> error = b.center + arm_b - a.center - arm_a;
    const Real m11 = ma + mb + ia * arm_a.y * arm_a.y + ib * arm_b.y * arm_b.y;
    const Real m12 = -ia * arm_a.x * arm_a.y - ib * arm_b.x * arm_b.y;
    const Real m22 = ma + mb + ia * arm_a.x * arm_a.x + ib * arm_b.x * arm_b.x;
    const Real inverse = Real(1.0f) / (m11 * m22 - m12 * m12);
    const Vec2<Real> impulse = {-(inverse * (m22 * error.x - m12 * error.y)),
                                -(inverse * (m11 * error.y - m12 * error.x))};
    a.apply_correction(mass_a, arm_a, -impulse);
    b.apply_correction(mass_b, arm_b, impulse);
    return length(error) <= Real(physics::kLinearSlop) && angular_error <= Real(kAngularSlop);
  }

  /// An impulse on b at the joint and its opposite on a; turn_a and turn_b are their moments.
  PERILUNE_HD static void apply(const MassData& mass_a, const MassData& mass_b, Vec2<Real> point, Real turn_a,
                                Real turn_b, Body<Real>& a, Body<Real>& b) {
    a.velocity = a.velocity - Real(mass_a.inverse_mass) * point;
    a.spin = a.spin - Real(mass_a.inverse_inertia) * turn_a;
    b.velocity = b.velocity + Real(mass_b.inverse_mass) * point;
    b.spin = b.spin + Real(mass_b.inverse_inertia) * turn_b;
  }
};

/// One joint during one step, solved as a whole: point, limit and motor are one 3x3 block, whose
/// angular part is bounded. Motor and limit then are one impulse, `motor`: at most the motor's, or
/// more where the limit bears it. Not Box2D's way; it needs a sixth of the iterations.
template <class Real>
struct RevoluteBlock {
  RevoluteJoint<Real> joint;
  Real i11, i12, i22;  // the inverse of K's part for the point
  Real g1, g2;         // point impulses per angular impulse
  Real a1, a2, a3;     // angular impulse per relative velocity
  Real motor_impulse;  // for the motor's speed

  PERILUNE_HD void init_velocity(const RevoluteJointDef& def, const MassData& mass_a, const MassData& mass_b,
                                 const RevoluteMotor<Real>& motor, const RevoluteImpulses<Real>& last, Body<Real>& a,
                                 Body<Real>& b) {
    joint.init_velocity(def, mass_a, mass_b, motor, {last.point, Real(0.0f), last.motor}, a, b);
    i11 = joint.inverse_determinant2 * joint.k22;
    i12 = -(joint.inverse_determinant2 * joint.k12);
    i22 = joint.inverse_determinant2 * joint.k11;
    g1 = -(i11 * joint.k13 + i12 * joint.k23);
    g2 = -(i12 * joint.k13 + i22 * joint.k23);
    a3 = Real(-1.0f) / (joint.k33 + joint.k13 * g1 + joint.k23 * g2);
    a1 = a3 * g1;
    a2 = a3 * g2;
    motor_impulse = -(a3 * motor.speed);
  }

  PERILUNE_HD RevoluteImpulses<Real> impulses() const { return joint.given; }

  /// `kRelax`: goes further than to the solution, by what speeds up long chains of contacts.
  template <bool kRelax>
  PERILUNE_HD void solve_velocity(const MassData& mass_a, const MassData& mass_b, const RevoluteMotor<Real>& motor,
                                  Body<Real>& a, Body<Real>& b) {
    const Vec2<Real>&ra = joint.ra, &rb = joint.rb;
    const Vec2<Real> dv = {(b.velocity.x - a.velocity.x) + (a.spin * ra.y - b.spin * rb.y),
                           (b.velocity.y - a.velocity.y) + (b.spin * rb.x - a.spin * ra.x)};
    const Real dw = b.spin - a.spin;
    const Real further(kRelax ? physics::kOverRelaxation : 1.0f);
    const Real still = joint.given.motor + further * ((a1 * dv.x + a2 * dv.y) + a3 * dw);
    const Real driven = clamp(still + motor_impulse, -motor.max_impulse, motor.max_impulse);
    const Real angular = select(joint.at_lower, max(still, driven), select(joint.at_upper, min(still, driven), driven));
    const Real change = angular - joint.given.motor;
    joint.given.motor = angular;
    const Vec2<Real> point = {g1 * change - further * (i11 * dv.x + i12 * dv.y),
                              g2 * change - further * (i12 * dv.x + i22 * dv.y)};
    joint.given.point = joint.given.point + point;
    RevoluteJoint<Real>::apply(mass_a, mass_b, point, cross(ra, point) + change, cross(rb, point) + change, a, b);
  }

  PERILUNE_HD Mask<Real> solve_position(const RevoluteJointDef& def, const MassData& mass_a, const MassData& mass_b,
                                        Body<Real>& a, Body<Real>& b) const {
    return joint.solve_position(def, mass_a, mass_b, a, b);
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
