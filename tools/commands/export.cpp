// `perilune export`.
#include <memory>
#include <optional>

#include "host/base/format.hpp"
#include "host/base/json.hpp"
#include "host/runs/policy.hpp"
#include "host/runs/state_dictionary.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

constexpr std::string_view kHelp =
    "Writes a policy's networks as PyTorch state dictionaries, without PyTorch.\n"
    "  sequential  one file, CleanRL's keys: actor.0.weight, critic.0.weight, ...;\n"
    "              with continuous actions actor_mean.0.weight, ... and actor_logstd\n"
    "  layers      actor_nn.pt and critic_nn.pt in a directory, keys\n"
    "              input_layer.weight, .bias, hidden_layer..., output_layer...\n"
    "\nExamples:\n"
    "  perilune export runs/RUN --to policy.pth\n"
    "  perilune export runs/RUN --best --layout layers --to networks";

struct ExportOptions {
  std::filesystem::path run_or_file;
  bool best = false;  // of a run: the policy of its best evaluation, else the newest
  StateLayout layout = StateLayout::kSequential;
  std::optional<std::filesystem::path> to;
  bool json = false;
};

ExitCode run_export(const ExportOptions& options) {
  if (!options.to) throw UsageError("--to is missing - give the file to write, or the directory of --layout layers");
  const std::filesystem::path source =
      options.best ? best_policy(options.run_or_file) : policy_file(options.run_or_file);
  const SavedPolicy policy = load_policy(source);
  const ExportedState exported = export_state(policy, options.layout, *options.to);
  const Config& config = policy.config;
  Terminal out = Terminal::standard_output();
  if (options.json) {
    Json files = Json::array();
    for (const std::filesystem::path& file : exported.files) files.push_back(file.string());
    out.print(Json({{"files", files},
                    {"env", config.env_id},
                    {"activation", value_text(config, "activation")},
                    {"output_activation", value_text(config, "output_activation")},
                    {"notes", exported.notes}})
                  .dump() +
              "\n");
  } else {
    for (const std::filesystem::path& file : exported.files) out.print(labelled(out, "wrote", file.string()));
    out.print(labelled(out, "networks", layers_text(config)));
    for (const std::string& note : exported.notes) out.print(labelled(out, "note", note));
  }
  out.check();
  return ExitCode::kOk;
}

}  // namespace

Command export_command() {
  const auto options = std::make_shared<ExportOptions>();
  return {
      .name = "export",
      .summary = "write a policy as PyTorch state dictionaries",
      .options = {{.name = "run",
                   .kind = OptionKind::kRequiredArgument,
                   .value = "RUN_OR_FILE",
                   .help = "a run directory, a checkpoint or a policy file",
                   .to = path_to(options->run_or_file)},
                  {.name = "best",
                   .help = "of a run: the policy of its best evaluation (default: the newest)",
                   .to = &options->best},
                  {.name = "layout",
                   .value = "NAME",
                   .help = "sequential or layers, as explained below (default sequential)",
                   .to = word_to(options->layout,
                                 {{"sequential", StateLayout::kSequential}, {"layers", StateLayout::kLayers}})},
                  {.name = "to",
                   .value = "PATH",
                   .help = "the file to write, which ends in .pt or .pth; with --layout layers a directory",
                   .to = path_to(options->to)},
                  json_option(options->json)},
      .help = kHelp,
      .run = [options](const Process&) { return run_export(*options); },
  };
}

}  // namespace perilune
