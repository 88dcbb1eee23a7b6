// `perilune train`.
#include <chrono>
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

// What is to be trained; with --from also the policy to begin with, to which the configuration is fitted.
struct Request {
  ResolvedConfig resolved;
  std::optional<InitialPolicy> initial_policy;
};

Request request_of(const TrainCommand& command) {
  if (command.resume) {
    return {{resumed_config(*command.resume, command.settings), read_run_config(*command.resume), {}}, {}};
  }
  Request request{resolve({command.preset, command.config_file, command.settings}), {}};
  if (command.from) {
    request.initial_policy = initial_policy(*command.from, request.resolved.config, request.resolved.given);
  }
  return request;
}

ExitCode print_config(const TrainCommand& command) {
  const Config config = request_of(command).resolved.config;
  validate(config, built_widths(cpu_machine(), config.env_id));
  Terminal out = Terminal::standard_output();
  out.print(to_toml(config));
  out.check();
  return ExitCode::kOk;
}

}  // namespace

ExitCode run_train(const TrainCommand& command, const Process& process) {
  if (command.print_config) return print_config(command);
  Terminal err = Terminal::standard_error();
  TrainingOptions options;
  const Request request = request_of(command);
  options.config = request.resolved.config;
  options.initial_policy = request.initial_policy;
  options.run_directory = command.run_directory;
  options.resume = command.resume;
  if (command.resume) options.changes = command.settings;
  options.use_graph = command.use_graph;
  options.interrupt = &catch_interrupts();
  const Work work = training_work(options.config);
  const SelectedDevice selected = select_device(command.device.choice, command.device.threads, {&work, 1});
  validate(options.config, built_widths(selected.device->machine(), options.config.env_id));
  std::vector<std::string> warnings = config_warnings(options.config, request.resolved.base);
  const std::string crowded = threads_warning(command.device.threads, available_cores());
  if (!crowded.empty() && !selected.device->is_cuda()) warnings.push_back(crowded);
  for (const std::string& warning : warnings) err.print(formatted("perilune: warning: {}\n", warning));

  // With --json standard output holds the result alone, and people are told on standard error.
  Terminal out = Terminal::standard_output();
  TrainingDisplay display(command.json ? err : out);
  if (!command.quiet) {
    options.on_plan = [&](const TrainingPlan& plan) {
      display.show_plan(options.config, plan, selected.reason, selected.device->free_memory(), command.verbose);
    };
    options.on_progress = [&](const TrainingProgress& progress) { display.show_progress(progress); };
  }

  const std::chrono::duration<double> before = std::chrono::steady_clock::now() - process.start;
  TrainingResult result;
  try {
    result = train(options, *selected.device);
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
  if (!command.quiet && !command.json) display.show_result(result, seconds, process.program);
  if (command.json) out.print(training_json(result, selected.device->description(), seconds));
  out.check();
  return ExitCode::kOk;
}

}  // namespace perilune
