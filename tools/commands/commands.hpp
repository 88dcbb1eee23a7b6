// What each command does. All print to the standard streams and throw Error; the exit code is returned.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/error.hpp"
#include "tools/commands/command_line.hpp"

namespace perilune {

// What a command knows about its process.
struct Process {
  std::chrono::steady_clock::time_point start;
  std::string program;  // as the user typed it: for commands to try next
};

ExitCode run_train(const TrainCommand& command, const Process& process);
ExitCode run_eval(const EvalCommand& command);
ExitCode run_sweep(const SweepCommand& command);
ExitCode run_profile(const ProfileCommand& command, const Process& process);
ExitCode run_info(const InfoCommand& command);
ExitCode run_list(const ListCommand& command);

}  // namespace perilune
