// The lunar lander's world: a hull, two legs on motorised hinges, and ten edges of ground, stepped
// as Box2D 2.3 steps them in Gymnasium's LunarLander.
//
// Bodies: hull, right leg, left leg (Gymnasium's legs[0] and legs[1]). The hull and each leg can
// meet two neighbouring edges at a time; an edge keeps its place, by the parity of its number, while
// the body moves on to others. The edge at y = 0 below everything is left out: terrain is above it.
#pragma once

#include "sims/bounds.hpp"
#include "sims/continuous_collision.hpp"
#include "sims/island.hpp"
#include "sims/lander_task.hpp"

namespace perilune::inline PERILUNE_LEVEL {
namespace lunar {

/// Polygons counter-clockwise in metres, as Box2D keeps them.
struct HullShape {
  static constexpr int kVertices = 6;
  static constexpr float kRadius = 0.715f;
  PERILUNE_HD static constexpr Vec2<float> vertex(int i) {
    constexpr float x[] = {17 / 30.0f, 17 / 30.0f, 14 / 30.0f, -14 / 30.0f, -17 / 30.0f, -17 / 30.0f};
    constexpr float y[] = {-10 / 30.0f, 0.0f, 17 / 30.0f, 17 / 30.0f, 0.0f, -10 / 30.0f};
    return {x[i], y[i]};
  }
  PERILUNE_HD static constexpr Vec2<float> normal(int i) {
    constexpr float x[] = {1.0f, 0.984783590f, 0.0f, -0.984783590f, -1.0f, 0.0f};
    constexpr float y[] = {0.0f, 0.173785329f, 1.0f, 0.173785329f, 0.0f, -1.0f};
    return {x[i], y[i]};
  }
  /// Box2D's: summed in another order than the centre of mass, and so off in last bits.
  PERILUNE_HD static constexpr Vec2<float> centroid() { return {3.86708310e-9f, 0.101307176f}; }
};
struct LegShape {
  static constexpr int kVertices = 4;
  static constexpr float kRadius = 0.275f;
  PERILUNE_HD static constexpr Vec2<float> vertex(int i) {
    constexpr float x[] = {-2 / 30.0f, 2 / 30.0f, 2 / 30.0f, -2 / 30.0f};
    constexpr float y[] = {-8 / 30.0f, -8 / 30.0f, 8 / 30.0f, 8 / 30.0f};
    return {x[i], y[i]};
  }
  PERILUNE_HD static constexpr Vec2<float> normal(int i) {
    constexpr float x[] = {0.0f, 1.0f, 0.0f, -1.0f};
    constexpr float y[] = {-1.0f, 0.0f, 1.0f, 0.0f};
    return {x[i], y[i]};
  }
  PERILUNE_HD static constexpr Vec2<float> centroid() { return {0.0f, 0.0f}; }
};

// Functions, because device code knows no address of a constant.
PERILUNE_HD constexpr MassData hull_mass() { return {0.207612455f, 1.27570426f, {0.0f, 0.101307191f}}; }
PERILUNE_HD constexpr MassData leg_mass() { return {14.0624981f, 558.363831f, {0.0f, 0.0f}}; }

inline constexpr int kHull = 0, kRightLeg = 1, kLeftLeg = 2;

/// Box2D goes through joints and contacts from the newest to the oldest: the left leg comes first.
struct Model {
  static constexpr int kBodies = 3;
  static constexpr int kJoints = 2;
  static constexpr int kSlots = 6;
  static constexpr int kSlotsPerBody = 2;
  PERILUNE_HD static constexpr int slot_body(int slot) { return slot < 2 ? kLeftLeg : slot < 4 ? kHull : kRightLeg; }
  PERILUNE_HD static constexpr MassData mass(int body) { return body == 0 ? hull_mass() : leg_mass(); }
  PERILUNE_HD static constexpr int joint_a(int) { return 0; }
  PERILUNE_HD static constexpr int joint_b(int joint) { return 2 - joint; }
  PERILUNE_HD static constexpr RevoluteJointDef joint(int joint) {
    const float side = joint == 0 ? 1.0f : -1.0f;  // -1: the right leg
    return {{0.0f, -hull_mass().center.y},
            {side * (20 / 30.0f), 18 / 30.0f},
            side * 0.05f,
            joint == 0 ? -0.9f : static_cast<float>(0.9 - 0.5),
            joint == 0 ? static_cast<float>(-0.9 + 0.5) : 0.9f};
  }
  PERILUNE_HD static constexpr float motor_speed(int joint) { return joint == 0 ? 0.3f : -0.3f; }
  /// The geometric mean of both surfaces': ground .1, hull .1, legs .2.
  PERILUNE_HD static constexpr float friction(int body) { return body == 0 ? 0.1f : 0.141421363f; }
  PERILUNE_HD static constexpr float slot_friction(int slot) { return friction(slot_body(slot)); }
};
inline constexpr float kMotorTorque = 40.0f;

/// Box2D's iterations in Gymnasium, and those of the fast solver. With 24 instead of 60 where
/// something touches, pilots score 5 to 7 points less than in Gymnasium, with 40 some 2 to 3; with 60
/// it is within the noise.
PERILUNE_HD constexpr Iterations exact_iterations() { return {180, 180, 60}; }
PERILUNE_HD constexpr Iterations fast_iterations() { return {8, 60, 60}; }

/// What a step of the world has to report besides the moved world.
template <class Real>
struct WorldEvents {
  Mask<Real> crashed;  // the hull touched the ground
  Mask<Real> asleep;
};

/// The bodies and what they remember from step to step. Large parts of a step are not inlined: they
/// are nearly all of the work, and the same in whatever asks for it.
template <class Real>
struct World {
  Body<Real> bodies[3];
  RevoluteImpulses<Real> joints[2];
  StoredContact<Real> contacts[2][2];  // [right, left leg][parity of the edge]
  Bounds<Real> rooms[2];               // of the legs
  Real left_is_newer[2];               // of a leg's two contacts the left one arose last, 1 or 0
  Real leg_contact[2];                 // what Gymnasium's contact listener says, 1 or 0
  Real quiet_time;                     // how long everything has been slow enough to sleep (s)
  Real heights[kHeights];

  template <class F>
  PERILUNE_HD void fields(F&& f) {
    each_field(*this, f);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    each_field(*this, f);
  }

  /// Where Gymnasium creates the bodies, at rest. The legs are half a metre from where they belong:
  /// the first step's position iterations bring them there.
  PERILUNE_HD void place() {
    const Real x(math::constant<Real>(kWidth / 2)), y(math::constant<Real>(kHeight));
    const Real leg(math::constant<Real>(20 / kScale)), tilt(0.05f), zero(0.0f);
    bodies[kHull] = {{x, y + Real(hull_mass().center.y)}, zero, {zero, zero}, zero};
    bodies[kRightLeg] = {{x + leg, y}, -tilt, {zero, zero}, zero};
    bodies[kLeftLeg] = {{x - leg, y}, tilt, {zero, zero}, zero};
    for (int i = 0; i < 2; ++i) {
      const Frame<Real> frame = bodies[1 + i].frame(leg_mass());
      rooms[i] = swept_bounds<LegShape>(frame, frame).grown(Real(physics::kBoundsExtension));
    }
  }

  /// Whether the next step looks for contacts, as far as can be said before it.
  PERILUNE_HD Mask<Real> is_near_ground() const {
    Mask<Real> near(false);
    for (const auto& leg : contacts) {
      for (const StoredContact<Real>& contact : leg) near = near || contact.touching();
    }
    for (int b = 0; b < 3; ++b) {
      const Body<Real>& body = bodies[b];
      const Vec2<Real> next = body.center + Real(kTimeStep) * body.velocity;
      const Real lowest = min(body.center.y, next.y) - Real(b == kHull ? HullShape::kRadius : LegShape::kRadius);
      near = near || lowest <= edges_around(Real(0.5f) * (body.center.x + next.x)).top();
    }
    return near;
  }

  /// One step with a force (N) and a torque (N m) on the hull.
  PERILUNE_OUTLINED static WorldEvents<Real> step(World& world, bool fast, float gravity, Vec2<Real> force,
                                                  Real torque) {
    const Real h(kTimeStep), zero(0.0f);
    WorldEvents<Real> events = {Mask<Real>(false), Mask<Real>(false)};
    Island<Model, Real> island;
    Mask<Real> odd[3];
    for (int i = 0; i < 3; ++i) {
      const int b = Model::slot_body(2 * i);
      (b == kHull ? find_contacts<HullShape> : find_contacts<LegShape>)(world, b, &island.manifolds[2 * i],
                                                                        &island.stored[2 * i], odd[b], events);
    }
    if (fast) {
      // Whoever crashes needs no solving.
      for (int s = 0; s < Model::kSlots; ++s) {
        if (Model::slot_body(s) != kHull) continue;
        island.manifolds[s].touching = island.manifolds[s].two = Mask<Real>(false);
      }
    }

    Body<Real> before[3];
    for (int b = 0; b < 3; ++b) {
      before[b] = world.bodies[b];
      Body<Real>& body = island.bodies[b] = world.bodies[b];
      const Vec2<Real> push = b == kHull ? force : Vec2<Real>{zero, zero};
      body.velocity = body.velocity + h * (Vec2<Real>{zero, Real(gravity)} + Real(Model::mass(b).inverse_mass) * push);
    }
    island.bodies[kHull].spin = island.bodies[kHull].spin + Real(kTimeStep * hull_mass().inverse_inertia) * torque;
    for (int j = 0; j < 2; ++j) {
      island.joint_impulses[j] = world.joints[j];
      island.motors[j] = {Real(Model::motor_speed(j)), Real(kTimeStep * kMotorTorque)};
    }
    const Mask<Real> solved = fast ? solve_fast(island) : solve_exactly(island);
    for (int j = 0; j < 2; ++j) world.joints[j] = island.joint_impulses[j];

    world.quiet_time = select(is_quiet(island.bodies), world.quiet_time + h, zero);
    events.asleep = solved && world.quiet_time >= Real(physics::kTimeToSleep);
    for (int b = 0; b < 3; ++b) {
      Body<Real>& body = world.bodies[b] = island.bodies[b];
      body.velocity = select(events.asleep, Vec2<Real>{zero, zero}, body.velocity);
      body.spin = select(events.asleep, zero, body.spin);
    }
    for (int i = 0; i < 3; ++i) {
      const int b = Model::slot_body(2 * i);
      world.store_contacts(b, odd[b], &island.stored[2 * i]);
      (b == kHull ? meet_ground<HullShape> : meet_ground<LegShape>)(world, b, before[b], !events.asleep, events);
    }
    return events;
  }

 private:
  PERILUNE_OUTLINED static Mask<Real> solve_exactly(Island<Model, Real>& island) {
    return island.template solve<false>(kTimeStep, exact_iterations());
  }
  PERILUNE_OUTLINED static Mask<Real> solve_fast(Island<Model, Real>& island) {
    return island.template solve<true>(kTimeStep, fast_iterations());
  }

  /// The two edges around x.
  struct Edges {
    Mask<Real> odd;  // the number of the left one
    Edge<Real> left;
    Edge<Real> right;

    PERILUNE_HD Real top() const {
      return max(left.from.y, max(left.to.y, right.to.y)) + Real(4.0f * physics::kPolygonRadius);
    }
  };
  PERILUNE_HD Edges edges_around(Real x) const {
    const Int<Real> number = to_int(clamp(Real(0.5f) * (x - Real(1.0f)), Real(0.0f), Real(8.0f)));
    Real height[3] = {heights[0], heights[1], heights[2]};
    for (int i = 1; i + 2 < kHeights; ++i) {
      const Mask<Real> here = number == Int<Real>(i);
      for (int k = 0; k < 3; ++k) height[k] = select(here, heights[i + k], height[k]);
    }
    const Real start = Real(kSpacing) * to_real<Real>(number);
    const Vec2<Real> middle = {start + Real(kSpacing), height[1]};
    return {(number & Int<Real>(1)) != Int<Real>(0),
            {{start, height[0]}, middle},
            {middle, {start + Real(2.0f * kSpacing), height[2]}}};
  }

  /// A body's contacts, the newer one first. An edge's impulses are kept by its parity.
  struct Ground {
    GroundContacts<Real, 2> contacts;
    Mask<Real> odd;  // the number of the first one
  };
  PERILUNE_HD Ground ground_below(int body, const Edges& edges) const {
    Ground ground;
    ground.contacts.friction = Real(Model::friction(body));
    ground.contacts.edges[0] = edges.right;
    ground.contacts.edges[1] = edges.left;
    ground.contacts.stored[0] = ground.contacts.stored[1] = {};
    ground.odd = !edges.odd;
    if (body == kHull) return ground;
    const Mask<Real> left_first = left_is_newer[body - 1] > Real(0.0f);
    for (int s = 0; s < 2; ++s) {
      Edge<Real>& edge = ground.contacts.edges[s];
      const Edge<Real>& other = s == 0 ? edges.left : edges.right;
      edge = {select(left_first, other.from, edge.from), select(left_first, other.to, edge.to)};
    }
    ground.odd = (edges.odd && left_first) || (!edges.odd && !left_first);
    const auto& mine = contacts[body - 1];
    ground.contacts.stored[0] = select(ground.odd, mine[1], mine[0]);
    ground.contacts.stored[1] = select(ground.odd, mine[0], mine[1]);
    return ground;
  }
  PERILUNE_HD void store_contacts(int body, Mask<Real> odd, const StoredContact<Real>* stored) {
    if (body == kHull) return;  // the episode ends with its first contact
    contacts[body - 1][0] = select(odd, stored[1], stored[0]);
    contacts[body - 1][1] = select(odd, stored[0], stored[1]);
  }

  /// Where `moved`, the leg went from one pose to another: which contacts arise? Of two at once, the
  /// right one counts as newer.
  PERILUNE_HD void find_new_contacts(int leg, Mask<Real> moved, const Frame<Real>& from, const Frame<Real>& to) {
    const Bounds<Real> old = rooms[leg];
    rooms[leg] = select(moved, follow<LegShape>(old, from, to), old);
    const Edges edges = edges_around(to.origin.x);
    const auto arises = [&](const Edge<Real>& edge) {
      const Bounds<Real> room = Bounds<Real>{edge.from, edge.from}.with(edge.to).grown(
          Real(physics::kPolygonRadius + physics::kBoundsExtension));
      return rooms[leg].overlaps(room) && !old.overlaps(room);
    };
    const Real yes(1.0f), no(0.0f);
    left_is_newer[leg] = select(arises(edges.right), no, select(arises(edges.left), yes, left_is_newer[leg]));
  }

  /// A contact of `body` begins or ends. Gymnasium takes the end of any of a leg's for the end of
  /// all.
  PERILUNE_HD void listen(int body, Mask<Real> before, Mask<Real> now, WorldEvents<Real>& events) {
    if (body == kHull) {
      events.crashed = events.crashed || now;
      return;
    }
    Real& flag = leg_contact[body - 1];
    flag = select(now && !before, Real(1.0f), select(before && !now, Real(0.0f), flag));
  }

  /// Finds where the body touches when the step begins: its two contacts, and the parity of the
  /// first one's edge.
  template <class Shape>
  PERILUNE_OUTLINED static void find_contacts(World& world, int body, Manifold<Real>* manifolds,
                                              StoredContact<Real>* stored, Mask<Real>& odd, WorldEvents<Real>& events) {
    const Body<Real>& mine = world.bodies[body];
    const Edges edges = world.edges_around(mine.center.x);
    Mask<Real> near = mine.center.y - Real(Shape::kRadius) <= edges.top();
    if (body != kHull) {
      const auto& old = world.contacts[body - 1];
      near = near || old[0].touching() || old[1].touching();
    }
    odd = Mask<Real>(false);
    for (int s = 0; s < 2; ++s) {
      manifolds[s].touching = manifolds[s].two = Mask<Real>(false);
      stored[s] = {};
    }
    if (!any(near)) return;
    const Ground ground = world.ground_below(body, edges);
    const Frame<Real> frame = mine.frame(Model::mass(body));
    for (int s = 0; s < 2; ++s) {
      manifolds[s] = collide<Shape>(ground.contacts.edges[s], frame);
      world.listen(body, ground.contacts.stored[s].touching(), manifolds[s].touching, events);
      stored[s] = inherit_impulses(manifolds[s], ground.contacts.stored[s]);
    }
    // A contact that is alone comes first, so that the second place is free in most packs.
    const Mask<Real> swap = !manifolds[0].touching && manifolds[1].touching;
    odd = (ground.odd && !swap) || (!ground.odd && swap);
    const Manifold<Real> first = select(swap, manifolds[1], manifolds[0]);
    manifolds[1] = select(swap, manifolds[0], manifolds[1]);
    manifolds[0] = first;
    const StoredContact<Real> first_stored = select(swap, stored[1], stored[0]);
    stored[1] = select(swap, stored[0], stored[1]);
    stored[0] = first_stored;
  }

  /// What has to be told of a body's impacts.
  struct Listener {
    World& world;
    int body;
    const GroundContacts<Real, 2>& ground;
    WorldEvents<Real>& events;

    PERILUNE_HD void touches(int slot, Mask<Real> updated, Mask<Real> now) {
      const Mask<Real> before = ground.stored[slot].touching();
      world.listen(body, before, (updated && now) || (!updated && before), events);
    }
    PERILUNE_HD void moves(Mask<Real> hit, const Sweep<Real>& sweep) {
      if (body == kHull) return;
      world.find_new_contacts(body - 1, hit, sweep.frame(leg_mass(), Real(0.0f)), sweep.frame(leg_mass(), Real(1.0f)));
    }
  };

  /// Lets the body, which the step took from `before`, hit what was in its way.
  template <class Shape>
  PERILUNE_OUTLINED static void meet_ground(World& world, int body, const Body<Real>& before, Mask<Real> awake,
                                            WorldEvents<Real>& events) {
    Body<Real>& mine = world.bodies[body];
    const MassData mass = Model::mass(body);
    if (body != kHull) {
      world.find_new_contacts(body - 1, Mask<Real>(true), before.frame(mass), mine.frame(mass));
    }
    const Edges edges = world.edges_around(Real(0.5f) * (before.center.x + mine.center.x));
    const Real lowest = min(before.center.y, mine.center.y) - Real(Shape::kRadius);
    if (!any(lowest <= edges.top())) return;
    Ground ground = world.ground_below(body, edges);
    solve_impacts<Shape>(mass, before, kTimeStep, exact_iterations().touching, awake, ground.contacts, mine,
                         Listener{world, body, ground.contacts, events});
    world.store_contacts(body, ground.odd, ground.contacts.stored);
  }

  template <class W, class F>
  PERILUNE_HD static void each_field(W& w, F& f) {
    for (auto& body : w.bodies) body.fields(f);
    for (auto& joint : w.joints) joint.fields(f);
    for (auto& leg : w.contacts) {
      for (auto& contact : leg) contact.fields(f);
    }
    for (auto& room : w.rooms) room.fields(f);
    for (auto& flag : w.left_is_newer) f(flag);
    for (auto& flag : w.leg_contact) f(flag);
    f(w.quiet_time);
    for (auto& height : w.heights) f(height);
  }
};

}  // namespace lunar
}  // namespace perilune::inline PERILUNE_LEVEL
