// `perilune list`: environments, presets and configuration keys.
#include <memory>
#include <string>
#include <vector>

#include "host/base/format.hpp"
#include "host/base/json.hpp"
#include "host/base/text.hpp"
#include "host/settings/config.hpp"
#include "host/settings/environments.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

constexpr std::string_view kHelp = "Examples:\n  perilune list keys\n  perilune list presets --json";

enum class Topic { kAll, kEnvironments, kPresets, kKeys };

struct ListOptions {
  Topic topic = Topic::kAll;
  bool json = false;
};

Json environments_json() {
  Json list = Json::array();
  for (const EnvironmentInfo& environment : environments()) {
    Json parameters = Json::array();
    for (const EnvironmentParameter& parameter : environment.parameters) parameters.push_back(parameter.name);
    list.push_back({{"id", environment.id},
                    {"aliases", std::vector<std::string>(environment.aliases.begin(), environment.aliases.end())},
                    {"observation_dim", environment.observation_dim()},
                    {"actions", environment.action_space.continuous ? "continuous" : "discrete"},
                    {"num_actions", environment.action_space.size},
                    {"max_episode_steps", environment.max_episode_steps},
                    {"solved_return", environment.solved_return},
                    {"parameters", parameters}});
  }
  return list;
}

Json presets_json() {
  Json list = Json::array();
  for (const PresetInfo& info : presets()) {
    list.push_back({{"name", info.name}, {"env", info.env_id}, {"summary", info.summary}});
  }
  return list;
}

Json keys_json() {
  Json list = Json::array();
  for (const KeyInfo& key : config_keys()) {
    list.push_back({{"name", key.name},
                    {"type", type_name(key.type)},
                    {"default", value_text(key.default_value)},
                    {"allowed", key.allowed},
                    {"may_change", key.may_change},
                    {"help", key.help}});
  }
  return list;
}

std::string environments_text(const Terminal& out) {
  Table table = {{{"environment"}, {"observation"}, {"actions"}, {"time limit"}, {"solved at", true}}, {}};
  for (const EnvironmentInfo& environment : environments()) {
    const std::vector<std::string_view> aliases(environment.aliases.begin(), environment.aliases.end());
    table.rows.push_back(
        {{std::string(environment.id), formatted("{} numbers", environment.observation_dim()),
          formatted("{} {}", environment.action_space.size,
                    environment.action_space.continuous ? "continuous" : "discrete"),
          formatted("{} steps", environment.max_episode_steps), shortest_text(environment.solved_return)},
         formatted("also called {}", joined(aliases))});
  }
  return table_text(out, table);
}

std::string presets_text(const Terminal& out) {
  Table table = {{{"preset"}, {"environment"}}, {}};
  for (const PresetInfo& info : presets()) {
    table.rows.push_back({{std::string(info.name), std::string(info.env_id)}, std::string(info.summary)});
  }
  return table_text(out, table);
}

std::string keys_text(const Terminal& out) {
  Table table = {{{"key"}, {"default"}, {"type"}, {"allowed"}}, {}};
  for (const KeyInfo& key : config_keys()) {
    table.rows.push_back(
        {{key.name, value_text(key.default_value), std::string(type_name(key.type)), key.allowed}, key.help});
  }
  return table_text(out, table);
}

ExitCode run_list(const ListOptions& options) {
  Terminal out = Terminal::standard_output();
  Json json;
  std::string text;
  const auto add = [&](Topic topic, const char* name, Json (*as_json)(), std::string (*as_text)(const Terminal&)) {
    if (options.topic != Topic::kAll && options.topic != topic) return;
    if (options.json) {
      json[name] = as_json();
    } else {
      if (!text.empty()) text += '\n';
      text += as_text(out);
    }
  };
  add(Topic::kEnvironments, "environments", environments_json, environments_text);
  add(Topic::kPresets, "presets", presets_json, presets_text);
  add(Topic::kKeys, "keys", keys_json, keys_text);
  out.print(options.json ? json.dump(2) + "\n" : text);
  out.check();
  return ExitCode::kOk;
}

}  // namespace

Command list_command() {
  const auto options = std::make_shared<ListOptions>();
  return {
      .name = "list",
      .summary = "list environments, presets and configuration keys",
      .options = {{.name = "topic",
                   .kind = OptionKind::kArgument,
                   .value = "TOPIC",
                   .help = "environments, presets or keys (default: all)",
                   .to = word_to(options->topic, {{"all", Topic::kAll},
                                                  {"environments", Topic::kEnvironments},
                                                  {"presets", Topic::kPresets},
                                                  {"keys", Topic::kKeys}})},
                  json_option(options->json)},
      .help = kHelp,
      .run = [options](const Process&) { return run_list(*options); },
  };
}

}  // namespace perilune
