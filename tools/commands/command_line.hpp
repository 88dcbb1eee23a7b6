// The command line as plain structs: what the user asked for, checked as far as text alone can be.
//
// One file parses (command_line.cpp, the only one that includes CLI11, which is slow to compile); a file per command
// carries out. Values that are configuration keys (--set, --seed) stay text here: the key table judges them.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "host/device/device.hpp"
#include "host/settings/config.hpp"

namespace perilune {

// Options that every command with a device has.
struct DeviceOptions {
  DeviceChoice choice = DeviceChoice::kAuto;
  int threads = 0;  // 0: one per core
};

struct TrainCommand {
  std::string preset = "cartpole";
  std::optional<std::filesystem::path> config_file;
  std::vector<Setting> settings;  // in the order given; --seed is the last of them
  DeviceOptions device;
  std::optional<std::filesystem::path> run_directory;
  std::optional<std::filesystem::path> resume;  // settings then change the run's own
  std::optional<std::filesystem::path> from;
  bool use_graph = true;
  bool print_config = false;
  bool quiet = false;
  bool verbose = false;
  bool json = false;
};

struct EvalCommand {
  std::filesystem::path run_or_file;
  bool best = false;              // of a run: the policy of its best evaluation, else the newest
  std::vector<Setting> settings;  // of the task
  int episodes = 100;
  bool deterministic = true;
  std::int64_t seed = 1;
  DeviceOptions device;
  bool json = false;
};

struct SweepCommand {
  std::string preset = "cartpole";
  std::optional<std::filesystem::path> config_file;
  std::vector<Setting> settings;  // values may name alternatives
  std::vector<std::int64_t> seeds = {1, 2, 3, 4, 5};
  DeviceOptions device;  // threads: of each run, 0 for one
  int jobs = 0;          // runs at a time; 0: as many as there are cores for
  std::optional<std::filesystem::path> output;
  std::optional<std::filesystem::path> keep;  // where run directories stay; else they are removed
  bool json = false;
};

struct ProfileCommand {
  std::string preset = "cartpole";
  std::optional<std::filesystem::path> config_file;
  std::vector<Setting> settings;
  DeviceOptions device;
  int iterations = 20;
  std::optional<std::string> predict;  // a GPU's name: predict for it and run nothing
  bool json = false;
};

struct InfoCommand {
  bool json = false;
};

struct ListCommand {
  enum class Topic { kAll, kEnvironments, kPresets, kKeys };
  Topic topic = Topic::kAll;
  bool json = false;
};

// --help or --version: text for standard output.
struct ShowText {
  std::string text;
};

using Command =
    std::variant<TrainCommand, EvalCommand, SweepCommand, ProfileCommand, InfoCommand, ListCommand, ShowText>;

// `arguments` are those after the program's name. Throws UsageError that names the argument, what is allowed and, for
// an unknown command or option, the nearest known one. Reads no file and opens no device.
Command parse_command_line(std::span<const std::string> arguments);

}  // namespace perilune
