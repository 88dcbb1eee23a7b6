// A shared library with the functions of oneDNN and its OpenMP that host/device/matrix_library.cpp calls, each at its
// plainest.
#include <cmath>
#include <cstdint>

namespace {
thread_local int threads_of_this_thread = 4;
}

extern "C" {

int omp_get_max_threads() { return threads_of_this_thread; }
void omp_set_num_threads(int threads) { threads_of_this_thread = threads; }

// Row-major. Not a number where more than one thread would multiply: the pool has cut the product already.
int dnnl_sgemm(char transpose_a, char transpose_b, std::int64_t rows, std::int64_t columns, std::int64_t inner,
               float alpha, const float* a, std::int64_t a_stride, const float* b, std::int64_t b_stride, float beta,
               float* c, std::int64_t c_stride) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < inner; ++k) {
        sum += double{transpose_a == 'T' ? a[k * a_stride + i] : a[i * a_stride + k]} *
               (transpose_b == 'T' ? b[j * b_stride + k] : b[k * b_stride + j]);
      }
      float& out = c[i * c_stride + j];
      out = static_cast<float>(alpha * sum + (beta == 0.0f ? 0.0 : double{beta} * out));
      if (threads_of_this_thread != 1) out = std::nanf("");
    }
  }
  return 0;
}

}  // extern "C"
