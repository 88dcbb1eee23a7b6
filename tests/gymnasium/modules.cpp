// The modules of the solver one by one, for modules.py, which calls them beside the real Box2D's: a shared library of
// functions over rows of floats. Every function takes the arithmetic (0: Box2dFloat, whose sine is the C library's as
// Box2D's is; 1: float, as everything but replays computes), the number of rows, and the rows in and out, whose
// columns modules.py names in this order.
#include <initializer_list>

#include "sims/box2d_float.hpp"
#include "sims/continuous_collision.hpp"
#include "sims/island.hpp"
#include "sims/lunar_world.hpp"
#include "sims/walker_world.hpp"

namespace perilune::inline PERILUNE_LEVEL {
namespace {

/// Reads a row, column after column.
template <class Real>
struct Reader {
  const float* next;

  bool flag() { return *next++ != 0.0f; }
  int integer() { return static_cast<int>(*next++); }
  float number() { return *next++; }
  Real real() { return Real(*next++); }
  Vec2<float> pair() {
    const float x = number();
    return {x, number()};
  }
  Vec2<Real> vector() { return vec2<Real>(pair()); }
  MassData mass() {
    const float mass = number(), inertia = number();
    return {mass, inertia, pair()};
  }
  Edge<Real> edge() {
    const Vec2<Real> from = vector();
    return {from, vector()};
  }
  Body<Real> body() {
    Body<Real> body;
    body.fields([this](Real& x) { x = real(); });
    return body;
  }
  RevoluteJointDef joint() {
    RevoluteJointDef def;
    def.anchor_a = pair(), def.anchor_b = pair();
    def.reference_angle = number(), def.lower_angle = number(), def.upper_angle = number();
    return def;
  }
  Manifold<Real> manifold() {
    Manifold<Real> m;
    const int count = integer();
    m.touching = count > 0, m.two = count > 1, m.on_polygon = flag();
    m.normal = vector(), m.plane = vector();
    m.point[0] = vector(), m.point[1] = vector();
    m.id[0] = Real(m.touching ? 1.0f : 0.0f), m.id[1] = Real(m.two ? 2.0f : 0.0f);
    return m;
  }
};

template <class Real>
struct Writer {
  float* next;

  void operator()(Real x) {
    if constexpr (std::is_same_v<Real, float>) {
      *next++ = x;
    } else {
      *next++ = x.value;
    }
  }
  void operator()(Vec2<Real> v) { (*this)(v.x), (*this)(v.y); }
};

constexpr float kTimeStep = 0.02f;

/// Velocities of two bodies after some iterations over their joint, and where these take them.
struct JointVelocity {
  static constexpr int kColumnsIn = 34, kColumnsOut = 16;

  template <class Real>
  static void run(Reader<Real> in, Writer<Real> out) {
    const int iterations = in.integer();
    const MassData mass_a = in.mass(), mass_b = in.mass();
    const RevoluteJointDef def = in.joint();
    const RevoluteMotor<Real> motor = {in.real(), in.real()};
    RevoluteImpulses<Real> impulses;
    impulses.fields([&](Real& x) { x = in.real(); });
    Body<Real> a = in.body(), b = in.body();
    RevoluteJoint<Real> joint;
    joint.init_velocity(def, mass_a, mass_b, motor, impulses, a, b);
    for (int i = 0; i < iterations; ++i) joint.solve_velocity(mass_a, mass_b, motor, a, b);
    integrate_position(a, Real(kTimeStep));
    integrate_position(b, Real(kTimeStep));
    a.fields(out), b.fields(out);
    joint.impulses().fields(out);
  }
};

/// Where some iterations over a joint take two bodies that rest.
struct JointPosition {
  static constexpr int kColumnsIn = 28, kColumnsOut = 12;

  template <class Real>
  static void run(Reader<Real> in, Writer<Real> out) {
    const int iterations = in.integer();
    const MassData mass_a = in.mass(), mass_b = in.mass();
    const RevoluteJointDef def = in.joint();
    Body<Real> a = in.body(), b = in.body();
    RevoluteJoint<Real> joint;
    joint.init_velocity(def, mass_a, mass_b, {}, {}, a, b);
    bool solved = false;
    for (int i = 0; i < iterations && !solved; ++i) solved = joint.solve_position(def, mass_a, mass_b, a, b);
    a.fields(out), b.fields(out);
  }
};

/// Velocities after some iterations over a contact, and where these take the body.
struct ContactVelocity {
  static constexpr int kColumnsIn = 26, kColumnsOut = 10;

  template <class Real>
  static void run(Reader<Real> in, Writer<Real> out) {
    const int iterations = in.integer();
    const MassData mass = in.mass();
    const Real friction = in.real();
    const Manifold<Real> manifold = in.manifold();
    StoredContact<Real> stored;
    for (int i = 0; i < 2; ++i) stored.points[i] = {manifold.id[i], in.real(), in.real()};
    Body<Real> body = in.body();
    Contact<Real> contact;
    contact.init_velocity(mass, body, friction, manifold, stored);
    contact.warm_start(mass, body);
    for (int i = 0; i < iterations; ++i) contact.solve_velocity(mass, body);
    integrate_position(body, Real(kTimeStep));
    contact.store_impulses(stored);
    body.fields(out);
    for (const StoredPoint<Real>& point : stored.points) out(point.normal_impulse), out(point.tangent_impulse);
  }
};

/// Where some iterations over a contact take a body that rests.
struct ContactPosition {
  static constexpr int kColumnsIn = 21, kColumnsOut = 6;

  template <class Real>
  static void run(Reader<Real> in, Writer<Real> out) {
    const int iterations = in.integer();
    const MassData mass = in.mass();
    const Manifold<Real> manifold = in.manifold();
    Body<Real> body = in.body();
    bool apart = false;
    for (int i = 0; i < iterations && !apart; ++i) {
      apart = manifold.solve_position(mass, physics::kBaumgarte, body) >= Real(-3.0f * physics::kLinearSlop);
    }
    body.fields(out);
  }
};

/// Where a polygon at a frame meets an edge.
template <class Shape>
struct EdgeManifold {
  static constexpr int kColumnsIn = 7, kColumnsOut = 12;

  template <class Real>
  static void run(Reader<Real> in, Writer<Real> out) {
    const Edge<Real> edge = in.edge();
    const Vec2<Real> origin = in.vector();
    const Manifold<Real> manifold = collide<Shape>(edge, Frame<Real>{origin, rotation(in.real())});
    if (!manifold.touching) return;  // what it holds then means nothing; `out` is zeros
    out(Real(manifold.two ? 2.0f : 1.0f));
    out(Real(manifold.on_polygon ? 1.0f : 0.0f));
    out(manifold.normal), out(manifold.plane);
    out(manifold.point[0]), out(manifold.two ? manifold.point[1] : Vec2<Real>{Real(0.0f), Real(0.0f)});
    out(manifold.id[0]), out(manifold.id[1]);
  }
};

/// When a moving polygon comes to touch an edge.
template <class Shape>
struct Impact {
  static constexpr int kColumnsIn = 14, kColumnsOut = 1;

  template <class Real>
  static void run(Reader<Real> in, Writer<Real> out) {
    const MassData mass = in.mass();
    const Edge<Real> edge = in.edge();
    const Vec2<Real> from = in.vector();
    const Real from_angle = in.real();
    const Vec2<Real> to = in.vector();
    out(time_of_impact<Shape>(edge, mass, Sweep<Real>{from, from_angle, to, in.real(), Real(0.0f)}, true));
  }
};

/// A whole step of a body alone that flies against an edge.
template <class Shape>
struct Impacts {
  static constexpr int kColumnsIn = 16, kColumnsOut = 6;

  template <class Real>
  struct NoListener {
    void touches(int, Mask<Real>, Mask<Real>) {}
    void moves(Mask<Real>, const Sweep<Real>&) {}
  };

  template <class Real>
  static void run(Reader<Real> in, Writer<Real> out) {
    const int iterations = in.integer();
    const MassData mass = in.mass();
    GroundContacts<Real, 1> ground{};
    ground.friction = in.real();
    ground.edges[0] = in.edge();
    const Body<Real> before = in.body();
    Body<Real> body = before;
    integrate_position(body, Real(kTimeStep));
    solve_impacts<Shape>(mass, before, kTimeStep, iterations, true, ground, body, NoListener<Real>{});
    body.fields(out);
  }
};

template <class Module>
void run(int arithmetic, int rows, const float* in, float* out) {
  for (int i = 0; i < rows; ++i, in += Module::kColumnsIn, out += Module::kColumnsOut) {
    if (arithmetic == 0) {
      Module::template run<Box2dFloat>(Reader<Box2dFloat>{in}, Writer<Box2dFloat>{out});
    } else {
      Module::template run<float>(Reader<float>{in}, Writer<float>{out});
    }
  }
}

/// Vertices, normals, centroid; then what the solver knows of the mass.
template <class Shape>
int constants(const MassData& mass, float* out) {
  Writer<float> write{out};
  for (int i = 0; i < Shape::kVertices; ++i) write(Shape::vertex(i));
  for (int i = 0; i < Shape::kVertices; ++i) write(Shape::normal(i));
  write(Shape::centroid());
  write(mass.inverse_mass), write(mass.inverse_inertia), write(mass.center);
  return Shape::kVertices;
}

/// Calls use.operator()<Shape>(mass) for the body's shape.
template <class Use>
void with_body(int body, Use use) {
  if (body == 0) use.template operator()<lunar::HullShape>(lunar::hull_mass());
  if (body == 1) use.template operator()<lunar::LegShape>(lunar::leg_mass());
  if (body == 2) use.template operator()<walker::HullShape>(walker::hull_mass());
  if (body == 3) use.template operator()<walker::UpperShape>(walker::upper_mass());
  if (body == 4) use.template operator()<walker::LowerShape>(walker::lower_mass());
}

template <template <class> class Module>
void run_with_shape(int body, int arithmetic, int rows, const float* in, float* out) {
  with_body(body, [=]<class Shape>(const MassData&) { run<Module<Shape>>(arithmetic, rows, in, out); });
}

}  // namespace
}  // namespace perilune::inline PERILUNE_LEVEL

using namespace perilune;

extern "C" {
void joint_velocity(int, int arithmetic, int rows, const float* in, float* out) {
  run<JointVelocity>(arithmetic, rows, in, out);
}
void joint_position(int, int arithmetic, int rows, const float* in, float* out) {
  run<JointPosition>(arithmetic, rows, in, out);
}
void contact_velocity(int, int arithmetic, int rows, const float* in, float* out) {
  run<ContactVelocity>(arithmetic, rows, in, out);
}
void contact_position(int, int arithmetic, int rows, const float* in, float* out) {
  run<ContactPosition>(arithmetic, rows, in, out);
}
void edge_manifold(int body, int arithmetic, int rows, const float* in, float* out) {
  run_with_shape<EdgeManifold>(body, arithmetic, rows, in, out);
}
void impact(int body, int arithmetic, int rows, const float* in, float* out) {
  run_with_shape<Impact>(body, arithmetic, rows, in, out);
}
void impacts(int body, int arithmetic, int rows, const float* in, float* out) {
  run_with_shape<Impacts>(body, arithmetic, rows, in, out);
}
/// Returns the number of vertices.
int body_constants(int body, float* out) {
  int vertices = 0;
  with_body(body, [&]<class Shape>(const MassData& mass) { vertices = constants<Shape>(mass, out); });
  return vertices;
}
}
