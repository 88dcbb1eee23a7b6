#include "host/environments/replay.hpp"

#include <cmath>
#include <stdexcept>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "kernels/replay.hpp"

namespace perilune {

namespace {

void require_actions(const EnvironmentInfo& environment, std::span<const double> actions) {
  const ActionSpace& space = environment.action_space;
  const auto width = static_cast<std::size_t>(space.numbers());
  if (actions.size() % width != 0) {
    throw UsageError(formatted("{} numbers are no whole actions of {} - allowed: a multiple of {}", actions.size(),
                               environment.id, width));
  }
  for (std::size_t i = 0; i < actions.size(); ++i) {
    const double action = actions[i];
    if (space.continuous) {
      if (!std::isnan(action)) continue;
      throw UsageError(formatted("actions[{}, {}] = nan is no number - allowed: any number", i / width, i % width));
    }
    if (action >= 0.0 && action < space.size && action == std::floor(action)) continue;
    throw UsageError(
        formatted("actions[{}] = {} is no action of {} - allowed: 0 .. {}", i, action, environment.id, space.size - 1));
  }
}

void require_draws(const EnvironmentInfo& environment, std::size_t count, std::span<const double> draws) {
  if (count > 0 && draws.size() != count) {
    throw UsageError(formatted("{} draws are no episode of {} - allowed: {}, those of one reset", draws.size(),
                               environment.id, count));
  }
  for (std::size_t i = 0; i < draws.size(); ++i) {
    if (std::isfinite(draws[i])) continue;
    throw UsageError(formatted("draws[{}] = {} is no draw - allowed: finite numbers", i, draws[i]));
  }
}

}  // namespace

ReplayedEpisode replay(const ReplayOptions& options, std::span<const double> draws, std::span<const double> actions) {
  const Config config = environment_config(options.env_id, options.parameters, options.max_episode_steps);
  const EnvironmentInfo& environment = find_environment(config.env_id);
  const Replays* replays = find_replays(config.env_id.c_str());
  if (replays == nullptr) throw UsageError(formatted("{} cannot be replayed", environment.id));
  require_draws(environment, replays->draws, draws);
  require_actions(environment, actions);
  ReplayArgs args{draws, actions, episode_limit(config), {}};
  copy_env_parameters(config, args.parameters);
  ReplayedSteps steps;
  try {
    steps = options.in_double ? replays->in_double(args) : replays->in_float(args);
  } catch (const std::out_of_range& error) {
    throw UsageError(error.what());
  }
  return {environment.observation_dim(), environment.bodies,          std::move(steps.observations),
          std::move(steps.rewards),      std::move(steps.terminated), std::move(steps.truncated),
          std::move(steps.bodies)};
}

}  // namespace perilune
