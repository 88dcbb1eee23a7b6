#include "host/matrix_library.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "host/error.hpp"
#include "host/format.hpp"
#include "kernels/cpu_levels.hpp"
#include "kernels/machine/queue.hpp"
#include "kernels/machine/thread_pool.hpp"

namespace perilune {

SharedLibrary::SharedLibrary(const std::string& product, const std::vector<std::string>& files,
                             const std::string& advice) {
  const char* chosen = std::getenv("PERILUNE_MATRIX_LIBRARY");
  const bool is_chosen = chosen != nullptr && *chosen != '\0';
  std::string problem;
  for (const std::string& file : is_chosen ? std::vector<std::string>{chosen} : files) {
    handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    file_ = file;
    if (handle_ != nullptr) return;
    if (problem.empty()) problem = dlerror();
  }
  throw Error(formatted("{}, which multiplies matrices for hidden layers without fused kernels, cannot be opened ({}) - "
                        "{}, or name its file in PERILUNE_MATRIX_LIBRARY, or choose hidden layers that `perilune info` "
                        "lists as fused",
                        product, problem, is_chosen ? "unset PERILUNE_MATRIX_LIBRARY" : advice));
}

SharedLibrary::~SharedLibrary() {
  if (handle_ != nullptr) dlclose(handle_);
}

void SharedLibrary::reopen(const char* variable, const char* value) {
  dlclose(std::exchange(handle_, nullptr));
  setenv(variable, value, 1);
  handle_ = dlopen(file_.c_str(), RTLD_NOW | RTLD_LOCAL);
  unsetenv(variable);
  if (handle_ == nullptr) throw Error(formatted("{} cannot be opened a second time: {}", file_, dlerror()));
}

void* SharedLibrary::symbol(const char* name) const {
  void* found = dlsym(handle_, name);
  if (found == nullptr) {
    throw Error(formatted("{} has no function {} - it is another library or too old; unset PERILUNE_MATRIX_LIBRARY, "
                          "or update it",
                          file_, name));
  }
  return found;
}

const char* better_openblas_core(std::string_view core, bool has_v3, bool has_v4) {
  // Names of the kernels that use fused multiply-adds.
  constexpr std::string_view kGood[] = {"Haswell", "Excavator", "Zen", "SkylakeX", "Cooperlake", "SapphireRapids"};
  if (!has_v3 || std::ranges::find(kGood, core) != std::end(kGood)) return nullptr;
  return has_v4 ? "SKYLAKEX" : "HASWELL";
}

namespace {

// CBLAS's sgemm and its enumerators, as the BLAS standard's C interface fixes them; its header need not be installed.
using Sgemm = void(int order, int transpose_a, int transpose_b, int rows, int columns, int inner, float alpha,
                   const float* a, int a_stride, const float* b, int b_stride, float beta, float* c, int c_stride);
constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;

// A product is cut into at most this many pieces, whatever the number of threads, so that results do not depend on it.
// Each piece packs its operands anew: with 16 a 2048^3 product runs at some 90% of the rate of one piece.
constexpr int kMaxPieces = 16;
constexpr int kMinExtent = 128;                  // of a piece that is cut further
constexpr double kMinMultiplications = 1 << 19;  // half of them: some 10 us, well above the price of a task

struct Cut {
  int rows = 1, columns = 1;  // pieces along either
};

// Halves the longer side again and again.
Cut cut_of(const MatrixProduct& product) {
  Cut cut;
  while (cut.rows * cut.columns < kMaxPieces) {
    const int rows = product.rows / cut.rows, columns = product.columns / cut.columns;
    const double multiplications = static_cast<double>(rows) * columns * product.inner;
    if (std::max(rows, columns) <= kMinExtent || multiplications < kMinMultiplications) break;
    (rows >= columns ? cut.rows : cut.columns) *= 2;
  }
  return cut;
}

// Whether this processor has a level's instructions, in the program or not.
bool has_level(std::string_view name) {
  return std::ranges::any_of(cpu_levels(), [&](const CpuLevel& level) { return level.name == name && level.supported; });
}

class OpenBlas : public MatrixLibrary {
 public:
  OpenBlas()
      : library_("OpenBLAS", {"libopenblas.so.0"}, "install libopenblas0-pthread (Debian and Ubuntu; tools/setup does)"),
        core_(library_.function<char*()>("openblas_get_corename")()) {
    const char* better = better_openblas_core(core_, has_level("v3"), has_level("v4"));
    if (better != nullptr && std::getenv("OPENBLAS_CORETYPE") == nullptr) {
      library_.reopen("OPENBLAS_CORETYPE", better);
      core_ = library_.function<char*()>("openblas_get_corename")();
    }
    name_ = formatted("OpenBLAS ({} kernels)", core_);
    sgemm_ = library_.function<Sgemm>("cblas_sgemm");
    // Its own threads would cut products differently on each machine, and compete with ours.
    library_.function<void(int)>("openblas_set_num_threads")(1);
  }

  const char* name() const override { return name_.c_str(); }

  void multiply(const MatrixProduct& product, Queue& queue) override {
    if (product.rows == 0 || product.columns == 0) return;
    const Cut cut = cut_of(product);
    const Work work{product, cut, sgemm_};
    queue.pool->run(
        cut.rows * cut.columns,
        [](const void* context, int index, int, float*) { static_cast<const Work*>(context)->piece(index); }, &work);
  }

 private:
  struct Work {
    const MatrixProduct& p;
    Cut cut;
    Sgemm* sgemm;

    // Boundaries at multiples of 16 floats: whole vectors of c.
    static int boundary(int extent, int pieces, int i) {
      constexpr int kUnit = 16;
      const int units = (extent + kUnit - 1) / kUnit;
      return std::min(extent, static_cast<int>(std::int64_t{units} * i / pieces) * kUnit);
    }

    void piece(int index) const {
      const int r = index / cut.columns, c = index % cut.columns;
      const int row = boundary(p.rows, cut.rows, r), rows = boundary(p.rows, cut.rows, r + 1) - row;
      const int column = boundary(p.columns, cut.columns, c);
      const int columns = boundary(p.columns, cut.columns, c + 1) - column;
      if (rows == 0 || columns == 0) return;
      const auto at = [](auto* data, int stride, int i, int j) { return data + std::ptrdiff_t{stride} * i + j; };
      sgemm(kRowMajor, p.a_transposed ? kTransposed : kPlain, p.b_transposed ? kTransposed : kPlain, rows, columns,
            p.inner, 1.0f, p.a_transposed ? at(p.a, p.a_stride, 0, row) : at(p.a, p.a_stride, row, 0), p.a_stride,
            p.b_transposed ? at(p.b, p.b_stride, column, 0) : at(p.b, p.b_stride, 0, column), p.b_stride,
            p.accumulate ? 1.0f : 0.0f, at(p.c, p.c_stride, row, column), p.c_stride);
    }
  };

  SharedLibrary library_;
  std::string core_, name_;
  Sgemm* sgemm_;
};

}  // namespace

std::unique_ptr<MatrixLibrary> open_openblas() { return std::make_unique<OpenBlas>(); }

}  // namespace perilune
