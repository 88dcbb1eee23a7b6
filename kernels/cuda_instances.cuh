// The CUDA launchers that exist in each precision, for the files that instantiate them: cuda.cu (fp32), cuda_tf32.cu and
// cuda_bf16.cu, three so that they are compiled side by side.
#pragma once

#include <algorithm>
#include <span>

#include "kernels/evaluate.hpp"
#include "kernels/machine/cuda_block.cuh"
#include "kernels/rollout.hpp"
#include "kernels/update.hpp"
#include "sims/environments.hpp"

// Tests compile the three files once more, with environments of their own.
#ifndef PERILUNE_INSTANCES
#define PERILUNE_INSTANCES "kernels/instances.def"
#endif

namespace perilune::inline PERILUNE_LEVEL {

// 64 lanes: the tiles of a 64-wide, two-layer fp32 network then take 36 KB of shared memory, so that several blocks share a
// multiprocessor, and 64-wide three-layer networks fit the 64 KB of sm_75.
inline constexpr int kTileLanes = 64;
// Tensor-core updates take four warps, each of which then has a quarter of a weight gradient in its registers. Rollouts
// need no more than whole warps, and few environments then still spread over many multiprocessors.
template <Precision P>
inline constexpr int kUpdateLanes = P == Precision::kFp32 ? kTileLanes : 128;

constexpr int divide_up(int x, int by) { return (x + by - 1) / by; }

/// Bytes of dynamic shared memory kernel K needs.
template <class K, int Lanes, Precision P>
constexpr std::size_t storage_bytes(int depth) {
  const int floats = K::template storage_floats<CudaBlock<Lanes, P>>(depth);
  return sizeof(float) * static_cast<std::size_t>(floats);
}

inline int depth_of(const Network& actor, const Network& critic) {
  return actor.depth > critic.depth ? actor.depth : critic.depth;
}

/// `per_processor` blocks for each multiprocessor of the current device.
int update_blocks(int per_processor);

/// Everything but act and evaluate, and what knows no network, which are the same in every precision.
template <class E, int Width, Precision P>
Instance make_network_instance() {
  Instance instance{};
  instance.environment = E::kId;
  instance.precision = P;
  instance.width = Width;
  instance.observation_dim = E::kObsDim;
  instance.num_actions = E::Action::kCount;
  instance.state_fields = E::template State<float>::kFields;
  instance.record_floats = Record<E>::kFloats;
  instance.update_tile = kUpdateLanes<P>;
  // fp32: two per network. Tensor cores: one, because a multiprocessor has room for two blocks with their weights and
  // gradients, and each block more would stage its weights again.
  instance.max_partials = [] { return update_blocks(P == Precision::kFp32 ? 2 : 1); };
  instance.rollout = [](const RolloutArgs& args, Queue& queue) {
    using K = Rollout<E, Width>;
    launch_cuda<K, kTileLanes, P>(
        args, divide_up(args.environments.count, kTileLanes),
        storage_bytes<K, kTileLanes, P>(depth_of(args.actor, args.critic)), queue);
  };
  instance.update = [](const UpdateArgs& args, Queue& queue) {
    using K = Update<InterfaceOf<E>, Width>;
    const int networks = args.losses == Losses::kBoth ? 2 : 1;
    launch_cuda<K, kUpdateLanes<P>, P>(
        args, networks * args.partials,
        storage_bytes<K, kUpdateLanes<P>, P>(depth_of(args.actor, args.critic)), queue);
  };
  instance.kernel_storage = [](int depth) -> KernelStorage {
    return {storage_bytes<Rollout<E, Width>, kTileLanes, P>(depth),
            storage_bytes<Update<InterfaceOf<E>, Width>, kUpdateLanes<P>, P>(depth),
            storage_bytes<Evaluate<E, Width>, kTileLanes, Precision::kFp32>(depth)};
  };
  instance.block_storage = [](int depth) -> std::size_t {
    return std::max({storage_bytes<Rollout<E, Width>, kTileLanes, P>(depth),
                     storage_bytes<Update<InterfaceOf<E>, Width>, kUpdateLanes<P>, P>(depth),
                     storage_bytes<Evaluate<E, Width>, kTileLanes, Precision::kFp32>(depth)});
  };
  return instance;
}

std::span<const Instance> tf32_instances();
std::span<const Instance> bf16_instances();

/// Were the tensor-core kernels that this device would run compiled for one that has tensor cores?
bool has_tensor_kernels();

}  // namespace perilune::inline PERILUNE_LEVEL
