// The parts of the rigid-body solver against references in double that share no code with them.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "sims/bounds.hpp"
#include "sims/lunar_world.hpp"
#include "sims/time_of_impact.hpp"

namespace perilune {
namespace {

using lunar::hull_mass;
using lunar::leg_mass;
using lunar::LegShape;

struct Point {
  double x, y;
};
Point operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y}; }
Point operator-(Point a, Point b) { return {a.x - b.x, a.y - b.y}; }
Point operator*(double s, Point a) { return {s * a.x, s * a.y}; }
double dot(Point a, Point b) { return a.x * b.x + a.y * b.y; }
double cross(Point a, Point b) { return a.x * b.y - a.y * b.x; }
Point turned(double angle, Point a) {
  return {std::cos(angle) * a.x - std::sin(angle) * a.y, std::sin(angle) * a.x + std::cos(angle) * a.y};
}
Point point(Vec2<float> v) { return {v.x, v.y}; }

template <class Shape>
std::vector<Point> corners(Point origin, double angle) {
  std::vector<Point> result;
  for (int i = 0; i < Shape::kVertices; ++i) {
    result.push_back(origin + turned(angle, point(Shape::vertex(i))));
  }
  return result;
}

double distance_to_segment(Point p, Point a, Point b) {
  const double t = std::clamp(dot(p - a, b - a) / dot(b - a, b - a), 0.0, 1.0);
  const Point d = p - a - t * (b - a);
  return std::sqrt(dot(d, d));
}

/// Of a convex polygon and a segment; 0 where they overlap.
double distance(const std::vector<Point>& polygon, Point a, Point b) {
  double least = 1e9;
  bool a_inside = true, crosses = false;
  for (std::size_t i = 0; i < polygon.size(); ++i) {
    const Point p = polygon[i], q = polygon[(i + 1) % polygon.size()];
    least = std::min({least, distance_to_segment(p, a, b), distance_to_segment(a, p, q), distance_to_segment(b, p, q)});
    a_inside = a_inside && cross(q - p, a - p) > 0;
    crosses =
        crosses || (cross(b - a, p - a) * cross(b - a, q - a) < 0 && cross(q - p, a - p) * cross(q - p, b - p) < 0);
  }
  return a_inside || crosses ? 0 : least;
}

Edge<float> edge(Point a, Point b) {
  return {{static_cast<float>(a.x), static_cast<float>(a.y)}, {static_cast<float>(b.x), static_cast<float>(b.y)}};
}

class RigidBody : public ::testing::Test {
 protected:
  double draw(double low, double high) { return std::uniform_real_distribution<double>(low, high)(generator_); }
  float drawf(double low, double high) { return static_cast<float>(draw(low, high)); }
  Body<float> body(double x, double y, double angle, double speed, double spin) {
    return {{static_cast<float>(x), static_cast<float>(y)},
            static_cast<float>(angle),
            {drawf(-speed, speed), drawf(-speed, speed)},
            drawf(-spin, spin)};
  }
  std::mt19937 generator_{20};
};

TEST_F(RigidBody, BoxOnAnEdgeTouchesWithTwoCorners) {
  const Edge<float> ground = edge({0, 1}, {2, 1});
  const Body<float> box = {{1.0f, 1.0f + 8 / 30.0f + 0.015f}, 0.0f, {0, 0}, 0};
  const auto manifold = collide<LegShape>(ground, box.frame(leg_mass()));
  ASSERT_TRUE(manifold.touching && manifold.two);
  EXPECT_FALSE(manifold.on_polygon);
  EXPECT_NEAR(manifold.normal.y, 1.0f, 1e-6f);
  EXPECT_NE(manifold.id[0], manifold.id[1]);
  for (const auto& p : manifold.point) {
    EXPECT_NEAR(std::abs(p.x), 2 / 30.0f, 1e-6f);
    EXPECT_NEAR(p.y, -8 / 30.0f, 1e-6f);
  }
  // Skins of .01 on both sides: .02 is the last that touches.
  for (const float gap : {0.0199f, 0.0201f, 0.5f}) {
    const Body<float> higher = {{1.0f, 1.0f + 8 / 30.0f + gap}, 0.0f, {0, 0}, 0};
    EXPECT_EQ(collide<LegShape>(ground, higher.frame(leg_mass())).touching, gap < 0.02f) << gap;
  }
}

TEST_F(RigidBody, PointsAreClippedAtTheEdgesEnd) {
  const Edge<float> ground = edge({0, 1}, {2, 1});
  const Body<float> box = {{2.0f, 1.0f + 8 / 30.0f + 0.015f}, 0.0f, {0, 0}, 0};  // half beyond it
  const auto manifold = collide<LegShape>(ground, box.frame(leg_mass()));
  ASSERT_TRUE(manifold.two);
  const float left = std::min(manifold.point[0].x, manifold.point[1].x);
  const float right = std::max(manifold.point[0].x, manifold.point[1].x);
  EXPECT_NEAR(left, -2 / 30.0f, 1e-6f);
  EXPECT_NEAR(right, 0.0f, 1e-6f);
}

TEST_F(RigidBody, TouchesWhereThePolygonsAreNear) {
  // Box2D's separations along face normals are no more than the distance, so that nothing further
  // than both skins touches; and where a face is the nearest, everything nearer does.
  int touching = 0;
  for (int i = 0; i < 20000; ++i) {
    const Point a{0, draw(-1, 1)}, b{2, draw(-1, 1)};
    const double x = draw(0.4, 1.6), middle = a.y + (b.y - a.y) * x / 2;
    const Body<float> box = body(x, middle + draw(0.0, 0.5), draw(-3, 3), 0, 0);
    const double gap = distance(corners<LegShape>(point(box.center), box.angle), a, b);
    const auto manifold = collide<LegShape>(edge(a, b), box.frame(leg_mass()));
    if (std::fabs(gap - 0.02) > 1e-5) {
      EXPECT_EQ(manifold.touching, gap < 0.02) << i << ": gap " << gap;
    }
    touching += manifold.touching;
  }
  EXPECT_GT(touching, 1000);
}

TEST_F(RigidBody, NormalImpulsesSolveTheComplementarityProblem) {
  // Two points without friction, from rest impulses. Among the four combinations of "pushes" and
  // "parts" the consistent one is found by trying, in double.
  int combinations[4] = {};
  for (int i = 0; i < 5000; ++i) {
    Body<float> box = body(1, 8 / 30.0 + draw(0.012, 0.018), draw(-0.01, 0.01), 1, 20);
    const auto manifold = collide<LegShape>(edge({0, 0}, {2, 0}), box.frame(leg_mass()));
    ASSERT_TRUE(manifold.two);
    double arm[2];  // the moment of a unit push: r x n with n upwards
    for (int k = 0; k < 2; ++k) {
      arm[k] = turned(box.angle, point(manifold.point[k])).x;
    }
    const double m = leg_mass().inverse_mass, inertia = leg_mass().inverse_inertia;
    const double before[2] = {box.velocity.y + box.spin * arm[0], box.velocity.y + box.spin * arm[1]};
    const auto a = [&](int j, int k) { return m + inertia * arm[j] * arm[k]; };
    double expected[2] = {-1, -1};
    for (int combination = 0; combination < 4; ++combination) {
      double x[2] = {0, 0};
      if (combination == 3) {
        const double determinant = a(0, 0) * a(1, 1) - a(0, 1) * a(0, 1);
        x[0] = (-before[0] * a(1, 1) + before[1] * a(0, 1)) / determinant;
        x[1] = (-before[1] * a(0, 0) + before[0] * a(0, 1)) / determinant;
      } else if (combination > 0) {
        x[combination - 1] = -before[combination - 1] / a(combination - 1, combination - 1);
      }
      const double v0 = before[0] + a(0, 0) * x[0] + a(0, 1) * x[1];
      const double v1 = before[1] + a(0, 1) * x[0] + a(1, 1) * x[1];
      if (std::min({x[0], x[1], v0, v1}) > -1e-9) {
        expected[0] = x[0], expected[1] = x[1];
        ++combinations[combination];
        break;
      }
    }
    Contact<float> contact;
    contact.init_velocity(leg_mass(), box, 0.0f, manifold, StoredContact<float>{});
    ASSERT_TRUE(contact.block);
    contact.solve_velocity(leg_mass(), box);
    for (int k = 0; k < 2; ++k) {
      // Impulses are up to 1; float's condition is that of the two points, about 100.
      EXPECT_NEAR(contact.normal_impulse[k], expected[k], 2e-5) << i << " point " << k;
      EXPECT_GT(box.velocity.y + box.spin * static_cast<float>(arm[k]), -1e-4) << i;
    }
  }
  for (const int count : combinations) EXPECT_GT(count, 100);
}

TEST_F(RigidBody, FrictionIsBoundedByTheNormalImpulse) {
  for (int i = 0; i < 1000; ++i) {
    Body<float> box = body(1, 8 / 30.0 + 0.015, 0, 2, 5);
    const auto manifold = collide<LegShape>(edge({0, 0}, {2, 0}), box.frame(leg_mass()));
    Contact<float> contact;
    contact.init_velocity(leg_mass(), box, 0.3f, manifold, StoredContact<float>{});
    for (int iteration = 0; iteration < 50; ++iteration) {
      contact.solve_velocity(leg_mass(), box);
      for (int k = 0; k < 2; ++k) {
        ASSERT_GE(contact.normal_impulse[k], 0.0f);
        // Bounded by the normal impulse of the iteration before: it converges, here to 1e-3.
        if (iteration == 49) {
          EXPECT_LE(std::abs(contact.tangent_impulse[k]), 0.3f * contact.normal_impulse[k] + 1e-3f);
        }
      }
    }
  }
}

/// Solves the n x n system by elimination with pivoting.
template <std::size_t n>
std::array<double, n> solve(std::array<std::array<double, n>, n> a, std::array<double, n> b) {
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k; i < n; ++i) {
      if (std::fabs(a[i][k]) > std::fabs(a[pivot][k])) pivot = i;
    }
    std::swap(a[k], a[pivot]), std::swap(b[k], b[pivot]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const double factor = a[i][k] / a[k][k];
      for (std::size_t j = k; j < n; ++j) a[i][j] -= factor * a[k][j];
      b[i] -= factor * b[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) b[k] -= a[k][j] * b[j];
    b[k] /= a[k][k];
  }
  return b;
}

TEST_F(RigidBody, JointsConserveMomentum) {
  for (int i = 0; i < 500; ++i) {
    Body<float> a = body(10, 10, draw(-1, 1), 3, 3), b = body(10.8, 9.6, draw(-1, 1), 3, 30);
    const auto momentum = [&] {
      const double ma = 1 / hull_mass().inverse_mass, mb = 1 / leg_mass().inverse_mass;
      const Point pa = ma * point(a.velocity), pb = mb * point(b.velocity);
      // About the joint as the hull sees it: what acts there has no moment about it on the hull.
      return std::array<double, 2>{pa.x + pb.x, pa.y + pb.y};
    };
    const auto before = momentum();
    RevoluteJoint<float> joint;
    const RevoluteMotor<float> motor = {0.3f, 0.8f};
    joint.init_velocity(lunar::Model::joint(0), hull_mass(), leg_mass(), motor, RevoluteImpulses<float>{}, a, b);
    for (int iteration = 0; iteration < 20; ++iteration) {
      joint.solve_velocity(hull_mass(), leg_mass(), motor, a, b);
    }
    const auto after = momentum();
    EXPECT_NEAR(after[0], before[0], 1e-4) << i;
    EXPECT_NEAR(after[1], before[1], 1e-4) << i;
  }
}

TEST_F(RigidBody, JointBlockSolvesPointLimitAndMotorAtOnce) {
  // One solution from rest: the anchors move together, and the joint turns at the motor's speed, or its motor gives all
  // it has, or the limit bears the rest.
  int driven = 0, saturated = 0, limited = 0;
  for (int i = 0; i < 2000; ++i) {
    const RevoluteJointDef def = lunar::Model::joint(0);
    const float angle = drawf(-1, 1);
    // b's angle so that the joint is at its upper limit, beyond its lower one, or between them.
    const float at = i % 3 == 0 ? def.upper_angle + 0.01f : i % 3 == 1 ? def.lower_angle - 0.01f : -0.6f;
    Body<float> a = body(10, 10, angle, 3, 3), b = body(10.8, 9.6, angle + def.reference_angle + at, 3, 30);
    const RevoluteMotor<float> motor = {0.3f, i % 2 == 0 ? 0.8f : 0.02f};
    RevoluteBlock<float> block;
    block.init_velocity(def, hull_mass(), leg_mass(), motor, RevoluteImpulses<float>{}, a, b);
    const auto& k = block.joint;
    const float before = length(b.velocity_at(k.rb) - a.velocity_at(k.ra)) + std::abs(b.spin - a.spin);
    block.template solve_velocity<false>(hull_mass(), leg_mass(), motor, a, b);
    const auto given = block.impulses();
    const Vec2<float> ra = k.ra, rb = k.rb;
    const Vec2<float> apart = b.velocity_at(rb) - a.velocity_at(ra);
    // Ten roundings of what cancels: the impulse's two components turn the light leg by hundreds of rad/s against each
    // other, and the determinant of the point's matrix is a difference, which its condition number tells.
    const float turned = leg_mass().inverse_inertia *
                         (std::abs(rb.x * given.point.y) + std::abs(rb.y * given.point.x) + std::abs(given.motor));
    const float condition = (k.k11 + k.k22) * (k.k11 + k.k22) * k.inverse_determinant2;
    const float rounding = 10 * 0x1p-24f * (turned * length(rb) + condition * before);
    EXPECT_LE(length(apart), rounding) << i;
    const float turning = b.spin - a.spin, tolerance = 10 * 0x1p-24f * (turned + condition * before);
    const bool follows = std::abs(turning - motor.speed) <= tolerance;
    const bool gives_all = (given.motor == motor.max_impulse && turning <= motor.speed + tolerance) ||
                           (given.motor == -motor.max_impulse && turning >= motor.speed - tolerance);
    const bool held = std::abs(turning) <= tolerance && (k.at_lower || k.at_upper);
    EXPECT_TRUE(follows || gives_all || held) << i << ": " << turning << " with " << given.motor;
    EXPECT_TRUE(!k.at_lower || turning >= -tolerance) << i;
    EXPECT_TRUE(!k.at_upper || turning <= tolerance) << i;
    driven += follows, saturated += gives_all && !follows && !held, limited += held && !follows;
  }
  EXPECT_GT(std::min({driven, saturated, limited}), 100);
}

TEST_F(RigidBody, JointsDoNotDrift) {
  // Free flight with either solver: the anchors stay together within the slop that the position
  // solver leaves, and legs within their limits and theirs.
  for (const bool fast : {false, true}) {
    lunar::World<float> world{};
    world.place();
    for (int t = 0; t < 400; ++t) {
      const float push = 60 * std::sin(0.1f * static_cast<float>(t));
      lunar::World<float>::step(world, fast, -0.01f, {push, -push}, 0.3f * push);
      if (t < 30) continue;  // legs close from where they were made
      const auto hull = world.bodies[0].frame(hull_mass());
      for (int leg = 0; leg < 2; ++leg) {
        const auto& body = world.bodies[1 + leg];
        const float side = leg == 0 ? -1.0f : 1.0f;
        const auto anchor = body.frame(leg_mass()).to_world({side * 20 / 30.0f, 18 / 30.0f});
        EXPECT_NEAR(anchor.x, hull.origin.x, 0.006f) << "fast " << fast << " step " << t;
        EXPECT_NEAR(anchor.y, hull.origin.y, 0.006f) << "fast " << fast << " step " << t;
        const float angle = -side * (body.angle - world.bodies[0].angle) + 0.05f;
        EXPECT_GT(angle, 0.4f - 0.037f) << "fast " << fast << " step " << t;
        EXPECT_LT(angle, 0.45f) << "fast " << fast << " step " << t;
      }
    }
  }
}

TEST_F(RigidBody, FallingBoxHitsWhenExpected) {
  const Edge<float> ground = edge({0, 0}, {2, 0});
  for (const double gap : {0.01, 0.1, 0.5}) {
    for (const double fall : {0.6, 1.0, 3.0}) {
      const auto y = static_cast<float>(8 / 30.0 + gap);
      const Sweep<float> sweep = {{1, y}, 0, {1, y - static_cast<float>(fall)}, 0, 0};
      const float time = time_of_impact<LegShape>(ground, leg_mass(), sweep, true);
      EXPECT_NEAR(time * fall, gap - 0.005, 0.00125 + 1e-5) << gap << " " << fall;
    }
  }
  const Sweep<float> misses = {{3, 1}, 0, {3, -1}, 0, 0};
  EXPECT_EQ(time_of_impact<LegShape>(ground, leg_mass(), misses, true), 1.0f);
  const Sweep<float> rises = {{1, 0.3f}, 0, {1, 1}, 0, 0};
  EXPECT_EQ(time_of_impact<LegShape>(ground, leg_mass(), rises, true), 1.0f);
  const Sweep<float> inside = {{1, 0.1f}, 0, {1, -1}, 0, 0};
  EXPECT_EQ(time_of_impact<LegShape>(ground, leg_mass(), inside, true), 1.0f);
}

TEST_F(RigidBody, TimeOfImpactIsTheFirstTimeAtTheTargetDistance) {
  int hits = 0;
  for (int i = 0; i < 3000; ++i) {
    const Point a{0, draw(-1, 1)}, b{2, draw(-1, 1)};
    const double x = draw(0, 2), ground = a.y + (b.y - a.y) * x / 2;
    const Sweep<float> sweep = {{static_cast<float>(x), static_cast<float>(ground + draw(0.3, 0.8))},
                                drawf(-6, 6),
                                {drawf(0, 2), static_cast<float>(ground + draw(-0.8, 0.8))},
                                drawf(-6, 6),
                                0};
    Sweep<float> narrow = sweep;  // little turning: Box2D looks for touches at both ends of an arc
    narrow.to_angle = narrow.from_angle + 0.02f * (sweep.to_angle - sweep.from_angle);
    const auto gap = [&](double t) {
      const Point c = (1 - t) * point(narrow.from_center) + t * point(narrow.to_center);
      return distance(corners<LegShape>(c, (1 - t) * narrow.from_angle + t * narrow.to_angle), a, b);
    };
    if (gap(0) < 0.01) continue;
    const double time = time_of_impact<LegShape>(edge(a, b), leg_mass(), narrow, true);
    const double end = time < 1 ? time : 1;
    for (double t = 0; t < end; t += 0.005) EXPECT_GT(gap(t), 0.003) << i << " at " << t;
    if (time == 1) continue;
    EXPECT_NEAR(gap(time), 0.005, 0.00125 + 1e-5) << i;
    ++hits;
  }
  EXPECT_GT(hits, 500);
}

TEST_F(RigidBody, RoomGrowsAheadWhenItIsLeft) {
  const auto at = [](float x, float y) { return Body<float>{{x, y}, 0, {0, 0}, 0}.frame(leg_mass()); };
  const auto tight = swept_bounds<LegShape>(at(1, 1), at(1, 1));
  EXPECT_NEAR(tight.lower.x, 1 - 2 / 30.0f - 0.01f, 1e-6f);
  EXPECT_NEAR(tight.upper.y, 1 + 8 / 30.0f + 0.01f, 1e-6f);
  const auto room = tight.grown(0.1f);
  const auto same = follow<LegShape>(room, at(1, 1), at(1.05f, 0.95f));
  EXPECT_EQ(same.lower.x, room.lower.x);
  const auto moved = follow<LegShape>(room, at(1, 1), at(1.2f, 1));
  EXPECT_NEAR(moved.lower.x, tight.lower.x - 0.1f, 1e-6f);
  EXPECT_NEAR(moved.upper.x, tight.upper.x + 0.2f + 0.1f + 2 * 0.2f, 1e-6f);
  EXPECT_TRUE(moved.overlaps(room));
  EXPECT_FALSE(moved.overlaps({{3, 0}, {4, 1}}));
}

}  // namespace
}  // namespace perilune
