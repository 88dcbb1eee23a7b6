// The kernels of bf16 networks: see cuda_instances.cuh.
#include "kernels/cuda_instances.cuh"

namespace perilune::inline PERILUNE_LEVEL {

std::span<const Instance> bf16_instances() {
  static const Instance instances[] = {
#define PERILUNE_INSTANCE(environment, width) \
  make_network_instance<environment, width, Precision::kBf16>(),
#include PERILUNE_INSTANCES
#undef PERILUNE_INSTANCE
  };
  return instances;
}

}  // namespace perilune::inline PERILUNE_LEVEL
