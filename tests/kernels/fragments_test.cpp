// The maps of a warp's matrix multiply against the PTX ISA, its emulation against products in double, and the banks that
// every access to block storage falls into.
#include "kernels/machine/fragments.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

#include "kernels/machine/fiber_block.hpp"
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

// ---- PTX ISA 8.x, section "Warp-level matrix instructions using mma": figures' formulas, element by element ----
// groupID = lane >> 2, threadID_in_group = lane % 4; A's elements are a0..a3 (tf32) or a0..a7 (bf16, two a register).

TEST(Fragments, Tf32MapsAreThoseOfThePtxIsa) {
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(Tf32Fragment::a_row(lane, i, 0), i == 0 || i == 2 ? group : group + 8);
      EXPECT_EQ(Tf32Fragment::a_column(lane, i, 0), i == 0 || i == 1 ? thread : thread + 4);
    }
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(Tf32Fragment::b_row(lane, i, 0), i == 0 ? thread : thread + 4);
      EXPECT_EQ(Tf32Fragment::b_column(lane), group);
    }
  }
}

TEST(Fragments, Bf16MapsAreThoseOfThePtxIsa) {
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 8; ++i) {
      EXPECT_EQ(Bf16Fragment::a_row(lane, i / 2, i % 2),
                (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8);
      EXPECT_EQ(Bf16Fragment::a_column(lane, i / 2, i % 2),
                i < 4 ? thread * 2 + (i & 0x1) : thread * 2 + (i & 0x1) + 8);
    }
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(Bf16Fragment::b_row(lane, i / 2, i % 2),
                i < 2 ? thread * 2 + (i & 0x1) : thread * 2 + (i & 0x1) + 8);
      EXPECT_EQ(Bf16Fragment::b_column(lane), group);
    }
  }
}

TEST(Fragments, AccumulatorMapIsThatOfThePtxIsa) {
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(c_row(lane, i), i < 2 ? group : group + 8);
      EXPECT_EQ(c_column(lane, i), thread * 2 + (i & 0x1));
    }
  }
}

// ---- roundings ----

/// To `bits` significant bits by arithmetic on the number, not on its representation.
double rounded(double x, int bits, bool ties_to_even) {
  if (x == 0.0 || !std::isfinite(x)) return x;
  int exponent;
  std::frexp(x, &exponent);
  const double unit = std::ldexp(1.0, exponent - bits);
  const double steps = std::abs(x) / unit, below = std::floor(steps), rest = steps - below;
  const bool up = rest > 0.5 || (rest == 0.5 && (!ties_to_even || std::fmod(below, 2.0) != 0.0));
  return std::copysign((below + (up ? 1.0 : 0.0)) * unit, x);
}

TEST(Fragments, RoundingsAreThoseOfTheFormats) {
  Draws draws(1);
  std::vector<float> numbers = {0.0f, -0.0f, 1.0f, 1.0f + 0x1p-11f, 1.0f + 0x3p-11f, 1.0f + 0x1p-8f, 1.0f + 0x3p-8f,
                                -1.0f - 0x1p-11f, 0x1.fffffep5f, 1e30f, -3e-30f};
  for (int i = 0; i < 10000; ++i) numbers.push_back(draws.uniform(-4.0, 4.0));
  for (const float x : numbers) {
    ASSERT_EQ(EmulatedTensorCore::round_tf32(x), rounded(x, 11, false)) << x;
    ASSERT_EQ(EmulatedTensorCore::round_bf16(x), rounded(x, 8, true)) << x;
  }
  // NaNs of every kind stay NaNs: all ones in the mantissa would carry into the sign.
  for (const std::uint32_t bits : {0x7FFFFFFFu, 0xFFFFFFFFu, 0x7F800001u, 0x7FC00000u}) {
    EXPECT_TRUE(std::isnan(EmulatedTensorCore::round_tf32(as_float(bits))));
    EXPECT_TRUE(std::isnan(EmulatedTensorCore::round_bf16(as_float(bits))));
  }
}

// ---- the emulated multiply ----

/// c = a b + c of one warp, a [16][kDepth], b [kDepth][8], c [16][8], each lane putting its elements by the maps above.
template <class Fragment>
struct MultiplyOnce {
  struct Args {
    const float *a, *b;
    float* c;
    int repeats;
  };
  template <class B>
  static void run(B& block, const Args& args) {
    const int lane = block.lane().number;
    const auto word = [](float x, float y) {
      return Fragment::kPerRegister == 2 ? B::pack_bf16(x, y) : as_uint(B::round_tf32(x));
    };
    std::uint32_t a[4], b[2];
    float c[4];
    for (int r = 0; r < 4; ++r) {
      const auto element = [&](int e) {
        return args.a[Fragment::a_row(lane, r, e) * Fragment::kDepth + Fragment::a_column(lane, r, e)];
      };
      a[r] = word(element(0), Fragment::kPerRegister == 2 ? element(1) : 0.0f);
      c[r] = args.c[c_row(lane, r) * 8 + c_column(lane, r)];
    }
    for (int r = 0; r < 2; ++r) {
      const auto element = [&](int e) {
        return args.b[Fragment::b_row(lane, r, e) * 8 + Fragment::b_column(lane)];
      };
      b[r] = word(element(0), Fragment::kPerRegister == 2 ? element(1) : 0.0f);
    }
    for (int i = 0; i < args.repeats; ++i) block.mma(Fragment{}, c, a, b);
    for (int r = 0; r < 4; ++r) args.c[c_row(lane, r) * 8 + c_column(lane, r)] = c[r];
  }
};

template <class Fragment>
void check_multiply(int bits, bool ties_to_even) {
  constexpr int kDepth = Fragment::kDepth;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Draws draws(seed);
    std::vector<float> a(16 * kDepth), b(kDepth * 8), c(16 * 8);
    for (std::vector<float>* matrix : {&a, &b, &c}) {
      for (float& x : *matrix) x = draws.uniform(-1.0, 1.0);
    }
    const int repeats = static_cast<int>(seed);
    Vector expected;
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        double product = 0.0;
        for (int k = 0; k < kDepth; ++k) {
          product += rounded(a[at(row * kDepth + k)], bits, ties_to_even) *
                     rounded(b[at(k * 8 + column)], bits, ties_to_even);
        }
        expected.push_back(c[at(row * 8 + column)] + repeats * product);
      }
    }
    for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
      std::vector<float> result = c;
      launch_fibers<MultiplyOnce<Fragment>, 32, Precision::kTf32>(
          typename MultiplyOnce<Fragment>::Args{a.data(), b.data(), result.data(), repeats}, 1, 0,
          order);
      // Up to 48 additions in fp32 of numbers below 20.
      expect_close("product", result, expected, {2e-6, 1e-6});
    }
  }
}

TEST(Fragments, EmulatedMultiplyIsAProductOfRoundedMatrices) {
  check_multiply<Tf32Fragment>(11, false);
  check_multiply<Bf16Fragment>(8, true);
}

// ---- block storage ----

template <int Width>
int word_of(int row, int column) {
  return swizzled<Width>(lane_word<Width>(row % 8, column % 8), row, column);
}

template <int Width>
void check_words_are_a_permutation() {
  std::set<int> words;
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < Width; ++column) words.insert(word_of<Width>(row, column));
  }
  EXPECT_EQ(words.size(), at(64 * Width));
  EXPECT_EQ(*words.begin(), 0);
  EXPECT_EQ(*words.rbegin(), 64 * Width - 1);
}

TEST(Fragments, SwizzlingIsAPermutation) {
  check_words_are_a_permutation<16>();
  check_words_are_a_permutation<32>();
  check_words_are_a_permutation<64>();
  check_words_are_a_permutation<128>();
}

/// Bank conflicts of one access by a warp: word_of_lane(lane) is the first word; `words` 2 is a 64-bit access, which is
/// served half a warp at a time. Lanes with a negative word take no part; lanes with the same word share it.
template <class F>
int conflicts(int words, F&& word_of_lane) {
  int worst = 0;
  const int lanes = 32 / words;
  for (int first = 0; first < 32; first += lanes) {
    std::array<std::set<int>, 32> banks;
    for (int lane = first; lane < first + lanes; ++lane) {
      const int word = word_of_lane(lane);
      for (int i = 0; word >= 0 && i < words; ++i) banks[at((word + i) % 32)].insert(word + i);
    }
    for (const std::set<int>& bank : banks) {
      worst = std::max(worst, static_cast<int>(bank.size()) - 1);
    }
  }
  return worst;
}

/// A block of which only the shapes matter here.
template <int Lanes>
using TensorFiber = FiberBlock<Lanes, Precision::kTf32>;

template <int Width>
void check_banks_of_swizzled_matrices() {
  using Operands = SwizzledOperands<Width, TensorFiber<128>>;
  for (int row = 0; row < 32; row += 8) {
    for (int column = 0; column < Width; column += 8) {
      SCOPED_TRACE(::testing::Message() << "width " << Width << ", from " << row << ", " << column);
      const auto word = [&](int Operands::*which) {
        return [=](int lane) { return swizzled<Width>(Operands(lane).*which, row, column); };
      };
      EXPECT_EQ(conflicts(2, word(&Operands::pair)), 0);
      EXPECT_EQ(conflicts(1, word(&Operands::even)), 0);
      EXPECT_EQ(conflicts(1, word(&Operands::odd)), 0);
      EXPECT_EQ(conflicts(1, word(&Operands::first)), 0);
      EXPECT_EQ(conflicts(1, word(&Operands::fifth)), 0);
      // They are the elements they should be.
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        EXPECT_EQ(word(&Operands::pair)(lane), word_of<Width>(row + g, column + 2 * t));
        EXPECT_EQ(word(&Operands::pair)(lane) + 1, word_of<Width>(row + g, column + 2 * t + 1));
        EXPECT_EQ(word(&Operands::even)(lane), word_of<Width>(row + 2 * t, column + g));
        EXPECT_EQ(word(&Operands::odd)(lane), word_of<Width>(row + 2 * t + 1, column + g));
        EXPECT_EQ(word(&Operands::first)(lane), word_of<Width>(row + t, column + g));
        EXPECT_EQ(word(&Operands::fifth)(lane), word_of<Width>(row + t + 4, column + g));
      }
    }
  }
}

TEST(Fragments, SwizzledAccessesHaveNoBankConflicts) {
  check_banks_of_swizzled_matrices<16>();
  check_banks_of_swizzled_matrices<32>();
  check_banks_of_swizzled_matrices<64>();
  check_banks_of_swizzled_matrices<128>();
}

/// Observations and outputs: [feature][kStride].
template <int Lanes>
void check_banks_of_tiles() {
  constexpr int kStride = TensorFiber<Lanes>::kStride;
  for (int features : {1, 2, 4, 7, 8}) {
    SCOPED_TRACE(features);
    const auto word = [&](int feature, int sample) {
      return feature < features ? feature * kStride + sample : -1;
    };
    // samples_a: features t and t + 4, samples g and g + 8.
    for (int r = 0; r < 4; ++r) {
      EXPECT_EQ(conflicts(1,
                          [&](int lane) {
                            return word(Tf32Fragment::a_column(lane, r, 0),
                                        Tf32Fragment::a_row(lane, r, 0));
                          }),
                0);
      // Outputs are written from accumulators.
      EXPECT_EQ(conflicts(1,
                          [&](int lane) {
                            return word(head_output(c_column(lane, r)), c_row(lane, r));
                          }),
                0);
    }
    // samples_b: feature g, samples 2t and 2t + 1.
    EXPECT_EQ(conflicts(2, [&](int lane) { return word(lane / 4, lane % 4 * 2); }), 0);
    // Lanes' own samples.
    EXPECT_EQ(conflicts(1, [&](int lane) { return word(0, lane); }), 0);
  }
}

TEST(Fragments, TilesHaveNoBankConflicts) {
  check_banks_of_tiles<128>();
  check_banks_of_tiles<64>();
}

TEST(Fragments, ConflictsAreSeen) {
  EXPECT_EQ(conflicts(1, [](int lane) { return lane * 64; }), 31);
  EXPECT_EQ(conflicts(1, [](int lane) { return lane * 2; }), 1);
  EXPECT_EQ(conflicts(2, [](int lane) { return lane / 4 * 64 + lane % 4 * 2; }), 3);
}

TEST(Fragments, HeadOutputsAreAPermutation) {
  for (int group : {0, 8, 16}) {
    std::set<int> outputs;
    for (int row = group; row < group + 8; ++row) outputs.insert(head_output(row));
    EXPECT_EQ(outputs.size(), 8u);
    EXPECT_EQ(*outputs.begin(), group);
    EXPECT_EQ(*outputs.rbegin(), group + 7);
  }
}

}  // namespace
}  // namespace perilune::test
