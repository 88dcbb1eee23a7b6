// Opens the library that multiplies matrices for networks without fused kernels: on the CPU OpenBLAS, and for the
// products in which it is faster oneDNN, where it is installed and the processor has AVX-512; cuBLAS on a GPU.
//
// OpenBLAS picks its kernels by a list of processors; one that is younger than the list gets those of 2004. They are
// replaced by the ones of the processor's instructions, unless OPENBLAS_CORETYPE says what to take.
// None is linked: a program that trains fused networks starts without them. PERILUNE_MATRIX_LIBRARY names another
// file to open instead of the usual ones.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/api.hpp"
#include "kernels/machine/matrix.hpp"

namespace perilune {

// The files of the CPU's libraries, newest first.
inline constexpr std::array kOpenBlasFiles = {"libopenblas.so.0"};
inline constexpr std::array kOneDnnFiles = {"libdnnl.so.3", "libdnnl.so.2"};

// Those of CUDA 13's cuBLAS: by the loader's and the toolkit's folders, and where pip puts the package nvidia-cublas:
// into the Python that is active or on the PATH, or that this code was installed into, or the user's own.
std::vector<std::string> cublas_files();

// All throw Error that names the file and what to install when it cannot be opened; open_onednn returns null.
std::unique_ptr<MatrixLibrary>
open_cpu_matrices();  // what this processor multiplies fastest with, of what is installed
std::unique_ptr<MatrixLibrary> open_openblas();
std::unique_ptr<MatrixLibrary> open_onednn();
std::unique_ptr<MatrixLibrary> open_cublas(Precision precision);

// Products with at least 64 columns and sums over at least 64 by `wide`, all others by `narrow`.
std::unique_ptr<MatrixLibrary> by_size(std::unique_ptr<MatrixLibrary> wide, std::unique_ptr<MatrixLibrary> narrow);

// OPENBLAS_CORETYPE to open OpenBLAS with instead, if it took the kernels of `core` on a processor with the
// instructions of x86-64-v3 or v4; null: those are good.
const char* better_openblas_core(std::string_view core, bool has_v3, bool has_v4);

// A shared library that stays open as long as this lives; for the two above.
class SharedLibrary {
 public:
  // The first of `files` that can be opened, or null; problem: why the very first cannot.
  static std::unique_ptr<SharedLibrary> find(const std::vector<std::string>& files, std::string* problem = nullptr);
  // The same, or the one PERILUNE_MATRIX_LIBRARY names; Error where there is none. advice: what to install.
  static std::unique_ptr<SharedLibrary> open(const std::string& product, const std::vector<std::string>& files,
                                             const std::string& advice);
  SharedLibrary(const SharedLibrary&) = delete;
  SharedLibrary& operator=(const SharedLibrary&) = delete;
  ~SharedLibrary();
  // Closes and opens it again, with an environment variable set meanwhile.
  void reopen(const char* variable, const char* value);

  bool has(const char* name) const;
  template <class F>
  F* function(const char* name) const {
    return reinterpret_cast<F*>(symbol(name));
  }

 private:
  SharedLibrary(std::string file, void* handle) : handle_(handle), file_(std::move(file)) {}
  void* symbol(const char* name) const;

  void* handle_;
  std::string file_;
};

}  // namespace perilune
