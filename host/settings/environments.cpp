#include "host/settings/environments.hpp"

#include <strings.h>

#include <algorithm>
#include <vector>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {
namespace {

bool same_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

std::string range_text(const Range& range) {
  const std::string min = shortest_text(range.min), max = shortest_text(range.max);
  return range.open ? formatted("above {} and below {}", min, max) : formatted("{} .. {}", min, max);
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
    if (name == parameter.name) return &parameter;
  }
  return nullptr;
}

}  // namespace perilune
