// The walker's world: a hull on two legs of two parts each, with motorised hips and knees, and 199 edges of ground,
// stepped as Box2D 2.3 steps them in Gymnasium's BipedalWalker.
//
// Bodies: hull, upper and lower part of the first leg, of the second one (Gymnasium's hull and legs[0] to legs[3]). A
// part of a leg knows the edges whose bounds overlap its own, the newest contact first, which is the order in which
// Box2D solves them; up to four of them may lie under it. The first contact of the hull ends the episode: its edges
// are taken from right to left.
#pragma once

#include <type_traits>

#include "sims/bounds.hpp"
#include "sims/continuous_collision.hpp"
#include "sims/island.hpp"
#include "sims/math.hpp"

namespace perilune::inline PERILUNE_LEVEL {
namespace walker {

inline constexpr float kTimeStep = 0.02f;
inline constexpr float kGravity = -10.0f;
inline constexpr double kScale = 30;
inline constexpr double kSpacing = 14 / kScale;  // of the ground's vertices
inline constexpr double kStartHeight = 400 / kScale / 4;
inline constexpr int kHeights = 200;
inline constexpr int kFlatHeights = 20;  // where the walker starts, in their middle

/// Polygons counter-clockwise in metres, as Box2D keeps them.
struct HullShape {
  static constexpr int kVertices = 5;
  static constexpr float kRadius = 1.184f;
  PERILUNE_HD static constexpr Vec2<float> vertex(int i) {
    constexpr float x[] = {34 / 30.0f, 34 / 30.0f, 6 / 30.0f, -1.0f, -1.0f};
    constexpr float y[] = {-8 / 30.0f, 1 / 30.0f, 9 / 30.0f, 9 / 30.0f, -8 / 30.0f};
    return {x[i], y[i]};
  }
  PERILUNE_HD static constexpr Vec2<float> normal(int i) {
    constexpr float x[] = {1.0f, 0.274721146f, 0.0f, -1.0f, 0.0f};
    constexpr float y[] = {0.0f, 0.961524010f, 1.0f, 0.0f, -1.0f};
    return {x[i], y[i]};
  }
  PERILUNE_HD static constexpr Vec2<float> centroid() { return {-0.020036448f, -0.00564663f}; }
};
/// A part of a leg, with a half width of so many tenths of Gymnasium's unit (1/30 m).
template <int kTenths>
struct LegShape {
  static constexpr int kVertices = 4;
  static constexpr float kHalfWidth = kTenths / 300.0f;
  static constexpr float kHalfLength = 17 / 30.0f;
  static constexpr float kRadius = 0.583f;
  PERILUNE_HD static constexpr Vec2<float> vertex(int i) {
    constexpr float x[] = {-kHalfWidth, kHalfWidth, kHalfWidth, -kHalfWidth};
    constexpr float y[] = {-kHalfLength, -kHalfLength, kHalfLength, kHalfLength};
    return {x[i], y[i]};
  }
  PERILUNE_HD static constexpr Vec2<float> normal(int i) {
    constexpr float x[] = {0.0f, 1.0f, 0.0f, -1.0f};
    constexpr float y[] = {-1.0f, 0.0f, 1.0f, 0.0f};
    return {x[i], y[i]};
  }
  PERILUNE_HD static constexpr Vec2<float> centroid() { return {0.0f, 0.0f}; }
};
using UpperShape = LegShape<40>;
using LowerShape = LegShape<32>;

// Functions, because device code knows no address of a constant.
PERILUNE_HD constexpr MassData hull_mass() { return {0.18442622f, 0.5001513f, {-0.020036437f, -0.0056466404f}}; }
PERILUNE_HD constexpr MassData upper_mass() { return {3.3088236f, 29.291224f, {0.0f, 0.0f}}; }
PERILUNE_HD constexpr MassData lower_mass() { return {4.1360292f, 37.3188f, {0.0f, 0.0f}}; }

inline constexpr int kHull = 0, kUpper1 = 1, kLower1 = 2, kUpper2 = 3, kLower2 = 4;
inline constexpr int kParts = 4;  // of legs: bodies 1 to 4

/// Box2D goes through bodies, joints and contacts from the newest: the second leg's foot comes first.
struct Model {
  static constexpr int kBodies = 5;
  static constexpr int kJoints = 4;  // second knee and hip, first hip and knee
  static constexpr int kSlotsPerBody = 4;
  static constexpr int kSlots = kBodies * kSlotsPerBody;
  /// The body whose contacts are the next ones.
  PERILUNE_HD static constexpr int body_at(int place) {
    return place < 2 ? kLower2 - place : place == 2 ? kHull : place - 2;
  }
  PERILUNE_HD static constexpr int slot_body(int slot) { return body_at(slot / kSlotsPerBody); }
  PERILUNE_HD static constexpr MassData mass(int body) {
    return body == kHull ? hull_mass() : body % 2 == 1 ? upper_mass() : lower_mass();
  }
  PERILUNE_HD static constexpr bool is_hip(int joint) { return joint == 1 || joint == 2; }
  PERILUNE_HD static constexpr int joint_a(int joint) { return is_hip(joint) ? kHull : joint == 0 ? kUpper2 : kUpper1; }
  PERILUNE_HD static constexpr int joint_b(int joint) {
    return joint == 0 ? kLower2 : joint == 1 ? kUpper2 : joint == 2 ? kUpper1 : kLower1;
  }
  PERILUNE_HD static constexpr RevoluteJointDef joint(int joint) {
    constexpr float kUp = 17 / 30.0f;
    if (!is_hip(joint)) return {{0.0f, -kUp}, {0.0f, kUp}, 0.0f, -1.6f, -0.1f};
    const Vec2<float> center = hull_mass().center;
    return {{-center.x, -8 / 30.0f - center.y}, {0.0f, kUp}, joint == 1 ? 0.05f : -0.05f, -0.8f, 1.1f};
  }
  /// The geometric mean of both surfaces': ground 2.5, hull .1, legs .2.
  PERILUNE_HD static constexpr float friction(int body) { return body == kHull ? 0.5f : 0.707106769f; }
  PERILUNE_HD static constexpr float slot_friction(int slot) { return friction(slot_body(slot)); }
};

/// Box2D's iterations in Gymnasium. With fewer, or with joints solved as blocks (RevoluteBlock), pilots score
/// otherwise: walking is chaotic, and what Gymnasium's heuristic earns hangs on every one of them.
PERILUNE_HD constexpr Iterations exact_iterations() { return {180, 180, 60}; }

/// What hips and knees are to do in a step, in Gymnasium's order: first hip and knee, second hip and knee.
template <class Real>
struct Motors {
  Real speed[4];   // rad/s
  Real torque[4];  // the most (N m)
};
/// The place of the model's joint in that order.
PERILUNE_HD constexpr int motor_of(int joint) { return joint < 2 ? 3 - joint : joint - 2; }

/// What a part of a leg remembers of the ground.
template <class Real>
struct PartContacts {
  static constexpr int kKnown = 8, kTouches = 4;
  Bounds<Real> room;
  Real known[kKnown];  // edges whose bounds overlap the room: their numbers, the newest contact first, then -1
  struct Touch {
    Real edge;  // its number, or -1
    StoredContact<Real> contact;
  } touches[kTouches];

  template <class F>
  PERILUNE_HD void fields(F&& f) {
    each_field(*this, f);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    each_field(*this, f);
  }

 private:
  template <class P, class F>
  PERILUNE_HD static void each_field(P& p, F& f) {
    p.room.fields(f);
    for (auto& number : p.known) f(number);
    for (auto& touch : p.touches) {
      f(touch.edge);
      touch.contact.fields(f);
    }
  }
};

/// The bodies and what they remember from step to step.
template <class Real>
struct World {
  using Part = PartContacts<Real>;
  Body<Real> bodies[Model::kBodies];
  RevoluteImpulses<Real> joints[Model::kJoints];
  Part parts[kParts];
  Real leg_contact[2];  // what Gymnasium's contact listener says of the lower parts, 1 or 0
  Real quiet_time;      // how long everything has been slow enough to sleep (s)
  Real heights[kHeights];

  template <class F>
  PERILUNE_HD void fields(F&& f) {
    each_field(*this, f);
  }
  template <class F>
  PERILUNE_HD void fields(F&& f) const {
    each_field(*this, f);
  }

  /// Where Gymnasium creates the bodies, at rest, once there are heights. Hips are half a metre from where they belong:
  /// the first step's position iterations bring them there.
  PERILUNE_HD void place() {
    const Real zero(0.0f), x(math::constant<Real>(kSpacing * kFlatHeights / 2));
    constexpr double kLength = 34 / kScale, kDown = -8 / kScale, kTop = kStartHeight + 2 * kLength;
    const Real upper(math::constant<Real>(kTop - kLength / 2 - kDown));
    const Real lower(math::constant<Real>(kTop - kLength * 3 / 2 - kDown));
    const Vec2<float> center = hull_mass().center;
    bodies[kHull] = {{x + Real(center.x), Real(math::constant<Real>(kTop)) + Real(center.y)}, zero, {zero, zero}, zero};
    for (int i = 0; i < kParts; ++i) {
      const Real tilt(i < 2 ? -0.05f : 0.05f);
      Body<Real>& body = bodies[1 + i] = {{x, i % 2 == 0 ? upper : lower}, tilt, {zero, zero}, zero};
      Part& part = parts[i];
      for (Real& number : part.known) number = Real(-1.0f);
      for (auto& touch : part.touches) touch = {Real(-1.0f), {}};
      const Frame<Real> frame = body.frame(Model::mass(1 + i));
      part.room = (i % 2 == 0 ? swept_bounds<UpperShape>(frame, frame) : swept_bounds<LowerShape>(frame, frame))
                      .grown(Real(physics::kBoundsExtension));
      find_new_contacts(part);
    }
  }

  /// One step with what the motors are to do and a force along x on the hull (N). Says where the hull touched.
  PERILUNE_OUTLINED static Mask<Real> step(World& world, const Motors<Real>& motors, Real force) {
    const Real h(kTimeStep), zero(0.0f);
    Mask<Real> crashed(false);
    Island<Model, Real> island;
    Real edges[Model::kSlots];  // in the island's slots
    PERILUNE_UNROLL
    for (int place = 0; place < Model::kBodies; ++place) {
      const int b = Model::body_at(place), first = place * Model::kSlotsPerBody;
      (b == kHull   ? find_contacts<HullShape>
       : b % 2 == 1 ? find_contacts<UpperShape>
                    : find_contacts<LowerShape>)(world, b, edges + first, island.manifolds + first,
                                                 island.stored + first, crashed);
    }
    Body<Real> before[Model::kBodies];
    for (int b = 0; b < Model::kBodies; ++b) {
      before[b] = world.bodies[b];
      Body<Real>& body = island.bodies[b] = world.bodies[b];
      const Real push = b == kHull ? Real(hull_mass().inverse_mass) * force : zero;
      body.velocity = body.velocity + h * Vec2<Real>{push, Real(kGravity)};
    }
    for (int j = 0; j < Model::kJoints; ++j) {
      island.joint_impulses[j] = world.joints[j];
      island.motors[j] = {motors.speed[motor_of(j)], h * motors.torque[motor_of(j)]};
    }
    const Mask<Real> solved = solve(island);
    for (int j = 0; j < Model::kJoints; ++j) world.joints[j] = island.joint_impulses[j];

    // Whoever falls asleep stops, and the motors' next setting wakes it.
    world.quiet_time = select(is_quiet(island.bodies), world.quiet_time + h, zero);
    const Mask<Real> asleep = solved && world.quiet_time >= Real(physics::kTimeToSleep);
    world.quiet_time = select(asleep, zero, world.quiet_time);
    for (int b = 0; b < Model::kBodies; ++b) {
      Body<Real>& body = world.bodies[b] = island.bodies[b];
      body.velocity = select(asleep, Vec2<Real>{zero, zero}, body.velocity);
      body.spin = select(asleep, zero, body.spin);
    }
    PERILUNE_UNROLL
    for (int place = 0; place < Model::kBodies; ++place) {
      const int b = Model::body_at(place);
      const int first = place * Model::kSlotsPerBody;
      if (b != kHull) store_touches(world.parts[b - 1], edges + first, island.stored + first);
      (b == kHull   ? meet_ground<HullShape>
       : b % 2 == 1 ? meet_ground<UpperShape>
                    : meet_ground<LowerShape>)(world, b, before[b], !asleep, crashed);
    }
    return crashed;
  }

  /// The number of the edge below or above x, not beyond the ground's ends.
  PERILUNE_HD static Real edge_number(Real x) {
    const Real number = math::floor(x * Real(math::constant<Real>(1 / kSpacing)));
    return clamp(number, Real(0.0f), Real(kHeights - 2.0f));
  }
  /// The edge of a number; of one that no edge has, the nearest that there is.
  PERILUNE_HD Edge<Real> edge(Real number) const {
    const Real existing = clamp(number, Real(0.0f), Real(kHeights - 2.0f));
    const Int<Real> i = to_int(existing);
    // 7 i / 15, correctly rounded.
    const Real left = Real(7.0f) * existing / Real(15.0f), right = (Real(7.0f) * existing + Real(7.0f)) / Real(15.0f);
    return {{left, lookup(heights, i)}, {right, lookup(heights, i + Int<Real>(1))}};
  }

 private:
  PERILUNE_OUTLINED static Mask<Real> solve(Island<Model, Real>& island) {
    return island.template solve<false>(kTimeStep, exact_iterations());
  }

  static constexpr float kMargin = 0.05f;  // of what is near (m)
  /// How many edges may be near a body: under the hull all that its bounds overlap.
  template <class Shape>
  static constexpr int kNear = std::is_same_v<Shape, HullShape> ? 8 : 4;

  /// The edges near a body, in the order of its contacts, and what they remember of touching it.
  template <int kCount>
  struct Near {
    Mask<Real> any;
    Real numbers[kCount];  // -1: none, and the edge is out of reach
    GroundContacts<Real, kCount> ground;
  };
  template <class Shape>
  PERILUNE_HD Near<kNear<Shape>> near(int body, const Bounds<Real>& bounds) const {
    constexpr int kCount = kNear<Shape>;
    constexpr bool kIsHull = std::is_same_v<Shape, HullShape>;
    const Real zero(0.0f), none(-1.0f);
    Near<kCount> result;
    result.any = Mask<Real>(false);
    result.ground.friction = Real(Model::friction(body));
    for (int s = 0; s < kCount; ++s) {
      result.numbers[s] = none;
      result.ground.edges[s] = {{zero, Real(-1000.0f)}, {Real(1.0f), Real(-1000.0f)}};
      result.ground.stored[s] = {};
    }
    const Real last = edge_number(bounds.upper.x);
    Real count = zero;
    for (int k = 0; k < Part::kKnown; ++k) {
      Real number = last - Real(static_cast<float>(k));
      if constexpr (!kIsHull) number = parts[body - 1].known[k];
      const Edge<Real> candidate = edge(number);
      const Mask<Real> is_near = number >= zero && bounds.overlaps(edge_bounds(candidate, 0.0f));
      if (!any(is_near)) continue;
      result.any = result.any || is_near;
      for (int s = 0; s < kCount; ++s) {
        const Mask<Real> here = is_near && count == Real(static_cast<float>(s));
        result.numbers[s] = select(here, number, result.numbers[s]);
        Edge<Real>& to = result.ground.edges[s];
        to = {select(here, candidate.from, to.from), select(here, candidate.to, to.to)};
      }
      count = select(is_near, count + Real(1.0f), count);
    }
    if constexpr (!kIsHull) {
      for (int s = 0; s < kCount; ++s) {
        for (const auto& touch : parts[body - 1].touches) {
          const Mask<Real> same = touch.edge == result.numbers[s] && touch.edge >= zero;
          result.ground.stored[s] = select(same, touch.contact, result.ground.stored[s]);
        }
      }
    }
    return result;
  }
  PERILUNE_HD static Bounds<Real> edge_bounds(const Edge<Real>& edge, float extension) {
    return Bounds<Real>{edge.from, edge.from}.with(edge.to).grown(Real(physics::kPolygonRadius + extension));
  }

  /// The edges that `part.room` has come to overlap are its newest contacts, of several the right one before the left;
  /// those that it no longer overlaps are none.
  PERILUNE_HD void find_new_contacts(Part& part) const {
    constexpr int kKnown = Part::kKnown;
    const Real zero(0.0f), none(-1.0f);
    Real known[kKnown];
    for (Real& number : known) number = none;
    Real count = zero;
    const auto consider = [&](Real number, Mask<Real> wanted) PERILUNE_INLINED {
      const Mask<Real> is_contact =
          wanted && number >= zero && part.room.overlaps(edge_bounds(edge(number), physics::kBoundsExtension));
      if (!any(is_contact)) return;
      for (int k = 0; k < kKnown; ++k) {
        known[k] = select(is_contact && count == Real(static_cast<float>(k)), number, known[k]);
      }
      count = select(is_contact, count + Real(1.0f), count);
    };
    const Real last = edge_number(part.room.upper.x + Real(physics::kPolygonRadius + physics::kBoundsExtension));
    PERILUNE_ROLLED
    for (int i = 0; i < kKnown; ++i) {
      const Real number = last - Real(static_cast<float>(i));
      Mask<Real> is_new(true);
      for (const Real& old : part.known) is_new = is_new && old != number;
      consider(number, is_new);
    }
    PERILUNE_ROLLED
    for (int i = 0; i < kKnown; ++i) consider(part.known[i], Mask<Real>(true));
    for (int k = 0; k < kKnown; ++k) part.known[k] = known[k];
  }
  /// Where `moved`, the part went from one pose to another.
  template <class Shape>
  PERILUNE_HD void move_room(Part& part, Mask<Real> moved, const Frame<Real>& from, const Frame<Real>& to) const {
    const Bounds<Real> old = part.room, room = select(moved, follow<Shape>(old, from, to), old);
    const Mask<Real> same = old.contains(room) && room.contains(old);
    if (!any(!same)) return;
    part.room = room;
    Part updated = part;
    find_new_contacts(updated);
    for (int k = 0; k < Part::kKnown; ++k) part.known[k] = select(same, part.known[k], updated.known[k]);
  }

  /// A contact of `body` begins or ends. Gymnasium takes the end of any of a leg's for the end of all.
  PERILUNE_HD void listen(int body, Mask<Real> before, Mask<Real> now, Mask<Real>& crashed) {
    if (body == kHull) {
      crashed = crashed || now;
    } else if (body % 2 == 0) {
      Real& flag = leg_contact[body / 2 - 1];
      flag = select(now && !before, Real(1.0f), select(before && !now, Real(0.0f), flag));
    }
  }

  /// Finds where the body touches when the step begins, for its slots of the island, and the numbers of
  /// the edges in them: those that touch come first.
  template <class Shape>
  PERILUNE_OUTLINED static void find_contacts(World& world, int body, Real* edges, Manifold<Real>* found,
                                              StoredContact<Real>* remembered, Mask<Real>& crashed) {
    constexpr int kCount = kNear<Shape>;
    const Real none(-1.0f);
    const Mask<Real> no(false);
    for (int s = 0; s < Model::kSlotsPerBody; ++s) {
      edges[s] = none;
      found[s].touching = found[s].two = no;
      remembered[s] = {};
    }
    const Frame<Real> frame = world.bodies[body].frame(Model::mass(body));
    auto near = world.template near<Shape>(body, swept_bounds<Shape>(frame, frame).grown(Real(kMargin)));
    if constexpr (kCount == Part::kTouches) {
      for (const auto& touch : world.parts[body - 1].touches) {
        Mask<Real> lost = touch.edge >= Real(0.0f);
        for (const Real& number : near.numbers) lost = lost && touch.edge != number;
        world.listen(body, lost, no, crashed);
      }
    }
    if (!any(near.any)) return;
    Manifold<Real> manifolds[kCount];
    for (int s = 0; s < kCount; ++s) {
      manifolds[s] = collide<Shape>(near.ground.edges[s], frame);
      StoredContact<Real>& stored = near.ground.stored[s];
      world.listen(body, stored.touching(), manifolds[s].touching, crashed);
      stored = inherit_impulses(manifolds[s], stored);
    }
    for (int last = 1; last < kCount; ++last) {
      for (int s = last; s > 0; --s) {
        const Mask<Real> swap = manifolds[s].touching && !manifolds[s - 1].touching;
        if (!any(swap)) continue;
        exchange(swap, manifolds[s], manifolds[s - 1]);
        exchange(swap, near.ground.stored[s], near.ground.stored[s - 1]);
        exchange(swap, near.numbers[s], near.numbers[s - 1]);
      }
    }
    for (int s = 0; s < Model::kSlotsPerBody; ++s) {
      edges[s] = near.numbers[s];
      found[s] = manifolds[s];
      remembered[s] = near.ground.stored[s];
    }
  }
  template <class T>
  PERILUNE_HD static void exchange(Mask<Real> mask, T& a, T& b) {
    const T old = a;
    a = select(mask, b, a);
    b = select(mask, old, b);
  }

  /// Remembers what touches, of as many contacts as there are places for.
  PERILUNE_HD static void store_touches(Part& part, const Real* edges, const StoredContact<Real>* contacts) {
    for (int t = 0; t < Part::kTouches; ++t) {
      part.touches[t] = {select(contacts[t].touching(), edges[t], Real(-1.0f)), contacts[t]};
    }
  }

  /// What has to be told of a body's impacts.
  template <class Shape>
  struct Listener {
    World& world;
    int body;
    const GroundContacts<Real, kNear<Shape>>& ground;
    Mask<Real>& crashed;

    PERILUNE_HD void touches(int slot, Mask<Real> updated, Mask<Real> now) {
      const Mask<Real> before = ground.stored[slot].touching();
      world.listen(body, before, (updated && now) || (!updated && before), crashed);
    }
    PERILUNE_HD void moves(Mask<Real> hit, const Sweep<Real>& sweep) {
      if (body == kHull) return;
      const MassData mass = Model::mass(body);
      world.template move_room<Shape>(world.parts[body - 1], hit, sweep.frame(mass, Real(0.0f)),
                                      sweep.frame(mass, Real(1.0f)));
    }
  };

  /// Lets the body, which the step took from `before`, hit what was in its way.
  template <class Shape>
  PERILUNE_OUTLINED static void meet_ground(World& world, int body, const Body<Real>& before, Mask<Real> awake,
                                            Mask<Real>& crashed) {
    Body<Real>& mine = world.bodies[body];
    const MassData mass = Model::mass(body);
    const Frame<Real> from = before.frame(mass), to = mine.frame(mass);
    if (body != kHull) {
      world.template move_room<Shape>(world.parts[body - 1], Mask<Real>(true), from, to);
    }
    auto near = world.template near<Shape>(body, swept_bounds<Shape>(from, to).grown(Real(kMargin)));
    if (!any(near.any)) return;
    solve_impacts<Shape>(mass, before, kTimeStep, exact_iterations().touching, awake, near.ground, mine,
                         Listener<Shape>{world, body, near.ground, crashed});
    if (body != kHull) store_touches(world.parts[body - 1], near.numbers, near.ground.stored);
  }

  template <class W, class F>
  PERILUNE_HD static void each_field(W& w, F& f) {
    for (auto& body : w.bodies) body.fields(f);
    for (auto& joint : w.joints) joint.fields(f);
    for (auto& part : w.parts) part.fields(f);
    for (auto& flag : w.leg_contact) f(flag);
    f(w.quiet_time);
    for (auto& height : w.heights) f(height);
  }
};

}  // namespace walker
}  // namespace perilune::inline PERILUNE_LEVEL
