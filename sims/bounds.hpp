// Box2D 2.3's broad phase for one body: a box around its shape, with room to move in. A contact
// comes into being when two such boxes first meet; of a body's contacts the newest is solved first,
// which is all that this is needed for here.
#pragma once

#include "sims/rigid_body.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A box along the axes.
template <class Real>
struct Bounds {
  Vec2<Real> lower;
  Vec2<Real> upper;

  PERILUNE_HD Bounds grown(Real by) const { return {{lower.x - by, lower.y - by}, {upper.x + by, upper.y + by}}; }
  PERILUNE_HD Bounds with(Vec2<Real> point) const {
    return {{min(lower.x, point.x), min(lower.y, point.y)}, {max(upper.x, point.x), max(upper.y, point.y)}};
  }
  PERILUNE_HD Mask<Real> contains(const Bounds& other) const {
    return lower.x <= other.lower.x && lower.y <= other.lower.y && other.upper.x <= upper.x && other.upper.y <= upper.y;
  }
  PERILUNE_HD Mask<Real> overlaps(const Bounds& other) const {
    return lower.x <= other.upper.x && lower.y <= other.upper.y && other.lower.x <= upper.x && other.lower.y <= upper.y;
  }

  template <class F>
  PERILUNE_HD void fields(F&& f) {
    f(lower.x), f(lower.y), f(upper.x), f(upper.y);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    f(lower.x), f(lower.y), f(upper.x), f(upper.y);
  }
};

template <class Real>
PERILUNE_HD Bounds<Real> select(Mask<Real> mask, const Bounds<Real>& a, const Bounds<Real>& b) {
  return {select(mask, a.lower, b.lower), select(mask, a.upper, b.upper)};
}

namespace physics {
inline constexpr float kBoundsExtension = 0.1f;
inline constexpr float kBoundsLookahead = 2.0f;  // times a step's displacement
}  // namespace physics

/// Around the shape at both poses, with its skin.
template <class Shape, class Real>
PERILUNE_HD Bounds<Real> swept_bounds(const Frame<Real>& from, const Frame<Real>& to) {
  const Vec2<Real> first = from.to_world(vec2<Real>(Shape::vertex(0)));
  Bounds<Real> bounds = {first, first};
  PERILUNE_UNROLL
  for (int i = 0; i < Shape::kVertices; ++i) {
    const Vec2<Real> vertex = vec2<Real>(Shape::vertex(i));
    bounds = bounds.with(from.to_world(vertex)).with(to.to_world(vertex));
  }
  return bounds.grown(Real(physics::kPolygonRadius));
}

/// The room to move in after a move from one pose to another: `room` as it is while the shape stays
/// in it, else a new one, longer in the direction of the move.
template <class Shape, class Real>
PERILUNE_HD Bounds<Real> follow(const Bounds<Real>& room, const Frame<Real>& from, const Frame<Real>& to) {
  const Real zero(0.0f);
  const Bounds<Real> tight = swept_bounds<Shape>(from, to);
  Bounds<Real> fresh = tight.grown(Real(physics::kBoundsExtension));
  const Vec2<Real> ahead = Real(physics::kBoundsLookahead) * (to.origin - from.origin);
  fresh.lower = fresh.lower + Vec2<Real>{min(ahead.x, zero), min(ahead.y, zero)};
  fresh.upper = fresh.upper + Vec2<Real>{max(ahead.x, zero), max(ahead.y, zero)};
  return select(room.contains(tight), room, fresh);
}

}  // namespace perilune::inline PERILUNE_LEVEL
