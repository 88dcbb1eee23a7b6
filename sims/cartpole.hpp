// CartPole-v1: a pole hinged on a cart that is pushed left or right (Barto, Sutton and Anderson
// 1983), exact to Gymnasium 1.x's CartPoleEnv.
//
// State and observation: cart position (m), its velocity, pole angle (rad, 0 is upright), its
// velocity. Over double, one step reproduces Gymnasium's float64 transition, operation for
// operation; over float, divisions by constants are products with the reciprocal, and a step
// differs by at most 3e-7 from it. Open-loop replay is unstable either way: an error grows to the
// size of the track within some 200 steps. Angles are not reduced: a live episode steps from
// |angle| <= 0.21, and a terminated one must be reset, not stepped.
#pragma once

#include <array>
#include <cstdint>

#include "sims/env.hpp"
#include "sims/math.hpp"
#include "sims/portable.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

struct CartPole {
  static constexpr const char* kId = "CartPole-v1";
  static constexpr std::array<const char*, 1> kAliases = {"cartpole"};
  using Action = Discrete<2>;  // push left, push right
  static constexpr int kBodies = 0;
  static constexpr int kMaxEpisodeSteps = 500;
  static constexpr double kSolvedReturn = 475.0;

  struct Params {
    bool sutton_barto_reward;
  };
  static constexpr std::array<EnvironmentParameter, 1> kParameters = {
      boolean_parameter("sutton_barto_reward", false, "reward 0 per step and -1 at the fall, instead of 1 per step")};

  template <class Real>
  struct State {
    static constexpr int kFields = 4;
    Real position;
    Real velocity;
    Real angle;
    Real angular_velocity;

    template <class F>
    PERILUNE_HD void fields(F&& f) {
      f(position), f(velocity), f(angle), f(angular_velocity);
    }
    template <class F>
    PERILUNE_HD void fields(F&& f) const {
      f(position), f(velocity), f(angle), f(angular_velocity);
    }
  };

  static constexpr std::array<const char*, 4> kFieldNames = {"position", "velocity", "angle", "angular_velocity"};

  static constexpr double kGravity = 9.8;
  static constexpr double kPoleMass = 0.1;
  static constexpr double kTotalMass = kPoleMass + 1.0;
  static constexpr double kHalfLength = 0.5;
  static constexpr double kPoleMassLength = kPoleMass * kHalfLength;
  static constexpr double kForce = 10.0;
  static constexpr double kTimeStep = 0.02;
  static constexpr double kPositionLimit = 2.4;
  static constexpr double kAngleLimit = 12 * 2 * 3.141592653589793 / 360;
  static constexpr double kResetRange = 0.05;

  /// Bounds are twice the limits at which an episode ends; velocities have none.
  static constexpr std::array<ObservationNumber, 4> kObservation = {
      {{"position", -2 * kPositionLimit, 2 * kPositionLimit},
       {"velocity"},
       {"angle", -2 * kAngleLimit, 2 * kAngleLimit},
       {"angular_velocity"}}};
  static constexpr int kObsDim = int{kObservation.size()};

  /// It was fitted to the times of one AVX-512 core (EPYC).
  static constexpr StepCost step_cost(const double*) { return {.cpu_flop = 230.0}; }
  static constexpr double highest_return(const double* parameters, std::int64_t steps) {
    return parameters[0] != 0.0 ? 0.0 : static_cast<double>(steps);
  }

  /// `values`: one per entry of kParameters.
  PERILUNE_HD static Params params(const float* values) { return {values[0] != 0.0f}; }

  template <class Real, class Rng>
  PERILUNE_HD static State<Real> reset(const Params&, Rng& rng) {
    constexpr auto kRange = static_cast<math::Scalar<Real>>(kResetRange);
    State<Real> state;
    state.position = rng.uniform(-kRange, kRange);
    state.velocity = rng.uniform(-kRange, kRange);
    state.angle = rng.uniform(-kRange, kRange);
    state.angular_velocity = rng.uniform(-kRange, kRange);
    return state;
  }

  /// The order of operations is Gymnasium's, for its bits over double. The last step of an episode
  /// is rewarded too.
  template <class Real, class Rng>
  PERILUNE_HD static Outcome<Real> step(const Params& params, State<Real>& state, UInt<Real> action, Rng&) {
    using math::constant;
    using math::divide_by_constant;
    const auto [sin_angle, cos_angle] = math::sincos_reduced(state.angle);
    const Real force = select(action == UInt<Real>(1u), Real(constant<Real>(kForce)), Real(constant<Real>(-kForce)));
    const Real spin = state.angular_velocity * state.angular_velocity;
    const Real push = divide_by_constant(force + constant<Real>(kPoleMassLength) * spin * sin_angle, kTotalMass);
    const Real inertia = constant<Real>(kHalfLength) *
                         (constant<Real>(4.0 / 3.0) -
                          divide_by_constant(constant<Real>(kPoleMass) * (cos_angle * cos_angle), kTotalMass));
    const Real angular_acceleration = (constant<Real>(kGravity) * sin_angle - cos_angle * push) / inertia;
    const Real acceleration =
        push - divide_by_constant(constant<Real>(kPoleMassLength) * angular_acceleration * cos_angle, kTotalMass);

    const auto kStep = constant<Real>(kTimeStep);
    state.position = state.position + kStep * state.velocity;
    state.velocity = state.velocity + kStep * acceleration;
    state.angle = state.angle + kStep * state.angular_velocity;
    state.angular_velocity = state.angular_velocity + kStep * angular_acceleration;

    const Mask<Real> terminated = abs(state.position) > Real(constant<Real>(kPositionLimit)) ||
                                  abs(state.angle) > Real(constant<Real>(kAngleLimit));
    const Real alive_reward(params.sutton_barto_reward ? 0.0f : 1.0f);
    const Real last_reward(params.sutton_barto_reward ? -1.0f : 1.0f);
    return {select(terminated, last_reward, alive_reward), terminated};
  }

  /// `out`: the kObsDim numbers of the state, as they are.
  template <class Real>
  PERILUNE_HD static void observe(const Params&, const State<Real>& state, Real* out) {
    out[0] = state.position;
    out[1] = state.velocity;
    out[2] = state.angle;
    out[3] = state.angular_velocity;
  }
};

static_assert(Env<CartPole>);

}  // namespace perilune::inline PERILUNE_LEVEL
