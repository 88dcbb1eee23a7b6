// Policies as PyTorch state dictionaries (torch_file.hpp), for programs that build their networks themselves.
//
// Two layouts: sequential, one file with the keys of CleanRL's agents: actor.0.weight, actor.0.bias, actor.2.weight,
// ..., critic.0.weight, ...; with continuous actions actor_mean.0.weight, ... and actor_logstd [1, actions]. layers,
// two files actor_nn.pt and critic_nn.pt with input_layer.weight, input_layer.bias, hidden_layer.*, output_layer.*, for
// one or two hidden layers.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/runs/checkpoint.hpp"
#include "host/settings/config.hpp"

namespace perilune {

enum class StateLayout { kSequential, kLayers };

struct ExportedState {
  std::vector<std::filesystem::path> files;
  std::vector<std::string> notes;  // what the files do not tell, a sentence each
};

// Writes a policy to the file `to`, or in the layout of two files into the directory `to`, which is made where it is
// missing; each atomically. Throws UsageError if the layout cannot hold the policy or `to` is no place for it.
ExportedState export_state(const SavedPolicy& policy, StateLayout layout, const std::filesystem::path& to);

struct StateFiles {
  std::filesystem::path file;                   // of both networks, or of the actor
  std::optional<std::filesystem::path> critic;  // has the critic then
};

struct ImportedState {
  SavedPolicy policy;
  std::vector<std::string> notes;  // what became of the numbers, a sentence each
};

// Writes the policy file `to`, atomically, of files of either layout, or of two that each hold a Sequential (0.weight,
// ...); which, their keys say. Hidden layers are the weights' own. What weights do not tell must be set: env_id,
// activation, and with continuous actions log_std_init where there is no actor_logstd (log_std, actor.log_std). A
// preset sets all of them. Throws Error that names the file and tensor, and UsageError for settings that are missing or
// contradict the weights; `to` stays as it was then.
ImportedState import_state(const StateFiles& files, const ConfigSource& settings, const std::filesystem::path& to);

// "actor 8-64-64-4, critic 8-64-64-1, tanh between layers, relu of the outputs": what a program must build to load the
// weights.
std::string layers_text(const Config& config);

}  // namespace perilune
