#include "host/planning/precision.hpp"

#include <algorithm>
#include <string>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/networks/networks.hpp"

namespace perilune {

namespace {

Precision automatic(const Device& device, const std::vector<Precision>& available) {
  const Precision wanted = device.fastest_precision().precision;
  const bool has_it = std::find(available.begin(), available.end(), wanted) != available.end();
  return has_it ? wanted : Precision::kFp32;
}

// Those of the configuration's fused kernels, or else of the matrix library: cuBLAS multiplies fp32 matrices in tf32.
std::vector<Precision> precisions_for(const Config& config, const Device& device) {
  std::vector<Precision> fused, layerwise;
  for (const Precision precision : {Precision::kFp32, Precision::kTf32, Precision::kBf16}) {
    if (!device.supports(precision)) continue;
    if (find_fused(config, device, precision) != nullptr) fused.push_back(precision);
    const bool in_library = precision == Precision::kFp32 || (precision == Precision::kTf32 && device.is_cuda());
    if (in_library && config.fused != Config::Fused::kTrue) layerwise.push_back(precision);
  }
  return fused.empty() ? layerwise : fused;
}

}  // namespace

std::string_view precision_name(Precision precision) { return kPrecisionNames[static_cast<int>(precision)]; }

std::vector<Precision> available_precisions(const Device& device, std::string_view environment, int width) {
  std::vector<Precision> result;
  const Machine& machine = device.machine();
  for (const Precision precision : {Precision::kFp32, Precision::kTf32, Precision::kBf16}) {
    const bool built =
        std::any_of(machine.table.fused, machine.table.fused + machine.table.fused_count, [&](const Kernels& i) {
          return i.precision == precision && i.environment->id == environment && (width == 0 || i.width == width);
        });
    if (built && device.supports(precision)) result.push_back(precision);
  }
  return result;
}

Precision choose_precision(const Config& config, const Device& device) {
  const std::vector<Precision> available = precisions_for(config, device);
  if (!config.precision) return automatic(device, available);
  std::string names;
  for (const Precision precision : available) {
    if (precision == config.precision) return precision;
    names += (names.empty() ? "" : ", ") + std::string(precision_name(precision));
  }
  throw UsageError(
      formatted("precision {}: {} has {} for {} with hidden layers of {} units - set precision to one of these or to "
                "auto; a run goes on in its own alone: begin another with its weights by train --from",
                precision_name(*config.precision), device.description(), names.empty() ? "none" : names, config.env_id,
                joined(layer_sizes(config))));
}

Config with_chosen_precision(Config config, const Device& device) {
  config.precision = choose_precision(config, device);
  return config;
}

}  // namespace perilune
