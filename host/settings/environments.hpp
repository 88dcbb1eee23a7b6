// What the host knows about the built-in environments: names, sizes, limits and parameters. The
// simulators themselves are in sims/ and are never seen here; a test compares this table with them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace perilune {

enum class ParameterType { kBoolean, kNumber };

// Numbers from min to max; `open`: between them, without the two themselves.
struct Range {
  double min;
  double max;
  bool open = false;

  bool contains(double value) const;
};

// "0 .. 20", "above -12 and below 0".
std::string range_text(const Range& range);

// One environment parameter, set with the key "env.<name>". Booleans are 0 and 1.
struct EnvironmentParameter {
  std::string_view name;
  ParameterType type;
  double default_value;
  Range allowed;
  std::string_view help;
  std::optional<Range> advised = std::nullopt;  // others are allowed, with a warning
};

struct EnvironmentInfo {
  std::string_view id;                    // Gymnasium's id
  std::vector<std::string_view> aliases;  // also accepted, in any case
  int max_episode_steps;                  // the time limit: truncation after this many steps
  double solved_return;                   // Gymnasium's reward threshold
  int obs_dim;
  bool continuous = false;  // an action is num_actions numbers, clipped to [-1, 1], not one of num_actions choices
  int num_actions;
  std::vector<EnvironmentParameter> parameters;
  // The most that an episode of so many steps can return, with these parameters (in their order). Null: not known
  // simply.
  double (*highest_return)(std::span<const double> parameters, std::int64_t steps) = nullptr;
};

std::span<const EnvironmentInfo> environments();

// The environment with this id or alias (case does not matter). Throws UsageError that lists the
// known ones and names the nearest.
const EnvironmentInfo& find_environment(std::string_view id_or_alias);

// Its parameter of this name, or null.
const EnvironmentParameter* find_parameter(const EnvironmentInfo& environment, std::string_view name);

}  // namespace perilune
