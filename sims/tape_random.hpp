// The random source of tests: draws recorded from the reference implementation instead of computed
// ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "sims/math.hpp"
#include "sims/portable.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A random source that returns recorded draws in order, for replaying episodes of the reference
/// implementation. Every member returns the recorded value itself, whatever distribution is asked
/// for. Host only; throws std::out_of_range when the tape has run out.
template <class Real>
class TapeRandom {
 public:
  static constexpr bool kRecorded = true;  // what a simulator would make of draws may be on the tape instead

  explicit TapeRandom(std::vector<double> draws) : draws_(std::move(draws)) {}

  UInt<Real> bits() { return static_cast<std::uint32_t>(next()); }
  Real uniform() { return static_cast<Real>(next()); }
  Real uniform(math::Scalar<Real> /*low*/, math::Scalar<Real> /*high*/) { return uniform(); }
  Real integer(int /*low*/, int /*high*/) { return uniform(); }
  Real normal() { return uniform(); }

  /// How many draws are left.
  std::size_t remaining() const { return draws_.size() - position_; }

 private:
  double next() {
    if (position_ == draws_.size()) {
      throw std::out_of_range("tape of random draws ran out (draw " + std::to_string(position_) + ") - it holds " +
                              std::to_string(draws_.size()) + " - record the whole episode");
    }
    return draws_[position_++];
  }

  std::vector<double> draws_;
  std::size_t position_ = 0;
};

}  // namespace perilune::inline PERILUNE_LEVEL
