#include "host/environment_settings.hpp"

#include <algorithm>

#include "host/error.hpp"
#include "host/format.hpp"
#include "host/text.hpp"

namespace perilune {

void set_env_parameters(Config& config, const EnvironmentParameters& parameters) {
  Config changed = config;
  for (const auto& [name, value] : parameters) set_key(changed, "env." + name, shortest_text(value));
  validate_environment(changed);
  config = changed;
}

Config environment_config(std::string_view env_id, const EnvironmentParameters& parameters,
                          std::int64_t max_episode_steps) {
  Config config;
  set_key(config, "env_id", env_id);
  set_key(config, "max_episode_steps", std::to_string(max_episode_steps));
  set_env_parameters(config, parameters);
  return config;
}

void copy_env_parameters(const Config& config, float (&to)[kMaxEnvParameters]) {
  std::fill(std::begin(to), std::end(to), 0.0f);
  float* next = to;
  for (const EnvironmentParameter& parameter : find_environment(config.env_id).parameters) {
    *next++ = static_cast<float>(env_parameter(config, parameter));
  }
}

void validate_environment(const Config& config) {
  const EnvironmentInfo& environment = find_environment(config.env_id);
  for (const auto& [name, value] : config.env_parameters) {
    if (find_parameter(environment, name) != nullptr) continue;
    std::vector<std::string_view> names;
    for (const EnvironmentParameter& parameter : environment.parameters) names.push_back(parameter.name);
    throw UsageError(formatted("env.{} = {} is no parameter of {} - it has: {}", name,
                               shortest_text(value), environment.id,
                               names.empty() ? "none" : joined(names)));
  }
}

std::vector<std::string> environment_warnings(const Config& config) {
  std::vector<std::string> warnings;
  for (const EnvironmentParameter& parameter : find_environment(config.env_id).parameters) {
    const double value = env_parameter(config, parameter);
    if (!parameter.advised_max || value <= *parameter.advised_max) continue;
    warnings.push_back(formatted("env.{} = {} is more than Gymnasium advises for {} - advised: {} .. {}",
                                 parameter.name, shortest_text(value), config.env_id,
                                 shortest_text(parameter.min), shortest_text(*parameter.advised_max)));
  }
  return warnings;
}

std::uint32_t checked_seed(std::int64_t seed) {
  if (seed == static_cast<std::uint32_t>(seed)) return static_cast<std::uint32_t>(seed);
  Config scratch;
  set_key(scratch, "seed", std::to_string(seed));  // throws
  return 0;
}

}  // namespace perilune
