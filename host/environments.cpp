// See environments.hpp. Limits and thresholds: Gymnasium's registry.
#include "host/environments.hpp"

#include <strings.h>

#include <algorithm>

#include <fmt/format.h>

#include "host/error.hpp"
#include "host/text.hpp"

namespace perilune {
namespace {

bool same_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

std::span<const EnvironmentInfo> environments() {
  static const std::vector<EnvironmentInfo> table = {
      {.id = "CartPole-v1",
       .aliases = {"cartpole"},
       .max_episode_steps = 500,
       .solved_return = 475.0,
       .obs_dim = 4,
       .num_actions = 2,
       .parameters = {{"sutton_barto_reward", ParameterType::kBoolean, 0.0, 0.0, 1.0,
                       "reward 0 per step and -1 at the fall, instead of 1 per step"}}},
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
    const auto matches = [&](std::string_view name) {
      return same_ignoring_case(name, id_or_alias);
    };
    if (matches(environment.id) ||
        std::any_of(environment.aliases.begin(), environment.aliases.end(), matches)) {
      return environment;
    }
  }
  throw UsageError(fmt::format("unknown environment {} - known: {} - did you mean {}?",
                               in_quotes(id_or_alias), joined(ids), nearest(id_or_alias, names)));
}

const EnvironmentParameter* find_parameter(const EnvironmentInfo& environment, std::string_view name) {
  for (const EnvironmentParameter& parameter : environment.parameters) {
    if (parameter.name == name) return &parameter;
  }
  return nullptr;
}

}  // namespace perilune
