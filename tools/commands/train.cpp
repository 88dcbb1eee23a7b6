// `perilune train`.
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/base/format.hpp"
#include "host/networks/networks.hpp"
#include "host/planning/device_choice.hpp"
#include "host/runs/resume.hpp"
#include "host/runs/run_directory.hpp"
#include "host/runs/training.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/interrupt.hpp"
#include "tools/commands/results_json.hpp"
#include "tools/commands/terminal.hpp"
#include "tools/commands/training_display.hpp"

namespace perilune {
namespace {

constexpr std::string_view kHelp =
    "Settings come from the preset, then --config, --set and --seed; the later wins.\n"
    "Ctrl-C saves and stops; a second one stops at once.\n"
    "\nExamples:\n"
    "  perilune train cartpole-zoo --seed 3\n"
    "  perilune train --set num_envs=1024 --set learning_rate=3e-3 --threads 4\n"
    "  perilune train --print-config > mine.toml; perilune train --config mine.toml\n"
    "  perilune train --resume runs/RUN\n"
    "  perilune train --resume runs/RUN --set total_timesteps=2e6\n"
    "  perilune train lunar-lander --from runs/RUN\n"
    "  perilune train --json | jq .eval.mean";

// Of the settings, --seed is the last.
struct TrainOptions : SettingsOptions {
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

// What is to be trained; with --from also the policy to begin with, to which the configuration is fitted.
struct Request {
  ResolvedConfig resolved;
  std::optional<InitialPolicy> initial_policy;
};

Request request_of(const TrainOptions& options) {
  if (options.resume) {
    return {{resumed_config(*options.resume, options.settings), read_run_config(*options.resume), {}}, {}};
  }
  Request request{resolve({options.preset, options.config_file, options.settings}), {}};
  if (options.from) {
    request.initial_policy = initial_policy(*options.from, request.resolved.config, request.resolved.given);
  }
  return request;
}

ExitCode print_config(const TrainOptions& options) {
  const Config config = request_of(options).resolved.config;
  validate(config, built_widths(cpu_machine(), config.env_id));
  Terminal out = Terminal::standard_output();
  out.print(to_toml(config));
  out.check();
  return ExitCode::kOk;
}

ExitCode run_train(const TrainOptions& options, const Process& process) {
  if (options.print_config) return print_config(options);
  Terminal err = Terminal::standard_error();
  TrainingOptions training;
  const Request request = request_of(options);
  training.config = request.resolved.config;
  training.initial_policy = request.initial_policy;
  training.run_directory = options.run_directory;
  training.resume = options.resume;
  if (options.resume) training.changes = options.settings;
  training.use_graph = options.use_graph;
  training.interrupt = &catch_interrupts();
  const Work work = training_work(training.config);
  const SelectedDevice selected = select_device(options.device.choice, options.device.threads, {&work, 1});
  validate(training.config, built_widths(selected.device->machine(), training.config.env_id));
  std::vector<std::string> warnings = config_warnings(training.config, request.resolved.base);
  const std::string crowded = threads_warning(options.device.threads, available_cores());
  if (!crowded.empty() && !selected.device->is_cuda()) warnings.push_back(crowded);
  for (const std::string& warning : warnings) err.print(formatted("perilune: warning: {}\n", warning));

  // With --json standard output holds the result alone, and people are told on standard error.
  Terminal out = Terminal::standard_output();
  TrainingDisplay display(options.json ? err : out);
  if (!options.quiet) {
    training.on_plan = [&](const TrainingPlan& plan) {
      display.show_plan(training.config, plan, selected.reason, selected.device->free_memory(), options.verbose);
    };
    training.on_progress = [&](const TrainingProgress& progress) { display.show_progress(progress); };
  }

  const std::chrono::duration<double> before = std::chrono::steady_clock::now() - process.start;
  TrainingResult result;
  try {
    result = train(training, *selected.device);
  } catch (...) {
    display.finish_progress();
    throw;
  }
  display.finish_progress();
  const double seconds = before.count() + result.seconds;
  if (result.interrupted) {
    err.print(formatted("perilune: interrupted at step {} and saved - go on with: {} train --resume {}\n",
                        grouped(result.steps), shell_quoted(process.program),
                        shell_quoted(result.run_directory.string())));
    return ExitCode::kInterrupted;
  }
  if (!options.quiet && !options.json) display.show_result(result, seconds, process.program);
  if (options.json) out.print(training_json(result, selected.device->description(), seconds));
  out.check();
  return ExitCode::kOk;
}

}  // namespace

Command train_command() {
  const auto options = std::make_shared<TrainOptions>();
  return {
      .name = "train",
      .summary = "train a policy",
      .options = options_of({
          settings_options(*options),
          {seed_option(options->settings)},
          device_options(options->device),
          {{.name = "run-dir",
            .value = "DIR",
            .help = "directory of this run (default: a fresh one in runs/)",
            .to = path_to(options->run_directory)},
           {.name = "resume",
            .value = "DIR",
            .help = "go on with a run, with its own settings; --set changes those that are not fixed for a run",
            .to = path_to(options->resume)},
           {.name = "from",
            .value = "POLICY",
            .help = "begin with the weights of a policy file, checkpoint or run, also of another environment with the "
                    "same observations and actions",
            .to = path_to(options->from)},
           {.name = "graph",
            .value = "on|off",
            .help = "on: replay each iteration as one CUDA graph; off: launch its kernels one by one (default on; "
                    "same results)",
            .to = switch_to(options->use_graph)},
           {.name = "print-config",
            .help = "print the resolved settings as TOML and stop",
            .to = &options->print_config},
           {.name = "quiet", .letter = 'q', .help = "print nothing but errors", .to = &options->quiet},
           {.name = "verbose", .letter = 'v', .help = "also print the table of memory", .to = &options->verbose},
           json_option(options->json)},
      }),
      .conflicts = {{.some = {"resume"},
                     .others = {"from"},
                     .error = "--resume goes on with a run, --from begins another with a policy's weights - leave one "
                              "of them out"},
                    {.some = {"resume"},
                     .others = {"preset", "config", "seed", "run-dir"},
                     .error = "--resume goes on with the settings of the run itself, in its directory - leave out "
                              "PRESET, --config, --seed and --run-dir (--set changes what may change)"}},
      .help = kHelp,
      .run = [options](const Process& process) { return run_train(*options, process); },
  };
}

}  // namespace perilune
