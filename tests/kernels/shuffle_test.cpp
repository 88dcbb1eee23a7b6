// Shuffle: a permutation of every size, different for each epoch, iteration and seed, and without
// visible structure.
#include "kernels/shuffle.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/machine/pack.hpp"

namespace perilune::test {
namespace {

std::vector<std::uint32_t> permutation(std::uint32_t n, std::uint32_t seed, std::uint32_t iteration,
                                       std::uint32_t epoch) {
  const Shuffle shuffle(n, {seed, 0}, iteration, epoch);
  std::vector<std::uint32_t> result;
  for (std::uint32_t i = 0; i < n; ++i) result.push_back(shuffle(i));
  return result;
}

void expect_permutation(std::uint32_t n) {
  std::vector<int> seen(n, 0);
  for (const std::uint32_t image : permutation(n, n, n / 3, 1)) {
    ASSERT_LT(image, n) << "n " << n;
    ASSERT_EQ(seen[image]++, 0) << "n " << n << ": " << image << " twice";
  }
}

TEST(Shuffle, IsAPermutation) {
  for (std::uint32_t n = 1; n <= 300; ++n) expect_permutation(n);
  for (const std::uint32_t n : {1023u, 1024u, 1025u, 4097u, 65535u, 65537u, 524289u}) {
    expect_permutation(n);
  }
}

TEST(Shuffle, PacksGiveTheSameOrder) {
  for (const std::uint32_t n : {1u, 7u, 257u, 4096u, 100003u}) {
    const Shuffle shuffle(n, {3, 0}, 4, 5);
    const std::vector<std::uint32_t> alone = permutation(n, 3, 4, 5);
    for (std::uint32_t first = 0; first + kPackLanes <= n && first < 2000; first += kPackLanes) {
      const PackUInt images = shuffle(lane_numbers(first));
      for (int lane = 0; lane < kPackLanes; ++lane) {
        ASSERT_EQ(images[lane], alone[first + static_cast<std::uint32_t>(lane)]);
      }
    }
  }
}

/// Two independent orders agree at about one position.
TEST(Shuffle, DiffersByEpochIterationAndSeed) {
  const std::uint32_t n = 1000;
  const std::vector<std::uint32_t> one = permutation(n, 1, 1, 1);
  for (const auto& other :
       {permutation(n, 1, 1, 2), permutation(n, 1, 2, 1), permutation(n, 2, 1, 1), permutation(n, 1, 0, 1)}) {
    int same = 0;
    for (std::uint32_t i = 0; i < n; ++i) same += one[i] == other[i];
    EXPECT_LT(same, 10);
  }
}

/// How often value i lands at position j over many epochs is uniform: chi-square with (n-1)^2
/// degrees of freedom.
TEST(Shuffle, PutsEveryValueEverywhereEquallyOften) {
  for (const std::uint32_t n : {8u, 13u, 32u}) {
    const int epochs = 4000;
    std::vector<int> counts(n * n, 0);
    for (int epoch = 0; epoch < epochs; ++epoch) {
      const auto order =
          permutation(n, 5, static_cast<std::uint32_t>(epoch) / 10, static_cast<std::uint32_t>(epoch) % 10);
      for (std::uint32_t i = 0; i < n; ++i) ++counts[i * n + order[i]];
    }
    const double expected = epochs / static_cast<double>(n);
    double chi_square = 0.0;
    for (int count : counts) chi_square += (count - expected) * (count - expected) / expected;
    const double freedom = static_cast<double>((n - 1) * (n - 1));
    // Five standard deviations of chi-square; the seeds are fixed.
    EXPECT_LT(chi_square, freedom + 5.0 * std::sqrt(2.0 * freedom)) << "n " << n;
  }
}

/// Neighbours do not stay neighbours: the steps between consecutive images fall evenly into 16
/// bins.
TEST(Shuffle, BreaksUpNeighbours) {
  const std::uint32_t n = 65536;
  const auto order = permutation(n, 9, 0, 0);
  std::vector<int> counts(16, 0);
  for (std::uint32_t i = 0; i + 1 < n; ++i) ++counts[(order[i + 1] - order[i]) % n / (n / 16)];
  double chi_square = 0.0;
  for (int count : counts) chi_square += std::pow(count - n / 16.0, 2) / (n / 16.0);
  EXPECT_LT(chi_square, 15.0 + 5.0 * std::sqrt(30.0));
}

}  // namespace
}  // namespace perilune::test
