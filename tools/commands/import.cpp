// `perilune import`.
#include <memory>
#include <optional>

#include "host/base/format.hpp"
#include "host/base/json.hpp"
#include "host/runs/state_dictionary.hpp"
#include "host/settings/environment_settings.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

constexpr std::string_view kHelp =
    "Makes a policy file of PyTorch state dictionaries, without PyTorch: of one file\n"
    "with an actor and a critic as CleanRL saves them, or of a file for each, with\n"
    "input_layer, hidden_layer and output_layer or as a Sequential. No code in them\n"
    "is run. What weights do not tell is set by a preset, --config or --set: env_id,\n"
    "activation, and log_std_init where no standard deviations are in the file.\n"
    "`perilune eval`, `train --from` and perilune.load take the policy file.\n"
    "\nExamples:\n"
    "  perilune import policy.pth --preset cartpole --to policy.safetensors\n"
    "  perilune import actor_nn.pt critic_nn.pt --preset cartpole --to x.safetensors";

struct ImportOptions {
  StateFiles files;
  ConfigSource settings;
  std::optional<std::filesystem::path> to;
  bool json = false;
};

ExitCode run_import(const ImportOptions& options) {
  if (!options.to) throw UsageError("--to is missing - give the policy file to write");
  const ImportedState imported = import_state(options.files, options.settings, *options.to);
  const Config& config = imported.policy.config;
  Terminal out = Terminal::standard_output();
  if (options.json) {
    out.print(Json({{"file", options.to->string()},
                    {"env", config.env_id},
                    {"activation", value_text(config, "activation")},
                    {"output_activation", value_text(config, "output_activation")},
                    {"notes", imported.notes}})
                  .dump() +
              "\n");
  } else {
    out.print(labelled(out, "wrote", options.to->string()));
    out.print(labelled(out, "task", task_text(config)));
    out.print(labelled(out, "networks", layers_text(config)));
    for (const std::string& note : imported.notes) out.print(labelled(out, "note", note));
  }
  out.check();
  return ExitCode::kOk;
}

}  // namespace

Command import_command() {
  const auto options = std::make_shared<ImportOptions>();
  return {
      .name = "import",
      .summary = "make a policy file of PyTorch state dictionaries",
      .options = {{.name = "file",
                   .kind = OptionKind::kRequiredArgument,
                   .value = "FILE",
                   .help = "a state dictionary of actor and critic, or of the actor",
                   .to = path_to(options->files.file)},
                  {.name = "critic",
                   .kind = OptionKind::kArgument,
                   .value = "CRITIC_FILE",
                   .help = "a state dictionary of the critic",
                   .to = path_to(options->files.critic)},
                  {.name = "to",
                   .value = "POLICY",
                   .help = "the policy file to write, which ends in .safetensors",
                   .to = path_to(options->to)},
                  {.name = "preset",
                   .value = "PRESET",
                   .help = "settings that the policy was trained with (see `perilune list presets`)",
                   .to = text_to(options->settings.preset_name)},
                  set_option(options->settings.settings, "set one key; may be repeated (see `perilune list keys`)"),
                  {.name = "config",
                   .value = "FILE",
                   .help = "read keys from a TOML file",
                   .to = path_to(options->settings.file)},
                  json_option(options->json)},
      .help = kHelp,
      .run = [options](const Process&) { return run_import(*options); },
  };
}

}  // namespace perilune
