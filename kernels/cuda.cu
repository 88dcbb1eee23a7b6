// The CUDA machine: instantiates every kernel body over CudaBlock. The only file that is given to nvcc, with the tests.
#include "kernels/machine/cuda_block.cuh"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/evaluate.hpp"
#include "kernels/gae.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/rollout.hpp"
#include "kernels/simulate.hpp"
#include "kernels/statistics.hpp"
#include "kernels/update.hpp"
#include "sims/cartpole.hpp"

namespace perilune::inline PERILUNE_LEVEL {

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA failed while ") + what + ": " +
                           cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

namespace {

// 64 lanes: the tiles of a 64-wide, two-layer network then take 36 KB of shared memory, so that several blocks share a
// multiprocessor, and 64-wide three-layer networks fit the 64 KB of sm_75.
constexpr int kTileLanes = 64;
constexpr int kWideLanes = 256;
constexpr int kSimulateLanes = 128;

constexpr int divide_up(int x, int by) { return (x + by - 1) / by; }

/// Blocks of kernels that split their lanes into columns.
std::int32_t wide_columns(std::int32_t n) { return divide_up(n, CudaBlock<kWideLanes>::kColumns); }

/// Bytes of dynamic shared memory kernel K needs.
template <class K, Precision P>
constexpr std::size_t storage_bytes(int depth) {
  const int floats = K::template storage_floats<CudaBlock<kTileLanes, P>>(depth);
  return sizeof(float) * static_cast<std::size_t>(floats);
}

int depth_of(const Network& actor, const Network& critic) {
  return actor.depth > critic.depth ? actor.depth : critic.depth;
}

template <class E, int Width, Precision P = Precision::kFp32>
Instance make_instance() {
  Instance instance{};
  instance.environment = E::kId;
  instance.precision = P;
  instance.width = Width;
  instance.observation_dim = E::kObsDim;
  instance.num_actions = E::Action::kCount;
  instance.state_fields = E::template State<float>::kFields;
  instance.record_floats = Record<E>::kFloats;
  instance.reset = [](const ResetArgs& args, Queue& queue) {
    launch_cuda<Reset<E>, kTileLanes>(args, divide_up(args.environments.count, kTileLanes), 0,
                                      queue);
  };
  instance.rollout = [](const RolloutArgs& args, Queue& queue) {
    using K = Rollout<E, Width>;
    launch_cuda<K, kTileLanes, P>(args, divide_up(args.environments.count, kTileLanes),
                                  storage_bytes<K, P>(depth_of(args.actor, args.critic)), queue);
  };
  instance.update = [](const UpdateArgs& args, Queue& queue) {
    using K = Update<E, Width>;
    const int networks = args.losses == Losses::kBoth ? 2 : 1;
    launch_cuda<K, kTileLanes, P>(args, networks * args.partials,
                                  storage_bytes<K, P>(depth_of(args.actor, args.critic)), queue);
  };
  instance.evaluate = [](const EvaluateArgs& args, Queue& queue) {
    using K = Evaluate<E, Width>;
    launch_cuda<K, kTileLanes>(args, divide_up(args.episodes, kTileLanes),
                               storage_bytes<K, Precision::kFp32>(args.actor.depth), queue);
  };
  instance.simulate = [](const SimulateArgs& args, Queue& queue) {
    launch_cuda<Simulate<E>, kSimulateLanes>(
        args, divide_up(args.environments.count, kSimulateLanes), 0, queue);
  };
  instance.block_storage = [](int depth) -> std::size_t {
    return std::max({storage_bytes<Rollout<E, Width>, P>(depth),
                     storage_bytes<Update<E, Width>, P>(depth),
                     storage_bytes<Evaluate<E, Width>, Precision::kFp32>(depth)});
  };
  return instance;
}

const Instance kInstances[] = {
#define PERILUNE_INSTANCE(environment, width) make_instance<environment, width>(),
#include "kernels/instances.def"
#undef PERILUNE_INSTANCE
};

template <class K, class Args>
void launch_single(const Args& args, Queue& queue) {
  launch_cuda<K, kWideLanes>(args, 1, 0, queue);
}

__global__ void set_condition(const Control* control, cudaGraphConditionalHandle handle) {
  cudaGraphSetConditional(handle, control->stop_policy == 0 && control->nonfinite == 0 ? 1 : 0);
}

/// Two update blocks per network and multiprocessor of the current device.
int max_partials() {
  int device = 0, processors = 0;
  check_cuda(cudaGetDevice(&device), "asking for the current device");
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
             "counting multiprocessors");
  return 2 * processors;
}

Machine make_machine() {
  Machine machine{};
  machine.name = "cuda";
  machine.instances = kInstances;
  machine.instance_count = static_cast<int>(sizeof kInstances / sizeof kInstances[0]);
  machine.update_tile = kTileLanes;
  machine.max_partials = max_partials;
  machine.gae_blocks = wide_columns;
  machine.reduce_blocks = wide_columns;
  machine.gae = [](const GaeArgs& args, Queue& queue) {
    launch_cuda<Gae, kWideLanes>(args, wide_columns(args.count),
                                 Gae::storage_floats<CudaBlock<kWideLanes>>() * sizeof(float), queue);
  };
  machine.advantage_moments = [](const AdvantageMomentsArgs& args, Queue& queue) {
    launch_cuda<AdvantageMoments, kWideLanes>(
        args, args.num_epochs * args.num_minibatches * kMomentChunks, 0, queue);
  };
  machine.reduce_gradients = [](const ReduceGradientsArgs& args, Queue& queue) {
    launch_cuda<ReduceGradients, kWideLanes>(
        args, wide_columns(args.end - args.begin),
        ReduceGradients::storage_floats<CudaBlock<kWideLanes>>() * sizeof(float), queue);
  };
  machine.apply_gradients = [](const ApplyGradientsArgs& args, Queue& queue) {
    launch_cuda<ApplyGradients, kWideLanes>(args, divide_up(args.end - args.begin, kWideLanes), 0,
                                            queue);
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
}  // namespace perilune::inline PERILUNE_LEVEL

namespace perilune {

const Machine* cuda_machine() {
  static const Machine machine = make_machine();
  return &machine;
}

}  // namespace perilune
