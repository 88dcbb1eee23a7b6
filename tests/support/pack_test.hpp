// Tests of packs: their lanes are those of the instructions that they are compiled for, which a processor may lack.
#pragma once

#include <gtest/gtest.h>

namespace perilune::test {

class PackTest : public ::testing::Test {
 protected:
  void SetUp() override {
#if defined(__AVX512F__)
    if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "built for AVX-512, which is absent";
#elif defined(__AVX2__)
    if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "built for AVX2, which is absent";
#endif
  }
};

}  // namespace perilune::test
