// The subject of gpu_tests: the CUDA machine, over managed memory, so that tests read and write it
// like any other.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "host/base/error.hpp"
#include "host/device/matrix_library.hpp"
#include "tests/kernels/joined_machine.hpp"
#include "tests/kernels/subject.hpp"

namespace perilune {

namespace base {
const Machine& point_mass_machine();
}

namespace test {

namespace {

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && std::strcmp(value, "1") == 0;
}

const Machine& program_machine() { return *cuda_machine(); }

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA failed while ") + what + ": " + cudaGetErrorString(status));
}

std::string missing() {
  if (cuda_machine() == nullptr) return "built without CUDA";
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(status);
  return devices > 0 ? "" : "no CUDA device";
}

/// cuBLAS, opened by the first product.
class LazyCublas : public MatrixLibrary {
 public:
  const char* name() const override { return "cuBLAS"; }
  void multiply(const MatrixProduct& product, Queue& on) override { opened().multiply(product, on); }
  MatrixLibrary& opened() {
    if (!library_) library_ = open_cublas(Precision::kFp32);
    return *library_;
  }

 private:
  std::unique_ptr<MatrixLibrary> library_;
};

LazyCublas& cublas() {
  static LazyCublas library;
  return library;
}

std::string missing_matrices() {
  static const std::string why = []() -> std::string {
    try {
      cublas().opened();
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }();
  return why;
}

std::size_t max_block_storage() {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), "asking for shared memory");
  return static_cast<std::size_t>(bytes);
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
    result.matrix = &cublas();
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
    Subject plain = {"Cuda",         joined_machine<program_machine, base::point_mass_machine>,
                     kMaxFusedWidth, 3e-7,
                     queue,          missing,
                     allocate,       release,
                     finish,         max_block_storage};
    plain.missing_matrices = missing_matrices;
    if (is_set("PERILUNE_GPU_IS_EMULATED")) plain.speed = Speed::kEmulated;
    Subject tf32 = plain, bf16 = plain;
    tf32.name = "CudaTf32";
    tf32.precision = Precision::kTf32;
    tf32.rounding = 0x1p-11;  // 11 significant bits
    bf16.name = "CudaBf16";
    bf16.precision = Precision::kBf16;
    bf16.rounding = 0x1p-8;
    for (Subject* subject : {&tf32, &bf16}) {
      subject->tanh_error = 4.93e-4;  // tanh.approx: 2^-10.987, relative
      subject->missing = [] {
        const std::string why = missing();
        return !why.empty() || cuda_supports(Precision::kTf32) ? why : "no tensor cores for tf32 and bf16";
      };
    }
    return std::vector<Subject>{plain, tf32, bf16};
  }();
  return all;
}

bool gpu_required() { return is_set("PERILUNE_REQUIRE_GPU"); }

}  // namespace test
}  // namespace perilune
