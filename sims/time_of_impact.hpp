// When, within a step, does a moving polygon come to touch an edge of the ground? Box2D 2.3's
// conservative advancement: find the features that are closest, follow the deepest point along the
// axis between them until it is at the target distance, find the closest features there, and so on.
//
// Where Box2D searches for the closest features step by step (GJK), all are tried here, which suits
// lanes that must do the same things. The features, and so the times, are the same but of a few in
// 10^5 impacts, where others are nearly as near (tests/gymnasium/modules.py).
#pragma once

#include "sims/contact.hpp"

namespace perilune::inline PERILUNE_LEVEL {
namespace physics {

/// The cores' distance at an impact: skins overlap by three slops.
inline constexpr float kImpactDistance = 2.0f * kPolygonRadius - 3.0f * kLinearSlop;
inline constexpr float kImpactTolerance = 0.25f * kLinearSlop;

/// The closest features of a polygon and an edge, and the axis between them: from an end of the edge
/// to a vertex (`vertices`), the edge's normal, or the normal of one of the polygon's sides (`turns`
/// with the polygon: axis and middle are in the body's frame).
template <class Real>
struct SeparationAxis {
  Mask<Real> overlap;
  Real distance;
  Mask<Real> vertices;
  Mask<Real> turns;
  Vec2<Real> axis;
  Vec2<Real> middle;  // of the edge or the side whose normal it is

  struct Witness {
    Vec2<Real> on_polygon;  // in the body's frame
    Vec2<Real> on_edge;
  };

  /// The points that are deepest along the axis with the polygon at `frame`.
  template <class Shape>
  PERILUNE_HD Witness deepest(const Edge<Real>& edge, const Frame<Real>& frame) const {
    const Vec2<Real> n = select(turns, rotate(frame.q, axis), axis);
    const Vec2<Real> towards_edge = unrotate(frame.q, -n);
    Vec2<Real> vertex = vec2<Real>(Shape::vertex(0));
    Real most = dot(vertex, towards_edge);
    PERILUNE_UNROLL
    for (int i = 1; i < Shape::kVertices; ++i) {
      const Vec2<Real> v = vec2<Real>(Shape::vertex(i));
      const Real value = dot(v, towards_edge);
      vertex = select(value > most, v, vertex);
      most = max(value, most);
    }
    const Vec2<Real> towards_polygon = select(turns, -n, n);
    const Vec2<Real> end = select(dot(edge.to, towards_polygon) > dot(edge.from, towards_polygon), edge.to, edge.from);
    return {select(turns, middle, vertex), select(vertices || turns, end, middle)};
  }

  PERILUNE_HD Real separation(const Witness& witness, const Frame<Real>& frame) const {
    const Vec2<Real> n = select(turns, rotate(frame.q, axis), axis);
    const Real along = dot(frame.to_world(witness.on_polygon) - witness.on_edge, n);
    return select(turns, -along, along);
  }
};

template <class Shape, class Real>
PERILUNE_HD SeparationAxis<Real> closest_features(const Edge<Real>& edge, const Frame<Real>& frame) {
  constexpr int kVertices = Shape::kVertices;
  const Real zero(0.0f);
  const Vec2<Real> along = edge.to - edge.from;
  const Vec2<Real> normal = right_normal(along);
  const Real along_squared = dot(along, along);
  Vec2<Real> vertices[kVertices];
  PERILUNE_UNROLL
  for (int i = 0; i < kVertices; ++i) vertices[i] = frame.to_world(vec2<Real>(Shape::vertex(i)));

  SeparationAxis<Real> closest{};
  Real squared(3.4e38f), lowest(3.4e38f), highest(-3.4e38f);
  Mask<Real> apart(false);
  PERILUNE_UNROLL
  for (int i = 0; i < kVertices; ++i) {
    // The vertex, and the edge or the end of it that is closest.
    const Vec2<Real> from = vertices[i] - edge.from, to = vertices[i] - edge.to;
    const Real u = dot(from, along), height = dot(from, normal);
    lowest = min(lowest, height);
    highest = max(highest, height);
    const Mask<Real> within = u > zero && u < along_squared;
    const Vec2<Real> axis = select(within, select(height < zero, -normal, normal), select(u > zero, to, from));
    const Real distance = select(within, height * height / along_squared, dot(axis, axis));
    const Mask<Real> closer = distance < squared;
    squared = min(distance, squared);
    closest.vertices = (closer && !within) || (!closer && closest.vertices);
    closest.axis = select(closer, axis, closest.axis);
  }
  closest.axis = normalized(closest.axis);
  closest.middle = Real(0.5f) * (edge.from + edge.to);
  PERILUNE_UNROLL
  for (int i = 0; i < kVertices; ++i) {
    // The side, and the ends of the edge that are next to it.
    const int next = i + 1 < kVertices ? i + 1 : 0;
    const Vec2<Real> side = vertices[next] - vertices[i];
    const Real side_squared = dot(side, side);
    const Vec2<Real> from = edge.from - vertices[i], to = edge.to - vertices[i];
    const Vec2<Real> outward = right_normal(side);
    const Real height_from = dot(from, outward), height_to = dot(to, outward);
    const Real u_from = dot(from, side), u_to = dot(to, side);
    const Real far(3.4e38f);
    const Real distance_from = select(u_from > zero && u_from < side_squared, height_from * height_from, far);
    const Real distance_to = select(u_to > zero && u_to < side_squared, height_to * height_to, far);
    const Real distance = min(distance_from, distance_to) / side_squared;
    apart = apart || (height_from > zero && height_to > zero);
    const Mask<Real> closer = distance < squared;
    squared = min(distance, squared);
    closest.vertices = closest.vertices && !closer;
    closest.turns = closest.turns || closer;
    closest.axis = select(closer, vec2<Real>(Shape::normal(i)), closest.axis);
    closest.middle =
        select(closer, Real(0.5f) * (vec2<Real>(Shape::vertex(i)) + vec2<Real>(Shape::vertex(next))), closest.middle);
  }
  closest.overlap = !(apart || lowest > zero || highest < zero);
  closest.distance = sqrt(squared);
  return closest;
}

}  // namespace physics

/// The part of what is left of the sweep, in [0, 1], after which the shapes touch; 1 where they do
/// not, where they overlap already, and where not `wanted`.
template <class Shape, class Real>
PERILUNE_HD Real time_of_impact(const Edge<Real>& edge, const MassData& mass, Sweep<Real> sweep, Mask<Real> wanted) {
  const Real one(1.0f);
  const Real target(physics::kImpactDistance), tolerance(physics::kImpactTolerance);
  constexpr int kMaxAxes = 20, kMaxPoints = 16, kMaxRootSteps = 50;

  // Angles close to 0, where floats are dense.
  const Real turns = math::floor(sweep.from_angle / Real(2.0f * physics::kPi));
  sweep.from_angle = sweep.from_angle - Real(2.0f * physics::kPi) * turns;
  sweep.to_angle = sweep.to_angle - Real(2.0f * physics::kPi) * turns;

  Real impact = one, t1(0.0f);
  Mask<Real> searching = wanted;
  PERILUNE_ROLLED
  for (int i = 0; i < kMaxAxes && any(searching); ++i) {
    const Frame<Real> here = sweep.frame(mass, t1);
    const auto axis = physics::closest_features<Shape>(edge, here);
    const Mask<Real> touching = !axis.overlap && axis.distance < target + tolerance;
    impact = select(searching && touching, t1, impact);
    searching = searching && !touching && !axis.overlap;

    Real t2 = one;
    const Real axis_from = t1;
    Mask<Real> following = searching;
    PERILUNE_ROLLED
    for (int j = 0; j < kMaxPoints && any(following); ++j) {
      const Frame<Real> there = sweep.frame(mass, t2);
      const auto witness = axis.template deepest<Shape>(edge, there);
      Real s2 = axis.separation(witness, there);
      const Mask<Real> separated = s2 > target + tolerance;
      searching = searching && !(following && separated);
      following = following && !separated;
      const Mask<Real> arrived = following && s2 > target - tolerance;
      t1 = select(arrived, t2, t1);
      following = following && !arrived;

      Real s1 = axis.separation(witness, here);
      const Mask<Real> deep = s1 < target - tolerance, near = s1 <= target + tolerance;
      impact = select(following && near && !deep, axis_from, impact);
      searching = searching && !(following && near);
      following = following && !near;

      // The root of separation - target between a1 and a2: bisection and the secant in turn.
      Real a1 = axis_from, a2 = t2;
      Mask<Real> open = following;
      PERILUNE_ROLLED
      for (int k = 0; k < kMaxRootSteps && any(open); ++k) {
        const Real t = k % 2 == 1 ? a1 + (target - s1) * (a2 - a1) / (s2 - s1) : Real(0.5f) * (a1 + a2);
        const Real s = axis.separation(witness, sweep.frame(mass, t));
        const Mask<Real> found = abs(s - target) < tolerance;
        t2 = select(open && found, t, t2);
        open = open && !found;
        const Mask<Real> before = s > target;
        a1 = select(before, t, a1);
        s1 = select(before, s, s1);
        a2 = select(before, a2, t);
        s2 = select(before, s2, s);
      }
    }
  }
  return impact;
}

}  // namespace perilune::inline PERILUNE_LEVEL
