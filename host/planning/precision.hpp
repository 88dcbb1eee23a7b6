// What a run multiplies its networks' matrices in: key `precision`, resolved against what the device has.
//
// It concerns rollouts and updates; evaluation is fp32 always.
#pragma once

#include <string_view>
#include <vector>

#include "host/device/device.hpp"
#include "host/settings/config.hpp"

namespace perilune {

// "fp32", "tf32", "bf16".
std::string_view precision_name(Precision precision);

// Those that were built for this environment and width (0: any) and that the device runs.
std::vector<Precision> available_precisions(const Device& device, std::string_view environment, int width = 0);

// What config.precision means on this device. Throws UsageError if the device lacks it.
Precision choose_precision(const Config& config, const Device& device);

// The configuration with that choice in place of "auto", so that a resumed run cannot choose another.
Config with_chosen_precision(Config config, const Device& device);

}  // namespace perilune
