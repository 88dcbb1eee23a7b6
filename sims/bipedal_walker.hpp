// BipedalWalker-v3: a hull on two jointed legs is to walk over uneven ground with little effort, exact to Gymnasium
// 1.x on Box2D 2.3.
//
// The world is walker_world.hpp; here are the draws of a reset, motors, lidar, observation and reward. Gymnasium
// computes this part in float64 and rounds when it hands numbers to Box2D; here it is float, but for tests that give
// Number<Real> another meaning. Walking is chaotic: the last bit of a sine grows to another gait within some hundred
// steps, in the real environment as well.
#pragma once

#include <array>

#include "sims/env.hpp"
#include "sims/field_names.hpp"
#include "sims/math.hpp"
#include "sims/walker_world.hpp"

namespace perilune::inline PERILUNE_LEVEL {
namespace walker {

inline constexpr double kHipSpeed = 4.0, kKneeSpeed = 6.0;  // of motors (rad/s)
inline constexpr double kMotorTorque = 80.0;                // (N m)
inline constexpr double kStartForce = 5.0;                  // the most (N)
inline constexpr double kGoal = 190 * kSpacing;
inline constexpr int kRays = 10;
inline constexpr double kRayLength = 160 / kScale;
/// The end of ray i from where it begins, at 0.15 i rad to the vertical, forwards.
PERILUNE_HD constexpr Vec2<double> ray_end(int i) {
  constexpr double sine[kRays] = {0.0,
                                  0.14943813247359922,
                                  0.29552020666133955,
                                  0.43496553411123023,
                                  0.5646424733950354,
                                  0.6816387600233341,
                                  0.7833269096274834,
                                  0.867423225594017,
                                  0.9320390859672263,
                                  0.9757233578266591};
  constexpr double cosine[kRays] = {1.0,
                                    0.9887710779360422,
                                    0.955336489125606,
                                    0.9004471023526769,
                                    0.8253356149096783,
                                    0.7316888688738209,
                                    0.6216099682706644,
                                    0.49757104789172696,
                                    0.3623577544766736,
                                    0.2190066870930415};
  return {sine[i] * kRayLength, -(cosine[i] * kRayLength)};
}

/// The ground's heights: flat where the walker starts, then a slope that changes a little at every vertex but those,
/// five to nine apart, where it pauses. A recorded episode holds the heights themselves.
template <class Real, class Rng>
PERILUNE_HD void draw_ground(Rng& rng, Real (&heights)[kHeights]) {
  using N = Number<Real>;
  using math::constant;
  if constexpr (requires { Rng::kRecorded; }) {
    for (Real& height : heights) height = Real(rng.uniform());
  } else {
    // The most that there can be, drawn first: what is drawn when must not depend on the draws.
    constexpr int kPauses = (kHeights - kFlatHeights) / 5 + 1;
    N pauses[kPauses];
    for (N& steps : pauses) steps = N(rng.integer(5, 10));
    const N start(constant<N>(kStartHeight)), zero(0.0f), one(1.0f), tug(constant<N>(0.01));
    N slope = zero, y = start, steps(float{kFlatHeights});
    Int<N> next(0);
    Mask<N> pause(false);
    PERILUNE_ROLLED
    for (int i = 0; i < kHeights; ++i) {
      N changed = constant<N>(0.8) * slope + select(y < start, tug, select(y > start, -tug, zero));
      if (i > kFlatHeights) {
        changed = changed + math::divide_by_constant(N(rng.uniform(math::Scalar<N>(-1), math::Scalar<N>(1))), kScale);
      }
      slope = select(pause, slope, changed);
      y = select(pause, y, y + slope);
      heights[i] = Real(y);
      steps = steps - one;
      pause = steps == zero;
      steps = select(pause, lookup(pauses, next), steps);
      next = select(pause, next + Int<N>(1), next);
    }
  }
}

/// What the action asks of the motors: which way to turn, and how hard.
template <class Real, class N>
PERILUNE_HD Motors<Real> motors_of(const N (&action)[4]) {
  const N zero(0.0f);
  Motors<Real> motors;
  for (int j = 0; j < 4; ++j) {
    const N speed(math::constant<N>(j % 2 == 0 ? kHipSpeed : kKneeSpeed));
    motors.speed[j] = Real(select(action[j] > zero, speed, select(action[j] < zero, -speed, zero)));
    motors.torque[j] = Real(math::constant<N>(kMotorTorque) * min(abs(action[j]), N(1.0f)));
  }
  return motors;
}

/// How far each ray gets from `origin` until it meets the ground, as a part of its length; 1: it does not.
template <class Real>
PERILUNE_OUTLINED void cast_rays(const World<Real>& world, Vec2<Real> origin, Real* fractions) {
  using N = Number<Real>;
  const Real zero(0.0f), one(1.0f);
  Vec2<Real> ray[kRays];
  PERILUNE_UNROLL
  for (int i = 0; i < kRays; ++i) {
    const Vec2<double> end = ray_end(i);
    const N x = N(origin.x) + N(math::constant<N>(end.x)), y = N(origin.y) + N(math::constant<N>(end.y));
    ray[i] = {Real(x) - origin.x, Real(y) - origin.y};
    fractions[i] = one;
  }
  // A vertex may be on either side of the origin by rounding.
  constexpr float kRounding = 1 / 64.0f;
  const Real first = math::floor(origin.x * Real(math::constant<Real>(1 / kSpacing)) - Real(kRounding));
  constexpr int kReach = 13;  // edges that the longest ray may meet
  PERILUNE_ROLLED
  for (int k = 0; k < kReach; ++k) {
    const Real number = first + Real(static_cast<float>(k));
    const Mask<Real> exists = number >= zero && number <= Real(kHeights - 2.0f);
    const Edge<Real> edge = world.edge(number);
    const Vec2<Real> along = edge.to - edge.from;
    const Vec2<Real> normal = normalized(right_normal(along));
    const Real height = dot(normal, edge.from - origin), along_squared = dot(along, along);
    for (int i = 0; i < kRays; ++i) {
      const Real approach = dot(normal, ray[i]);
      const Real part = height / select(approach == zero, one, approach);
      const Vec2<Real> meeting = origin + part * ray[i];
      const Real place = dot(meeting - edge.from, along) / along_squared;
      const Mask<Real> hit =
          exists && approach != zero && part >= zero && part <= fractions[i] && place >= zero && place <= one;
      fractions[i] = select(hit, part, fractions[i]);
    }
  }
}

}  // namespace walker

struct BipedalWalker {
  static constexpr const char* kId = "BipedalWalker-v3";
  static constexpr std::array<const char*, 1> kAliases = {"bipedal-walker"};
  using Action = Box<4>;  // hip and knee of the first leg, of the second one
  static constexpr int kBodies = walker::Model::kBodies;
  static constexpr int kMaxEpisodeSteps = 1600;
  static constexpr double kSolvedReturn = 300.0;
  static constexpr bool kGymnasiumUsesBox2d = true;
  static constexpr int kEpisodeDraws = walker::kHeights + 1;  // heights, and the force at the start

  static constexpr double kPi = 3.141592653589793;
  static constexpr std::array<ObservationNumber, 24> kObservation = {{{"hull_angle", -kPi, kPi},
                                                                      {"hull_spin", -5, 5},
                                                                      {"vx", -5, 5},
                                                                      {"vy", -5, 5},
                                                                      {"hip1_angle", -kPi, kPi},
                                                                      {"hip1_speed", -5, 5},
                                                                      {"knee1_angle", -kPi, kPi},
                                                                      {"knee1_speed", -5, 5},
                                                                      {"leg1_contact", 0, 5},
                                                                      {"hip2_angle", -kPi, kPi},
                                                                      {"hip2_speed", -5, 5},
                                                                      {"knee2_angle", -kPi, kPi},
                                                                      {"knee2_speed", -5, 5},
                                                                      {"leg2_contact", 0, 5},
                                                                      {"lidar0", -1, 1},
                                                                      {"lidar1", -1, 1},
                                                                      {"lidar2", -1, 1},
                                                                      {"lidar3", -1, 1},
                                                                      {"lidar4", -1, 1},
                                                                      {"lidar5", -1, 1},
                                                                      {"lidar6", -1, 1},
                                                                      {"lidar7", -1, 1},
                                                                      {"lidar8", -1, 1},
                                                                      {"lidar9", -1, 1}}};
  static constexpr int kObsDim = int{kObservation.size()};

  static constexpr std::array<EnvironmentParameter, 0> kParameters = {};
  struct Params {};
  PERILUNE_HD static Params params(const float*) { return {}; }

  /// A CPU's is 5.7 times an exact lander's, as one core of an EPYC took. A GPU's is reckoned: 180 iterations of four
  /// joints (90 instructions) and two or three contacts (70), 60 of positions (700), and the search for contacts.
  static constexpr StepCost step_cost(const double*) {
    return {.cpu_flop = 1.9e6, .gpu_instructions = 150e3, .gpu_instructions_more = 6e3};
  }

  template <class Real>
  struct State {
    static constexpr int kFields = 420;
    walker::World<Real> world;
    Real lidar[walker::kRays];  // as the last step left it
    Real shaping;               // the potential whose change is the reward

    template <class F>
    PERILUNE_HD void fields(F&& f) {
      each_field(*this, f);
    }
    template <class F>
    PERILUNE_HD void fields(F&& f) const {
      each_field(*this, f);
    }

   private:
    template <class S, class F>
    PERILUNE_HD static void each_field(S& s, F& f) {
      s.world.fields(f);
      for (auto& ray : s.lidar) f(ray);
      f(s.shaping);
    }
  };

 private:
  static constexpr FieldNames<420> kNames = [] {
    FieldNames<420> names;
    for (const char* body : {"hull_", "upper_leg1_", "lower_leg1_", "upper_leg2_", "lower_leg2_"}) {
      names.add_all(body, {"x", "y", "angle", "vx", "vy", "spin"});
    }
    for (const char* joint : {"knee2_", "hip2_", "hip1_", "knee1_"}) {
      names.add_all(joint, {"x", "y", "limit", "motor"});
    }
    const char* const known[] = {"upper_leg1_known", "lower_leg1_known", "upper_leg2_known", "lower_leg2_known"};
    const char* const parts[] = {"upper_leg1_", "lower_leg1_", "upper_leg2_", "lower_leg2_"};
    for (int p = 0; p < walker::kParts; ++p) {
      names.add_all(parts[p], {"room_left", "room_bottom", "room_right", "room_top"});
      names.add_numbered(known[p], walker::PartContacts<float>::kKnown);
      for (const char* touch : {"0_", "1_", "2_", "3_"}) {
        for (const char* what : {"edge", "id0", "normal0", "tangent0", "id1", "normal1", "tangent1"}) {
          names.add(parts[p], "touch", touch, what);
        }
      }
    }
    names.add_all("", {"leg1_contact", "leg2_contact", "quiet_time"});
    names.add_numbered("height", walker::kHeights);
    names.add_numbered("lidar", walker::kRays);
    names.add("shaping");
    return names;
  }();

 public:
  static constexpr std::array<const char*, 420> kFieldNames = pointers(kNames);

  template <class Real, class Rng>
  PERILUNE_OUTLINED static State<Real> reset(const Params&, Rng& rng) {
    using N = Number<Real>;
    State<Real> state{};
    walker::draw_ground<Real>(rng, state.world.heights);
    const auto most = math::constant<N>(walker::kStartForce);
    const Real force(rng.uniform(-most, most));
    state.world.place();
    const N nothing[4] = {N(0.0f), N(0.0f), N(0.0f), N(0.0f)};
    advance(state, nothing, force);
    return state;
  }

  template <class Real, class Rng>
  PERILUNE_HD static Outcome<Real> step(const Params&, State<Real>& state,
                                        const typename Action::template Value<Number<Real>>& action, Rng&) {
    return advance(state, action.at, Real(0.0f));
  }

  template <class Real>
  PERILUNE_HD static void observe(const Params&, const State<Real>& state, Real* out) {
    using N = Number<Real>;
    using math::constant;
    const walker::World<Real>& world = state.world;
    const Body<Real>& hull = world.bodies[walker::kHull];
    out[0] = hull.angle;
    out[1] = Real(N(hull.spin) * constant<N>(2.0 / 50));
    out[2] = Real(N(hull.velocity.x) * constant<N>(0.3 * 20 / 50));
    out[3] = Real(N(hull.velocity.y) * constant<N>(0.3 * (400 / walker::kScale) / 50));
    for (int leg = 0; leg < 2; ++leg) {
      const Body<Real>&upper = world.bodies[1 + 2 * leg], &lower = world.bodies[2 + 2 * leg];
      Real* to = out + 4 + 5 * leg;
      to[0] = upper.angle - hull.angle - Real(leg == 0 ? -0.05f : 0.05f);
      to[1] = Real(N(upper.spin - hull.spin) * constant<N>(1 / walker::kHipSpeed));
      to[2] = Real(N(lower.angle - upper.angle) + N(1.0f));
      to[3] = Real(math::divide_by_constant(N(lower.spin - upper.spin), walker::kKneeSpeed));
      to[4] = world.leg_contact[leg];
    }
    for (int i = 0; i < walker::kRays; ++i) out[14 + i] = state.lidar[i];
  }

  /// The hull, the upper and lower part of the first leg, and of the second one.
  template <class Real>
  PERILUNE_HD static void bodies(const State<Real>& state, Real* out) {
    describe_bodies<walker::Model>(state.world.bodies, out);
  }

 private:
  /// A step with a force along x (N) on the hull. The reward is the way forward, less for a tilted hull and for torque.
  template <class Real>
  PERILUNE_OUTLINED static Outcome<Real> advance(State<Real>& state, const Number<Real> (&action)[4], Real force) {
    using N = Number<Real>;
    walker::World<Real>& world = state.world;
    const walker::Motors<Real> motors = walker::motors_of<Real>(action);
    const Mask<Real> crashed = walker::World<Real>::step(world, motors, force);
    const Body<Real>& hull = world.bodies[walker::kHull];
    const Vec2<Real> origin = hull.frame(walker::hull_mass()).origin;
    walker::cast_rays(world, origin, state.lidar);
    const N x(origin.x);
    const N shaping = math::constant<N>(130 / walker::kScale) * x - N(5.0f) * abs(N(hull.angle));
    N reward = shaping - N(state.shaping);
    for (const N& a : action)
      reward = reward - math::constant<N>(0.00035 * walker::kMotorTorque) * min(abs(a), N(1.0f));
    state.shaping = Real(shaping);
    const Mask<Real> lost = crashed || x < N(0.0f);
    const Mask<Real> arrived = x > N(math::constant<N>(walker::kGoal));
    return {select(lost, Real(-100.0f), Real(reward)), lost || arrived};
  }
};

static_assert(Env<BipedalWalker>);

}  // namespace perilune::inline PERILUNE_LEVEL
