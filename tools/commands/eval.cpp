// `perilune eval`.

#include "host/base/format.hpp"
#include "host/planning/device_choice.hpp"
#include "host/runs/policy.hpp"
#include "host/settings/environment_settings.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/results_json.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {

ExitCode run_eval(const EvalCommand& command) {
  const std::filesystem::path source = command.best ? best_policy(command.run_or_file) : command.run_or_file;
  const Work work = evaluation_work(saved_config(source), command.episodes);  // its errors come before the device's
  const SelectedDevice selected = select_device(command.device.choice, command.device.threads, {&work, 1});
  EvaluationOptions options;
  options.episodes = command.episodes;
  options.deterministic = command.deterministic;
  options.seed = command.seed;
  Policy policy(source, *selected.device);
  const Config& trained = policy.config();
  const Config task = evaluation_task(trained, command.settings);
  Terminal err = Terminal::standard_error();
  for (const std::string& warning : environment_warnings(task)) {
    err.print(formatted("perilune: warning: {}\n", warning));
  }
  const EvaluationResult result = policy.evaluate(options, task);

  Terminal out = Terminal::standard_output();
  if (command.json) {
    out.print(evaluation_json(result, task));
  } else {
    out.print(formatted("{}, {} actions, seed {}\n", out.styled(Style::kBold, task.env_id),
                        command.deterministic ? "deterministic" : "sampled", command.seed));
    out.print(labelled(out, "task", task_text(task)));
    if (task_text(task) != task_text(trained)) out.print(labelled(out, "trained in", task_text(trained)));
    out.print(labelled(out, "device", formatted("{} - {}", selected.device->description(), selected.reason)));
    out.print(labelled(out, "return", evaluation_text(out, result)));
    out.print(labelled(out, "length", formatted("{:.1f} steps on average", result.mean_length)));
  }
  out.check();
  return ExitCode::kOk;
}

}  // namespace perilune
