// Which kernels a configuration's networks run on: fused ones, where their shape was built, or layer by layer
// through a matrix library.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "host/device/device.hpp"
#include "host/networks/model.hpp"
#include "host/settings/config.hpp"

namespace perilune {

// The width of the fused kernels to look for; 0 if the shape is not for them, or fused = false.
int fused_width(const Config& config);

// The fused kernels for this configuration; null if there is none here, or its blocks need more storage than the
// device's have.
const Kernels* find_fused(const Config& config, const Device& device, Precision precision);

// The fused kernels or else the layer-by-layer ones. Throws UsageError if fused = true and there is none.
const Kernels& choose_kernels(const Config& config, const Device& device, Precision precision);

inline bool is_layerwise(const Kernels& kernels) { return kernels.width == 0; }

// Samples that go through layer-by-layer networks at a time: `wanted`, or as many as 256 MiB of hidden layers hold.
int workspace_columns(const Model& model, int wanted);

// "hidden layers of 64, 64, fused", "hidden layers of 2048, 1536, layer by layer with OpenBLAS", "hidden layers of 64,
// 64 and relu of the outputs, layer by layer with OpenBLAS".
std::string networks_text(const Config& config, const Kernels& kernels, Device& device, Precision precision);

// The hidden widths that the machine has fused kernels of for this environment, in fp32.
std::vector<int> built_widths(const Machine& machine, std::string_view environment);

}  // namespace perilune
