// The order in which an epoch visits its samples: a bijection of [0, n) computed, not stored.
//
// A Feistel network over the smallest b with 2^b >= n permutes [0, 2^b); a result outside [0, n) is permuted again
// until it falls inside (cycle walking), fewer than two tries on average. The halves may differ by one bit; their
// widths swap every round, so an even number of rounds restores them. Keys come from Philox.
#pragma once

#include "sims/rng.hpp"

namespace perilune::inline PERILUNE_LEVEL {

class Shuffle {
 public:
  static constexpr int kRounds = 6;

  /// A bijection of [0, n), n >= 1, of its own for each key, iteration and epoch.
  PERILUNE_HD Shuffle(std::uint32_t n, RngKey key, std::uint32_t iteration, std::uint32_t epoch)
      : n_(n), left_bits_(0), right_bits_(0) {
    int bits = 2;
    while (bits < 32 && (std::uint32_t{1} << bits) < n) ++bits;
    left_bits_ = (bits + 1) / 2;
    right_bits_ = bits / 2;
    CounterRandom<float> random(key, iteration, epoch, 0u, Purpose::kShuffle);
    PERILUNE_UNROLL
    for (int round = 0; round < kRounds; ++round) round_key_[round] = random.bits();
  }

  /// U: uint32 or a pack of them, every lane < n.
  template <class U>
  PERILUNE_HD U operator()(U index) const {
    U image = permute(index);
    for (;;) {
      const auto outside = image >= U(n_);
      if (!any(outside)) return image;
      image = select(outside, permute(image), image);
    }
  }

 private:
  template <class U>
  PERILUNE_HD U permute(U x) const {
    int low_bits = right_bits_, high_bits = left_bits_;
    PERILUNE_UNROLL
    for (int round = 0; round < kRounds; ++round) {
      const U low = x & U((std::uint32_t{1} << low_bits) - 1u);
      const U high = x >> low_bits;
      const U mixed = (high ^ mix(low ^ U(round_key_[round]))) & U((std::uint32_t{1} << high_bits) - 1u);
      x = (low << high_bits) | mixed;
      const int swap = low_bits;
      low_bits = high_bits;
      high_bits = swap;
    }
    return x;
  }

  template <class U>
  PERILUNE_HD static U mix(U x) {
    x = (x ^ (x >> 16)) * U(0x7FEB352Du);
    x = (x ^ (x >> 15)) * U(0x846CA68Bu);
    return x ^ (x >> 16);
  }

  std::uint32_t n_;
  int left_bits_, right_bits_;
  std::uint32_t round_key_[kRounds];
};

}  // namespace perilune::inline PERILUNE_LEVEL
