// See environments.hpp. Limits and thresholds: Gymnasium's registry.
#include "host/settings/environments.hpp"

#include <strings.h>

#include <algorithm>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {
namespace {

constexpr Range kBoolean = {0.0, 1.0};
constexpr Range kAnyWind = {-1e30, 1e30};  // of 1e36 and more float32 makes infinities and NaN, in Box2D as here

bool same_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// The two landers share a task, with its limits and most parameters. Ranges: Gymnasium's assertion and its warnings.
EnvironmentInfo lander(std::string_view id, std::string_view alias, bool continuous, bool has_solvers) {
  EnvironmentInfo info = {
      .id = id,
      .aliases = {alias},
      .max_episode_steps = 1000,
      .solved_return = 200.0,
      .obs_dim = 8,
      .continuous = continuous,
      .num_actions = continuous ? 2 : 4,
      .parameters = {
          {"gravity", ParameterType::kNumber, -10.0, Range{-12.0, 0.0, true}, "acceleration upwards (m/s^2)"},
          {"enable_wind", ParameterType::kBoolean, 0.0, kBoolean, "wind and turbulence until a leg touches the ground"},
          {"wind_power", ParameterType::kNumber, 15.0, kAnyWind, "largest force of the wind (N)", Range{0.0, 20.0}},
          {"turbulence_power", ParameterType::kNumber, 1.5, kAnyWind, "largest torque of the turbulence (N m)",
           Range{0.0, 2.0}}}};
  if (has_solvers) {
    info.parameters.push_back(
        {"fast_solver", ParameterType::kBoolean, 0.0, kBoolean, "a faster solver with nearly the same scores"});
  }
  return info;
}

}  // namespace

bool Range::contains(double value) const { return open ? min < value && value < max : min <= value && value <= max; }

std::string range_text(const Range& range) {
  const std::string min = shortest_text(range.min), max = shortest_text(range.max);
  return range.open ? formatted("above {} and below {}", min, max) : formatted("{} .. {}", min, max);
}

std::span<const EnvironmentInfo> environments() {
  static const std::vector<EnvironmentInfo> table = {
      {.id = "CartPole-v1",
       .aliases = {"cartpole"},
       .max_episode_steps = 500,
       .solved_return = 475.0,
       .obs_dim = 4,
       .num_actions = 2,
       .parameters = {{"sutton_barto_reward", ParameterType::kBoolean, 0.0, kBoolean,
                       "reward 0 per step and -1 at the fall, instead of 1 per step"}},
       .highest_return = [](std::span<const double> parameters,
                            std::int64_t steps) { return parameters[0] != 0.0 ? 0.0 : static_cast<double>(steps); }},
      lander("LunarLander-v3", "lunar-lander", false, true),
      lander("LunarLanderContinuous-v3", "lunar-lander-continuous", true, true),
      lander("Lander-v0", "lander", false, false),
      lander("LanderContinuous-v0", "lander-continuous", true, false),
  };
  return table;
}

const EnvironmentInfo& find_environment(std::string_view id_or_alias) {
  std::vector<std::string_view> ids;
  std::vector<std::string_view> names;
  for (const EnvironmentInfo& environment : environments()) {
    ids.push_back(environment.id);
    names.push_back(environment.id);
    names.insert(names.end(), environment.aliases.begin(), environment.aliases.end());
    const auto matches = [&](std::string_view name) { return same_ignoring_case(name, id_or_alias); };
    if (matches(environment.id) || std::any_of(environment.aliases.begin(), environment.aliases.end(), matches)) {
      return environment;
    }
  }
  throw UsageError(formatted("unknown environment {} - known: {} - did you mean {}?", in_quotes(id_or_alias),
                             joined(ids), nearest(id_or_alias, names)));
}

const EnvironmentParameter* find_parameter(const EnvironmentInfo& environment, std::string_view name) {
  for (const EnvironmentParameter& parameter : environment.parameters) {
    if (parameter.name == name) return &parameter;
  }
  return nullptr;
}

}  // namespace perilune
