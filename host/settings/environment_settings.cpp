#include "host/settings/environment_settings.hpp"

#include <algorithm>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {

void set_env_parameters(Config& config, const EnvironmentParameters& parameters) {
  Config changed = config;
  for (const auto& [name, value] : parameters) {
    const std::string key = "env." + name;
    const bool is_boolean = find_key(key).type == KeyType::kBoolean && (value == 0.0 || value == 1.0);
    set_key(changed, key, is_boolean ? Value(value == 1.0) : Value(value));
  }
  validate_environment(changed);
  config = changed;
}

Config environment_config(std::string_view env_id, const EnvironmentParameters& parameters,
                          std::int64_t max_episode_steps) {
  Config config;
  set_key(config, "env_id", std::string(env_id));
  set_key(config, "max_episode_steps", max_episode_steps);
  set_env_parameters(config, parameters);
  return config;
}

std::vector<double> env_parameters(const Config& config) {
  std::vector<double> values;
  for (const EnvironmentParameter& parameter : find_environment(config.env_id).parameters) {
    values.push_back(env_parameter(config, parameter));
  }
  return values;
}

void copy_env_parameters(const Config& config, float (&to)[kMaxEnvParameters]) {
  std::fill(std::begin(to), std::end(to), 0.0f);
  std::ranges::transform(env_parameters(config), to, [](double value) { return static_cast<float>(value); });
}

void validate_environment(const Config& config) {
  const EnvironmentInfo& environment = find_environment(config.env_id);
  for (const auto& [name, value] : config.env_parameters) {
    if (find_parameter(environment, name) != nullptr) continue;
    std::vector<std::string_view> names;
    for (const EnvironmentParameter& parameter : environment.parameters) names.push_back(parameter.name);
    throw UsageError(formatted("env.{} = {} is no parameter of {} - it has: {}", name, shortest_text(value),
                               environment.id, names.empty() ? "none" : joined(names)));
  }
}

std::vector<std::string> environment_warnings(const Config& config) {
  std::vector<std::string> warnings;
  for (const EnvironmentParameter& parameter : find_environment(config.env_id).parameters) {
    const double value = env_parameter(config, parameter);
    if (parameter.advised.contains(value)) continue;
    warnings.push_back(formatted("env.{} = {} is {} than Gymnasium advises for {} - advised: {}", parameter.name,
                                 shortest_text(value), value < parameter.advised.min ? "less" : "more", config.env_id,
                                 range_text(parameter.advised)));
  }
  return warnings;
}

std::optional<double> highest_return(const Config& config) {
  const EnvironmentInfo& environment = find_environment(config.env_id);
  if (environment.highest_return == nullptr) return std::nullopt;
  return environment.highest_return(env_parameters(config).data(), episode_limit(config));
}

std::string task_text(const Config& config) {
  const EnvironmentInfo& environment = find_environment(config.env_id);
  std::string text = formatted("{}, up to {} steps", environment.id, episode_limit(config));
  for (const EnvironmentParameter& parameter : environment.parameters) {
    if (env_parameter(config, parameter) == parameter.default_value) continue;
    const std::string key = formatted("env.{}", parameter.name);
    text += formatted(", {} = {}", key, value_text(config, key));
  }
  return text;
}

void require_same_spaces(std::string_view what, const EnvironmentInfo& from, const EnvironmentInfo& to) {
  const auto fits = [&](const EnvironmentInfo& other) {
    return other.observation_dim() == from.observation_dim() &&
           other.action_space.continuous == from.action_space.continuous &&
           other.action_space.size == from.action_space.size;
  };
  if (fits(to)) return;
  const auto spaces = [](const EnvironmentInfo& environment) {
    return formatted("{} numbers as observation and {} {}", environment.observation_dim(),
                     environment.action_space.size,
                     environment.action_space.continuous ? "numbers as action" : "choices of action");
  };
  std::vector<std::string_view> fitting;
  for (const EnvironmentInfo& other : environments()) {
    if (fits(other)) fitting.push_back(other.id);
  }
  throw UsageError(formatted("{} is for {} ({}), {} has {} - allowed: {}", what, from.id, spaces(from), to.id,
                             spaces(to), joined(fitting)));
}

Config evaluation_task(const Config& config, std::span<const Setting> settings) {
  Config task = config;
  for (const Setting& setting : settings) {  // first, since the parameters are those of the environment
    if (setting.key == "env_id") set_key(task, setting.key, setting.value);
  }
  const EnvironmentInfo& environment = find_environment(task.env_id);
  require_same_spaces("the policy", find_environment(config.env_id), environment);
  if (task.env_id != config.env_id) {
    std::erase_if(task.env_parameters,
                  [&](const auto& entry) { return find_parameter(environment, entry.first) == nullptr; });
  }
  for (const Setting& setting : settings) {
    if (setting.key == "env_id") continue;
    if (setting.key != "max_episode_steps" && !setting.key.starts_with("env.")) {
      find_key(setting.key);
      throw UsageError(
          formatted("{} is no part of what an evaluation plays - allowed: env_id, max_episode_steps and "
                    "env.* - leave it out",
                    setting.key));
    }
    set_key(task, setting.key, setting.value);
  }
  validate_environment(task);
  return task;
}

std::uint32_t checked_seed(std::int64_t seed) {
  if (seed == static_cast<std::uint32_t>(seed)) return static_cast<std::uint32_t>(seed);
  Config scratch;
  set_key(scratch, "seed", seed);  // throws
  return 0;
}

}  // namespace perilune
