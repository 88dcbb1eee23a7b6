// What tests of both landers share: recorded episodes and their replay, Gymnasium's heuristic pilot,
// and statistics of its flights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sims/env.hpp"
#include "sims/rng.hpp"
#include "sims/tape_random.hpp"
#include "tests/support/golden.hpp"

namespace perilune::test {

inline constexpr int kBodyValues = 18;  // x, y, angle, vx, vy, w of hull, right leg, left leg

/// One row of lunar_lander_steps.csv.
struct RecordedStep {
  double action[2];
  double dispersion[2];
  double reward;
  bool terminated;
  double observation[8];
  double bodies[kBodyValues];
};

/// An episode of Gymnasium's LunarLander; steps[0] is the one inside reset.
struct RecordedEpisode {
  int seed;
  bool continuous;
  bool wind;
  std::vector<double> draws;  // of the whole episode, in order
  std::vector<RecordedStep> steps;

  int length() const { return static_cast<int>(steps.size()) - 1; }
  /// The first step after which a leg touches, or the episode's length.
  int first_contact() const {
    for (int t = 0; t < length(); ++t) {
      const double* legs = steps[static_cast<std::size_t>(t)].observation + 6;
      if (legs[0] + legs[1] > 0) return t;
    }
    return length();
  }
};

inline std::vector<RecordedEpisode> read_lander_episodes() {
  std::vector<RecordedEpisode> episodes;
  const auto steps = read_golden("lunar_lander_steps.csv");
  std::size_t row = 0;
  for (const auto& start : read_golden("lunar_lander_episodes.csv")) {
    RecordedEpisode episode{static_cast<int>(start[0]), start[1] != 0, start[2] != 0, {}, {}};
    episode.draws.assign(start.begin() + 3, start.begin() + (episode.wind ? 19 : 17));
    for (; row < steps.size() && steps[row][0] == start[0]; ++row) {
      const auto& values = steps[row];
      RecordedStep step{{values[2], values[3]}, {values[4], values[5]}, values[6], values[7] != 0, {}, {}};
      std::copy_n(values.begin() + 8, 8, step.observation);
      std::copy_n(values.begin() + 16, kBodyValues, step.bodies);
      episode.draws.insert(episode.draws.end(), step.dispersion, step.dispersion + 2);
      episode.steps.push_back(step);
    }
    episodes.push_back(episode);
  }
  return episodes;
}

/// What a simulator makes of a recorded episode; [0] is after reset.
template <class Real>
struct Replay {
  struct Step {
    Real bodies[kBodyValues];
    Real observation[8];
    Real reward;
  };
  std::vector<Step> steps;
  bool terminated = false;
  std::size_t unused_draws = 0;

  int length() const { return static_cast<int>(steps.size()) - 1; }
};

/// Replays the recorded actions until the simulator or the recording ends. `Draw` is what the tape
/// returns.
template <class E, class Real, class Draw>
Replay<Real> replay(const RecordedEpisode& episode, std::span<const float> parameters) {
  Replay<Real> result;
  TapeRandom<Draw> tape(episode.draws);
  const auto params = E::params(parameters.data());
  auto state = E::template reset<Real>(params, tape);
  const auto keep = [&](Real reward) {
    auto& step = result.steps.emplace_back();
    E::bodies(state, step.bodies);
    E::observe(params, state, step.observation);
    step.reward = reward;
  };
  keep(Real(0.0f));
  for (int t = 1; t <= episode.length() && !result.terminated; ++t) {
    const double* action = episode.steps[static_cast<std::size_t>(t)].action;
    Outcome<Real> outcome;
    if constexpr (E::Action::kContinuous) {
      const typename E::Action::template Value<Draw> value = {
          {static_cast<float>(action[0]), static_cast<float>(action[1])}};  // as the recording took them
      outcome = E::step(params, state, value, tape);
    } else {
      outcome = E::step(params, state, static_cast<std::uint32_t>(action[0]), tape);
    }
    keep(outcome.reward);
    result.terminated = outcome.terminated;
  }
  result.unused_draws = tape.remaining();
  return result;
}

/// Gymnasium's heuristic pilot: how much it wants to turn and to rise. Its target is a lean towards
/// the pad, and a height that shrinks with the distance; on its legs it only brakes.
struct Intent {
  double turn;
  double rise;
};
inline Intent heuristic(const float* observation) {
  const auto [x, y, vx, vy] = std::array<double, 4>{observation[0], observation[1], observation[2], observation[3]};
  const double lean = std::clamp(0.5 * x + vx, -0.4, 0.4);
  if (observation[6] + observation[7] > 0) return {0.0, -0.5 * vy};
  return {0.5 * (lean - observation[4]) - observation[5], 0.5 * (0.55 * std::fabs(x) - y) - 0.5 * vy};
}
template <class E>
typename E::Action::template Value<float> heuristic_action(const float* observation) {
  const Intent intent = heuristic(observation);
  if constexpr (E::Action::kContinuous) {
    return {{static_cast<float>(std::clamp(20 * intent.rise - 1, -1.0, 1.0)),
             static_cast<float>(std::clamp(-20 * intent.turn, -1.0, 1.0))}};
  } else {
    if (intent.rise > std::fabs(intent.turn) && intent.rise > 0.05) return 2;
    return intent.turn < -0.05 ? 3 : intent.turn > 0.05 ? 1 : 0;
  }
}

/// How a number of flights went.
struct Flights {
  std::vector<double> returns;
  double mean = 0;
  double landed = 0;  // shares
  double crashed = 0;
  double lost = 0;  // out at the side
};

/// `count` flights of the heuristic pilot.
template <class E>
Flights fly(std::span<const float> parameters, std::uint32_t count) {
  Flights flights;
  const auto params = E::params(parameters.data());
  const double share = 1.0 / count;
  for (std::uint32_t episode = 0; episode < count; ++episode) {
    CounterRandom<float> reset({42, 0}, 0, episode, 0, Purpose::kReset);
    auto state = E::template reset<float>(params, reset);
    double total = 0;
    Outcome<float> outcome{0.0f, false};
    float observation[E::kObsDim];
    for (std::uint32_t t = 0; t < E::kMaxEpisodeSteps && !outcome.terminated; ++t) {
      E::observe(params, state, observation);
      CounterRandom<float> rng({42, 0}, 0, episode, t, Purpose::kStep);
      outcome = E::step(params, state, heuristic_action<E>(observation), rng);
      total += static_cast<double>(outcome.reward);
    }
    E::observe(params, state, observation);
    if (outcome.terminated) {
      const bool landed = outcome.reward == 100.0f;
      const bool lost = !landed && std::fabs(observation[0]) >= 1;
      flights.landed += landed ? share : 0;
      flights.lost += lost ? share : 0;
      flights.crashed += landed || lost ? 0 : share;
    }
    flights.returns.push_back(total);
    flights.mean += total * share;
  }
  return flights;
}

}  // namespace perilune::test
