// One episode of an environment from recorded random draws and actions, for comparison with the
// implementation that it stands for. On the host, one environment at a time, in float or in double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/api.hpp"

namespace perilune {

struct ReplayArgs {
  std::span<const double> draws;    ///< in the order in which the environment asks for them
  std::span<const double> actions;  ///< [T] choices, or [T][numbers per action]
  std::uint32_t max_episode_steps;
  float parameters[kMaxEnvParameters];
};

/// What happened in up to T steps; the first row of a state is the reset's.
struct ReplayedSteps {
  std::vector<double> observations;                 ///< [steps + 1][observation dim]
  std::vector<double> rewards;                      ///< [steps]
  std::vector<std::uint8_t> terminated, truncated;  ///< [steps]
  std::vector<double> bodies;                       ///< [steps + 1][bodies][6]: x, y, angle, vx, vy, w
};

/// An environment's replays, which end where the episode does. They throw std::out_of_range when
/// the draws run out.
struct Replays {
  const char* environment;
  std::size_t draws;  ///< of a whole episode; 0: as many as it asks for
  ReplayedSteps (*in_float)(const ReplayArgs&);
  /// In Gymnasium's own arithmetic: double, but for Box2D's world, which is float.
  ReplayedSteps (*in_double)(const ReplayArgs&);
};

/// Null if there is none of this name.
const Replays* find_replays(const char* environment);

}  // namespace perilune
