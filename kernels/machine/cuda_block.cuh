// The CUDA machine's Block: a thread block, with CUB's block reductions, and the generic kernel and launch.
#pragma once

#include <cub/block/block_reduce.cuh>
#include <cuda_runtime.h>

#include "kernels/machine/dense_simt.hpp"
#include "kernels/machine/network_tensor.hpp"
#include "kernels/machine/simt_block.hpp"
#include "kernels/machine/tensor_core.cuh"

namespace perilune::inline PERILUNE_LEVEL {

template <int Lanes, Precision P = Precision::kFp32>
class CudaBlock : public SimtBlockBase<CudaBlock<Lanes, P>, Lanes, P>, public CudaTensorCore {
 public:
  using Base = SimtBlockBase<CudaBlock<Lanes, P>, Lanes, P>;
  using typename Base::Lane;

  using Reduce = cub::BlockReduce<float, Lanes>;
  struct Shared {
    typename Reduce::TempStorage reduce;
    float total;
    bool last;
  };

  __device__ CudaBlock(Shared& shared, float* storage) : shared_(shared), storage_(storage) {}

  __device__ int index() const { return static_cast<int>(blockIdx.x); }
  __device__ int count() const { return static_cast<int>(gridDim.x); }
  __device__ float* storage() const { return storage_; }
  __device__ Lane lane() const { return Lane{static_cast<int>(threadIdx.x)}; }
  __device__ void sync() const { __syncthreads(); }
  __device__ void sync_warp() const { __syncwarp(); }

  __device__ bool any(const PerLane<CudaBlock, bool>& mask) const {
    return __syncthreads_or(mask[lane()] && this->active(lane())) != 0;
  }
  __device__ float sum(const PerLane<CudaBlock, float>& x) const {
    const float mine = this->active(lane()) ? x[lane()] : 0.0f;
    const float total = Reduce(shared_.reduce).Sum(mine);
    if (threadIdx.x == 0) shared_.total = total;
    __syncthreads();
    const float result = shared_.total;
    __syncthreads();
    return result;
  }

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
  Shared& shared_;
  float* storage_;
};

// Threads per multiprocessor that every kernel leaves registers for: 65536 / 512 = 128 each in fp32, and 255 each where
// multiplies keep their sums in registers. Only the landers' kernels spill (tests/structure/binaries_test.py has the reasons).
template <Precision P>
inline constexpr int kRegisterBudget = P == Precision::kFp32 ? 512 : 256;

template <class K, int Lanes, Precision P, class Args>
__global__ void __launch_bounds__(Lanes, kRegisterBudget<P> / Lanes) run_kernel(const __grid_constant__ Args args) {
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
    __shared__ typename CudaBlock<Lanes, P>::Shared shared;
    CudaBlock<Lanes, P> block(shared, storage);
    K::run(block, args);
  }
}

/// Throws std::runtime_error with the call's text on anything but success.
void check_cuda(cudaError_t status, const char* what);

/// Enqueues kernel K. storage_bytes beyond 48 KB are asked for on every launch: it costs no device time.
template <class K, int Lanes, Precision P = Precision::kFp32, class Args>
void launch_cuda(const Args& args, int blocks, std::size_t storage_bytes, Queue& queue) {
  auto kernel = run_kernel<K, Lanes, P, Args>;
  if (storage_bytes > 48 * 1024) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(storage_bytes)),
               "asking for shared memory");
  }
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(Lanes);
  config.dynamicSmemBytes = storage_bytes;
  config.stream = static_cast<cudaStream_t>(queue.stream);
  config.attrs = &overlap;
  config.numAttrs = queue.overlaps && queue.after_kernel ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, args), "launching a kernel");
  queue.after_kernel = true;
}

}  // namespace perilune::inline PERILUNE_LEVEL
