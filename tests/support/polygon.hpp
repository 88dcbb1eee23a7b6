// Mass properties of a polygon in double, for comparison with a simulator's constants.
#pragma once

namespace perilune::test {

/// Area, centroid and second moment about it, by triangles from the origin.
struct Moments {
  double area = 0, x = 0, y = 0, inertia = 0;
};
template <class Shape>
Moments moments() {
  Moments m;
  for (int i = 0; i < Shape::kVertices; ++i) {
    const auto a = Shape::vertex(i), b = Shape::vertex((i + 1) % Shape::kVertices);
    const double ax = a.x, ay = a.y, bx = b.x, by = b.y;
    const double twice = ax * by - ay * bx;
    m.area += twice / 2;
    m.x += twice * (ax + bx) / 6;
    m.y += twice * (ay + by) / 6;
    m.inertia += twice * (ax * ax + ax * bx + bx * bx + ay * ay + ay * by + by * by) / 12;
  }
  m.x /= m.area, m.y /= m.area;
  m.inertia -= m.area * (m.x * m.x + m.y * m.y);
  return m;
}

}  // namespace perilune::test
