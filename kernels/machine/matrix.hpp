// Products of matrices of any size: what layer-by-layer networks (kernels/layerwise.hpp) ask of a library. Kernels only
// see this interface; the libraries behind it are opened at run time (host/matrix_library*.cpp).
#pragma once

namespace perilune {

struct Queue;

/// c = a b, or c += a b, in float. c is [rows, columns], the sums run over `inner`; element (i, j) of an operand is
/// data[i * stride + j]. A transposed operand is read the other way round: a lies as [inner, rows], b as [columns,
/// inner].
struct MatrixProduct {
  int rows, columns, inner;
  const float* a;
  int a_stride;
  bool a_transposed = false;
  const float* b;
  int b_stride;
  bool b_transposed = false;
  float* c;
  int c_stride;
  bool accumulate = false;
};

class MatrixLibrary {
 public:
  virtual ~MatrixLibrary() = default;
  virtual const char* name() const = 0;
  /// On the queue's device. The same bits every time, and for any number of CPU threads.
  virtual void multiply(const MatrixProduct&, Queue&) = 0;
};

}  // namespace perilune
