// Philox against the published vectors of Random123, and the distributions drawn from it, with
// fixed seeds.
#include "sims/rng.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <vector>

#include "sims/tape_random.hpp"

namespace perilune {
namespace {

constexpr RngKey kKey{20240521u, 3u};
constexpr int kDraws = 1 << 20;

struct KnownAnswer {
  std::array<std::uint32_t, 4> counter;
  std::array<std::uint32_t, 2> key;
  std::array<std::uint32_t, 4> answer;
};

TEST(Philox, KnownAnswers) {
  constexpr std::uint32_t kOnes = 0xffffffffu;
  const std::array<KnownAnswer, 3> known = {{
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  }};
  for (const auto& [counter, key, answer] : known) {
    const auto block = philox4x32<std::uint32_t>({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(block.word[i], answer[i]) << "word " << i;
  }
}

TEST(CounterRandom, LaysOutKeyAndCounterAsDocumented) {
  CounterRandom<float> rng(kKey, 11u, 22u, 33u, Purpose::kShuffle);
  const auto purpose = static_cast<std::uint32_t>(Purpose::kShuffle) << 16;
  for (std::uint32_t block = 0; block < 3; ++block) {
    const auto expected = philox4x32<std::uint32_t>({{11u, 22u, 33u, purpose | block}}, kKey.seed, kKey.stream);
    for (const std::uint32_t word : expected.word) EXPECT_EQ(rng.bits(), word) << block;
  }
}

TEST(CounterRandom, EveryCoordinateGivesAnotherSequence) {
  std::set<std::uint32_t> seen;
  const auto add = [&](RngKey key, std::uint32_t environment, std::uint32_t episode, std::uint32_t step,
                       Purpose purpose) {
    CounterRandom<float> rng(key, environment, episode, step, purpose);
    for (int i = 0; i < 8; ++i) seen.insert(rng.bits());
  };
  std::size_t sequences = 0;
  for (std::uint32_t i = 0; i < 6; ++i, sequences += 6) {
    add({100 + i, 0}, 0, 0, 0, Purpose::kReset);
    add({0, 100 + i}, 0, 0, 0, Purpose::kReset);
    add({0, 0}, 100 + i, 0, 0, Purpose::kReset);
    add({0, 0}, 0, 100 + i, 0, Purpose::kReset);
    add({0, 0}, 0, 0, 100 + i, Purpose::kReset);
    add({0, 0}, 0, 0, 0, static_cast<Purpose>(i));
  }
  EXPECT_EQ(seen.size(), sequences * 8);
}

/// kDraws values of draw(rng), 8 from each of many short sequences, as simulators use them.
template <class Real, class Draw>
std::vector<double> draws(Draw draw) {
  std::vector<double> values;
  values.reserve(kDraws);
  for (std::uint32_t environment = 0; environment < kDraws / 8; ++environment) {
    CounterRandom<Real> rng(kKey, environment, 1u, 2u, Purpose::kTest);
    for (int i = 0; i < 8; ++i) values.push_back(static_cast<double>(draw(rng)));
  }
  return values;
}

struct Moments {
  double mean = 0, variance = 0, fourth = 0;
};

Moments moments(const std::vector<double>& values) {
  Moments m;
  const auto n = static_cast<double>(values.size());
  for (const double v : values) m.mean += v / n;
  for (const double v : values) {
    const double square = (v - m.mean) * (v - m.mean);
    m.variance += square / n;
    m.fourth += square * square / n;
  }
  return m;
}

/// Sum over cells of (count - expected)^2 / expected.
double chi_square(const std::vector<int>& counts, double expected) {
  double sum = 0;
  for (const int count : counts) sum += (count - expected) * (count - expected) / expected;
  return sum;
}

template <class Real>
void check_uniform() {
  const auto values = draws<Real>([](auto& rng) { return rng.uniform(); });
  std::vector<int> counts(256);
  for (const double v : values) {
    ASSERT_GE(v, 0.0);
    ASSERT_LT(v, 1.0);
    ++counts[static_cast<std::size_t>(v * 256)];
  }
  // Four standard errors of 2^20 draws: mean sqrt(1/12)/2^10 = 2.8e-4, variance sqrt(1/180)/2^10
  // = 7.3e-5.
  const auto m = moments(values);
  EXPECT_NEAR(m.mean, 0.5, 4 * 2.8e-4);
  EXPECT_NEAR(m.variance, 1.0 / 12, 4 * 7.3e-5);
  // 255 degrees of freedom: mean 255, standard deviation 22.6; four of them either way.
  EXPECT_NEAR(chi_square(counts, kDraws / 256.0), 255, 4 * 22.6);
}

TEST(CounterRandom, UniformFloat) { check_uniform<float>(); }
TEST(CounterRandom, UniformDouble) { check_uniform<double>(); }

TEST(CounterRandom, UniformRange) {
  const auto values = draws<float>([](auto& rng) { return rng.uniform(-3.0f, 5.0f); });
  const auto [lowest, highest] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*lowest, -3.0);
  EXPECT_LE(*highest, 5.0);
  EXPECT_NEAR(moments(values).mean, 1.0, 4 * 8 * 2.8e-4);
}

TEST(CounterRandom, Integer) {
  const auto values = draws<float>([](auto& rng) { return rng.integer(-5, 11); });
  std::vector<int> counts(16);
  for (const double v : values) {
    ASSERT_EQ(v, std::floor(v));
    ++counts.at(static_cast<std::size_t>(v + 5));
  }
  // 15 degrees of freedom: above 44.3 once in 10^4.
  EXPECT_LT(chi_square(counts, kDraws / 16.0), 44.3);
  const auto far = draws<float>([](auto& rng) { return rng.integer(-9999, 9999); });
  const auto [lowest, highest] = std::minmax_element(far.begin(), far.end());
  EXPECT_EQ(*lowest, -9999);
  EXPECT_EQ(*highest, 9998);
}

template <class Real>
void check_normal() {
  const auto values = draws<Real>([](auto& rng) { return rng.normal(); });
  // Sixteen cells of equal probability, bounded by the normal distribution's quantiles.
  std::vector<int> counts(16);
  for (const double v : values) {
    ASSERT_TRUE(std::isfinite(v));
    const double probability = 0.5 * std::erfc(-v / std::sqrt(2.0));
    ++counts[static_cast<std::size_t>(std::min(probability * 16, 15.0))];
  }
  // Four standard errors: mean 1/2^10, variance sqrt(2)/2^10, fourth moment sqrt(96)/2^10.
  const auto m = moments(values);
  EXPECT_NEAR(m.mean, 0, 4 * 9.8e-4);
  EXPECT_NEAR(m.variance, 1, 4 * 1.38e-3);
  EXPECT_NEAR(m.fourth, 3, 4 * 9.6e-3);
  // 15 degrees of freedom: above 44.3 once in 10^4.
  EXPECT_LT(chi_square(counts, kDraws / 16.0), 44.3);
}

TEST(CounterRandom, NormalFloat) { check_normal<float>(); }
TEST(CounterRandom, NormalDouble) { check_normal<double>(); }

TEST(SampleCategorical, FrequenciesAreTheProbabilities) {
  const float probabilities[4] = {0.1f, 0.0f, 0.6f, 0.3f};
  std::vector<int> counts(4);
  for (const double index :
       draws<float>([&](auto& rng) { return sample_categorical(probabilities, 4, rng.uniform()); })) {
    ++counts.at(static_cast<std::size_t>(index));
  }
  for (std::size_t i = 0; i < 4; ++i) {
    const double p = probabilities[i];
    EXPECT_NEAR(counts[i] / static_cast<double>(kDraws), p, 4 * std::sqrt(p * (1 - p) / kDraws) + 1e-7)
        << "index " << i;
  }
}

TEST(SampleCategorical, NeverOutOfRange) {
  const float short_sum[3] = {0.25f, 0.25f, 0.25f};
  EXPECT_EQ(sample_categorical(short_sum, 3, 0.99999994f), 2u);
  EXPECT_EQ(sample_categorical(short_sum, 3, 0.0f), 0u);
  EXPECT_EQ(sample_categorical(short_sum, 3, 0.25f), 1u);
  EXPECT_EQ(sample_categorical(short_sum, 1, 0.5f), 0u);
}

TEST(TapeRandom, ReturnsTheRecordedDraws) {
  TapeRandom<double> tape({0.25, -7.5, 3.0, 4.0, -12.0});
  EXPECT_EQ(tape.uniform(), 0.25);
  EXPECT_EQ(tape.uniform(-10.0, 10.0), -7.5);
  EXPECT_EQ(tape.normal(), 3.0);
  EXPECT_EQ(tape.bits(), 4u);
  EXPECT_EQ(tape.integer(-20, 20), -12.0);
  EXPECT_EQ(tape.remaining(), 0u);
  EXPECT_THROW(tape.uniform(), std::out_of_range);
}

}  // namespace
}  // namespace perilune
