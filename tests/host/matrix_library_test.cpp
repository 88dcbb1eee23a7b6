// OpenBLAS behind MatrixLibrary: products of odd shapes, and the same bits for any number of threads.
#include "host/matrix_library.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <memory>

#include "host/error.hpp"
#include "kernels/machine/processor.hpp"
#include "kernels/machine/queue.hpp"
#include "kernels/machine/thread_pool.hpp"
#include "tests/support/naive_matrix.hpp"
#include "tests/support/reference.hpp"

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
    product = {c.rows, c.columns, c.inner, nullptr, (a_transposed ? c.rows : c.inner) + 3, a_transposed,
               nullptr, (b_transposed ? c.inner : c.columns) + 5, b_transposed, nullptr, c.columns + 2, accumulate};
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

class OpenBlasTest : public testing::Test {
 protected:
  void SetUp() override {
    try {
      library = open_openblas();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  std::unique_ptr<MatrixLibrary> library;
};

TEST_F(OpenBlasTest, EqualsTheReferenceForAnyNumberOfThreads) {
  // The last ones are cut: along rows, along columns, both ways.
  const Case cases[] = {{1, 1, 1},    {7, 33, 5},    {5, 7, 33},     {65, 1, 31},   {2, 257, 129},
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

TEST_F(OpenBlasTest, SaysWhichKernelsItHasAndTakesTheOnesAskedFor) {
  EXPECT_THAT(library->name(), AllOf(testing::StartsWith("OpenBLAS ("), testing::EndsWith(" kernels)")));
  if (processor_has_v3()) {
    EXPECT_THAT(library->name(), testing::Not(HasSubstr("Prescott")));
  }
  EXPECT_EQ(std::getenv("OPENBLAS_CORETYPE"), nullptr);  // nothing is left for programs that are started later
  library.reset();
  setenv("OPENBLAS_CORETYPE", "PRESCOTT", 1);
  EXPECT_STREQ(open_openblas()->name(), "OpenBLAS (Prescott kernels)");
  unsetenv("OPENBLAS_CORETYPE");
}

TEST(MatrixLibrary, OneThatCannotBeOpenedIsNamedWithAWayOut) {
  setenv("PERILUNE_MATRIX_LIBRARY", "no-such-library.so", 1);
  EXPECT_THAT([] { open_openblas(); },
              testing::ThrowsMessage<Error>(AllOf(HasSubstr("OpenBLAS"), HasSubstr("no-such-library.so"),
                                                  HasSubstr("PERILUNE_MATRIX_LIBRARY"), HasSubstr("perilune info"))));
  setenv("PERILUNE_MATRIX_LIBRARY", "libc.so.6", 1);
  EXPECT_THAT([] { open_openblas(); },
              testing::ThrowsMessage<Error>(AllOf(HasSubstr("libc.so.6"), HasSubstr("openblas_get_corename"))));
  unsetenv("PERILUNE_MATRIX_LIBRARY");
  try {
    const SharedLibrary library("Product", {"no-such-library.so", "nor-this-one.so"}, "install product-1");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("Product"), HasSubstr("no-such-library.so"), HasSubstr("install product-1")));
  }
}

}  // namespace
}  // namespace perilune
