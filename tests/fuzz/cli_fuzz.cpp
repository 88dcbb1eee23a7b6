// Any bytes as a command line (arguments end at newlines): either UsageError, or a command whose settings the key table
// takes or refuses. Nothing is run. How to run it: toml_fuzz.cpp.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "host/base/error.hpp"
#include "host/settings/config.hpp"
#include "tools/commands/commands.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace perilune;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> arguments;
  while (!text.empty()) {
    const std::string_view argument = text.substr(0, text.find('\n'));
    arguments.emplace_back(argument.substr(0, argument.find('\0')));  // as execve hands it over
    text.remove_prefix(std::min(argument.size() + 1, text.size()));
  }
  try {
    const Command command = parse_command_line(perilune_program(), arguments);
    Config config;
    for (const Option& option : command.options) {
      const auto* settings = std::get_if<std::vector<Setting>*>(&option.to);
      if (settings == nullptr) continue;
      for (const Setting& setting : **settings) set_key(config, setting.key, setting.value);
    }
  } catch (const UsageError&) {
  }
  return 0;
}
