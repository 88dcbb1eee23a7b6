// `perilune train`.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "host/run_directory.hpp"
#include "host/training.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/results_json.hpp"
#include "tools/commands/terminal.hpp"
#include "tools/commands/training_display.hpp"

namespace perilune {
namespace {

std::atomic<bool> interrupt_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

extern "C" void handle_interrupt(int) {
  if (interrupt_requested.exchange(true)) {
    constexpr std::string_view kText = "\nperilune: stopped at once; what was saved before stays\n";
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, kText.data(), kText.size());
    ::_exit(static_cast<int>(ExitCode::kInterrupted));
  }
}

// A signal that the caller had ignored (nohup) stays ignored.
void catch_interrupts() {
  for (int signal_number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction old {};
    ::sigaction(signal_number, nullptr, &old);
    if (old.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = handle_interrupt;
    action.sa_flags = SA_RESTART;
    ::sigaction(signal_number, &action, nullptr);
  }
}

Config resolve_config(const TrainCommand& command) {
  if (command.resume) return read_run_config(*command.resume);
  Config config = preset(command.preset);
  if (command.config_file) apply_toml_file(config, *command.config_file);
  for (const Setting& setting : command.settings) set_key(config, setting.key, setting.value);
  return config;
}

ExitCode print_config(const TrainCommand& command) {
  const Config config = resolve_config(command);
  validate(config, built_widths(cpu_machine(), config.env_id));
  Terminal out = Terminal::standard_output();
  out.print(to_toml(config));
  out.check();
  return ExitCode::kOk;
}

}  // namespace

ExitCode run_train(const TrainCommand& command, const Process& process) {
  if (command.print_config) return print_config(command);
  catch_interrupts();
  TrainingOptions options;
  options.config = resolve_config(command);
  options.run_directory = command.run_directory;
  options.resume = command.resume;
  options.use_graph = command.use_graph;
  options.interrupt = &interrupt_requested;
  const SelectedDevice selected = select_device(command.device.choice, command.device.threads);

  // With --json standard output holds the result alone, and people are told on standard error.
  Terminal out = Terminal::standard_output();
  Terminal err = Terminal::standard_error();
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
    err.print(fmt::format("perilune: interrupted at step {} and saved - go on with: {} train --resume {}\n",
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
