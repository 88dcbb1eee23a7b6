#include "kernels/environments.hpp"

#include "sims/env.hpp"
#include PERILUNE_ENVIRONMENT_HEADERS

namespace perilune {

std::span<const EnvironmentInfo> environments() {
  static constexpr EnvironmentInfo kEnvironments[] = {
#define PERILUNE_ENVIRONMENT(environment, ...) environment_info<environment>(),
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT
  };
  return kEnvironments;
}

}  // namespace perilune
