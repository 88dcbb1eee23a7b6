// Which of the CPU machine's instruction-set levels this processor runs: asked by the program at start-up, and by
// CMake, which compiles this file alone to find out what to build (tools/cmake/processor.cmake).
#pragma once

namespace perilune {

/// Of x86-64-v4 and x86-64-v3, the vector extensions that compilers' code for them uses; no processor has these without
/// the rest. Names that GCC and Clang both know.
inline bool processor_has_v3() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
#else
  return false;
#endif
}
inline bool processor_has_v4() {
#if defined(__x86_64__)
  return processor_has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

/// The instructions of v4's kernels in bf16, which the level itself does not promise.
inline bool processor_has_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

}  // namespace perilune
