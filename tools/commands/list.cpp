// `perilune list`: environments, presets and configuration keys.
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "host/config.hpp"
#include "host/environments.hpp"
#include "host/text.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

using Json = nlohmann::ordered_json;
using Topic = ListCommand::Topic;
using Rows = std::vector<std::vector<std::string>>;

constexpr std::size_t kWidth = 100;

Json environments_json() {
  Json list = Json::array();
  for (const EnvironmentInfo& environment : environments()) {
    Json parameters = Json::array();
    for (const EnvironmentParameter& parameter : environment.parameters) parameters.push_back(parameter.name);
    list.push_back({{"id", environment.id},
                    {"aliases", environment.aliases},
                    {"observation_dim", environment.obs_dim},
                    {"num_actions", environment.num_actions},
                    {"max_episode_steps", environment.max_episode_steps},
                    {"solved_return", environment.solved_return},
                    {"parameters", parameters}});
  }
  return list;
}

Json presets_json() {
  Json list = Json::array();
  for (const PresetInfo& info : presets()) {
    list.push_back({{"name", info.name}, {"env", preset(info.name).env_id}, {"summary", info.summary}});
  }
  return list;
}

Json keys_json() {
  Json list = Json::array();
  for (const KeyInfo& key : config_keys()) {
    list.push_back({{"name", key.name},
                    {"type", key.type},
                    {"default", key.default_value},
                    {"allowed", key.allowed},
                    {"help", key.help}});
  }
  return list;
}

Rows environment_rows() {
  Rows rows = {{"environment", "observation", "actions", "time limit", "solved at", "also called"}};
  for (const EnvironmentInfo& environment : environments()) {
    rows.push_back({std::string(environment.id), fmt::format("{} numbers", environment.obs_dim),
                    fmt::format("{} discrete", environment.num_actions),
                    fmt::format("{} steps", environment.max_episode_steps), shortest_text(environment.solved_return),
                    joined(environment.aliases)});
  }
  return rows;
}

Rows preset_rows() {
  Rows rows = {{"preset", "environment", "summary"}};
  for (const PresetInfo& info : presets()) {
    rows.push_back({std::string(info.name), preset(info.name).env_id, std::string(info.summary)});
  }
  return rows;
}

Rows key_rows() {
  Rows rows = {{"key", "default", "type", "allowed", "meaning"}};
  for (const KeyInfo& key : config_keys()) {
    rows.push_back({key.name, key.default_value, key.type, key.allowed, key.help});
  }
  return rows;
}

}  // namespace

ExitCode run_list(const ListCommand& command) {
  Terminal out = Terminal::standard_output();
  Json json;
  std::string text;
  const auto add = [&](Topic topic, const char* name, Json (*as_json)(), Rows (*as_rows)()) {
    if (command.topic != Topic::kAll && command.topic != topic) return;
    if (command.json) {
      json[name] = as_json();
    } else {
      if (!text.empty()) text += '\n';
      text += aligned_table(out, as_rows(), kWidth);
    }
  };
  add(Topic::kEnvironments, "environments", environments_json, environment_rows);
  add(Topic::kPresets, "presets", presets_json, preset_rows);
  add(Topic::kKeys, "keys", keys_json, key_rows);
  out.print(command.json ? json.dump(2) + "\n" : text);
  out.check();
  return ExitCode::kOk;
}

}  // namespace perilune
