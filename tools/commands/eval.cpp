// `perilune eval`.
#include <limits>
#include <memory>

#include "host/base/format.hpp"
#include "host/planning/device_choice.hpp"
#include "host/runs/policy.hpp"
#include "host/settings/environment_settings.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/results_json.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

constexpr std::string_view kHelp =
    "Plays the task that was trained: the run's environment, its parameters and its\n"
    "time limit.\n"
    "\nExamples:\n"
    "  perilune eval runs/RUN\n"
    "  perilune eval runs/RUN --best\n"
    "  perilune eval runs/RUN --set max_episode_steps=600\n"
    "  perilune eval runs/RUN/policy.safetensors --episodes 1000 --seed 7\n"
    "  perilune eval runs/RUN --sampled --json";

struct EvalOptions {
  std::filesystem::path run_or_file;
  bool best = false;              // of a run: the policy of its best evaluation, else the newest
  std::vector<Setting> settings;  // of the task
  int episodes = 100;
  bool sampled = false;
  std::int64_t seed = 1;
  DeviceOptions device;
  bool json = false;
};

ExitCode run_eval(const EvalOptions& options) {
  const std::filesystem::path source = options.best ? best_policy(options.run_or_file) : options.run_or_file;
  const Work work = evaluation_work(saved_config(source), options.episodes);  // its errors come before the device's
  const SelectedDevice selected = select_device(options.device.choice, options.device.threads, {&work, 1});
  EvaluationOptions evaluation;
  evaluation.episodes = options.episodes;
  evaluation.deterministic = !options.sampled;
  evaluation.seed = options.seed;
  Policy policy(source, *selected.device);
  const Config& trained = policy.config();
  const Config task = evaluation_task(trained, options.settings);
  Terminal err = Terminal::standard_error();
  for (const std::string& warning : environment_warnings(task)) {
    err.print(formatted("perilune: warning: {}\n", warning));
  }
  const EvaluationResult result = policy.evaluate(evaluation, task);

  Terminal out = Terminal::standard_output();
  if (options.json) {
    out.print(evaluation_json(result, task));
  } else {
    out.print(formatted("{}, {} actions, seed {}\n", out.styled(Style::kBold, task.env_id),
                        options.sampled ? "sampled" : "deterministic", options.seed));
    out.print(labelled(out, "task", task_text(task)));
    if (task_text(task) != task_text(trained)) out.print(labelled(out, "trained in", task_text(trained)));
    out.print(labelled(out, "device", formatted("{} - {}", selected.device->description(), selected.reason)));
    out.print(labelled(out, "return", evaluation_text(out, result)));
    out.print(labelled(out, "length", formatted("{:.1f} steps on average", result.mean_length)));
  }
  out.check();
  return ExitCode::kOk;
}

}  // namespace

Command eval_command() {
  const auto options = std::make_shared<EvalOptions>();
  return {
      .name = "eval",
      .summary = "evaluate a trained policy",
      .options = options_of({
          {{.name = "run",
            .kind = OptionKind::kRequiredArgument,
            .value = "RUN_OR_FILE",
            .help = "a run directory, a checkpoint or a policy file",
            .to = path_to(options->run_or_file)},
           {.name = "best",
            .help = "of a run: the policy of its best evaluation (default: the newest)",
            .to = &options->best},
           set_option(options->settings,
                      "play another task than the trained one: env_id, max_episode_steps or env.*; may be repeated"),
           {.name = "episodes",
            .value = "N",
            .help = "episodes to play (default 100)",
            .to = whole_to(options->episodes, 1, 1000000)},
           {.name = "sampled", .help = "sample actions (default: always the likeliest)", .to = &options->sampled},
           {.name = "seed",
            .value = "N",
            .help = "which episodes (default 1)",
            .to = whole_to(options->seed, 0, std::numeric_limits<std::uint32_t>::max())}},
          device_options(options->device),
          {json_option(options->json)},
      }),
      .help = kHelp,
      .run = [options](const Process&) { return run_eval(*options); },
  };
}

}  // namespace perilune
