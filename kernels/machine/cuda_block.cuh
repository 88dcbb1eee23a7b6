// The CUDA machine's Block: a thread block, and the generic kernel and launch.
#pragma once

#include <cuda_runtime.h>

#include "kernels/machine/dense_simt.hpp"
#include "kernels/machine/network_tensor.hpp"
#include "kernels/machine/simt_block.hpp"
#include "kernels/machine/tensor_core.cuh"

namespace perilune::inline PERILUNE_LEVEL {

template <int Lanes, Precision P = Precision::kFp32, int Teams = 1>
class CudaBlock : public SimtBlockBase<CudaBlock<Lanes, P, Teams>, Lanes, P, Teams>, public CudaTensorCore {
 public:
  using Base = SimtBlockBase<CudaBlock<Lanes, P, Teams>, Lanes, P, Teams>;
  using Base::lane;
  using typename Base::Lane;

  static_assert(Lanes % kWarpLanes == 0);
  static constexpr int kWarps = Lanes / kWarpLanes;
  struct Shared {
    // In turn: who adds up the last ones may be behind those who write the next.
    alignas(16) float warp_sums[2][kMaxSums][kWarps];
    bool last;
  };

  __device__ CudaBlock(Shared& shared, float* storage) : shared_(shared), storage_(storage) {}

  __device__ int index() const { return static_cast<int>(blockIdx.x); }
  __device__ int count() const { return static_cast<int>(gridDim.x); }
  __device__ float* storage() const { return storage_; }
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ void sync() const { __syncthreads(); }
  __device__ void sync_warp() const { __syncwarp(); }

  __device__ bool any(const PerLane<CudaBlock, bool>& mask) const {
    return __syncthreads_or(this->team() == 0 && mask[lane()] && this->active(lane())) != 0;
  }
  __device__ float sum(const PerLane<CudaBlock, float>& x) {
    const float mine[1] = {x[lane()]};
    return sums_of(mine)[0];
  }
  template <int N>
  __device__ Sums<N> sums(const PerLane<CudaBlock, float> (&x)[N]) {
    float mine[N];
    PERILUNE_UNROLL
    for (int k = 0; k < N; ++k) mine[k] = x[k][lane()];
    return sums_of(mine);
  }

  /// From compute capability 8.0 on, as tensor-core blocks are.
  template <int Count>
  __device__ static void copy_ahead(float* to, const float* from) {
    static_assert(Count == 4 || Count == 1);
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
        "l"(from), "n"(Count * 4)
        : "memory");
  }
  __device__ static void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

  __device__ static void lower(std::uint64_t& x, std::uint64_t value) {
    static_assert(sizeof(unsigned long long) == sizeof x);
    atomicMin(reinterpret_cast<unsigned long long*>(&x), static_cast<unsigned long long>(value));
  }
  __device__ bool last_of_grid(std::uint32_t& ticket) const {
    __threadfence();
    __syncthreads();
    // atomicInc turns back to 0 after the last block.
    if (threadIdx.x == 0) shared_.last = atomicInc(&ticket, gridDim.x - 1) == gridDim.x - 1;
    __syncthreads();
    __threadfence();
    return shared_.last;
  }

 private:
  template <int N>
  __device__ Sums<N> sums_of(const float (&x)[N]) {
    static_assert(N <= kMaxSums && Teams == 1);
    const bool active = this->active(lane());
    float mine[N];
    PERILUNE_UNROLL
    for (int k = 0; k < N; ++k) mine[k] = active ? x[k] : 0.0f;
    float total;
    const int which = sum_warp<kWarpLanes / 2>(mine, total);
    turn_ ^= 1;
    float(&parts)[kMaxSums][kWarps] = shared_.warp_sums[turn_];
    if (which >= 0) parts[which][lane().number / kWarpLanes] = total;
    __syncthreads();
    Sums<N> result;
    PERILUNE_UNROLL
    for (int k = 0; k < N; ++k) {
      result[k] = parts[k][0];
      PERILUNE_UNROLL
      for (int warp = 1; warp < kWarps; ++warp) result[k] += parts[k][warp];
    }
    return result;
  }
  /// The warp's N sums, spread over its lanes: returns which one this lane got as `total`, or -1 where a lane before it
  /// has the same. Lanes Step apart share the work of a step: each adds up half of the values for both.
  template <int Step, int N>
  __device__ static int sum_warp(const float (&x)[N], float& total) {
    if constexpr (Step == 0) {
      static_assert(N == 1);
      total = x[0];
      return 0;
    } else {
      constexpr int kHalf = (N + 1) / 2;
      const bool upper = (threadIdx.x & Step) != 0;
      float half[kHalf];
      PERILUNE_UNROLL
      for (int k = 0; k < kHalf; ++k) {
        const float other = k + kHalf < N ? x[(k + kHalf) % N] : x[k];  // the odd one out both add up
        half[k] = (upper ? other : x[k]) + __shfl_xor_sync(~0u, upper ? x[k] : other, Step);
      }
      const int which = sum_warp<Step / 2>(half, total);
      if (!upper || which < 0) return which;
      return which + kHalf < N ? which + kHalf : -1;
    }
  }

  Shared& shared_;
  float* storage_;
  int turn_ = 0;  // which of shared_.warp_sums was written last
};

// Threads per multiprocessor that kernels leave registers for: 65536 / 512 = 128 each in fp32, and where multiplies
// keep their sums in registers 255 each, or what the kernel says. Only the landers' kernels spill
// (tests/structure/binaries_test.py has the reasons).
template <Precision P>
inline constexpr int kRegisterBudget = P == Precision::kFp32 ? 512 : 256;

template <class K, Precision P>
constexpr int register_budget() {
  if constexpr (P != Precision::kFp32 && requires { K::template kTensorThreads<P>; }) {
    return K::template kTensorThreads<P>;
  } else {
    return kRegisterBudget<P>;
  }
}

template <class K, int Lanes, Precision P, int Teams, class Args>
__global__ void __launch_bounds__(Lanes* Teams, register_budget<K, P>() / (Lanes * Teams))
    run_kernel(const __grid_constant__ Args args) {
#if __CUDA_ARCH__ >= 900
  // Programmatic dependent launch: the next kernel's blocks may come now, and each waits here until all that was
  // enqueued before it has ended and is visible. Without the launch attribute both do nothing.
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  if constexpr (P != Precision::kFp32 && !kHasTensorCores) {
    __trap();  // never launched: see cuda_supports
  } else {
    extern __shared__ __align__(64) float storage[];
    __shared__ typename CudaBlock<Lanes, P, Teams>::Shared shared;
    CudaBlock<Lanes, P, Teams> block(shared, storage);
    K::run(block, args);
  }
}

/// Throws std::runtime_error with the call's text on anything but success.
void check_cuda(cudaError_t status, const char* what);

/// Enqueues kernel K. storage_bytes beyond 48 KB are asked for on every launch: it costs no device time.
template <class K, int Lanes, Precision P = Precision::kFp32, int Teams = 1, class Args>
void launch_cuda(const Args& args, int blocks, std::size_t storage_bytes, Queue& queue) {
  auto kernel = run_kernel<K, Lanes, P, Teams, Args>;
  if (storage_bytes > 48 * 1024) {
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(storage_bytes)),
        "asking for shared memory");
  }
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(Lanes * Teams);
  config.dynamicSmemBytes = storage_bytes;
  config.stream = static_cast<cudaStream_t>(queue.stream);
  config.attrs = &overlap;
  config.numAttrs = queue.overlaps && queue.after_kernel ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, args), "launching a kernel");
  queue.after_kernel = true;
}

}  // namespace perilune::inline PERILUNE_LEVEL
