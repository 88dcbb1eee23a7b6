// What benchmarks have in common as programs: their options, the command as their results name it, and what becomes of
// errors.
#pragma once

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune::bench {

inline int count_option(std::string_view option, std::string_view text) {
  constexpr std::int64_t kMost = 1 << 30;
  const std::optional<std::int64_t> number = read_integer(text);
  if (number && *number >= 1 && *number <= kMost) return static_cast<int>(*number);
  throw UsageError(
      formatted("{} {} is not possible - allowed: a whole number, 1 .. {}", option, in_quotes(text), kMost));
}

inline double seconds_option(std::string_view option, std::string_view text) {
  const std::optional<double> number = read_number(text);
  if (number && *number >= 0.0 && *number <= 1e6) return *number;
  throw UsageError(formatted("{} {} is not possible - allowed: a number, 0 .. 1000000", option, in_quotes(text)));
}

// One option. `take` gets its name and value; one without a value has `set` instead.
struct Option {
  std::string_view name;
  std::function<void(const std::string& name, const std::string& value)> take;
  std::function<void()> set = nullptr;
};

inline Option int_option(std::string_view name, int& to) {
  return {name, [&to](const std::string& option, const std::string& value) { to = count_option(option, value); }};
}
inline Option seconds_option(std::string_view name, double& to) {
  return {name, [&to](const std::string& option, const std::string& value) { to = seconds_option(option, value); }};
}
inline Option flag(std::string_view name, bool& to, bool value) {
  return {name, nullptr, [&to, value] { to = value; }};
}

// Throws UsageError for what is none of them, and for a value that is missing.
inline void parse_options(int argc, char** argv, const std::vector<Option>& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto option =
        std::find_if(options.begin(), options.end(), [&](const Option& known) { return known.name == word; });
    if (option == options.end()) {
      std::vector<std::string_view> names;
      for (const Option& known : options) names.push_back(known.name);
      throw UsageError(formatted("{} is no option - allowed: {}", word, joined(names)));
    }
    if (option->set) {
      option->set();
      continue;
    }
    if (++i >= argc) throw UsageError(word + " needs a value");
    option->take(word, argv[i]);
  }
}

// The items between commas.
inline std::vector<std::string> items_of(const std::string& text) {
  std::vector<std::string> items;
  std::istringstream list(text);
  for (std::string item; std::getline(list, item, ',');) items.push_back(item);
  return items;
}

// As it was typed, without the program's folder.
inline std::string command_text(int argc, char** argv) {
  std::string command = argv[0];
  command = command.substr(command.rfind('/') + 1);
  for (int i = 1; i < argc; ++i) command += std::string(" ") + argv[i];
  return command;
}

// main(): the exit status of run, or of the error that it throws, which is told.
inline int run_bench(const char* name, int (*run)(int, char**), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

}  // namespace perilune::bench
