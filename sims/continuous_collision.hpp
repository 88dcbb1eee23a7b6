// Continuous collision of one body with the ground: after the discrete solver has moved it, impacts
// that happened on the way are found in order of time, and the body goes on from each of them alone,
// as if it had no joints (Box2D 2.3's SolveTOI).
#pragma once

#include "sims/time_of_impact.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// The edges that a body may meet, in the order in which Box2D would go through their contacts.
template <class Real, int kCount>
struct GroundContacts {
  static constexpr int kSlots = kCount;
  Edge<Real> edges[kSlots];
  Real friction;
  StoredContact<Real> stored[kSlots];
};

namespace physics {

/// Where the polygon, on its way from one pose to another, may come near the edge at all: a test
/// along the edge's upper normal, which is exact but for the bend of the vertices' paths.
template <class Shape, class Real>
PERILUNE_HD Mask<Real> may_meet(const Edge<Real>& edge, const MassData& mass, const Sweep<Real>& sweep) {
  const Vec2<Real> up = -right_normal(normalized(edge.to - edge.from));
  const Frame<Real> from = sweep.frame(mass, Real(0.0f)), to = sweep.frame(mass, Real(1.0f));
  Real least(3.4e38f);
  PERILUNE_UNROLL
  for (int i = 0; i < Shape::kVertices; ++i) {
    const Vec2<Real> vertex = vec2<Real>(Shape::vertex(i));
    least = min(least, dot(up, from.to_world(vertex) - edge.from));
    least = min(least, dot(up, to.to_world(vertex) - edge.from));
  }
  const Real turn = sweep.to_angle - sweep.from_angle;
  return least - Real(Shape::kRadius) * turn * turn <=
         Real(2.0f * kImpactDistance);  // at impacts, and room for rounding
}

}  // namespace physics

/// Moves `body`, which the step took here from `from`, to where it gets with the impacts on its way.
/// Where `updated`, listener.touches(slot, updated, now) is told whether the contact touches `now`,
/// before ground.stored says so; listener.moves(mask, sweep) is told of the way after an impact.
template <class Shape, class Real, int kSlots, class Listener>
PERILUNE_HD void solve_impacts(const MassData& mass, const Body<Real>& from, float seconds, int velocity_iterations,
                               Mask<Real> awake, GroundContacts<Real, kSlots>& ground, Body<Real>& body,
                               Listener listener) {
  constexpr int kPositionIterations = 20;
  constexpr float kLastTime = 1.0f - 10.0f * 1.1920929e-7f;  // later ones are the step's end
  const Real one(1.0f), zero(0.0f);
  Sweep<Real> sweep = {from.center, from.angle, body.center, body.angle, zero};
  Real times[kSlots], tries[kSlots];
  Mask<Real> missed[kSlots];
  for (int s = 0; s < kSlots; ++s) {
    times[s] = one;
    tries[s] = zero;
    missed[s] = Mask<Real>(false);
  }
  Mask<Real> moved = awake;  // and the times are unknown

  PERILUNE_ROLLED
  for (int round = 0; round < kSlots * (physics::kMaxSubSteps + 2); ++round) {
    for (int s = 0; s < kSlots; ++s) {
      const Mask<Real> wanted = moved && physics::may_meet<Shape>(ground.edges[s], mass, sweep);
      times[s] = select(moved, one, times[s]);
      if (!any(wanted)) continue;
      const Real part = time_of_impact<Shape>(ground.edges[s], mass, sweep, wanted);
      times[s] = select(wanted, min(sweep.start + (one - sweep.start) * part, one), times[s]);
    }
    Real time = one;
    Mask<Real> first[kSlots];  // the impact is this one's
    for (int s = 0; s < kSlots; ++s) {
      const Real usable = select(missed[s] || tries[s] > Real(float{physics::kMaxSubSteps}), one, times[s]);
      first[s] = s == 0 ? Mask<Real>(true) : usable < time;
      for (int earlier = 0; earlier < s; ++earlier) first[earlier] = first[earlier] && !first[s];
      time = s == 0 ? usable : min(usable, time);
    }
    const Mask<Real> event = time <= Real(kLastTime);
    if (!any(event)) break;

    Sweep<Real> rest = sweep;
    rest.advance(select(event, time, sweep.start));
    Body<Real> there = {rest.from_center, rest.from_angle, body.velocity, body.spin};
    Manifold<Real> manifolds[kSlots];
    for (int s = 0; s < kSlots; ++s) {
      manifolds[s] = collide<Shape>(ground.edges[s], there.frame(mass));
    }
    Mask<Real> hit(false);
    for (int s = 0; s < kSlots; ++s) hit = hit || (event && first[s] && manifolds[s].touching);
    // The impact's contact is told of first, and then the others.
    for (const bool impact : {true, false}) {
      for (int s = 0; s < kSlots; ++s) {
        const Mask<Real> updated = impact ? event && first[s] : hit && !first[s];
        if (!any(updated)) continue;
        listener.touches(s, updated, manifolds[s].touching);
        ground.stored[s] = select(updated, inherit_impulses(manifolds[s], ground.stored[s]), ground.stored[s]);
        missed[s] = (missed[s] && !updated) || (Mask<Real>(impact) && updated && !hit);
        if (impact) tries[s] = tries[s] + select(updated, one, zero);
      }
    }
    moved = hit;
    if (!any(hit)) continue;

    // The impact's contact first, then the others.
    for (int s = kSlots - 1; s > 0; --s) {
      Mask<Real> later = first[s];
      for (int t = s + 1; t < kSlots; ++t) later = later || first[t];
      const Manifold<Real> before = manifolds[s - 1];
      manifolds[s - 1] = select(later, manifolds[s], before);
      manifolds[s] = select(later, before, manifolds[s]);
    }
    bool used[kSlots];
    for (int s = 0; s < kSlots; ++s) used[s] = any(hit && manifolds[s].touching);
    Mask<Real> apart = !hit;
    PERILUNE_ROLLED
    for (int i = 0; i < kPositionIterations && any(!apart); ++i) {
      Body<Real> pushed = there;
      Real separation = zero;
      for (int s = 0; s < kSlots; ++s) {
        if (!used[s]) continue;
        separation = min(separation, manifolds[s].solve_position(mass, physics::kTimeOfImpactBaumgarte, pushed));
      }
      there = select(apart, there, pushed);
      apart = apart || separation >= Real(-1.5f * physics::kLinearSlop);
    }
    rest.from_center = there.center;
    rest.from_angle = there.angle;
    Contact<Real> contacts[kSlots]{};
    const StoredContact<Real> nothing{};
    for (int s = 0; s < kSlots; ++s) {
      contacts[s].init_velocity(mass, there, ground.friction, manifolds[s], nothing);
    }
    // An iteration that changes nothing is the last one that matters.
    bool settled = false;
    PERILUNE_ROLLED
    for (int i = 0; i < velocity_iterations && !settled; ++i) {
      const Body<Real> last = there;
      Mask<Real> changed(false);
      for (int s = 0; s < kSlots; ++s) {
        if (!used[s]) continue;
        const Mask<Real> moves = contacts[s].solve_velocity(mass, there);  // not after ||, which may skip it
        changed = changed || moves;
      }
      changed = changed || there.velocity.x != last.velocity.x || there.velocity.y != last.velocity.y ||
                there.spin != last.spin;
      settled = !any(hit && changed);
    }
    integrate_position(there, (one - time) * Real(seconds));
    body = select(hit, there, body);
    rest.to_center = body.center;
    rest.to_angle = body.angle;
    sweep.from_center = select(hit, rest.from_center, sweep.from_center);
    sweep.from_angle = select(hit, rest.from_angle, sweep.from_angle);
    sweep.to_center = body.center;
    sweep.to_angle = body.angle;
    sweep.start = select(hit, rest.start, sweep.start);
    listener.moves(hit, sweep);
  }
}

}  // namespace perilune::inline PERILUNE_LEVEL
