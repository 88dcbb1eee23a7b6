#include "bench/libraries.hpp"

#include <cub/device/device_reduce.cuh>
#include <cub/device/device_scan.cuh>

#include <stdexcept>
#include <string>

namespace perilune::bench {

namespace {

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

struct OfOne {
  __host__ __device__ BatchMoments operator()(float x) const { return {1.0f, x, 0.0f}; }
};
struct Combine {  // Chan, Golub and LeVeque 1983
  __host__ __device__ BatchMoments operator()(const BatchMoments& a, const BatchMoments& b) const {
    const float count = a.count + b.count;
    if (count == 0.0f) return {0.0f, 0.0f, 0.0f};
    const float delta = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + delta * share, a.squares + b.squares + delta * delta * a.count * share};
  }
};
struct Compose {
  __host__ __device__ Step operator()(const Step& first, const Step& then) const {
    return {first.factor * then.factor, then.factor * first.sum + then.sum};
  }
};

}  // namespace

void cub_moments(void* temporary, std::size_t& bytes, const float* samples, int count, BatchMoments* result,
                 void* stream) {
  check(cub::DeviceReduce::TransformReduce(temporary, bytes, samples, result, count, Combine{}, OfOne{},
                                           BatchMoments{0.0f, 0.0f, 0.0f}, static_cast<cudaStream_t>(stream)),
        "cub::DeviceReduce");
}

void cub_scan(void* temporary, std::size_t& bytes, const int* keys, const Step* steps, Step* result, int count,
              void* stream) {
  check(cub::DeviceScan::InclusiveScanByKey(temporary, bytes, keys, steps, result, Compose{}, count,
                                            ::cuda::std::equal_to<>{}, static_cast<cudaStream_t>(stream)),
        "cub::DeviceScan");
}

}  // namespace perilune::bench
