// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011), so that no generator state is stored and any episode can
// be replayed alone.
//
// A draw is a pure function of (seed, stream, environment, episode, step, purpose, position). The
// key is {seed, stream}, the counter {environment, episode, step, purpose << 16 | block}; a block
// is four 32-bit words. A random source is any class with bits(), uniform(), uniform(low, high) and
// normal(): simulators are templates over it. CounterRandom computes its draws; TapeRandom
// (sims/tape_random.hpp) returns recorded ones.
#pragma once

#include <cstdint>

#include "sims/math.hpp"
#include "sims/portable.hpp"
#include "sims/real.hpp"
#include "sims/rng_key.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Four words of counter or output; U is std::uint32_t or a pack of them.
template <class U>
struct PhiloxBlock {
  U word[4];
};

/// The Philox4x32-10 bijection of `counter` under the key {key0, key1}. Key: std::uint32_t or U.
template <class U, class Key>
PERILUNE_HD PhiloxBlock<U> philox4x32(PhiloxBlock<U> counter, Key key0, std::uint32_t key1) {
  U c0 = counter.word[0], c1 = counter.word[1], c2 = counter.word[2], c3 = counter.word[3];
  const U multiplier0(0xD2511F53u), multiplier1(0xCD9E8D57u);
  PERILUNE_UNROLL
  for (int round = 0; round < 10; ++round) {
    const U high0 = mul_hi(multiplier0, c0), low0 = multiplier0 * c0;
    const U high1 = mul_hi(multiplier1, c2), low1 = multiplier1 * c2;
    c0 = high1 ^ c1 ^ U(key0);
    c1 = low1;
    c2 = high0 ^ c3 ^ U(key1);
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// A key whose seed each lane has its own of.
template <class Real>
struct LaneKey {
  UInt<Real> seed;
  std::uint32_t stream;
};

/// The random source of simulators and kernels: consecutive draws of one sequence per environment.
/// The position is a plain int that the compiler folds when draws are in straight-line code, so
/// unused words cost nothing. Key: RngKey or LaneKey<Real>.
template <class Real, class Key = RngKey>
class CounterRandom {
 public:
  PERILUNE_HD CounterRandom(Key key, UInt<Real> environment, UInt<Real> episode, UInt<Real> step, Purpose purpose)
      : key_(key),
        environment_(environment),
        episode_(episode),
        step_(step),
        purpose_(static_cast<std::uint32_t>(purpose) << 16) {}

  /// The next 32 random bits. At most 2^18 per sequence.
  PERILUNE_HD UInt<Real> bits() {
    const int word = position_ % 4;
    if (word == 0) {
      const std::uint32_t block = static_cast<std::uint32_t>(position_ / 4);
      words_ = philox4x32<UInt<Real>>({{environment_, episode_, step_, UInt<Real>(purpose_ | block)}}, key_.seed,
                                      key_.stream);
    }
    ++position_;
    return words_.word[word];
  }

  /// Uniform on [0, 1): one of 2^24 equally spaced values (2^32 for double).
  PERILUNE_HD Real uniform() {
    if constexpr (RealTraits<Real>::kIsDouble) {
      return to_real<Real>(bits()) * 0x1p-32;
    } else {
      return to_real<Real>(bits() >> 8) * 0x1p-24f;
    }
  }

  /// Uniform on [low, high]; high itself only by rounding.
  PERILUNE_HD Real uniform(math::Scalar<Real> low, math::Scalar<Real> high) { return low + (high - low) * uniform(); }

  /// One of the integers from low to high - 1, equally likely to within 2^-16 of it; high - low <=
  /// 2^16, |low| and |high| < 2^24.
  PERILUNE_HD Real integer(int low, int high) {
    const UInt<Real> count(static_cast<std::uint32_t>(high - low));
    const Int<Real> drawn = to_int(to_real<Real>(mul_hi(bits(), count)));
    return to_real<Real>(drawn + Int<Real>(low));
  }

  /// Standard normal, |value| < 5.8 for float; uses two words (Box and Muller 1958).
  PERILUNE_HD Real normal() {
    const Real radius_draw = Real(1.0f) - uniform();  // in (0, 1]: the logarithm is finite
    const Real angle = math::constant<Real>(6.283185307179586) * uniform();
    return sqrt(math::constant<Real>(-2.0) * math::log(radius_draw)) * math::cos(angle);
  }

 private:
  Key key_;
  UInt<Real> environment_;
  UInt<Real> episode_;
  UInt<Real> step_;
  std::uint32_t purpose_;
  int position_ = 0;
  PhiloxBlock<UInt<Real>> words_{};
};

/// The index drawn by u in [0, 1) from `count` probabilities, by the inverse of their running sum.
/// Always below `count`: where the sum rounds to less than u, the last index is drawn.
template <class Real>
PERILUNE_HD UInt<Real> sample_categorical(const Real* probabilities, int count, Real u) {
  UInt<Real> index(0u);
  Real sum(0.0f);
  for (int i = 0; i + 1 < count; ++i) {
    sum = sum + probabilities[i];
    index = select(u < sum, index, UInt<Real>(static_cast<std::uint32_t>(i + 1)));
  }
  return index;
}

}  // namespace perilune::inline PERILUNE_LEVEL
