// The environments of this build: those of kernels/environments.def, or what PERILUNE_ENVIRONMENTS leaves of them.
#pragma once

#include <span>

#include "sims/environment_info.hpp"

namespace perilune {

/// In the list's order.
std::span<const EnvironmentInfo> environments();

}  // namespace perilune
