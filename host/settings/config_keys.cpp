// What keys there are, in words. See config.hpp.
#include <algorithm>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/settings/config_table.hpp"
#include "kernels/api.hpp"

namespace perilune {
namespace {

KeyType type_of(const Field& field) {
  return std::visit(Overloaded{
                        [](std::string Config::*) { return KeyType::kText; },
                        [](bool Config::*) { return KeyType::kBoolean; },
                        [](int Config::*) { return KeyType::kInteger; },
                        [](std::int64_t Config::*) { return KeyType::kInteger; },
                        [](double Config::*) { return KeyType::kNumber; },
                        [](std::optional<double> Config::*) { return KeyType::kNumber; },
                        [](std::vector<int> Config::*) { return KeyType::kList; },
                        [](const ChoiceField&) { return KeyType::kChoice; },
                    },
                    field);
}

std::string allowed_text(const Key& key) {
  return std::visit(Overloaded{
                        [&](std::string Config::*field) {
                          return std::string(field == &Config::name ? "letters, digits and . _ -"
                                                                    : "see `perilune list environments`");
                        },
                        [](bool Config::*) { return std::string("true | false"); },
                        [&](std::optional<double> Config::*) { return "none | " + range_text(key); },
                        [&](std::vector<int> Config::*) {
                          return formatted("none | 1 to {} of {}", kMaxHiddenLayers, range_text(key));
                        },
                        [](const ChoiceField& field) { return choices_text(field); },
                        [&](auto) { return range_text(key); },
                    },
                    key.field);
}

// Environments may share a parameter, which is then listed once.
bool is_listed(const std::vector<KeyInfo>& list, const EnvironmentParameter& parameter) {
  return std::any_of(list.begin(), list.end(), [&](const KeyInfo& info) {
    return info.name == formatted("{}{}", kParameterPrefix, parameter.name);
  });
}

// Whose parameter it is: "LunarLander-v3 and 3 others".
std::string owners_text(const EnvironmentParameter& parameter) {
  std::vector<std::string_view> ids;
  for (const EnvironmentInfo& environment : environments()) {
    if (find_parameter(environment, parameter.name) != nullptr) ids.push_back(environment.id);
  }
  if (ids.size() == 1) return std::string(ids[0]);
  return formatted("{} and {} other{}", ids[0], ids.size() - 1, ids.size() == 2 ? "" : "s");
}

}  // namespace

std::string_view type_name(KeyType type) {
  constexpr std::string_view kNames[] = {"integer", "number", "boolean", "text", "choice", "list"};
  return kNames[static_cast<std::size_t>(type)];
}

const std::vector<KeyInfo>& config_keys() {
  static const std::vector<KeyInfo> infos = [] {
    std::vector<KeyInfo> list;
    const Config defaults;
    for (const Key& key : keys()) {
      list.push_back({std::string(key.name), type_of(key.field), field_value(defaults, key.field), allowed_text(key),
                      std::string(key.help), key.on_resume == OnResume::kMayChange});
    }
    for (const EnvironmentInfo& environment : environments()) {
      for (const EnvironmentParameter& parameter : environment.parameters) {
        if (is_listed(list, parameter)) continue;
        const bool is_boolean = parameter.type == ParameterType::kBoolean;
        list.push_back({formatted("{}{}", kParameterPrefix, parameter.name),
                        is_boolean ? KeyType::kBoolean : KeyType::kNumber,
                        parameter_value(parameter, parameter.default_value),
                        is_boolean ? "true | false" : range_text(parameter.allowed),
                        formatted("{}: {}", owners_text(parameter), parameter.help), false});
      }
    }
    return list;
  }();
  return infos;
}

const KeyInfo& find_key(std::string_view name) {
  for (const KeyInfo& info : config_keys()) {
    if (info.name == name) return info;
  }
  throw UsageError(formatted("unknown key {} - the nearest known key is {} - `perilune list keys` shows all",
                             in_quotes(name), nearest_key(name)));
}

}  // namespace perilune
