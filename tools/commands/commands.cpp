// See commands.hpp.
#include "tools/commands/commands.hpp"

namespace perilune {
namespace {

constexpr std::string_view kHelp =
    "Examples:\n"
    "  perilune train                      train CartPole-v1 until it is solved\n"
    "  perilune eval runs/RUN              evaluate what a run has learned\n"
    "  perilune profile                    see where the time goes\n"
    "  perilune list keys                  what --set can change\n\n"
    "`perilune COMMAND --help` explains a command.";

}  // namespace

Program perilune_program() {
  return {
      .summary = "Perilune trains reinforcement-learning policies, on a GPU or on CPU cores.",
      .help = kHelp,
      .commands = {train_command(), eval_command(), export_command(), import_command(), sweep_command(),
                   profile_command(), info_command(), list_command()},
  };
}

}  // namespace perilune
