// The CUDA machine, and its kernels that exist once: networks in fp32, and all that knows no networks. The .cu files are the
// only ones given to nvcc, with the tests.
#include "kernels/cuda_instances.cuh"

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/act.hpp"
#include "kernels/gae.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/simulate.hpp"
#include "kernels/statistics.hpp"
#include "kernels/step.hpp"
#include "kernels/wide_launch.hpp"

namespace perilune::inline PERILUNE_LEVEL {

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA failed while ") + what + ": " +
                           cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

int update_blocks(int per_processor) {
  int device = 0, processors = 0;
  check_cuda(cudaGetDevice(&device), "asking for the current device");
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
             "counting multiprocessors");
  return per_processor * processors;
}

namespace {

constexpr int kWideLanes = 256;
constexpr int kSimulateLanes = 128;

/// Blocks of kernels that split their lanes into columns.
std::int32_t wide_columns(std::int32_t n) { return divide_up(n, CudaBlock<kWideLanes>::kColumns); }

/// Launches K over environments that a caller steps.
template <class K, class Args>
void launch_step(const Args& args, Queue& queue) {
  launch_cuda<K, kTileLanes>(args, divide_up(args.environments.count, kTileLanes), 0, queue);
}

/// What does not depend on the network.
template <class E>
Instance with_simulator(Instance instance) {
  instance.environment = E::kId;
  instance.observation_dim = E::kObsDim;
  instance.num_actions = E::Action::kCount;
  instance.state_fields = E::template State<float>::kFields;
  instance.record_floats = Record<E>::kFloats;
  instance.reset = [](const ResetArgs& args, Queue& queue) {
    launch_cuda<Reset<E>, kTileLanes>(args, divide_up(args.environments.count, kTileLanes), 0,
                                      queue);
  };
  instance.simulate = [](const SimulateArgs& args, Queue& queue) {
    launch_cuda<Simulate<E>, kSimulateLanes>(
        args, divide_up(args.environments.count, kSimulateLanes), 0, queue);
  };
  instance.continuous = E::Action::kContinuous;
  instance.field_names = E::kFieldNames.data();
  instance.restart = launch_step<RestartEnvironments<E>, RestartArgs>;
  instance.check_step = launch_step<CheckStep<E>, StepArgs>;
  instance.step = launch_step<StepEnvironments<E>, StepArgs>;
  return instance;
}

template <class E, int Width>
Instance make_instance() {
  Instance instance = with_simulator<E>(make_network_instance<E, Width, Precision::kFp32>());
  instance.evaluate = [](const EvaluateArgs& args, Queue& queue) {
    using K = Evaluate<E, Width>;
    launch_cuda<K, kTileLanes>(
        args, divide_up(args.episodes, kTileLanes),
        storage_bytes<K, kTileLanes, Precision::kFp32>(args.actor.depth), queue);
  };
  instance.act = [](const ActArgs& args, Queue& queue) {
    using K = Act<InterfaceOf<E>, Width>;
    launch_cuda<K, kTileLanes>(
        args, divide_up(args.count, kTileLanes),
        storage_bytes<K, kTileLanes, Precision::kFp32>(args.actor.depth), queue);
  };
  return instance;
}

/// Those of every precision.
const std::vector<Instance>& instances() {
  static const std::vector<Instance> all = [] {
    std::vector<Instance> result = {
#define PERILUNE_INSTANCE(environment, width) make_instance<environment, width>(),
#include PERILUNE_INSTANCES
#undef PERILUNE_INSTANCE
    };
    const std::vector<Instance> plain = result;
    for (const std::span<const Instance> list : {tf32_instances(), bf16_instances()}) {
      for (Instance instance : list) {
        const auto same = std::find_if(plain.begin(), plain.end(), [&](const Instance& other) {
          return other.width == instance.width &&
                 std::string_view(other.environment) == instance.environment;
        });
        instance.reset = same->reset;
        instance.evaluate = same->evaluate;
        instance.simulate = same->simulate;
        instance.continuous = same->continuous;
        instance.field_names = same->field_names;
        instance.restart = same->restart;
        instance.check_step = same->check_step;
        instance.step = same->step;
        instance.act = same->act;
        result.push_back(instance);
      }
    }
    return result;
  }();
  return all;
}

template <class K, class Args>
void launch_single(const Args& args, Queue& queue) {
  launch_cuda<K, kWideLanes>(args, 1, 0, queue);
}

/// See wide_launch.hpp.
struct CudaLauncher {
  template <class K, class Args>
  static void lanes(const Args& args, int lanes, Queue& queue) {
    launch_cuda<K, kTileLanes>(args, divide_up(lanes, kTileLanes), 0, queue);
  }
  template <class K, class Args>
  static void rows(const Args& args, int rows, Queue& queue) {
    launch_cuda<K, kWideLanes>(args, rows, 0, queue);
  }
  template <class K, class Args>
  static void single(const Args& args, Queue& queue) {
    launch_single<K>(args, queue);
  }
  static float read(const float* value, Queue& queue) {
    const auto stream = static_cast<cudaStream_t>(queue.stream);
    float result = 0.0f;
    check_cuda(cudaMemcpyAsync(&result, value, sizeof result, cudaMemcpyDeviceToHost, stream),
               "reading a result");
    check_cuda(cudaStreamSynchronize(stream), "running kernels");
    queue.after_kernel = false;
    return result;
  }
  static bool skips(const Control*, Losses) { return false; }
};

const Instance kWideInstances[] = {
#define PERILUNE_ENVIRONMENT(environment) \
  wide_instance<environment, CudaLauncher>(with_simulator<environment>({})),
#include PERILUNE_INSTANCES
#undef PERILUNE_ENVIRONMENT
};

__global__ void set_condition(const Control* control, cudaGraphConditionalHandle handle) {
  cudaGraphSetConditional(handle, control->stop_policy == 0 && control->nonfinite == 0 ? 1 : 0);
}

Machine make_machine() {
  Machine machine{};
  machine.name = "cuda";
  machine.instances = instances().data();
  machine.instance_count = static_cast<int>(instances().size());
  machine.wide_instances = kWideInstances;
  machine.wide_instance_count = static_cast<int>(sizeof kWideInstances / sizeof kWideInstances[0]);
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

const Machine& level_machine() {
  static const Machine machine = make_machine();
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
