// Finding environments and their parameters by what users call them. What is known of each is said in its simulator
// (sims/) and comes from kernels/environments.hpp.
#pragma once

#include <string>
#include <string_view>

#include "kernels/environments.hpp"

namespace perilune {

// "0 .. 20", "above -12 and below 0".
std::string range_text(const Range& range);

// The environment with this id or alias (case does not matter). Throws UsageError that lists the
// known ones and names the nearest.
const EnvironmentInfo& find_environment(std::string_view id_or_alias);

// Its parameter of this name, or null.
const EnvironmentParameter* find_parameter(const EnvironmentInfo& environment, std::string_view name);

}  // namespace perilune
