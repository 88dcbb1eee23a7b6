// One time step of bodies that joints hold together and that may rest on the ground: Box2D 2.3's
// island solver, by sequential impulses. And a faster one in the same manner.
//
// A Model says what there is: kBodies, kJoints, kSlots (places for contacts), and for the i-th of
// them mass(body), joint(i), joint_a(i), joint_b(i), slot_body(i), slot_friction(i). Joints and slots
// are solved in the order of their numbers. A slot that touches in no lane costs a test at most.
//
// A body's slots follow each other, kSlotsPerBody of them.
//
// Exact is Box2D, with the iterations that it was asked for. Fast solves each joint's point, limit
// and motor at once and over-relaxes, so that it needs fewer: its steps differ, and trajectories
// with them, but where they lead to on average hardly does.
#pragma once

#include <type_traits>

#include "sims/contact.hpp"
#include "sims/revolute_joint.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// How often a solver goes over all constraints. Box2D's leaves one count for both kinds of lanes.
struct Iterations {
  int flying;    // where nothing touches
  int touching;  // where something does
  int position;
};

template <class Model, class Real>
struct Island {
  static constexpr int kBodies = Model::kBodies;
  static constexpr int kJoints = Model::kJoints;
  static constexpr int kSlots = Model::kSlots;
  static constexpr int kSlotsPerBody = Model::kSlotsPerBody;

  Body<Real> bodies[kBodies];
  RevoluteImpulses<Real> joint_impulses[kJoints];
  RevoluteMotor<Real> motors[kJoints];
  Manifold<Real> manifolds[kSlots];
  StoredContact<Real> stored[kSlots];

  /// The slots that touch in any lane.
  struct Used {
    bool slot[kSlots] = {};

    Used() = default;
    PERILUNE_HD explicit Used(const Manifold<Real> (&manifolds)[kSlots]) {
      PERILUNE_UNROLL
      for (int s = 0; s < kSlots; ++s) slot[s] = any(manifolds[s].touching);
    }
    /// f(slot) for each, a body's in their order; those of several bodies in turn, as they need not wait for each
    /// other.
    template <class F>
    PERILUNE_HD void each(F&& f) const {
      const auto turn = [&](int k) PERILUNE_INLINED {
        PERILUNE_UNROLL
        for (int first = 0; first < kSlots; first += kSlotsPerBody) {
          if (slot[first + k]) f(first + k);
        }
      };
      // Of few slots one after the other, so that what they use can be registers.
      if constexpr (kSlots <= 8) {
        PERILUNE_UNROLL
        for (int k = 0; k < kSlotsPerBody; ++k) turn(k);
      } else {
        PERILUNE_ROLLED
        for (int k = 0; k < kSlotsPerBody; ++k) turn(k);
      }
    }
  };

  /// Velocities, then positions. External forces have been added to the velocities. Says where the
  /// positions satisfy all constraints.
  template <bool kFast>
  PERILUNE_HD Mask<Real> solve(float seconds, const Iterations& iterations) {
    using Joint = std::conditional_t<kFast, RevoluteBlock<Real>, RevoluteJoint<Real>>;
    // What is used here alone stays in registers.
    Body<Real> moving[kBodies];
    Joint joints[kJoints]{};
    Contact<Real> contacts[kSlots]{};
    const Used used(manifolds);
    Mask<Real> touching(false);
    PERILUNE_UNROLL
    for (int b = 0; b < kBodies; ++b) moving[b] = bodies[b];
    used.each([&](int s) PERILUNE_INLINED {
      touching = touching || manifolds[s].touching;
      const int b = Model::slot_body(s);
      contacts[s].init_velocity(Model::mass(b), moving[b], Real(Model::slot_friction(s)), manifolds[s], stored[s]);
    });
    used.each([&](int s) PERILUNE_INLINED {
      const int b = Model::slot_body(s);
      contacts[s].warm_start(Model::mass(b), moving[b]);
    });
    PERILUNE_UNROLL
    for (int j = 0; j < kJoints; ++j) {
      const int a = Model::joint_a(j), b = Model::joint_b(j);
      joints[j].init_velocity(Model::joint(j), Model::mass(a), Model::mass(b), motors[j], joint_impulses[j], moving[a],
                              moving[b]);
    }

    if constexpr (kFast) {
      // Lanes in the air settle at once; they do so on copies, which the others' contacts spoil.
      if (any(!touching)) {
        Body<Real> flying[kBodies];
        Joint free[kJoints];
        for (int b = 0; b < kBodies; ++b) flying[b] = moving[b];
        for (int j = 0; j < kJoints; ++j) free[j] = joints[j];
        iterate<false>(iterations.flying, free, contacts, Used(), flying);
        for (int b = 0; b < kBodies; ++b) bodies[b] = flying[b];
        for (int j = 0; j < kJoints; ++j) joint_impulses[j] = free[j].impulses();
      }
      if (any(touching)) {
        iterate<true>(iterations.touching, joints, contacts, used, moving);
      }
      for (int b = 0; b < kBodies; ++b) bodies[b] = select(touching, moving[b], bodies[b]);
      for (int j = 0; j < kJoints; ++j) {
        joint_impulses[j] = select(touching, joints[j].impulses(), joint_impulses[j]);
      }
    } else {
      iterate<false>(iterations.touching, joints, contacts, used, moving);
      for (int b = 0; b < kBodies; ++b) bodies[b] = moving[b];
      for (int j = 0; j < kJoints; ++j) joint_impulses[j] = joints[j].impulses();
    }
    used.each([&](int s) PERILUNE_INLINED { contacts[s].store_impulses(stored[s]); });
    for (int b = 0; b < kBodies; ++b) integrate_position(bodies[b], Real(seconds));
    return solve_positions(iterations.position, joints, used);
  }

 private:
  template <bool kRelax, class Joint>
  PERILUNE_HD void iterate(int count, Joint (&joints)[kJoints], Contact<Real> (&contacts)[kSlots], const Used& used,
                           Body<Real> (&moving)[kBodies]) const {
    PERILUNE_ROLLED
    for (int iteration = 0; iteration < count; ++iteration) {
      PERILUNE_UNROLL
      for (int j = 0; j < kJoints; ++j) {
        const int a = Model::joint_a(j), b = Model::joint_b(j);
        joints[j].template solve_velocity<kRelax>(Model::mass(a), Model::mass(b), motors[j], moving[a], moving[b]);
      }
      used.each([&](int s) PERILUNE_INLINED {
        const int b = Model::slot_body(s);
        contacts[s].template solve_velocity<kRelax>(Model::mass(b), moving[b]);
      });
    }
  }

  template <class Joint>
  PERILUNE_HD Mask<Real> solve_positions(int count, const Joint (&joints)[kJoints], const Used& used) {
    Mask<Real> solved(false);
    PERILUNE_ROLLED
    for (int iteration = 0; iteration < count && any(!solved); ++iteration) {
      Body<Real> moved[kBodies];
      for (int b = 0; b < kBodies; ++b) moved[b] = bodies[b];
      Real separation(0.0f);
      used.each([&](int s) PERILUNE_INLINED {
        const int b = Model::slot_body(s);
        separation = min(separation, manifolds[s].solve_position(Model::mass(b), physics::kBaumgarte, moved[b]));
      });
      Mask<Real> satisfied = separation >= Real(-3.0f * physics::kLinearSlop);
      PERILUNE_UNROLL
      for (int j = 0; j < kJoints; ++j) {
        const int a = Model::joint_a(j), b = Model::joint_b(j);
        satisfied =
            joints[j].solve_position(Model::joint(j), Model::mass(a), Model::mass(b), moved[a], moved[b]) && satisfied;
      }
      for (int b = 0; b < kBodies; ++b) bodies[b] = select(solved, bodies[b], moved[b]);
      solved = solved || satisfied;
    }
    return solved;
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
