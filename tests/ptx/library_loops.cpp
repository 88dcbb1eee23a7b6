// CUB's side of bench/libraries.cpp in plain loops: what CUB launches is not among the kernels that the PTX machine
// has.
#include "bench/libraries.hpp"
#include "tests/ptx/runtime.hpp"

namespace perilune::bench {

namespace {

template <class T>
T* seen(T* device) {
  return reinterpret_cast<T*>(ptx::runtime_machine().memory.host_view(device, sizeof(T)));
}

}  // namespace

void cub_moments(void* temporary, std::size_t& bytes, const float* samples, int count, BatchMoments* result,
                 void* stream) {
  bytes = 1;
  if (temporary == nullptr) return;
  ptx::enqueue(stream, [=] {
    const float* x = seen(samples);
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < count; ++i) sum += double{x[i]};
    const double mean = sum / count;
    for (int i = 0; i < count; ++i) squares += (double{x[i]} - mean) * (double{x[i]} - mean);
    *seen(result) = {static_cast<float>(count), static_cast<float>(mean), static_cast<float>(squares)};
  });
}

void cub_scan(void* temporary, std::size_t& bytes, const int* keys, const Step* steps, Step* result, int count,
              void* stream) {
  bytes = 1;
  if (temporary == nullptr) return;
  ptx::enqueue(stream, [=] {
    const int* key = seen(keys);
    const Step* step = seen(steps);
    Step* composed = seen(result);
    for (int i = 0; i < count; ++i) {
      composed[i] = step[i];
      if (i == 0 || key[i] != key[i - 1]) continue;
      composed[i] = {composed[i - 1].factor * step[i].factor, step[i].factor * composed[i - 1].sum + step[i].sum};
    }
  });
}

}  // namespace perilune::bench
