// The maps of a warp's matrix multiply against the PTX ISA, its emulation against products in double, loads of matrices
// against their description, and the banks that every access to block storage falls into.
#include "kernels/machine/fragments.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>
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
      EXPECT_EQ(Bf16Fragment::a_row(lane, i / 2, i % 2), (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8);
      EXPECT_EQ(Bf16Fragment::a_column(lane, i / 2, i % 2),
                i < 4 ? thread * 2 + (i & 0x1) : thread * 2 + (i & 0x1) + 8);
    }
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(Bf16Fragment::b_row(lane, i / 2, i % 2), i < 2 ? thread * 2 + (i & 0x1) : thread * 2 + (i & 0x1) + 8);
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
  std::vector<float> numbers = {
      0.0f,          -0.0f, 1.0f,   1.0f + 0x1p-11f, 1.0f + 0x3p-11f, 1.0f + 0x1p-8f, 1.0f + 0x3p-8f, -1.0f - 0x1p-11f,
      0x1.fffffep5f, 1e30f, -3e-30f};
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
      // What tf32 has no room for is not looked at.
      return Fragment::kPerRegister == 2 ? B::pack_bf16(x, y) : as_uint(B::round_tf32(x)) | 0x1ABCu;
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
      const auto element = [&](int e) { return args.b[Fragment::b_row(lane, r, e) * 8 + Fragment::b_column(lane)]; };
      b[r] = word(element(0), Fragment::kPerRegister == 2 ? element(1) : 0.0f);
    }
    for (int i = 0; i < args.repeats; ++i) block.mma(Fragment{}, c, a, b, c);
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
          product +=
              rounded(a[at(row * kDepth + k)], bits, ties_to_even) * rounded(b[at(k * 8 + column)], bits, ties_to_even);
        }
        expected.push_back(c[at(row * 8 + column)] + repeats * product);
      }
    }
    for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
      std::vector<float> result = c;
      launch_fibers<MultiplyOnce<Fragment>, 32, Precision::kTf32>(
          typename MultiplyOnce<Fragment>::Args{a.data(), b.data(), result.data(), repeats}, 1, 0, order);
      // Up to 48 additions in fp32 of numbers below 20.
      expect_close("product", result, expected, {2e-6, 1e-6});
    }
  }
}

TEST(Fragments, EmulatedMultiplyIsAProductOfRoundedMatrices) {
  check_multiply<Tf32Fragment>(11, false);
  check_multiply<Bf16Fragment>(8, true);
}

// ---- loads of matrices ----

/// Of `Matrices` matrices whose rows lie anywhere in block storage, which args fills and names: [kLanes] rows, each a
/// multiple of 4 words. words: [lane][Matrices].
template <bool Transposed, int Matrices>
struct LoadOnce {
  static constexpr int kWords = 512;
  struct Args {
    const float* storage;
    const int* rows;
    std::uint32_t* words;
  };
  template <class B>
  static void run(B& block, const Args& args) {
    const int lane = block.lane().number;
    for (int i = lane; i < kWords; i += B::kLanes) block.storage()[i] = args.storage[i];
    block.sync();
    std::uint32_t words[Matrices];
    block.template load_matrices<Transposed>(words, block.storage() + args.rows[lane]);
    for (int i = 0; i < Matrices; ++i) args.words[lane * Matrices + i] = words[i];
  }
};

/// PTX ISA, "ldmatrix": lanes 8i..8i+7 give the rows of matrix i, eight half words each. A lane is given the elements
/// 2t and 2t + 1 of row g; with .trans those of rows 2t and 2t + 1 of column g.
template <bool Transposed, int Matrices>
void check_load(std::uint64_t seed) {
  using K = LoadOnce<Transposed, Matrices>;
  std::mt19937_64 engine(seed);
  std::vector<std::uint32_t> halves(2 * K::kWords);
  for (std::uint32_t& half : halves)
    half = static_cast<std::uint32_t>(engine() & 0x7F7F);  // no NaN, whose bits a copy may change
  std::vector<float> storage(K::kWords);
  for (int i = 0; i < K::kWords; ++i) storage[at(i)] = as_float(halves[at(2 * i)] | halves[at(2 * i + 1)] << 16);
  std::vector<int> rows(kWarpLanes);
  for (int& row : rows) row = static_cast<int>(engine() % (K::kWords / 4)) * 4;
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
    std::vector<std::uint32_t> words(kWarpLanes * Matrices);
    launch_fibers<K, kWarpLanes, Precision::kBf16>(typename K::Args{storage.data(), rows.data(), words.data()}, 1,
                                                   K::kWords, order);
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      for (int i = 0; i < Matrices; ++i) {
        const auto element = [&](int row, int column) { return halves[at(2 * rows[at(8 * i + row)] + column)]; };
        const int g = lane / 4, t = lane % 4;
        const std::uint32_t low = Transposed ? element(2 * t, g) : element(g, 2 * t);
        const std::uint32_t high = Transposed ? element(2 * t + 1, g) : element(g, 2 * t + 1);
        ASSERT_EQ(words[at(lane * Matrices + i)], low | high << 16) << "lane " << lane << ", matrix " << i;
      }
    }
  }
}

TEST(Fragments, LoadsOfMatricesAreThoseOfThePtxIsa) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check_load<false, 4>(seed);
    check_load<true, 4>(seed);
    check_load<false, 2>(seed);
    check_load<true, 2>(seed);
  }
}

// ---- block storage ----

TEST(Fragments, EveryElementHasAWordOfItsOwn) {
  std::set<int> rows, words, parity_words;
  for (int row = 0; row < 8; ++row) {
    for (int i = 0; i < 4; ++i) rows.insert(bf16_row(row) + i);
    for (int column = 0; column < 8; ++column) {
      words.insert(tf32_word(row, column));
      parity_words.insert(tf32_parity_word(row, column));
    }
  }
  const auto is_all = [](const std::set<int>& set, int count) {
    return set.size() == at(count) && *set.begin() == 0 && *set.rbegin() == count - 1;
  };
  EXPECT_TRUE(is_all(rows, kBf16FragmentWords));
  EXPECT_TRUE(is_all(words, kTf32FragmentWords));
  EXPECT_TRUE(is_all(parity_words, kTf32FragmentWords));
}

/// Bank conflicts of one access by a warp: word_of_lane(lane) is the first word; `words` 2 or 4 is one of 64 or 128
/// bits, which is served a half or a quarter of a warp at a time. Lanes with a negative word take no part; lanes with
/// the same word share it.
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

TEST(Fragments, AccessesHaveNoBankConflicts) {
  // ldmatrix, a matrix at a time, and samples' own rows: 16 bytes at every row.
  EXPECT_EQ(conflicts(4, [](int lane) { return lane / 8 * kBf16FragmentWords + bf16_row(lane % 8); }), 0);
  for (int chunk = 0; chunk < 2; ++chunk) {
    EXPECT_EQ(conflicts(4, [&](int lane) { return lane / 8 * kTf32FragmentWords + tf32_chunk(lane % 8, chunk); }), 0);
  }
  // bf16 accumulators.
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(bf16_row(lane / 4) + lane % 4, lane);
  // tf32 accumulators, of a layer and of rows of weights; and operands B of a thin matrix.
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(conflicts(1, [&](int lane) { return tf32_word(lane % 4 * 2 + r, lane / 4); }), 0);
    EXPECT_EQ(conflicts(1, [&](int lane) { return tf32_parity_word(lane % 4 * 2 + r, lane / 4); }), 0);
    EXPECT_EQ(conflicts(1, [&](int lane) { return tf32_word(lane % 4 + 4 * r, lane / 4); }), 0);
  }
}

/// Outputs of a sample lie beside each other: written from accumulators in pairs, read by the sample's lane.
TEST(Fragments, OutputsHaveNoBankConflicts) {
  for (const int count : {1, 2, 4, 6, 8}) {
    SCOPED_TRACE(count);
    const auto word = [&](int lane) { return lane % 4 * 2 < count ? lane / 4 * count + lane % 4 * 2 : -1; };
    EXPECT_EQ(conflicts(count == 1 ? 1 : 2, word), 0);
  }
  EXPECT_EQ(conflicts(1, [](int lane) { return lane; }), 0);
  EXPECT_EQ(conflicts(2, [](int lane) { return lane * 2; }), 0);
}

TEST(Fragments, ConflictsAreSeen) {
  EXPECT_EQ(conflicts(1, [](int lane) { return lane * 64; }), 31);
  EXPECT_EQ(conflicts(1, [](int lane) { return lane * 2; }), 1);
  EXPECT_EQ(conflicts(2, [](int lane) { return lane / 4 * 64 + lane % 4 * 2; }), 3);
  EXPECT_EQ(conflicts(4, [](int lane) { return lane * 32; }), 7);
}

}  // namespace
}  // namespace perilune::test
