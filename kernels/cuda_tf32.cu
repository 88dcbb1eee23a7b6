// The kernels of tf32 networks: see cuda_instances.cuh.
#include "kernels/cuda_instances.cuh"

namespace perilune::inline PERILUNE_LEVEL {

std::span<const Instance> tf32_instances() {
  static const Instance instances[] = {
#define PERILUNE_INSTANCE(environment, width) \
  make_network_instance<environment, width, Precision::kTf32>(),
#include PERILUNE_INSTANCES
#undef PERILUNE_INSTANCE
  };
  return instances;
}

bool has_tensor_kernels() {
  // Code for compute capability 7.5, which is a trap, is what the driver takes if the program was built for nothing newer.
  const auto kernel = run_kernel<Rollout<CartPole, 64>, kTileLanes, Precision::kTf32, RolloutArgs>;
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, kernel), "asking for a kernel's architecture");
  return attributes.ptxVersion >= 80;
}

}  // namespace perilune::inline PERILUNE_LEVEL
