// Opens the library that multiplies matrices for networks without fused kernels: OpenBLAS on the CPU, cuBLAS on a GPU.
//
// Neither is linked: a program that trains fused networks starts without them. PERILUNE_MATRIX_LIBRARY names another
// file to open instead of the usual one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/api.hpp"
#include "kernels/machine/matrix.hpp"

namespace perilune {

// Both throw Error that names the file and what to install when it cannot be opened.
std::unique_ptr<MatrixLibrary> open_openblas();
std::unique_ptr<MatrixLibrary> open_cublas(Precision precision);

// A shared library that stays open as long as this lives; for the two above.
class SharedLibrary {
 public:
  // Opens the first of `files` that can be, or the one PERILUNE_MATRIX_LIBRARY names. advice: what to install.
  SharedLibrary(const std::string& product, const std::vector<std::string>& files, const std::string& advice);
  SharedLibrary(const SharedLibrary&) = delete;
  SharedLibrary& operator=(const SharedLibrary&) = delete;
  ~SharedLibrary();

  template <class F>
  F* function(const char* name) const {
    return reinterpret_cast<F*>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  void* handle_ = nullptr;
  std::string file_;
};

}  // namespace perilune
