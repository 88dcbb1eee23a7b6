// A matrix library for tests, written for reading: every element's sum in double, rounded once.
#pragma once

#include <cstddef>

#include "kernels/machine/matrix.hpp"

namespace perilune::test {

inline double element(const float* data, int stride, bool transposed, int row, int column) {
  return data[transposed ? std::ptrdiff_t{column} * stride + row : std::ptrdiff_t{row} * stride + column];
}

class NaiveMatrixLibrary : public MatrixLibrary {
 public:
  const char* name() const override { return "naive loops"; }
  void multiply(const MatrixProduct& p, Queue&) override {
    for (int i = 0; i < p.rows; ++i) {
      for (int j = 0; j < p.columns; ++j) {
        float& c = p.c[std::ptrdiff_t{i} * p.c_stride + j];
        double sum = p.accumulate ? double{c} : 0.0;
        for (int k = 0; k < p.inner; ++k) {
          sum += element(p.a, p.a_stride, p.a_transposed, i, k) * element(p.b, p.b_stride, p.b_transposed, k, j);
        }
        c = static_cast<float>(sum);
      }
    }
  }
};

}  // namespace perilune::test
