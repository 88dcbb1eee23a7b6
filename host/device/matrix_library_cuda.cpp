#include <cuda_runtime_api.h>

#include <array>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/device/matrix_library.hpp"
#include "kernels/machine/queue.hpp"

namespace perilune {

namespace {

// The few names of cublas_api.h (version 13) that are used here, so that a toolkit without cuBLAS's headers will do.
using Handle = struct CublasContext*;
using Status = int;
using Create = Status(Handle*);
using Destroy = Status(Handle);
using SetStream = Status(Handle, cudaStream_t);
using SetWorkspace = Status(Handle, void*, std::size_t);
using SetMathMode = Status(Handle, int);
using StatusString = const char*(Status);
using Sgemm = Status(Handle, int transpose_a, int transpose_b, int rows, int columns, int inner, const float* alpha,
                     const float* a, int a_stride, const float* b, int b_stride, const float* beta, float* c,
                     int c_stride);
constexpr int kPlain = 0, kTransposed = 1;               // CUBLAS_OP_N, CUBLAS_OP_T
constexpr int kPedanticMath = 2, kTf32TensorOpMath = 3;  // of cublasMath_t

// What NVIDIA recommends for sm_90; older devices need less. With a workspace of its own cuBLAS allocates nothing,
// which makes its calls capturable, and a fixed size makes their results repeatable.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

class Cublas : public MatrixLibrary {
 public:
  explicit Cublas(Precision precision)
      : library_(SharedLibrary::open(
            "cuBLAS", cublas_files(),
            "install CUDA 13's libcublas (package libcublas-13-0, nvidia-cublas by pip, or the CUDA "
            "toolkit)")),
        destroy_(library_->function<Destroy>("cublasDestroy_v2")),
        set_stream_(library_->function<SetStream>("cublasSetStream_v2")),
        set_workspace_(library_->function<SetWorkspace>("cublasSetWorkspace_v2")),
        status_string_(library_->function<StatusString>("cublasGetStatusString")),
        sgemm_(library_->function<Sgemm>("cublasSgemm_v2")) {
    check(library_->function<Create>("cublasCreate_v2")(&handle_), "starting cuBLAS");
    try {
      // Pedantic: fp32 is fp32, whatever environment variables or later versions prefer.
      check(library_->function<SetMathMode>("cublasSetMathMode")(
                handle_, precision == Precision::kTf32 ? kTf32TensorOpMath : kPedanticMath),
            "choosing cuBLAS's arithmetic");
      const cudaError_t status = cudaMalloc(&workspace_, kWorkspaceBytes);
      if (status != cudaSuccess) {
        throw OutOfMemoryError(
            formatted("no memory for cuBLAS's workspace of 32 MiB: {} - lower num_envs or num_steps, or free "
                      "memory on the device",
                      cudaGetErrorString(status)));
      }
    } catch (...) {
      destroy_(handle_);
      throw;
    }
  }
  ~Cublas() override {
    destroy_(handle_);
    cudaFree(workspace_);
  }

  const char* name() const override { return "cuBLAS"; }

  // cuBLAS counts columns first: its c is our c transposed, and c' = b' a'.
  void multiply(const MatrixProduct& p, Queue& queue) override {
    if (p.rows == 0 || p.columns == 0) return;
    use_stream(queue.stream);
    const float alpha = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
    check(sgemm_(handle_, p.b_transposed ? kTransposed : kPlain, p.a_transposed ? kTransposed : kPlain, p.columns,
                 p.rows, p.inner, &alpha, p.b, p.b_stride, p.a, p.a_stride, &beta, p.c, p.c_stride),
          "multiplying matrices");
    queue.after_kernel = false;  // its kernels do not wait for, or let in, overlapping ones
  }

 private:
  // A new stream makes cuBLAS forget its workspace.
  void use_stream(void* stream) {
    if (stream == stream_) return;
    check(set_stream_(handle_, static_cast<cudaStream_t>(stream)), "giving cuBLAS a stream");
    check(set_workspace_(handle_, workspace_, kWorkspaceBytes), "giving cuBLAS its workspace");
    stream_ = stream;
  }

  void check(Status status, const char* what) const {
    if (status == 0) return;
    throw Error(formatted("cuBLAS failed while {}: {} (status {})", what, status_string_(status), status));
  }

  std::unique_ptr<SharedLibrary> library_;
  Destroy* destroy_;
  SetStream* set_stream_;
  SetWorkspace* set_workspace_;
  StatusString* status_string_;
  Sgemm* sgemm_;
  Handle handle_ = nullptr;
  void* workspace_ = nullptr;
  void* stream_ = nullptr;
};

}  // namespace

std::unique_ptr<MatrixLibrary> open_cublas(Precision precision) { return std::make_unique<Cublas>(precision); }

}  // namespace perilune
