// See options.hpp.
#include "tools/commands/options.hpp"

#include <algorithm>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {

std::string shown_name(const Option& option) {
  return option.kind == OptionKind::kOption ? "--" + std::string(option.name) : std::string(option.value);
}

std::int64_t parse_whole(std::string_view option, std::string_view text, std::int64_t min, std::int64_t max) {
  const std::optional<std::int64_t> value = read_integer(text);
  if (!value || *value < min || *value > max) {
    throw UsageError(
        formatted("{} {} is not possible - allowed: a whole number, {} .. {}", option, in_quotes(text), min, max));
  }
  return *value;
}

std::filesystem::path parse_path(std::string_view option, const std::string& text) {
  if (text.empty()) throw UsageError(formatted("{} is empty - give a path", option));
  return text;
}

Setting parse_setting(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError(
        formatted("--set {} is not KEY=VALUE - for example --set learning_rate=3e-4 - `perilune list "
                  "keys` shows all keys",
                  in_quotes(text)));
  }
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::size_t parse_word(std::string_view option, std::string_view text, const std::vector<std::string_view>& words) {
  const auto found = std::find(words.begin(), words.end(), text);
  if (found == words.end()) {
    throw UsageError(formatted("{} {} is unknown - allowed: {} - did you mean {}?", option, in_quotes(text),
                               joined(words), nearest(text, words)));
  }
  return static_cast<std::size_t>(found - words.begin());
}

TakeValue switch_to(bool& to) { return word_to(to, {{"off", false}, {"on", true}}); }

std::vector<Option> settings_options(SettingsOptions& to) {
  return {
      {.name = "preset",
       .kind = OptionKind::kArgument,
       .value = "PRESET",
       .help = "settings to start from (default cartpole; see `perilune list presets`)",
       .to = text_to(to.preset)},
      set_option(to.settings, "set one key; may be repeated (see `perilune list keys`)"),
      {.name = "config", .value = "FILE", .help = "read keys from a TOML file", .to = path_to(to.config_file)},
  };
}

Option set_option(std::vector<Setting>& to, std::string_view help) {
  return {.name = "set", .value = "KEY=VALUE", .help = help, .to = &to};
}

Option seed_option(std::vector<Setting>& to) {
  const auto take = [&to](std::string_view, const std::string& value) { to.push_back({"seed", value}); };
  return {.name = "seed", .value = "N", .help = "seed of every random number", .to = take};
}

std::vector<Option> device_options(DeviceOptions& to, std::string_view threads_help) {
  const auto take_device = [&to](std::string_view option, const std::string& value) {
    to.choice = device_choice(option, value);
  };
  return {
      {.name = "device",
       .value = "NAME",
       .help = "where to run: auto, cpu or cuda (default auto: where it is done sooner)",
       .to = take_device},
      {.name = "threads", .value = "N", .help = threads_help, .to = whole_to(to.threads, 1, 1024)},
  };
}

Option json_option(bool& to) {
  return {.name = "json", .help = "print one JSON object to standard output, and nothing else there", .to = &to};
}

std::vector<Option> options_of(std::initializer_list<std::vector<Option>> groups) {
  std::vector<Option> options;
  for (const std::vector<Option>& group : groups) options.insert(options.end(), group.begin(), group.end());
  return options;
}

}  // namespace perilune
