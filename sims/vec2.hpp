// Vectors and rotations of the plane over the number type, as rigid-body simulators use them.
#pragma once

#include "sims/math.hpp"
#include "sims/portable.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <class Real>
struct Vec2 {
  Real x;
  Real y;

  friend PERILUNE_HD Vec2 operator+(Vec2 a, Vec2 b) { return {a.x + b.x, a.y + b.y}; }
  friend PERILUNE_HD Vec2 operator-(Vec2 a, Vec2 b) { return {a.x - b.x, a.y - b.y}; }
  friend PERILUNE_HD Vec2 operator*(Real s, Vec2 v) { return {s * v.x, s * v.y}; }
  PERILUNE_HD Vec2 operator-() const { return {-x, -y}; }
};

template <class Real>
PERILUNE_HD Real dot(Vec2<Real> a, Vec2<Real> b) {
  return a.x * b.x + a.y * b.y;
}
template <class Real>
PERILUNE_HD Real cross(Vec2<Real> a, Vec2<Real> b) {
  return a.x * b.y - a.y * b.x;
}
/// v turned a quarter clockwise: the outward side of an edge of a counter-clockwise polygon.
template <class Real>
PERILUNE_HD Vec2<Real> right_normal(Vec2<Real> v) {
  return {v.y, -v.x};
}
template <class Real>
PERILUNE_HD Real length(Vec2<Real> v) {
  return sqrt(dot(v, v));
}
/// A vector of length 1; `v` must not be zero.
template <class Real>
PERILUNE_HD Vec2<Real> normalized(Vec2<Real> v) {
  return (Real(1.0f) / length(v)) * v;
}
template <class Real>
PERILUNE_HD Vec2<Real> select(Mask<Real> mask, Vec2<Real> a, Vec2<Real> b) {
  return {select(mask, a.x, b.x), select(mask, a.y, b.y)};
}
/// A constant vector at the number type.
template <class Real>
PERILUNE_HD Vec2<Real> vec2(Vec2<float> v) {
  return {Real(v.x), Real(v.y)};
}

template <class Real>
struct Rotation {
  Real sin;
  Real cos;
};

template <class Real>
PERILUNE_HD Rotation<Real> rotation(Real angle) {
  const math::SinCos<Real> both = math::sincos(angle);
  return {both.sin, both.cos};
}
template <class Real>
PERILUNE_HD Vec2<Real> rotate(Rotation<Real> q, Vec2<Real> v) {
  return {q.cos * v.x - q.sin * v.y, q.sin * v.x + q.cos * v.y};
}
/// The inverse of rotate().
template <class Real>
PERILUNE_HD Vec2<Real> unrotate(Rotation<Real> q, Vec2<Real> v) {
  return {q.cos * v.x + q.sin * v.y, q.cos * v.y - q.sin * v.x};
}

/// Position and orientation of a frame: takes its points to the world's.
template <class Real>
struct Frame {
  Vec2<Real> origin;
  Rotation<Real> q;

  PERILUNE_HD Vec2<Real> to_world(Vec2<Real> v) const { return rotate(q, v) + origin; }
  PERILUNE_HD Vec2<Real> to_local(Vec2<Real> v) const { return unrotate(q, v - origin); }
};

}  // namespace perilune::inline PERILUNE_LEVEL
