#include "host/networks/networks.hpp"

#include <algorithm>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/device/arena.hpp"

namespace perilune {

int fused_width(const Config& config) {
  if (has_whole_episodes(config)) return 0;  // they run a fixed number of steps
  const std::vector<int> sizes = layer_sizes(config);
  const bool uniform = std::all_of(sizes.begin(), sizes.end(), [&](int size) { return size == sizes[0]; });
  const bool allowed = config.fused != Config::Fused::kFalse && config.output_activation == OutputActivation::kNone;
  return allowed && uniform && sizes.size() <= kMaxFusedLayers ? sizes[0] : 0;
}

const Kernels* find_fused(const Config& config, const Device& device, Precision precision) {
  const int width = fused_width(config);
  if (width == 0) return nullptr;
  const Kernels* kernels = find_kernels(device.machine(), config.env_id.c_str(), width, precision);
  if (kernels == nullptr) return nullptr;
  const auto depth = static_cast<int>(layer_sizes(config).size());
  return largest_block_storage(*kernels, depth) <= device.max_block_storage() ? kernels : nullptr;
}

const Kernels& choose_kernels(const Config& config, const Device& device, Precision precision) {
  if (const Kernels* fused = find_fused(config, device, precision)) return *fused;
  const Kernels* layerwise = find_layerwise_kernels(device.machine(), config.env_id.c_str());
  if (config.fused == Config::Fused::kTrue || layerwise == nullptr) {
    throw UsageError(formatted(
        "{} has no fused kernels for {} with hidden layers of {} units that fit {} of storage per "
        "block - see `perilune info` for what was built, or set fused = auto",
        device.machine().name, config.env_id, joined(layer_sizes(config)), format_bytes(device.max_block_storage())));
  }
  return *layerwise;
}

int workspace_columns(const Model& model, int wanted) {
  std::int64_t units = 0, widest = 0;  // of a training step: every layer's outputs, and one layer's gradients
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

std::string networks_text(const Config& config, const Kernels& kernels, Device& device, Precision precision) {
  std::string sizes = joined(layer_sizes(config));
  if (config.output_activation != OutputActivation::kNone) {
    sizes += formatted(" and {} of the outputs", value_text(config, "output_activation"));
  }
  if (kernels.width != 0) return "hidden layers of " + sizes + ", fused";
  return formatted("hidden layers of {}, layer by layer with {}{}", sizes, device.matrix_library(precision).name(),
                   has_whole_episodes(config) ? " (whole episodes have no fused kernels)" : "");
}

std::vector<int> built_widths(const Machine& machine, std::string_view environment) {
  std::vector<int> widths;
  for (int i = 0; i < machine.table.fused_count; ++i) {
    const Kernels& kernels = machine.table.fused[i];
    if (kernels.environment->id == environment && kernels.precision == Precision::kFp32)
      widths.push_back(kernels.width);
  }
  return widths;
}

}  // namespace perilune
