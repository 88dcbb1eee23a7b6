// Contacts between a convex polygon of a body and an edge of the ground, as Box2D 2.3 finds and
// solves them.
//
// A manifold is up to two points where the polygon lies on the edge, each with an identity (which
// features meet there) by which its impulses are found again in the next step. Velocities: friction
// of each point, then both normals together as a 2x2 linear complementarity problem. The ground
// does not move, so only the polygon's body appears. Edges are separate: a polygon that slides from
// one to the next may catch on their common vertex, as it does in Box2D.
//
// Shape: kVertices, kRadius (of a circle about the centre of mass around it), vertex(i), normal(i)
// (of the side from vertex i to i + 1), centroid(), counter-clockwise in the body's frame.
#pragma once

#include "sims/rigid_body.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <class Real>
struct Edge {
  Vec2<Real> from;
  Vec2<Real> to;
};

/// What outlives a step of one point: 0 or which features meet, and the last impulses.
template <class Real>
struct StoredPoint {
  Real id;
  Real normal_impulse;
  Real tangent_impulse;

  template <class F>
  PERILUNE_HD void fields(F&& f) {
    f(id), f(normal_impulse), f(tangent_impulse);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    f(id), f(normal_impulse), f(tangent_impulse);
  }
};

/// The points of one contact, the first ones first.
template <class Real>
struct StoredContact {
  StoredPoint<Real> points[2];

  PERILUNE_HD Mask<Real> touching() const { return points[0].id != Real(0.0f); }
  template <class F>
  PERILUNE_HD void fields(F&& f) {
    points[0].fields(f), points[1].fields(f);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    points[0].fields(f), points[1].fields(f);
  }
};

template <class Real>
PERILUNE_HD StoredContact<Real> select(Mask<Real> mask, const StoredContact<Real>& a, const StoredContact<Real>& b) {
  const auto pick = [mask](const StoredPoint<Real>& x, const StoredPoint<Real>& y) {
    return StoredPoint<Real>{select(mask, x.id, y.id), select(mask, x.normal_impulse, y.normal_impulse),
                             select(mask, x.tangent_impulse, y.tangent_impulse)};
  };
  return {{pick(a.points[0], b.points[0]), pick(a.points[1], b.points[1])}};
}

/// Where a polygon meets an edge. The reference face lies on the edge, or on the polygon
/// (`on_polygon`): then normal and plane are in the body's frame and the points in the world's, else
/// the other way round.
template <class Real>
struct Manifold {
  Mask<Real> touching;
  Mask<Real> two;
  Mask<Real> on_polygon;
  Vec2<Real> normal;
  Vec2<Real> plane;
  Vec2<Real> point[2];
  Real id[2];

  /// The point and the distance of both skins there, with the body at `frame`.
  struct PositionPoint {
    Vec2<Real> point;
    Vec2<Real> normal;
    Real separation;
  };
  PERILUNE_HD PositionPoint position_point(const Frame<Real>& frame, int i) const {
    const Vec2<Real> turned = rotate(frame.q, normal);
    const Vec2<Real> world_plane = frame.to_world(plane);
    const Vec2<Real> world_point = frame.to_world(point[i]);
    const Vec2<Real> n = select(on_polygon, turned, normal);
    const Vec2<Real> at = select(on_polygon, point[i], world_point);
    const Vec2<Real> on_plane = select(on_polygon, world_plane, plane);
    const Real separation = dot(at - on_plane, n) - Real(physics::kPolygonRadius) - Real(physics::kPolygonRadius);
    return {at, select(on_polygon, -n, n), separation};
  }

  /// Pushes the body out of the edge, by `baumgarte` of the way; returns the smallest separation it
  /// met, or 0.
  PERILUNE_HD Real solve_position(const MassData& mass, float baumgarte, Body<Real>& body) const {
    const Real zero(0.0f);
    Real least = zero;
    PERILUNE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const Mask<Real> present = i == 0 ? touching : two;
      if (i == 1 && !any(two)) break;
      const PositionPoint at = position_point(body.frame(mass), i);
      least = select(present, min(least, at.separation), least);
      const Real correction = clamp(Real(baumgarte) * (at.separation + Real(physics::kLinearSlop)),
                                    Real(-physics::kMaxLinearCorrection), zero);
      const Vec2<Real> arm = at.point - body.center;
      const Real rn = cross(arm, at.normal);
      const Real k = Real(mass.inverse_mass) + Real(mass.inverse_inertia) * rn * rn;
      const Real impulse = select(present, -correction / k, zero);
      body.apply_correction(mass, arm, impulse * at.normal);
    }
    return least;
  }
};

template <class Real>
PERILUNE_HD Manifold<Real> select(Mask<Real> mask, const Manifold<Real>& a, const Manifold<Real>& b) {
  const auto pick = [mask](Mask<Real> x, Mask<Real> y) { return (mask && x) || (!mask && y); };
  return {pick(a.touching, b.touching),
          pick(a.two, b.two),
          pick(a.on_polygon, b.on_polygon),
          select(mask, a.normal, b.normal),
          select(mask, a.plane, b.plane),
          {select(mask, a.point[0], b.point[0]), select(mask, a.point[1], b.point[1])},
          {select(mask, a.id[0], b.id[0]), select(mask, a.id[1], b.id[1])}};
}

namespace physics {

/// A point that clipping made, and the index of the vertex or face of the polygon that it is on.
template <class Real>
struct ClipPoint {
  Vec2<Real> v;
  Real polygon_index;
  Real clipped_by;  // -1, or which end of the reference face
};

/// Cuts the segment at a line; says where anything is left of it.
template <class Real>
PERILUNE_HD Mask<Real> clip(ClipPoint<Real> (&segment)[2], Vec2<Real> normal, Real offset, Real face_end) {
  const Real zero(0.0f);
  const Real d0 = dot(normal, segment[0].v) - offset;
  const Real d1 = dot(normal, segment[1].v) - offset;
  const Mask<Real> keep0 = d0 <= zero, keep1 = d1 <= zero;
  const Mask<Real> cut = d0 * d1 < zero;
  // Where nothing is cut there may be no crossing, and what is left of the segment is still to be finite: it meets
  // zeros.
  const Real t = select(cut, d0, zero) / select(cut, d0 - d1, Real(1.0f));
  const ClipPoint<Real> crossing = {segment[0].v + t * (segment[1].v - segment[0].v), segment[0].polygon_index,
                                    face_end};
  const auto pick = [](Mask<Real> mask, const ClipPoint<Real>& a, const ClipPoint<Real>& b) {
    return ClipPoint<Real>{select(mask, a.v, b.v), select(mask, a.polygon_index, b.polygon_index),
                           select(mask, a.clipped_by, b.clipped_by)};
  };
  const Mask<Real> both = keep0 && keep1;
  segment[0] = pick(keep0, segment[0], segment[1]);
  segment[1] = pick(both, segment[1], crossing);
  return both || cut;
}

}  // namespace physics

template <class Shape, class Real>
PERILUNE_HD Manifold<Real> collide(const Edge<Real>& edge, const Frame<Real>& frame) {
  constexpr int kVertices = Shape::kVertices;
  using physics::ClipPoint;
  const Real zero(0.0f), one(1.0f);
  const Real radius(2.0f * physics::kPolygonRadius);

  // The edge's normal towards the polygon, and its vertices as that side sees them.
  const Vec2<Real> face = right_normal(normalized(edge.to - edge.from));
  const Mask<Real> front = dot(face, frame.to_world(vec2<Real>(Shape::centroid())) - edge.from) >= zero;
  const Vec2<Real> normal = select(front, face, -face);
  const Vec2<Real> face_from = select(front, edge.from, edge.to);
  const Vec2<Real> face_to = select(front, edge.to, edge.from);

  Vec2<Real> vertices[kVertices], normals[kVertices];
  PERILUNE_UNROLL
  for (int i = 0; i < kVertices; ++i) {
    vertices[i] = frame.to_world(vec2<Real>(Shape::vertex(i)));
    normals[i] = rotate(frame.q, vec2<Real>(Shape::normal(i)));
  }
  // Separation along the edge's normal, and along each of the polygon's; and the polygon's side
  // that faces the edge most, which is the one cut if the edge is the reference.
  Real edge_separation(3.4e38f), polygon_separation(-3.4e38f);
  Real best_side(0.0f), facing_side(0.0f), facing(3.4e38f);
  Vec2<Real> side_from = vertices[0], side_to = vertices[0], side_normal = normals[0];
  Vec2<Real> local_normal = {zero, zero}, local_from = {zero, zero};
  Vec2<Real> facing_from = vertices[0], facing_to = vertices[0];
  Real facing_next = zero, side_next = zero;
  PERILUNE_UNROLL
  for (int i = 0; i < kVertices; ++i) {
    const int next = i + 1 < kVertices ? i + 1 : 0;
    edge_separation = min(edge_separation, dot(normal, vertices[i] - edge.from));
    const Vec2<Real> n = -normals[i];
    const Real s = min(dot(n, vertices[i] - edge.from), dot(n, vertices[i] - edge.to));
    const Mask<Real> further = s > polygon_separation;
    polygon_separation = select(further, s, polygon_separation);
    best_side = select(further, Real(static_cast<float>(i)), best_side);
    side_next = select(further, Real(static_cast<float>(next)), side_next);
    side_from = select(further, vertices[i], side_from);
    side_to = select(further, vertices[next], side_to);
    side_normal = select(further, normals[i], side_normal);
    local_normal = select(further, vec2<Real>(Shape::normal(i)), local_normal);
    local_from = select(further, vec2<Real>(Shape::vertex(i)), local_from);
    const Real value = dot(normal, normals[i]);
    const Mask<Real> more = value < facing;
    facing = select(more, value, facing);
    facing_side = select(more, Real(static_cast<float>(i)), facing_side);
    facing_next = select(more, Real(static_cast<float>(next)), facing_next);
    facing_from = select(more, vertices[i], facing_from);
    facing_to = select(more, vertices[next], facing_to);
  }

  Manifold<Real> manifold;
  // The edge is preferred, so that the choice does not flicker.
  manifold.on_polygon = polygon_separation > Real(0.98f) * edge_separation + Real(0.001f);
  const Mask<Real> on_polygon = manifold.on_polygon;
  const Real none(-1.0f);
  ClipPoint<Real> segment[2] = {
      {select(on_polygon, edge.from, facing_from), select(on_polygon, best_side, facing_side), none},
      {select(on_polygon, edge.to, facing_to), select(on_polygon, best_side, facing_next), none}};
  const Vec2<Real> reference_from = select(on_polygon, side_from, face_from);
  const Vec2<Real> reference_to = select(on_polygon, side_to, face_to);
  const Vec2<Real> reference_normal = select(on_polygon, side_normal, normal);
  const Real end1 = select(on_polygon, best_side, select(front, zero, one));
  const Real end2 = select(on_polygon, side_next, select(front, one, zero));
  const Vec2<Real> along = right_normal(reference_normal);
  const Mask<Real> left1 = physics::clip(segment, along, dot(along, reference_from), end1);
  const Mask<Real> left2 = physics::clip(segment, -along, -dot(along, reference_to), end2);

  Mask<Real> near[2];
  PERILUNE_UNROLL
  for (int i = 0; i < 2; ++i) {
    near[i] = dot(reference_normal, segment[i].v - reference_from) <= radius;
    manifold.point[i] = select(on_polygon, segment[i].v, frame.to_local(segment[i].v));
    // Which vertex or face of which shape meets which of the other, as one number above 0. Box2D
    // gives an unclipped edge end no index of its own.
    const Mask<Real> clipped = segment[i].clipped_by >= zero;
    const Real by = select(clipped, segment[i].clipped_by, zero);
    const Real on_face_id =
        select(clipped, Real(1.0f), Real(2.0f)) + Real(4.0f) * (by + Real(8.0f) * segment[i].polygon_index);
    const Real on_polygon_id = Real(2.0f) + Real(4.0f) * (segment[i].polygon_index + Real(8.0f) * by);
    manifold.id[i] = select(on_polygon, on_polygon_id, on_face_id);
  }
  const Mask<Real> meet = edge_separation <= radius && polygon_separation <= radius && left1 && left2;
  manifold.touching = meet && (near[0] || near[1]);
  manifold.two = meet && near[0] && near[1];
  manifold.point[0] = select(near[0], manifold.point[0], manifold.point[1]);
  manifold.id[0] = select(manifold.touching, select(near[0], manifold.id[0], manifold.id[1]), zero);
  manifold.id[1] = select(manifold.two, manifold.id[1], zero);
  manifold.normal = select(on_polygon, local_normal, reference_normal);
  manifold.plane = select(on_polygon, local_from, reference_from);
  return manifold;
}

/// The manifold's points with the impulses that the same points had before.
template <class Real>
PERILUNE_HD StoredContact<Real> inherit_impulses(const Manifold<Real>& manifold, const StoredContact<Real>& before) {
  const Real zero(0.0f);
  StoredContact<Real> now;
  PERILUNE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const Real id = manifold.id[i];
    const Mask<Real> known = id != zero;
    const Mask<Real> first = known && id == before.points[0].id;
    const Mask<Real> second = known && id == before.points[1].id;
    now.points[i] = {
        id, select(first, before.points[0].normal_impulse, select(second, before.points[1].normal_impulse, zero)),
        select(first, before.points[0].tangent_impulse, select(second, before.points[1].tangent_impulse, zero))};
  }
  return now;
}

/// One contact during one step.
template <class Real>
struct Contact {
  Vec2<Real> normal;
  Mask<Real> touching;
  Mask<Real> block;  // two points, well enough conditioned to be solved together
  Vec2<Real> r[2];
  Real normal_mass[2];
  Real tangent_mass[2];
  Real normal_impulse[2];
  Real tangent_impulse[2];
  Real k11, k12, k22;  // relative normal velocities for normal impulses
  Real m11, m12, m22;  // and the inverse
  Real friction;

  PERILUNE_HD void init_velocity(const MassData& mass, const Body<Real>& body, Real friction_of,
                                 const Manifold<Real>& manifold, const StoredContact<Real>& stored) {
    const Real zero(0.0f), one(1.0f);
    const Real m(mass.inverse_mass), inertia(mass.inverse_inertia);
    const Real skin(physics::kPolygonRadius);
    const Frame<Real> frame = body.frame(mass);
    friction = friction_of;
    touching = manifold.touching;
    const Mask<Real> present[2] = {manifold.touching, manifold.two};
    Real rn[2];
    PERILUNE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const auto at = manifold.position_point(frame, i);
      normal = at.normal;
      const Vec2<Real> n = select(manifold.on_polygon, -at.normal, at.normal);
      // Halfway between both skins.
      const Vec2<Real> plane = select(manifold.on_polygon, frame.to_world(manifold.plane), manifold.plane);
      const Vec2<Real> on_reference = at.point + (skin - dot(at.point - plane, n)) * n;
      const Vec2<Real> on_other = at.point - skin * n;
      r[i] = Real(0.5f) * (on_reference + on_other) - body.center;
      rn[i] = cross(r[i], normal);
      const Real rt = cross(r[i], right_normal(normal));
      normal_mass[i] = select(present[i], one / (m + inertia * rn[i] * rn[i]), zero);
      tangent_mass[i] = select(present[i], one / (m + inertia * rt * rt), zero);
      normal_impulse[i] = select(present[i], stored.points[i].normal_impulse, zero);
      tangent_impulse[i] = select(present[i], stored.points[i].tangent_impulse, zero);
    }
    k11 = m + inertia * rn[0] * rn[0];
    k22 = m + inertia * rn[1] * rn[1];
    k12 = m + inertia * rn[0] * rn[1];
    const Real determinant = k11 * k22 - k12 * k12;
    block = present[1] && k11 * k11 < Real(1000.0f) * determinant;
    const Real inverse = one / determinant;
    m11 = inverse * k22;
    m12 = -inverse * k12;
    m22 = inverse * k11;
    // Nearly the same point twice: the second one is left out.
    normal_mass[1] = select(block, normal_mass[1], zero);
    tangent_mass[1] = select(block, tangent_mass[1], zero);
    normal_impulse[1] = select(block, normal_impulse[1], zero);
    tangent_impulse[1] = select(block, tangent_impulse[1], zero);
  }

  PERILUNE_HD void warm_start(const MassData& mass, Body<Real>& body) const {
    PERILUNE_UNROLL
    for (int i = 0; i < 2; ++i) {
      body.apply_impulse(mass, r[i], normal_impulse[i] * normal + tangent_impulse[i] * right_normal(normal));
    }
  }

  /// Says where an impulse changed. `kRelax`: goes further than to the solution.
  template <bool kRelax = false>
  PERILUNE_HD Mask<Real> solve_velocity(const MassData& mass, Body<Real>& body) {
    // Where there is one point, the second one's impulses stay 0: what they add may be left out.
    return any(block) ? solve_points<2, kRelax>(mass, body) : solve_points<1, kRelax>(mass, body);
  }

  /// What the next step begins with.
  PERILUNE_HD void store_impulses(StoredContact<Real>& stored) const {
    PERILUNE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const Mask<Real> solved = i == 0 ? touching : block;
      StoredPoint<Real>& to = stored.points[i];
      to.normal_impulse = select(solved, normal_impulse[i], to.normal_impulse);
      to.tangent_impulse = select(solved, tangent_impulse[i], to.tangent_impulse);
    }
  }

 private:
  template <int kPoints, bool kRelax>
  PERILUNE_HD Mask<Real> solve_points(const MassData& mass, Body<Real>& body) {
    const Real zero(0.0f), further(physics::kOverRelaxation);
    Mask<Real> changed(false);
    const Vec2<Real> tangent = right_normal(normal);
    PERILUNE_UNROLL
    for (int i = 0; i < kPoints; ++i) {
      const Real limit = friction * normal_impulse[i];
      const Real impulse =
          clamp(tangent_impulse[i] - tangent_mass[i] * dot(body.velocity_at(r[i]), tangent), -limit, limit);
      body.apply_impulse(mass, r[i], (impulse - tangent_impulse[i]) * tangent);
      changed = changed || impulse != tangent_impulse[i];
      tangent_impulse[i] = impulse;
    }
    const Real v1 = dot(body.velocity_at(r[0]), normal);
    const Real a1 = normal_impulse[0];
    const Real alone = max(a1 - normal_mass[0] * v1, zero);
    if constexpr (kPoints == 1) {
      normal_impulse[0] = kRelax ? max(a1 + further * (alone - a1), zero) : alone;
      body.apply_impulse(mass, r[0], (normal_impulse[0] - a1) * normal);
      return changed || normal_impulse[0] != a1;
    }
    const Real a2 = normal_impulse[1];
    const Real v2 = dot(body.velocity_at(r[1]), normal);
    // Velocities without the impulses given so far; then whichever of the four combinations of
    // "pushes" and "parts" is consistent, the first one found. If rounding leaves none, no change.
    const Real b1 = v1 - (k11 * a1 + k12 * a2);
    const Real b2 = v2 - (k12 * a1 + k22 * a2);
    const Real both1 = -(m11 * b1 + m12 * b2), both2 = -(m12 * b1 + m22 * b2);
    const Real only1 = -(normal_mass[0] * b1), only2 = -(normal_mass[1] * b2);
    const Mask<Real> both = both1 >= zero && both2 >= zero;
    const Mask<Real> first = only1 >= zero && k12 * only1 + b2 >= zero;
    const Mask<Real> second = only2 >= zero && k12 * only2 + b1 >= zero;
    const Mask<Real> none = b1 >= zero && b2 >= zero;
    const Real x1 = select(both, both1, select(first, only1, select(second || none, zero, a1)));
    const Real x2 = select(both, both2, select(first, zero, select(second, only2, select(none, zero, a2))));
    normal_impulse[0] = select(block, x1, alone);
    normal_impulse[1] = select(block, x2, a2);
    if constexpr (kRelax) {
      normal_impulse[0] = max(a1 + further * (normal_impulse[0] - a1), zero);
      normal_impulse[1] = max(a2 + further * (normal_impulse[1] - a2), zero);
    }
    const Vec2<Real> p1 = (normal_impulse[0] - a1) * normal;
    const Vec2<Real> p2 = (normal_impulse[1] - a2) * normal;
    body.velocity = body.velocity + Real(mass.inverse_mass) * (p1 + p2);
    body.spin = body.spin + Real(mass.inverse_inertia) * (cross(r[0], p1) + cross(r[1], p2));
    return changed || normal_impulse[0] != a1 || normal_impulse[1] != a2;
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
