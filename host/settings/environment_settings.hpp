// Settings of an environment beside the command line: numbers instead of text, by the same rules and with the same
// errors as the keys of config.hpp.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/settings/config.hpp"
#include "kernels/api.hpp"

namespace perilune {

using EnvironmentParameters =
    std::map<std::string, double, std::less<>>;  // by name, without "env."; a boolean is 0 or 1

// Sets parameters of config.env_id. `config` is unchanged when it throws.
void set_env_parameters(Config& config, const EnvironmentParameters& parameters);

// An environment alone, with everything else as it is by default. max_episode_steps 0: its own limit.
Config environment_config(std::string_view env_id, const EnvironmentParameters& parameters,
                          std::int64_t max_episode_steps);

// All parameters of config.env_id in its order: as set, or their defaults.
std::vector<double> env_parameters(const Config& config);

// The same as kernels take them; zeros after the last.
void copy_env_parameters(const Config& config, float (&to)[kMaxEnvParameters]);

// Throws UsageError if a parameter was set that config.env_id does not have.
void validate_environment(const Config& config);

// What is allowed but beyond what Gymnasium advises, a sentence each.
std::vector<std::string> environment_warnings(const Config& config);

// The most that an episode of the task can return, if that is known.
std::optional<double> highest_return(const Config& config);

// The task in words: "LunarLander-v3, up to 1000 steps, env.enable_wind = true" (parameters that are not at their
// default).
std::string task_text(const Config& config);

// The task of `config`, changed by settings of env_id, max_episode_steps and env.*: where a policy that was trained for
// `config` can be played as well. Parameters that another environment lacks are left out. Throws UsageError for other
// keys, and for an environment with other observations or actions.
Config evaluation_task(const Config& config, std::span<const Setting> settings);

// Throws UsageError, which begins with `what`, if a policy for `from` does not fit `to`: other observations or actions.
void require_same_spaces(std::string_view what, const EnvironmentInfo& from, const EnvironmentInfo& to);

// The seed as random numbers are keyed by it.
std::uint32_t checked_seed(std::int64_t seed);

}  // namespace perilune
