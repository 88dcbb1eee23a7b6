// The CUDA machine, and its kernels that know no environment. With the units of the environments (cuda_launcher.cuh)
// the only files that are given to nvcc.
#include "kernels/cuda_launcher.cuh"

#include <stdexcept>
#include <string>

#include "kernels/gae.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/statistics.hpp"

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

/// Blocks of kernels that split their lanes into columns.
std::int32_t column_blocks(std::int32_t n) { return divide_up(n, CudaBlock<kElementLanes>::kColumns); }

/// As many as leave each lane what it gathers at a time, but no more than 64: four epochs of four minibatches are then
/// 1024 blocks, enough for 132 multiprocessors that hold four or five of them each, and the last block has few to
/// combine.
std::int32_t moment_chunks(std::int32_t minibatch_size) {
  constexpr int kMost = 64;
  const int chunks = divide_up(minibatch_size, kElementLanes * AdvantageMoments::kAhead<CudaBlock<kElementLanes>>);
  return chunks < kMost ? chunks : kMost;
}

/// Those of every precision.
const KernelList& instances() {
  static const KernelList all = [] {
    KernelList table;
#define PERILUNE_ENVIRONMENT(environment, header, ...) \
  table.add_in_precisions(add_##environment, set_tf32_##environment, set_bf16_##environment);
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT
    return table;
  }();
  return all;
}

__global__ void set_condition(const Control* control, cudaGraphConditionalHandle handle) {
  cudaGraphSetConditional(handle, control->stop_policy == 0 && control->nonfinite == 0 ? 1 : 0);
}

Machine make_machine() {
  Machine machine{};
  machine.name = "cuda";
  instances().show_in(machine);
  machine.gae_blocks = column_blocks;
  machine.moment_chunks = moment_chunks;
  machine.reduce_blocks = column_blocks;
  machine.gae = [](const GaeArgs& args, Queue& queue) {
    launch_cuda<Gae, kElementLanes>(args, column_blocks(args.count),
                                    Gae::storage_floats<CudaBlock<kElementLanes>>() * sizeof(float), queue);
  };
  machine.advantage_moments = [](const AdvantageMomentsArgs& args, Queue& queue) {
    launch_cuda<AdvantageMoments, kElementLanes>(
        args, args.num_epochs * args.num_minibatches * moment_chunks(args.sampling.minibatch_size),
        AdvantageMoments::storage_floats<CudaBlock<kElementLanes>>() * sizeof(float), queue);
  };
  machine.reduce_gradients = [](const ReduceGradientsArgs& args, Queue& queue) {
    launch_cuda<ReduceGradients, kElementLanes>(
        args, column_blocks(args.end - args.begin),
        ReduceGradients::storage_floats<CudaBlock<kElementLanes>>() * sizeof(float), queue);
  };
  machine.apply_gradients = [](const ApplyGradientsArgs& args, Queue& queue) {
    launch_cuda<ApplyGradients, kElementLanes>(args, divide_up(args.end - args.begin, kElementLanes), 0, queue);
  };
  machine.begin_iteration = launch_single<BeginIteration, BeginIterationArgs>;
  machine.end_iteration = launch_single<EndIteration, EndIterationArgs>;
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
  static const Machine machine = make_machine();
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
