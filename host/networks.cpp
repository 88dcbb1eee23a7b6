#include "host/networks.hpp"

#include <algorithm>

#include "host/arena.hpp"
#include "host/error.hpp"
#include "host/format.hpp"
#include "host/text.hpp"

namespace perilune {

int fused_width(const Config& config) {
  const std::vector<int> sizes = layer_sizes(config);
  const bool uniform = std::all_of(sizes.begin(), sizes.end(), [&](int size) { return size == sizes[0]; });
  return config.fused != Config::Fused::kFalse && uniform && sizes.size() <= kMaxFusedLayers ? sizes[0] : 0;
}

const Instance* find_fused(const Config& config, const Device& device, Precision precision) {
  const int width = fused_width(config);
  if (width == 0) return nullptr;
  const Instance* instance = find_instance(device.machine(), config.env_id.c_str(), width, precision);
  if (instance == nullptr) return nullptr;
  const auto depth = static_cast<int>(layer_sizes(config).size());
  return instance->block_storage(depth) <= device.max_block_storage() ? instance : nullptr;
}

const Instance& choose_instance(const Config& config, const Device& device, Precision precision) {
  if (const Instance* fused = find_fused(config, device, precision)) return *fused;
  const Instance* wide = find_wide_instance(device.machine(), config.env_id.c_str());
  if (config.fused == Config::Fused::kTrue || wide == nullptr) {
    throw UsageError(formatted("{} has no fused kernels for {} with hidden layers of {} units that fit {} of storage per "
                               "block - see `perilune info` for what was built, or set fused = auto",
                               device.machine().name, config.env_id, joined(layer_sizes(config)),
                               format_bytes(device.max_block_storage())));
  }
  return *wide;
}

int workspace_columns(const Model& model, int wanted) {
  std::int64_t units = 0, widest = 0;  // of a training step: every layer's outputs, and one layer's slopes
  for (int l = 0; l < model.actor.depth; ++l) {
    const std::int64_t width = std::max(model.actor.width[l], model.critic.width[l]);
    units += width;
    widest = std::max(widest, width);
  }
  constexpr std::int64_t kMostFloats = std::int64_t{64} << 20;
  constexpr std::int64_t kUnit = 64;  // at least; and so that most products have whole vectors
  const std::int64_t room = kMostFloats / (units + widest) / kUnit * kUnit;
  return static_cast<int>(std::min<std::int64_t>(wanted, std::max(room, kUnit)));
}

std::size_t training_workspace(const Instance& instance, const Config& config, const Model& model, int minibatch_size,
                               int columns) {
  if (!is_wide(instance)) return 0;
  RolloutArgs rollout{};
  rollout.environments.count = config.num_envs;
  rollout.environments.max_episode_steps = episode_limit(config);
  rollout.actor = model.actor;
  rollout.critic = model.critic;
  rollout.num_steps = config.num_steps;
  rollout.truncate_at_end = config.truncate_at_rollout_end;
  rollout.workspace.columns = columns;
  UpdateArgs update{};
  update.actor = model.actor;
  update.critic = model.critic;
  update.sampling.minibatch_size = minibatch_size;
  update.workspace.columns = columns;
  return std::max(instance.rollout_workspace(rollout), instance.update_workspace(update));
}

std::string networks_text(const Config& config, const Instance& instance, Device& device, Precision precision) {
  const std::string sizes = joined(layer_sizes(config));
  if (instance.width != 0) return "hidden layers of " + sizes + ", fused";
  return formatted("hidden layers of {}, layer by layer with {}", sizes, device.matrix_library(precision).name());
}

std::vector<int> built_widths(const Machine& machine, std::string_view environment) {
  std::vector<int> widths;
  for (int i = 0; i < machine.instance_count; ++i) {
    const Instance& instance = machine.instances[i];
    if (instance.environment == environment && instance.precision == Precision::kFp32) widths.push_back(instance.width);
  }
  return widths;
}

}  // namespace perilune
