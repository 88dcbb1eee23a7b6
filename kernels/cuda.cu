// The CUDA machine, and its kernels that know no environment. With the units of the environments (cuda_launcher.cuh)
// the only files that are given to nvcc.
#include "kernels/cuda_launcher.cuh"

#include <stdexcept>
#include <string>

namespace perilune::inline PERILUNE_LEVEL {

#define PERILUNE_ENVIRONMENT(environment, header, ...) \
  void add_##environment(KernelList&);                 \
  void set_tf32_##environment(Kernels*);               \
  void set_bf16_##environment(Kernels*);
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA failed while ") + what + ": " + cudaGetErrorString(status) + " (" +
                           cudaGetErrorName(status) + ")");
}

int device_blocks(int per_processor) {
  int device = 0, processors = 0;
  check_cuda(cudaGetDevice(&device), "asking for the current device");
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "counting multiprocessors");
  return per_processor * processors;
}

namespace {

/// Those of every precision.
const KernelList& all_kernels() {
  static const KernelList all = [] {
    KernelList list;
#define PERILUNE_ENVIRONMENT(environment, header, ...) \
  list.add_in_precisions(add_##environment, set_tf32_##environment, set_bf16_##environment);
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT
    return list;
  }();
  return all;
}

__global__ void set_condition(const Control* control, cudaGraphConditionalHandle handle) {
  cudaGraphSetConditional(handle, control->stop_policy == 0 && control->nonfinite == NonFinite::kNone ? 1 : 0);
}

Machine with_conditions(Machine machine) {
  machine.set_condition = [](const Control* control, std::uint64_t handle, Queue& queue) {
    set_condition<<<1, 1, 0, static_cast<cudaStream_t>(queue.stream)>>>(control, handle);
    check_cuda(cudaGetLastError(), "setting a graph's condition");
    queue.after_kernel = false;
  };
  return machine;
}

}  // namespace

bool has_tensor_kernels() {
  // Code for compute capability 7.5, in which tensor-core kernels are traps, is what the driver takes if the program
  // was built for nothing newer. All files are compiled for the same ones.
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, set_condition), "asking for a kernel's architecture");
  return attributes.ptxVersion >= 80;
}

const Machine& level_machine() {
  static const Machine machine = with_conditions(make_machine<CudaLauncher>("cuda", all_kernels().table()));
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
