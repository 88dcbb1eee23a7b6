// What CUB does of the kernels' work, for bench/libraries.cpp: nvcc compiles this, and the host's headers are not for
// it.
#pragma once

#include <cstddef>

namespace perilune::bench {

/// A number of samples, their mean, and the sum of their squared deviations from it.
struct BatchMoments {
  float count, mean, squares;
};
/// y = factor x + sum: what a step of the advantage recursion does with the advantage after it.
struct Step {
  float factor, sum;
};

/// Both enqueue on a stream (a cudaStream_t), over device memory. temporary null: only sets `bytes` to what it needs.
/// Throw std::runtime_error where CUDA fails.
void cub_moments(void* temporary, std::size_t& bytes, const float* samples, int count, BatchMoments* result,
                 void* stream);
/// Composes the steps of each run of equal keys, in order.
void cub_scan(void* temporary, std::size_t& bytes, const int* keys, const Step* steps, Step* result, int count,
              void* stream);

}  // namespace perilune::bench
