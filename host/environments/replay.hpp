// One episode played again from recorded random draws and actions, in float or in double: how a simulator is compared
// with the environment that it stands for.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "host/settings/environment_settings.hpp"

namespace perilune {

struct ReplayOptions {
  std::string env_id = "CartPole-v1";  // or an alias
  EnvironmentParameters parameters;
  std::int64_t max_episode_steps = 0;  // 0: the environment's own limit
  bool in_double = false;
};

// T steps: as many as there were actions, or fewer where the episode ended.
struct ReplayedEpisode {
  int observation_dim = 0, bodies = 0;
  std::vector<double> observations;                 // [T + 1][observation_dim], the reset's first
  std::vector<double> rewards;                      // [T]
  std::vector<std::uint8_t> terminated, truncated;  // [T]
  std::vector<double> body_states;  // [T + 1][bodies][6]: x, y, angle, vx, vy, w; none where bodies is 0
};

// draws: what the environment drew, in order, each as the value its distribution gave. actions: [T] choices, or
// [T][numbers of an action]. Throws UsageError for an action that is none, or if the draws run out.
ReplayedEpisode replay(const ReplayOptions& options, std::span<const double> draws, std::span<const double> actions);

}  // namespace perilune
