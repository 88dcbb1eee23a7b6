// `perilune train` on the fiber machine: a whole run on emulated tensor cores, for machines without a GPU.
//
//   perilune_emulated train PRESET [--seed N] [--set key=value ...] [--run-dir DIR] [--json]
//
// The same trainer, configuration and run directory as the program's; only the device is another. Slow: about 0.1 s per
// thousand samples of an update. bench/precision.py takes it as --program, to see whether tf32 and bf16 learn as fp32
// does, and so gives it options of `perilune train` that change nothing here.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/base/error.hpp"
#include "host/runs/training.hpp"
#include "tests/kernels/fiber_machine.hpp"
#include "tests/support/forwarding_device.hpp"
#include "tools/commands/command_line.hpp"
#include "tools/commands/results_json.hpp"

namespace perilune {
namespace {

class FiberDevice : public test::ForwardingDevice {
 public:
  const Machine& machine() const override { return test::forward_fiber_machine(); }
  std::string description() const override { return "fibers"; }
  bool supports(Precision) const override { return true; }
  std::size_t max_block_storage() const override { return std::size_t{1} << 18; }
  MatrixLibrary& matrix_library(Precision) override {
    throw UsageError("fibers have no matrix library - set fused = true");
  }
};

struct TrainOptions : SettingsOptions {
  std::optional<std::filesystem::path> run_directory;
  DeviceOptions device;  // not looked at, as what follows
  bool quiet = false;
  bool json = true;
};

ExitCode run_train(const TrainOptions& options) {
  TrainingOptions training;
  training.config = preset(options.preset);
  for (const Setting& setting : options.settings) set_key(training.config, setting.key, setting.value);
  training.run_directory = options.run_directory;
  FiberDevice device;
  const TrainingResult result = train(training, device);
  std::fputs(training_json(result, device.description(), result.seconds).c_str(), stdout);
  return ExitCode::kOk;
}

Command train_command() {
  const auto options = std::make_shared<TrainOptions>();
  return {
      .name = "train",
      .summary = "train a policy on emulated tensor cores",
      .options = options_of({
          settings_options(*options),
          {seed_option(options->settings)},
          device_options(options->device),
          {{.name = "run-dir", .value = "DIR", .help = "directory of this run", .to = path_to(options->run_directory)},
           {.name = "quiet", .letter = 'q', .help = "changes nothing", .to = &options->quiet},
           json_option(options->json)},
      }),
      .help = "Prints one JSON object.",
      .run = [options](const Process&) { return run_train(*options); },
  };
}

}  // namespace
}  // namespace perilune

int main(int argc, char** argv) {
  using namespace perilune;
  try {
    const Process process{std::chrono::steady_clock::now(), argv[0]};
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const Program program = {.summary = "Trains on emulated tensor cores.", .help = "", .commands = {train_command()}};
    return static_cast<int>(parse_command_line(program, arguments).run(process));
  } catch (const Error& error) {
    std::fprintf(stderr, "perilune_emulated: %s\n", error.what());
    return static_cast<int>(error.exit_code());
  }
}
