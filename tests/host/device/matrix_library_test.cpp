// The CPU's libraries behind MatrixLibrary: products of odd shapes, the same bits for any number of threads, and which
// of them is taken. oneDNN need not be installed: tests/support/stand_in_onednn.cpp has its functions.
#include "host/device/matrix_library.hpp"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "host/base/error.hpp"
#include "kernels/machine/processor.hpp"
#include "kernels/machine/queue.hpp"
#include "kernels/machine/thread_pool.hpp"
#include "tests/support/naive_matrix.hpp"
#include "tests/support/reference.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Case {
  int rows, columns, inner;
};

/// Operands with gaps between their rows, and the product of a library.
class Problem {
 public:
  Problem(const Case& c, bool a_transposed, bool b_transposed, bool accumulate, std::uint64_t seed) {
    test::Draws draws(seed);
    const auto matrix = [&](int rows, int stride) {
      std::vector<float> values(static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride));
      for (float& x : values) x = draws.uniform(-1.0, 1.0);
      return values;
    };
    product = {c.rows,
               c.columns,
               c.inner,
               nullptr,
               (a_transposed ? c.rows : c.inner) + 3,
               a_transposed,
               nullptr,
               (b_transposed ? c.inner : c.columns) + 5,
               b_transposed,
               nullptr,
               c.columns + 2,
               accumulate};
    a = matrix(a_transposed ? c.inner : c.rows, product.a_stride);
    b = matrix(b_transposed ? c.columns : c.inner, product.b_stride);
    start = matrix(c.rows, product.c_stride);
    product.a = a.data();
    product.b = b.data();
  }

  std::vector<float> result(MatrixLibrary& library, int threads) {
    ThreadPool pool(threads, 0);
    Queue queue{.pool = &pool};
    std::vector<float> c = start;
    product.c = c.data();
    library.multiply(product, queue);
    return c;
  }

  MatrixProduct product;
  std::vector<float> a, b, start;
};

/// Sets an environment variable as long as it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    setenv(name, value, 1);
  }
  ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

std::unique_ptr<MatrixLibrary> open_stand_in() {
  const Variable variable("PERILUNE_MATRIX_LIBRARY", PERILUNE_STAND_IN_ONEDNN);
  return open_cpu_matrices();
}

struct Library {
  const char* name;
  std::unique_ptr<MatrixLibrary> (*open)();
};

class CpuMatricesTest : public testing::TestWithParam<Library> {
 protected:
  void SetUp() override {
    try {
      library = GetParam().open();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    if (library == nullptr) GTEST_SKIP() << GetParam().name << " is not installed";
  }
  std::unique_ptr<MatrixLibrary> library;
};

INSTANTIATE_TEST_SUITE_P(, CpuMatricesTest,
                         testing::Values(Library{"OpenBLAS", open_openblas}, Library{"oneDNN", open_onednn},
                                         Library{"StandIn", open_stand_in}),
                         [](const auto& test) { return test.param.name; });

TEST_P(CpuMatricesTest, EqualsTheReferenceForAnyNumberOfThreads) {
  // The last ones are cut: along rows, along columns, both ways.
  const Case cases[] = {{1, 1, 1},    {7, 33, 5},     {5, 7, 33},     {65, 1, 31},   {2, 257, 129},
                        {64, 64, 64}, {1001, 17, 65}, {3, 2000, 150}, {300, 290, 63}};
  test::NaiveMatrixLibrary naive;
  std::uint64_t seed = 0;
  for (const Case& c : cases) {
    for (int variant = 0; variant < 8; ++variant) {
      SCOPED_TRACE(testing::Message() << c.rows << " x " << c.columns << " x " << c.inner << ", variant " << variant);
      Problem problem(c, (variant & 1) != 0, (variant & 2) != 0, (variant & 4) != 0, ++seed);
      const std::vector<float> expected = problem.result(naive, 1), one = problem.result(*library, 1);
      // A float sum of n products below 1 in magnitude is off by at most n * n / 2 * 6e-8; in practice far less.
      const double tolerance = 1e-7 * (2.0 + c.inner);
      for (std::size_t i = 0; i < one.size(); ++i) ASSERT_NEAR(one[i], expected[i], tolerance) << i;
      for (const int threads : {2, 3, 8}) ASSERT_EQ(problem.result(*library, threads), one) << threads << " threads";
    }
  }
}

TEST(MatrixLibrary, OpenBlasGetsTheKernelsOfTheInstructionsThereAre) {
  const auto better = [](const char* core, bool v3, bool v4) -> std::string {
    const char* name = better_openblas_core(core, v3, v4);
    return name == nullptr ? "" : name;
  };
  EXPECT_EQ(better("Prescott", true, true), "SKYLAKEX");
  EXPECT_EQ(better("Prescott", true, false), "HASWELL");
  EXPECT_EQ(better("Prescott", false, false), "");
  EXPECT_EQ(better("Sandybridge", true, true), "SKYLAKEX");  // a later one that it takes for the last without AVX2
  for (const char* core : {"Haswell", "Zen", "SkylakeX", "Cooperlake", "SapphireRapids"}) {
    EXPECT_EQ(better(core, true, true), "") << core;
  }
}

TEST(MatrixLibrary, OpenBlasSaysWhichKernelsItHasAndTakesTheOnesAskedFor) {
  ::unsetenv("OPENBLAS_CORETYPE");  // whoever runs the tests may have asked for some
  std::unique_ptr<MatrixLibrary> library;
  try {
    library = open_openblas();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_THAT(library->name(), AllOf(testing::StartsWith("OpenBLAS ("), testing::EndsWith(" kernels)")));
  if (processor_has_v3()) {
    EXPECT_THAT(library->name(), testing::Not(HasSubstr("Prescott")));
  }
  EXPECT_EQ(std::getenv("OPENBLAS_CORETYPE"), nullptr);  // nothing is left for programs that are started later
  library.reset();
  const Variable variable("OPENBLAS_CORETYPE", "PRESCOTT");
  EXPECT_STREQ(open_openblas()->name(), "OpenBLAS (Prescott kernels)");
}

TEST(MatrixLibrary, TheFileThatWasChosenIsKnownByItsFunctions) {
  EXPECT_STREQ(open_stand_in()->name(), "oneDNN");
  const Variable variable("PERILUNE_MATRIX_LIBRARY", "libopenblas.so.0");
  try {
    EXPECT_THAT(open_cpu_matrices()->name(), testing::StartsWith("OpenBLAS ("));
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
}

TEST(MatrixLibrary, OneDnnLeavesTheCallersThreadItsNumberOfThreads) {
  const auto library = open_stand_in();
  const auto of_this_thread = reinterpret_cast<int (*)()>(
      dlsym(dlopen(PERILUNE_STAND_IN_ONEDNN, RTLD_NOW | RTLD_NOLOAD), "omp_get_max_threads"));
  const int before = of_this_thread();
  ASSERT_NE(before, 1);
  Problem({5, 7, 3}, false, false, false, 1).result(*library, 1);
  EXPECT_EQ(of_this_thread(), before);
}

TEST(MatrixLibrary, OneDnnIsTakenWhereItIsInstalledAndFaster) {
  std::string name;
  try {
    name = open_cpu_matrices()->name();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_EQ(name.starts_with("oneDNN and OpenBLAS ("), processor_has_v4() && open_onednn() != nullptr) << name;
}

TEST(MatrixLibrary, NarrowProductsGoToTheLibraryForThem) {
  class Recorder : public MatrixLibrary {
   public:
    Recorder(const char* name, std::string& taken) : name_(name), taken_(taken) {}
    const char* name() const override { return name_; }
    void multiply(const MatrixProduct&, Queue&) override { taken_ = name_; }

   private:
    const char* name_;
    std::string& taken_;
  };
  std::string taken;
  const auto library = by_size(std::make_unique<Recorder>("wide", taken), std::make_unique<Recorder>("narrow", taken));
  EXPECT_STREQ(library->name(), "wide and narrow");
  const auto taken_for = [&](int rows, int columns, int inner) {
    ThreadPool pool(1, 0);
    Queue queue{.pool = &pool};
    library->multiply({rows, columns, inner, nullptr, inner, false, nullptr, columns, false, nullptr, columns, false},
                      queue);
    return taken;
  };
  EXPECT_EQ(taken_for(1, 64, 64), "wide");
  EXPECT_EQ(taken_for(1000, 63, 64), "narrow");
  EXPECT_EQ(taken_for(1000, 64, 63), "narrow");
  EXPECT_EQ(taken_for(256, 256, 256), "wide");
}

/// pip's packages: of an active environment, and of a Python on the PATH; one by their old name, one by the new.
TEST(MatrixLibrary, CublasIsFoundInPythonsPackages) {
  namespace fs = std::filesystem;
  const test::TemporaryDirectory scratch;
  const auto install = [&](const fs::path& folder) {
    fs::create_directories(scratch.path() / folder);
    fs::copy_file(PERILUNE_STAND_IN_ONEDNN, scratch.path() / folder / "libcublas.so.13");
    return (scratch.path() / folder / "libcublas.so.13").string();
  };
  const std::string active = install("venv/lib/python3.12/site-packages/nvidia/cu13/lib");
  const std::string on_path = install("system/lib/python3.9/dist-packages/nvidia/cublas/lib");
  const std::string unused = install("other/lib/python3.9/site-packages/nvidia/cu13/lib");
  fs::create_directories(scratch.path() / "system/bin");
  std::ofstream(scratch.path() / "system/bin/python3");
  const Variable environment("VIRTUAL_ENV", (scratch.path() / "venv").c_str());
  const Variable path("PATH",
                      ("/none:" + (scratch / "system/bin").string() + ":" + (scratch / "other/bin").string()).c_str());
  const std::vector<std::string> files = cublas_files();
  ASSERT_GE(files.size(), 4u);
  EXPECT_EQ(files[0], "libcublas.so.13");
  const auto place = [&](const std::string& file) { return std::ranges::find(files, file) - files.begin(); };
  EXPECT_LT(place(active), place(on_path));
  EXPECT_LT(place(on_path), static_cast<std::ptrdiff_t>(files.size()));
  EXPECT_THAT(files, testing::Not(testing::Contains(unused)));
  const auto library = SharedLibrary::find({"no-such-library.so", active});
  ASSERT_NE(library, nullptr);
  EXPECT_TRUE(library->has("dnnl_sgemm"));
}

TEST(MatrixLibrary, OneThatCannotBeOpenedIsNamedWithAWayOut) {
  setenv("PERILUNE_MATRIX_LIBRARY", "no-such-library.so", 1);
  EXPECT_THAT([] { open_cpu_matrices(); },
              testing::ThrowsMessage<Error>(AllOf(HasSubstr("OpenBLAS"), HasSubstr("no-such-library.so"),
                                                  HasSubstr("PERILUNE_MATRIX_LIBRARY"), HasSubstr("perilune info"))));
  setenv("PERILUNE_MATRIX_LIBRARY", "libc.so.6", 1);
  EXPECT_THAT([] { open_cpu_matrices(); },
              testing::ThrowsMessage<Error>(AllOf(HasSubstr("libc.so.6"), HasSubstr("openblas_get_corename"))));
  unsetenv("PERILUNE_MATRIX_LIBRARY");
  try {
    SharedLibrary::open("Product", {"no-such-library.so", "nor-this-one.so"}, "install product-1");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("Product"), HasSubstr("no-such-library.so"), HasSubstr("install product-1")));
  }
}

}  // namespace
}  // namespace perilune
