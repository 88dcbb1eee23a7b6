// The CUDA device, or the reason why there is none. device.cpp answers in builds without CUDA.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "host/device/device.hpp"

namespace perilune {

// Opens the first CUDA device, or returns null and says why in `why_not`.
std::unique_ptr<Device> open_cuda_device(std::string& why_not);

// What the first CUDA device can do, without a context; none, and why in `why_not`, as above.
std::optional<Hardware> cuda_hardware(std::string& why_not);

// "usable: NVIDIA H200, 139 GiB, sm_90", or why not.
std::string cuda_status();

}  // namespace perilune
