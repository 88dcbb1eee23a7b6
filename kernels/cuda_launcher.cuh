// The CUDA machine's launchers of one environment, for the translation units that CMake makes of
// kernels/environments.def: one for each environment and precision. cuda.cu has what knows no environment.
#pragma once

#include "kernels/act.hpp"
#include "kernels/evaluate.hpp"
#include "kernels/kernel_list.hpp"
#include "kernels/layerwise_launch.hpp"
#include "kernels/machine/cuda_block.cuh"
#include "kernels/rollout.hpp"
#include "kernels/simulate.hpp"
#include "kernels/step.hpp"
#include "kernels/update.hpp"

namespace perilune::inline PERILUNE_LEVEL {

// 64 lanes: the tiles of a 64-wide, two-layer fp32 network then take 36 KB of shared memory, so that several blocks
// share a multiprocessor, and 64-wide three-layer networks fit the 64 KB of sm_75.
inline constexpr int kTileLanes = 64;
// Where steps are uneven, blocks are warps, so that none waits for another.
template <class E>
inline constexpr int kSimulateLanes = UnevenEnv<E> ? kWarpLanes : 128;
template <class E>
inline constexpr int kStepLanes = UnevenEnv<E> ? kWarpLanes : kTileLanes;
inline constexpr int kElementLanes = 256;
// Tensor-core updates take four warps, each of which then has a quarter of a weight gradient in its registers. Rollouts
// need no more than whole warps, and few environments then still spread over many multiprocessors.
template <Precision P>
inline constexpr int kUpdateLanes = P == Precision::kFp32 ? kTileLanes : 128;

// Blocks of rollouts with a team for each network that a multiprocessor has registers for. While all run at once both
// networks' chains of dependent multiplies side by side beat one after the other; with more blocks these fill each
// other's gaps. Narrow networks are a small part of a step, as all are of one of an uneven environment, and those are
// spread over more blocks; at width 128 each team would need block storage for a layer.
template <Precision P>
inline constexpr int kTeamBlocks = P == Precision::kBf16 ? 3 : 2;

constexpr int divide_up(int x, int by) { return (x + by - 1) / by; }

/// Bytes of dynamic shared memory kernel K needs.
template <class K, int Lanes, Precision P, class... Depth>
constexpr std::size_t storage_bytes(Depth... depth) {
  const int floats = K::template storage_floats<CudaBlock<Lanes, P>>(depth...);
  return sizeof(float) * static_cast<std::size_t>(floats);
}

inline int depth_of(const Network& actor, const Network& critic) {
  return actor.depth > critic.depth ? actor.depth : critic.depth;
}

/// `per_processor` blocks for each multiprocessor of the current device.
int device_blocks(int per_processor);

/// Blocks that step n environments. Of uneven ones a warp takes few while schedulers have no other work: alone it is
/// slow because each instruction waits for the one before, however many of its lanes carry it out, and with few lanes
/// it has fewer to carry out: for a step of 32 landers with random actions 124 k with the exact solver and 61 k with
/// the fast one, of 8 landers 68 k and 21 k, of one 43 k and 7 k. So they are spread over kSpreadThreads of each
/// multiprocessor: two warps for each of its schedulers.
template <class E>
int environment_blocks(int n, int lanes) {
  constexpr int kSpreadThreads = 256;
  const int full = divide_up(n, lanes);
  if constexpr (UnevenEnv<E>) {
    const int spread = device_blocks(kSpreadThreads / lanes), most = n < spread ? n : spread;
    return full < most ? most : full;
  } else {
    return full;
  }
}

/// The same for Simulate. Blocks take more environments than lanes once they have all of a multiprocessor's registers.
template <class E>
int simulate_blocks(int n) {
  constexpr int kLanes = kSimulateLanes<E>;
  if constexpr (UnevenEnv<E>) {
    constexpr int kMost = Rounds<CudaBlock<kLanes>>::kMost;
    const int rounds = divide_up(n, device_blocks(kRegisterBudget<Precision::kFp32> / kLanes) * kLanes);
    if (rounds > 1) return divide_up(n, kLanes * (rounds < kMost ? rounds : kMost));
  }
  return environment_blocks<E>(n, kLanes);
}

/// Gives an kernels what depends on the precision: all else is the same in each of them.
template <class E, int Width, Precision P>
void set_networks(Kernels& kernels) {
  kernels.precision = P;
  kernels.update_tile = kUpdateLanes<P>;
  // Two networks' blocks fill the machine once, as each block more would stage its weights again.
  kernels.max_partials = [](std::int32_t depth) -> std::int32_t {
    return with_update<InterfaceOf<E>, Width, P>(depth, [](auto kernel) {
      return device_blocks(P == Precision::kFp32 ? 4 : register_budget<decltype(kernel), P>() / kUpdateLanes<P>) / 2;
    });
  };
  kernels.rollout = [](const RolloutArgs& args, Queue& queue) {
    using K = Rollout<E, Width>;
    const int blocks = environment_blocks<E>(args.environments.count, kTileLanes);
    const std::size_t storage = storage_bytes<K, kTileLanes, P>(depth_of(args.actor, args.critic));
    if constexpr (P != Precision::kFp32 && Width == 64 && !UnevenEnv<E>) {
      if (blocks <= device_blocks(kTeamBlocks<P>))
        return launch_cuda<K, kTileLanes, P, 2>(args, blocks, storage, queue);
    }
    launch_cuda<K, kTileLanes, P>(args, blocks, storage, queue);
  };
  kernels.update = [](const UpdateArgs& args, Queue& queue) {
    const int networks = args.losses == Losses::kBoth ? 2 : 1, depth = depth_of(args.actor, args.critic);
    with_update<InterfaceOf<E>, Width, P>(depth, [&](auto kernel) {
      using K = decltype(kernel);
      launch_cuda<K, kUpdateLanes<P>, P>(args, networks * args.partials, storage_bytes<K, kUpdateLanes<P>, P>(depth),
                                         queue);
    });
  };
  kernels.kernel_storage = [](int depth) -> KernelStorage {
    return {storage_bytes<Rollout<E, Width>, kTileLanes, P>(depth),
            storage_bytes<Update<InterfaceOf<E>, Width>, kUpdateLanes<P>, P>(depth),
            storage_bytes<Evaluate<E, Width>, kTileLanes, Precision::kFp32>(depth)};
  };
  kernels.block_storage = [](int depth) -> std::size_t {
    std::size_t most = storage_bytes<Rollout<E, Width>, kTileLanes, P>(depth);
    for (const std::size_t bytes : {storage_bytes<Update<InterfaceOf<E>, Width>, kUpdateLanes<P>, P>(depth),
                                    storage_bytes<Evaluate<E, Width>, kTileLanes, Precision::kFp32>(depth)}) {
      if (most < bytes) most = bytes;
    }
    return most;
  };
}

/// Launches K over environments that a caller steps.
template <class K, class E, class Args>
void launch_step(const Args& args, Queue& queue) {
  constexpr int kLanes = kStepLanes<E>;
  launch_cuda<K, kLanes>(args, environment_blocks<E>(args.environments.count, kLanes), 0, queue);
}

/// What instances of every width have.
template <class E>
Kernels make_environment() {
  Kernels kernels{};
  kernels.environment = E::kId;
  kernels.observation_dim = E::kObsDim;
  kernels.num_actions = E::Action::kCount;
  kernels.state_fields = E::template State<float>::kFields;
  kernels.record_floats = Record<E>::kFloats;
  kernels.reset = launch_step<Reset<E>, E, ResetArgs>;
  kernels.simulate = [](const SimulateArgs& args, Queue& queue) {
    constexpr int kLanes = kSimulateLanes<E>;
    launch_cuda<Simulate<E>, kLanes>(args, simulate_blocks<E>(args.environments.count),
                                     storage_bytes<Simulate<E>, kLanes, Precision::kFp32>(), queue);
  };
  kernels.continuous = E::Action::kContinuous;
  kernels.field_names = E::kFieldNames.data();
  kernels.restart = launch_step<RestartEnvironments<E>, E, RestartArgs>;
  kernels.check_step = launch_step<CheckStep<E>, E, StepArgs>;
  kernels.step = launch_step<StepEnvironments<E>, E, StepArgs>;
  return kernels;
}

template <class E, int Width>
Kernels fused_kernels() {
  Kernels kernels = make_environment<E>();
  kernels.width = Width;
  kernels.evaluate = [](const EvaluateArgs& args, Queue& queue) {
    using K = Evaluate<E, Width>;
    launch_cuda<K, kTileLanes>(args, environment_blocks<E>(args.episodes, kTileLanes),
                               storage_bytes<K, kTileLanes, Precision::kFp32>(args.actor.depth), queue);
  };
  kernels.act = [](const ActArgs& args, Queue& queue) {
    using K = Act<InterfaceOf<E>, Width>;
    launch_cuda<K, kTileLanes>(args, divide_up(args.count, kTileLanes),
                               storage_bytes<K, kTileLanes, Precision::kFp32>(args.actor.depth), queue);
  };
  set_networks<E, Width, Precision::kFp32>(kernels);
  return kernels;
}

template <class K, class Args>
void launch_single(const Args& args, Queue& queue) {
  launch_cuda<K, kElementLanes>(args, 1, 0, queue);
}

/// See layerwise_launch.hpp.
struct CudaLauncher {
  template <class K, class Args>
  static void lanes(const Args& args, int lanes, Queue& queue) {
    launch_cuda<K, kTileLanes>(args, divide_up(lanes, kTileLanes), 0, queue);
  }
  template <class K, class Args>
  static void rows(const Args& args, int rows, Queue& queue) {
    launch_cuda<K, kElementLanes>(args, rows, 0, queue);
  }
  template <class K, class Args>
  static void single(const Args& args, Queue& queue) {
    launch_single<K>(args, queue);
  }
  static float read(const float* value, Queue& queue) {
    const auto stream = static_cast<cudaStream_t>(queue.stream);
    float result = 0.0f;
    check_cuda(cudaMemcpyAsync(&result, value, sizeof result, cudaMemcpyDeviceToHost, stream), "reading a result");
    check_cuda(cudaStreamSynchronize(stream), "running kernels");
    queue.after_kernel = false;
    return result;
  }
  static bool skips(const Control*, Losses) { return false; }
};

/// Adds E's instances in fp32, and of networks of any size.
template <class E, int... Widths>
void add_kernels(KernelList& table) {
  (table.add(fused_kernels<E, Widths>()), ...);
  table.add_layerwise(layerwise_kernels<E, CudaLauncher>(make_environment<E>()));
}

/// Makes those of E in another precision of its instances in fp32, one for each width.
template <class E, Precision P, int... Widths>
void set_all_networks(Kernels* kernels) {
  (set_networks<E, Widths, P>(*instances++), ...);
}

}  // namespace perilune::inline PERILUNE_LEVEL
