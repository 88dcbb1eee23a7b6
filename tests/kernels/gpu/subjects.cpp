// The subject of gpu_tests: the CUDA machine, over managed memory, so that tests read and write it
// like any other.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "host/matrix_library.hpp"
#include "tests/kernels/joined_machine.hpp"
#include "tests/kernels/subject.hpp"

namespace perilune {

namespace base {
const Machine& point_mass_machine();
}

namespace test {

namespace {

const Machine& program_machine() { return *cuda_machine(); }

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA failed while ") + what + ": " +
                           cudaGetErrorString(status));
}

std::string missing() {
  if (cuda_machine() == nullptr) return "built without CUDA";
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(status);
  return devices > 0 ? "" : "no CUDA device";
}

Queue& queue() {
  static Queue stream_queue = [] {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    Queue result;
    result.stream = stream;
    int major = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "asking for the capability");
    result.overlaps = major >= 9;
    static const std::unique_ptr<MatrixLibrary> cublas = open_cublas(Precision::kFp32);
    result.matrix = cublas.get();
    return result;
  }();
  return stream_queue;
}

void* allocate(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocManaged(&memory, bytes), "allocating managed memory");
  return memory;
}

void release(void* memory) { cudaFree(memory); }

void finish() { check(cudaDeviceSynchronize(), "running kernels"); }

}  // namespace

const std::vector<Subject>& subjects() {
  // 3e-7: the simulators' tanh (sims/math.hpp), which is also the network's on this machine.
  static const std::vector<Subject> all = [] {
    const Subject plain = {"Cuda", joined_machine<program_machine, base::point_mass_machine>, kMaxFusedWidth,
                           3e-7,   queue, missing, allocate, release, finish};
    Subject tf32 = plain, bf16 = plain;
    tf32.name = "CudaTf32";
    tf32.precision = Precision::kTf32;
    tf32.rounding = 0x1p-11;  // 11 significant bits
    bf16.name = "CudaBf16";
    bf16.precision = Precision::kBf16;
    bf16.rounding = 0x1p-8;
    for (Subject* subject : {&tf32, &bf16}) {
      subject->tanh_error = 0x1p-11;  // tanh.approx
      subject->missing = [] {
        const std::string why = missing();
        return !why.empty() || cuda_supports(Precision::kTf32) ? why : "no tensor cores for tf32 and bf16";
      };
    }
    return std::vector<Subject>{plain, tf32, bf16};
  }();
  return all;
}

bool gpu_required() {
  const char* value = std::getenv("PERILUNE_REQUIRE_GPU");
  return value != nullptr && std::strcmp(value, "1") == 0;
}

}  // namespace test
}  // namespace perilune
