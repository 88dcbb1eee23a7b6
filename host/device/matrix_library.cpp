#include "host/device/matrix_library.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "kernels/cpu_levels.hpp"
#include "kernels/machine/queue.hpp"
#include "kernels/machine/thread_pool.hpp"

namespace perilune {
namespace {

// The file that PERILUNE_MATRIX_LIBRARY names, or empty.
std::string chosen_library() {
  const char* chosen = std::getenv("PERILUNE_MATRIX_LIBRARY");
  return chosen == nullptr ? "" : chosen;
}

}  // namespace

std::unique_ptr<SharedLibrary> SharedLibrary::find(const std::vector<std::string>& files, std::string* problem) {
  for (const std::string& file : files) {
    void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return std::unique_ptr<SharedLibrary>(new SharedLibrary(file, handle));
    if (problem != nullptr && problem->empty()) *problem = dlerror();
  }
  return nullptr;
}

std::unique_ptr<SharedLibrary> SharedLibrary::open(const std::string& product, const std::vector<std::string>& files,
                                                   const std::string& advice) {
  const std::string chosen = chosen_library();
  std::string problem;
  if (auto found = find(chosen.empty() ? files : std::vector<std::string>{chosen}, &problem)) return found;
  throw Error(
      formatted("{}, which multiplies matrices for hidden layers without fused kernels, cannot be opened ({}) - "
                "{}, or name its file in PERILUNE_MATRIX_LIBRARY, or choose hidden layers that `perilune info` "
                "lists as fused",
                product, problem, chosen.empty() ? advice : "unset PERILUNE_MATRIX_LIBRARY"));
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

bool SharedLibrary::has(const char* name) const { return dlsym(handle_, name) != nullptr; }

void* SharedLibrary::symbol(const char* name) const {
  void* found = dlsym(handle_, name);
  if (found == nullptr) {
    throw Error(
        formatted("{} has no function {} - it is another library or too old; unset PERILUNE_MATRIX_LIBRARY, "
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

// Cuts a product into pieces for the pool's threads; a library multiplies one of them on one thread.
class CpuMatrices : public MatrixLibrary {
 public:
  const char* name() const override { return name_.c_str(); }

  void multiply(const MatrixProduct& product, Queue& queue) override {
    if (product.rows == 0 || product.columns == 0) return;
    const Work work{*this, product, cut_of(product)};
    queue.pool->run(
        work.cut.rows * work.cut.columns,
        [](const void* context, int index, int, float*) { static_cast<const Work*>(context)->piece(index); }, &work);
  }

 protected:
  explicit CpuMatrices(std::unique_ptr<SharedLibrary> library) : library_(std::move(library)) {}
  virtual void multiply_piece(const MatrixProduct& piece) const = 0;

  std::unique_ptr<SharedLibrary> library_;
  std::string name_;

 private:
  struct Work {
    const CpuMatrices& library;
    const MatrixProduct& product;
    Cut cut;

    // Boundaries at multiples of 16 floats: whole vectors of c.
    static int boundary(int extent, int pieces, int i) {
      constexpr int kUnit = 16;
      const int units = (extent + kUnit - 1) / kUnit;
      return std::min(extent, static_cast<int>(std::int64_t{units} * i / pieces) * kUnit);
    }

    void piece(int index) const {
      const int r = index / cut.columns, c = index % cut.columns;
      const int row = boundary(product.rows, cut.rows, r), column = boundary(product.columns, cut.columns, c);
      MatrixProduct piece = product;
      piece.rows = boundary(product.rows, cut.rows, r + 1) - row;
      piece.columns = boundary(product.columns, cut.columns, c + 1) - column;
      if (piece.rows == 0 || piece.columns == 0) return;
      piece.a += std::ptrdiff_t{row} * (product.a_transposed ? 1 : product.a_stride);
      piece.b += std::ptrdiff_t{column} * (product.b_transposed ? product.b_stride : 1);
      piece.c += std::ptrdiff_t{product.c_stride} * row + column;
      library.multiply_piece(piece);
    }
  };
};

// Whether this processor has a level's instructions, in the program or not.
bool has_level(std::string_view name) {
  return std::ranges::any_of(cpu_levels(),
                             [&](const CpuLevel& level) { return level.name == name && level.supported; });
}

class OpenBlas : public CpuMatrices {
 public:
  explicit OpenBlas(std::unique_ptr<SharedLibrary> library) : CpuMatrices(std::move(library)) {
    std::string core = library_->function<char*()>("openblas_get_corename")();
    const char* better = better_openblas_core(core, has_level("v3"), has_level("v4"));
    if (better != nullptr && std::getenv("OPENBLAS_CORETYPE") == nullptr) {
      library_->reopen("OPENBLAS_CORETYPE", better);
      core = library_->function<char*()>("openblas_get_corename")();
    }
    name_ = formatted("OpenBLAS ({} kernels)", core);
    sgemm_ = library_->function<Sgemm>("cblas_sgemm");
    // Its own threads would cut products differently on each machine, and compete with ours.
    library_->function<void(int)>("openblas_set_num_threads")(1);
  }

 private:
  // CBLAS's sgemm and its enumerators, as the BLAS standard's C interface fixes them; its header need not be installed.
  using Sgemm = void(int order, int transpose_a, int transpose_b, int rows, int columns, int inner, float alpha,
                     const float* a, int a_stride, const float* b, int b_stride, float beta, float* c, int c_stride);
  static constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;

  void multiply_piece(const MatrixProduct& p) const override {
    sgemm_(kRowMajor, p.a_transposed ? kTransposed : kPlain, p.b_transposed ? kTransposed : kPlain, p.rows, p.columns,
           p.inner, 1.0f, p.a, p.a_stride, p.b, p.b_stride, p.accumulate ? 1.0f : 0.0f, p.c, p.c_stride);
  }

  Sgemm* sgemm_;
};

class OneDnn : public CpuMatrices {
 public:
  // Whether a library has the functions; built with threads of its own that are not OpenMP's it has not.
  static bool fits(const SharedLibrary& library) {
    return library.has(kSgemm) && library.has(kGetThreads) && library.has(kSetThreads);
  }

  explicit OneDnn(std::unique_ptr<SharedLibrary> library)
      : CpuMatrices(std::move(library)),
        sgemm_(library_->function<Sgemm>(kSgemm)),
        get_threads_(library_->function<int()>(kGetThreads)),
        set_threads_(library_->function<void(int)>(kSetThreads)) {
    name_ = "oneDNN";
  }

 private:
  // oneDNN's C interface: matrices by rows, 'N' plain or 'T' transposed; 0: done.
  using Sgemm = int(char transpose_a, char transpose_b, std::int64_t rows, std::int64_t columns, std::int64_t inner,
                    float alpha, const float* a, std::int64_t a_stride, const float* b, std::int64_t b_stride,
                    float beta, float* c, std::int64_t c_stride);
  static constexpr const char* kSgemm = "dnnl_sgemm";
  static constexpr const char* kGetThreads = "omp_get_max_threads";
  static constexpr const char* kSetThreads = "omp_set_num_threads";

  // OpenMP's number is each thread's own, and the caller's thread is the pool's too: it gets its number back.
  void multiply_piece(const MatrixProduct& p) const override {
    const int threads = get_threads_();
    if (threads != 1) set_threads_(1);
    sgemm_(p.a_transposed ? 'T' : 'N', p.b_transposed ? 'T' : 'N', p.rows, p.columns, p.inner, 1.0f, p.a, p.a_stride,
           p.b, p.b_stride, p.accumulate ? 1.0f : 0.0f, p.c, p.c_stride);
    if (threads != 1) set_threads_(threads);
  }

  Sgemm* sgemm_;
  int (*get_threads_)();
  void (*set_threads_)(int);
};

class BySize : public MatrixLibrary {
 public:
  BySize(std::unique_ptr<MatrixLibrary> wide, std::unique_ptr<MatrixLibrary> narrow)
      : wide_(std::move(wide)),
        narrow_(std::move(narrow)),
        name_(formatted("{} and {}", wide_->name(), narrow_->name())) {}

  const char* name() const override { return name_.c_str(); }
  void multiply(const MatrixProduct& product, Queue& queue) override {
    constexpr int kWide = 64;
    (product.columns >= kWide && product.inner >= kWide ? wide_ : narrow_)->multiply(product, queue);
  }

 private:
  std::unique_ptr<MatrixLibrary> wide_, narrow_;
  std::string name_;
};

// Folders of the packages of Pythons at hand.
std::vector<std::filesystem::path> python_packages() {
  namespace fs = std::filesystem;
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  std::error_code ignored;
  std::vector<fs::path> roots, packages;
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (!variable(name).empty()) roots.emplace_back(variable(name));
  }
  std::istringstream path(variable("PATH"));
  for (std::string folder; std::getline(path, folder, ':');) {
    if (fs::exists(fs::path(folder) / "python3", ignored)) roots.push_back(fs::path(folder).parent_path());
  }
  if (!variable("HOME").empty()) roots.push_back(fs::path(variable("HOME")) / ".local");
  Dl_info self{};
  if (dladdr(reinterpret_cast<const void*>(&cublas_files), &self) != 0) {
    packages.push_back(fs::absolute(self.dli_fname, ignored).parent_path().parent_path());
  }
  for (const fs::path& root : roots) {
    for (const fs::directory_entry& version : fs::directory_iterator(root / "lib", ignored)) {
      if (!version.path().filename().string().starts_with("python3")) continue;
      for (const char* name : {"site-packages", "dist-packages"}) packages.push_back(version.path() / name);
    }
  }
  return packages;
}

}  // namespace

std::vector<std::string> cublas_files() {
  std::vector<std::string> files = {"libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13"};
  for (const std::filesystem::path& packages : python_packages()) {
    for (const char* place : {"nvidia/cu13/lib/libcublas.so.13", "nvidia/cublas/lib/libcublas.so.13"}) {
      const std::filesystem::path file = packages / place;
      std::error_code ignored;
      if (std::filesystem::exists(file, ignored)) files.push_back(file.string());
    }
  }
  return files;
}

std::unique_ptr<MatrixLibrary> by_size(std::unique_ptr<MatrixLibrary> wide, std::unique_ptr<MatrixLibrary> narrow) {
  return std::make_unique<BySize>(std::move(wide), std::move(narrow));
}

std::unique_ptr<MatrixLibrary> open_openblas() {
  return std::make_unique<OpenBlas>(
      SharedLibrary::open("OpenBLAS", {kOpenBlasFiles.begin(), kOpenBlasFiles.end()},
                          "install libopenblas0-pthread (Debian and Ubuntu; tools/setup does)"));
}

std::unique_ptr<MatrixLibrary> open_onednn() {
  auto library = SharedLibrary::find({kOneDnnFiles.begin(), kOneDnnFiles.end()});
  return library == nullptr || !OneDnn::fits(*library) ? nullptr : std::make_unique<OneDnn>(std::move(library));
}

std::unique_ptr<MatrixLibrary> open_cpu_matrices() {
  if (const std::string chosen = chosen_library(); !chosen.empty()) {
    auto library = SharedLibrary::find({chosen});
    if (library != nullptr && OneDnn::fits(*library)) return std::make_unique<OneDnn>(std::move(library));
  } else if (has_level("v4")) {
    // With AVX-512 oneDNN multiplies by 64 and more 1.1 to 1.2 times as fast as OpenBLAS (Xeon of 2023), by less than
    // that it is slower: networks of 9 to 48 units trained at 0.85 to 0.9 times the speed.
    if (auto wide = open_onednn()) return by_size(std::move(wide), open_openblas());
  }
  return open_openblas();
}

}  // namespace perilune
