// What lets one source compile as plain C++ and as CUDA: function qualifiers and the level namespace.
//
// PERILUNE_LEVEL names an inline namespace around everything in sims/ and kernels/ that holds code. The same headers
// are compiled for several instruction sets (x86-64-v4, v3, portable) into one program; without distinct names the
// linker would keep any one copy of an inline function, possibly an AVX-512 one, for all of them.
#pragma once

#ifndef PERILUNE_LEVEL
#define PERILUNE_LEVEL base
#endif

// PERILUNE_HD: simulators and arithmetic, for host and device. PERILUNE_DEVICE: kernel bodies, for whatever machine the
// translation unit is compiled for.
#ifdef __CUDACC__
#define PERILUNE_HD __host__ __device__ __forceinline__
#define PERILUNE_DEVICE __device__ __forceinline__
#else
#define PERILUNE_HD inline __attribute__((always_inline))
#define PERILUNE_DEVICE inline __attribute__((always_inline))
#endif

// PERILUNE_INLINED: stands before a lambda's body that the compiler would keep out of line, and with it all that it
// knows about the variables around it. nvcc inlines them anyway.
#ifdef __CUDACC__
#define PERILUNE_INLINED
#else
#define PERILUNE_INLINED __attribute__((always_inline))
#endif

// PERILUNE_OUTLINED: a function large enough that one copy per translation unit and number type must do, for the time
// that compilers take.
#ifdef __CUDACC__
#define PERILUNE_OUTLINED __host__ __device__ __noinline__
#else
#define PERILUNE_OUTLINED __attribute__((noinline))
#endif

// PERILUNE_OUTLINED_ON_CPU: the same where only the CPU's compiler needs it; a GPU keeps what it inlines in registers.
#ifdef __CUDACC__
#define PERILUNE_OUTLINED_ON_CPU PERILUNE_HD
#else
#define PERILUNE_OUTLINED_ON_CPU PERILUNE_OUTLINED
#endif

// PERILUNE_ROLLED: a loop that must stay one, for the registers that overlapping its rounds would take.
#if defined(__CUDA_ARCH__)
#define PERILUNE_ROLLED _Pragma("unroll 1")
#else
#define PERILUNE_ROLLED
#endif

// PERILUNE_PAIRED: a loop that has registers for two of its rounds at a time, one of which works while the other waits.
#if defined(__CUDA_ARCH__)
#define PERILUNE_PAIRED _Pragma("unroll 2")
#else
#define PERILUNE_PAIRED
#endif

// PERILUNE_UNROLL_ON_GPU: a loop over what a GPU has in registers, and a CPU in memory; compilers for CPUs take long
// over them.
#if defined(__CUDA_ARCH__)
#define PERILUNE_UNROLL_ON_GPU _Pragma("unroll")
#else
#define PERILUNE_UNROLL_ON_GPU
#endif

// PERILUNE_UNROLL: a loop whose rounds must lie one after the other, for arrays to be registers. Defined empty from
// outside, it leaves loops alone: results are the same.
#if defined(PERILUNE_UNROLL)
#elif defined(__CUDA_ARCH__)
#define PERILUNE_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__)
#define PERILUNE_UNROLL
#else
#define PERILUNE_UNROLL _Pragma("GCC unroll 16")
#endif
