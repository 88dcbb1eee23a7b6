// The command line: a program is a table of commands, each with its options and what it does.
//
// command_line.cpp reads the arguments; it is the only file that includes CLI11, which is slow to compile.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/error.hpp"
#include "tools/commands/options.hpp"

namespace perilune {

// What a command knows about its process.
struct Process {
  std::chrono::steady_clock::time_point start;
  std::string program;  // as the user typed it: for commands to try next
};

// Options that cannot be given together: any of `some` with any of `others`, by name.
struct Conflict {
  std::vector<std::string_view> some, others;
  std::string_view error;
};

struct Command {
  std::string_view name;
  std::string_view summary;
  std::vector<Option> options;  // as help shows them; their values are taken in this order
  std::vector<Conflict> conflicts = {};
  std::string_view help;  // shown below the options
  // Holds what the options write to. Prints to the standard streams, and throws Error.
  std::function<ExitCode(const Process&)> run;
};

struct Program {
  std::string_view summary;
  std::string_view help;  // shown below the commands
  std::vector<Command> commands;
};

// The command that `arguments` (those after the program's name) ask for, with its options' values taken; --help and
// --version are commands that print. Throws UsageError that names the argument, what is allowed and, for an unknown
// command or option, the nearest known one. Reads no file and opens no device.
Command parse_command_line(const Program& program, std::span<const std::string> arguments);

}  // namespace perilune
