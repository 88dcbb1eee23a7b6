// The words in which a command declares its options: what they are called, and where their values go.
//
// Plain structs, which command_line.cpp reads; groups that several commands have are stated here once. What an option
// writes to must live as long as the option: a command keeps it in what its `run` holds (command_line.hpp).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "host/device/device.hpp"
#include "host/settings/config.hpp"

namespace perilune {

// Checks a value and puts it where it belongs; throws UsageError. `option` is what messages call the option: "--seeds",
// or "TOPIC" of an argument.
using TakeValue = std::function<void(std::string_view option, const std::string& value)>;

enum class OptionKind { kOption, kArgument, kRequiredArgument };

struct Option {
  std::string_view name;  // "run-dir"; an argument's is seen in the code alone
  char letter = '\0';     // 'q': -q does the same
  OptionKind kind = OptionKind::kOption;
  std::string_view value = {};  // what stands for the value in help, "DIR"; empty for a flag
  std::string_view help;
  // A flag becomes true. Of values that are given several times the last is taken, but of settings all are.
  std::variant<bool*, TakeValue, std::vector<Setting>*> to;
};

// What messages call it.
std::string shown_name(const Option& option);

// ---- where values go ----

// A whole number within limits.
std::int64_t parse_whole(std::string_view option, std::string_view text, std::int64_t min, std::int64_t max);
// Not empty: an empty path is almost always an unset shell variable.
std::filesystem::path parse_path(std::string_view option, const std::string& text);
// KEY=VALUE. Keys and values stay text here: the key table judges them.
Setting parse_setting(const std::string& text);
// The index of `text` among `words`.
std::size_t parse_word(std::string_view option, std::string_view text, const std::vector<std::string_view>& words);

// `to` is a string, or one that may be absent.
template <class Text>
TakeValue text_to(Text& to) {
  return [&to](std::string_view, const std::string& value) { to = value; };
}

// `to` is a path, or one that may be absent.
template <class Path>
TakeValue path_to(Path& to) {
  return [&to](std::string_view option, const std::string& value) { to = parse_path(option, value); };
}

template <class Whole>
TakeValue whole_to(Whole& to, std::int64_t min, std::int64_t max) {
  return [&to, min, max](std::string_view option, const std::string& value) {
    to = static_cast<Whole>(parse_whole(option, value, min, max));
  };
}

// One of a few words, and what each means.
template <class T>
TakeValue word_to(T& to, std::initializer_list<std::pair<std::string_view, std::type_identity_t<T>>> meanings) {
  std::vector<std::string_view> words;
  std::vector<T> values;
  for (const auto& [word, meaning] : meanings) {
    words.push_back(word);
    values.push_back(meaning);
  }
  return [&to, words, values](std::string_view option, const std::string& value) {
    to = values[parse_word(option, value, words)];
  };
}

// off or on.
TakeValue switch_to(bool& to);

// ---- groups of options ----

// What to train: PRESET, --set and --config.
struct SettingsOptions {
  std::string preset = "cartpole";
  std::optional<std::filesystem::path> config_file;
  std::vector<Setting> settings;  // in the order given
};
std::vector<Option> settings_options(SettingsOptions& to);

// --set of a command that has no preset.
Option set_option(std::vector<Setting>& to, std::string_view help);
// --seed as the key of this name, which comes after those of --set if it is declared after them.
Option seed_option(std::vector<Setting>& to);

// Options that every command with a device has.
struct DeviceOptions {
  DeviceChoice choice = DeviceChoice::kAuto;
  int threads = 0;  // 0: not given
};
inline constexpr std::string_view kThreadsHelp = "CPU threads (default: one per core; results do not depend on it)";
std::vector<Option> device_options(DeviceOptions& to, std::string_view threads_help = kThreadsHelp);

Option json_option(bool& to);

// One group after the other, as help shows them.
std::vector<Option> options_of(std::initializer_list<std::vector<Option>> groups);

}  // namespace perilune
