// The matrix library of layer-by-layer networks on the PTX machine, in place of cuBLAS, which wants a GPU.
#include "host/device/matrix_library.hpp"
#include "tests/ptx/runtime.hpp"
#include "tests/support/naive_matrix.hpp"

namespace perilune {

namespace {

class Matrices : public MatrixLibrary {
 public:
  const char* name() const override { return "naive loops"; }
  void multiply(const MatrixProduct& product, Queue& queue) override {
    ptx::enqueue(queue.stream, [product] {
      MatrixProduct here = product;
      here.a = seen(product.a);
      here.b = seen(product.b);
      here.c = const_cast<float*>(seen(product.c));
      Queue none;
      test::NaiveMatrixLibrary().multiply(here, none);
    });
    queue.after_kernel = false;
  }

 private:
  static const float* seen(const float* address) {
    return reinterpret_cast<const float*>(ptx::runtime_machine().memory.host_view(address, sizeof(float)));
  }
};

}  // namespace

std::unique_ptr<MatrixLibrary> open_cublas(Precision) { return std::make_unique<Matrices>(); }

}  // namespace perilune
