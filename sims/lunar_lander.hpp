// LunarLander-v3 and LunarLanderContinuous-v3: a lander with two hinged legs is thrown over uneven
// ground and is to come to rest on the pad, exact to Gymnasium 1.x on Box2D 2.3.
//
// The task (draws, engines, reward) is lander_task.hpp, the world lunar_world.hpp. Recorded episodes
// replay to the same last step in Box2D's arithmetic (box2d_float.hpp) and nearly always in ours,
// whose sine differs in last bits: until the first contact nothing is off by more than 6e-4.
#pragma once

#include <array>

#include "sims/lander_task.hpp"
#include "sims/lunar_world.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// All but how a pilot asks for thrust.
struct LunarLanderBase : lunar::TaskInfo {
  static constexpr bool kGymnasiumUsesBox2d = true;

  struct Params {
    lunar::TaskParams task;
    bool fast;
  };

  template <class Real>
  struct State {
    lunar::World<Real> world;
    lunar::TaskState<Real> task;
    static constexpr int kFields = 77;

    template <class F>
    PERILUNE_HD void fields(F&& f) {
      world.fields(f), task.fields(f);
    }
    template <class F>
    PERILUNE_HD void fields(F&& f) const {
      world.fields(f), task.fields(f);
    }
  };

  static constexpr std::array<const char*, 77> kFieldNames = {"hull_x",
                                                              "hull_y",
                                                              "hull_angle",
                                                              "hull_vx",
                                                              "hull_vy",
                                                              "hull_spin",
                                                              "right_leg_x",
                                                              "right_leg_y",
                                                              "right_leg_angle",
                                                              "right_leg_vx",
                                                              "right_leg_vy",
                                                              "right_leg_spin",
                                                              "left_leg_x",
                                                              "left_leg_y",
                                                              "left_leg_angle",
                                                              "left_leg_vx",
                                                              "left_leg_vy",
                                                              "left_leg_spin",
                                                              "left_joint_x",
                                                              "left_joint_y",
                                                              "left_joint_limit",
                                                              "left_joint_motor",
                                                              "right_joint_x",
                                                              "right_joint_y",
                                                              "right_joint_limit",
                                                              "right_joint_motor",
                                                              "right_leg_even_id0",
                                                              "right_leg_even_normal0",
                                                              "right_leg_even_tangent0",
                                                              "right_leg_even_id1",
                                                              "right_leg_even_normal1",
                                                              "right_leg_even_tangent1",
                                                              "right_leg_odd_id0",
                                                              "right_leg_odd_normal0",
                                                              "right_leg_odd_tangent0",
                                                              "right_leg_odd_id1",
                                                              "right_leg_odd_normal1",
                                                              "right_leg_odd_tangent1",
                                                              "left_leg_even_id0",
                                                              "left_leg_even_normal0",
                                                              "left_leg_even_tangent0",
                                                              "left_leg_even_id1",
                                                              "left_leg_even_normal1",
                                                              "left_leg_even_tangent1",
                                                              "left_leg_odd_id0",
                                                              "left_leg_odd_normal0",
                                                              "left_leg_odd_tangent0",
                                                              "left_leg_odd_id1",
                                                              "left_leg_odd_normal1",
                                                              "left_leg_odd_tangent1",
                                                              "right_leg_room_left",
                                                              "right_leg_room_bottom",
                                                              "right_leg_room_right",
                                                              "right_leg_room_top",
                                                              "left_leg_room_left",
                                                              "left_leg_room_bottom",
                                                              "left_leg_room_right",
                                                              "left_leg_room_top",
                                                              "right_leg_left_is_newer",
                                                              "left_leg_left_is_newer",
                                                              "right_leg_contact",
                                                              "left_leg_contact",
                                                              "quiet_time",
                                                              "height0",
                                                              "height1",
                                                              "height2",
                                                              "height3",
                                                              "height4",
                                                              "height5",
                                                              "height6",
                                                              "height7",
                                                              "height8",
                                                              "height9",
                                                              "height10",
                                                              "shaping",
                                                              "wind_index",
                                                              "torque_index"};

  static constexpr std::array<EnvironmentParameter, 5> kParameters = {
      kTaskParameters[0], kTaskParameters[1], kTaskParameters[2], kTaskParameters[3],
      boolean_parameter("fast_solver", false, "a faster solver with nearly the same scores")};

  /// A CPU's is what two cores of a Xeon (357 GFLOP/s) took. A GPU's were counted in PTX with random actions: the exact
  /// (fast) solver takes 43 k (7 k) instructions for one lander, 68 k (21 k) for 8 and 116 k (56 k) for 32. In flight
  /// 32 need 50 k of the exact solver; with a pilot that lands they need 140 k and 61 k.
  static constexpr StepCost step_cost(const double* parameters) {
    if (parameters[4] != 0.0) return {.cpu_flop = 162e3, .gpu_instructions = 7e3, .gpu_instructions_more = 1.6e3};
    return {.cpu_flop = 338e3, .gpu_instructions = 43e3, .gpu_instructions_more = 2.4e3};
  }

  PERILUNE_HD static Params params(const float* values) { return {lunar::task_params(values), values[4] != 0.0f}; }

  template <class Real, class Rng>
  PERILUNE_OUTLINED_ON_CPU static State<Real> reset(const Params& params, Rng& rng) {
    State<Real> state{};
    lunar::draw_ground<Real>(rng, state.world.heights);
    const Vec2<Real> force = lunar::draw_start_force<Real>(rng);
    state.task = lunar::begin_task<Real>(params.task, rng);
    state.world.place();
    advance(params, state, lunar::Throttle<Number<Real>>{}, lunar::draw_dispersion<Real>(rng), force);
    return state;
  }

  template <class Real>
  PERILUNE_HD static void observe(const Params&, const State<Real>& state, Real* out) {
    const Body<Real>& hull = state.world.bodies[0];
    lunar::observe_lander(hull.frame(lunar::hull_mass()).origin, hull.velocity, hull.angle, hull.spin,
                          state.world.leg_contact[0], state.world.leg_contact[1], out);
  }

  /// Where a step may have to look for contacts, and perhaps to solve them.
  template <class Real>
  PERILUNE_HD static Mask<Real> is_busy(const Params&, const State<Real>& state) {
    return state.world.is_near_ground();
  }

  /// The hull, the right and the left leg.
  template <class Real>
  PERILUNE_HD static void bodies(const State<Real>& state, Real* out) {
    describe_bodies<lunar::Model>(state.world.bodies, out);
  }

 protected:
  /// A step with `force` (N) on the hull besides the wind.
  template <class Real>
  PERILUNE_OUTLINED_ON_CPU static Outcome<Real> advance(const Params& params, State<Real>& state,
                                                        const lunar::Throttle<Number<Real>>& throttle,
                                                        Vec2<Number<Real>> dispersion, Vec2<Real> force) {
    lunar::World<Real>& world = state.world;
    const Mask<Real> landed = world.leg_contact[0] + world.leg_contact[1] > Real(0.0f);
    const lunar::Wind<Real> wind = lunar::blow(params.task, landed, state.task);
    force.x = force.x + wind.force;
    lunar::fire_engines(throttle, lunar::hull_mass(), dispersion, world.bodies[0]);
    const auto events = lunar::World<Real>::step(world, params.fast, params.task.gravity, force, wind.torque);
    Real observation[kObsDim];
    observe(params, state, observation);
    const Real x = world.bodies[0].frame(lunar::hull_mass()).origin.x;
    return lunar::judge(observation, x, throttle, events.crashed, events.asleep, state.task);
  }
};

template <class Engines>
struct LunarLanderWith : LunarLanderBase {
  static constexpr const char* kId = Engines::kContinuous ? "LunarLanderContinuous-v3" : "LunarLander-v3";
  static constexpr std::array<const char*, 1> kAliases = {Engines::kContinuous ? "lunar-lander-continuous"
                                                                               : "lunar-lander"};
  using Action = Engines;

  template <class Real, class Rng>
  PERILUNE_HD static Outcome<Real> step(const Params& params, State<Real>& state,
                                        typename Action::template Value<Number<Real>> action, Rng& rng) {
    const Real zero(0.0f);
    return advance(params, state, lunar::throttle<Number<Real>>(action), lunar::draw_dispersion<Real>(rng),
                   Vec2<Real>{zero, zero});
  }
};

using LunarLander = LunarLanderWith<lunar::DiscreteEngines>;
using LunarLanderContinuous = LunarLanderWith<lunar::ContinuousEngines>;

static_assert(Env<LunarLander> && Env<LunarLanderContinuous>);

}  // namespace perilune::inline PERILUNE_LEVEL
