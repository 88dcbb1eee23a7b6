// The tensor cores' instructions, from compute capability 8.0 on. Kernels that use them are traps below (cuda_block.cuh).
#pragma once

#include "kernels/machine/fragments.hpp"

namespace perilune::inline PERILUNE_LEVEL {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr bool kHasTensorCores = false;
#else
inline constexpr bool kHasTensorCores = true;
#endif

struct CudaTensorCore {
  /// To 10 bits of mantissa, to nearest, ties away from zero; a NaN stays one.
  static __device__ __forceinline__ float round_tf32(float x) {
    std::uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
  }
  /// To 7 bits of mantissa, to nearest, ties to even.
  static __device__ __forceinline__ float round_bf16(float x) {
    return __uint_as_float(pack_bf16(0.0f, x) & ~0xFFFFu);
  }
  static __device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
    std::uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
  }
  /// Largest relative error 2^-11: no more than the rounding that follows it.
  static __device__ __forceinline__ float network_tanh(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }

  /// c += A B. Collective over the warp.
  static __device__ __forceinline__ void mma(Tf32Fragment, float (&c)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
  static __device__ __forceinline__ void mma(Bf16Fragment, float (&c)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
