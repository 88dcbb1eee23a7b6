// The program as a table of commands. Each is in the file of its name: its options, its help and what it does.
#pragma once

#include "tools/commands/command_line.hpp"

namespace perilune {

Command train_command();
Command eval_command();
Command export_command();
Command import_command();
Command sweep_command();
Command profile_command();
Command info_command();
Command list_command();

// A new one for each command line: its commands hold what their options are given.
Program perilune_program();

}  // namespace perilune
