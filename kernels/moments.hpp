// Mean and variance in one pass, without the cancellation of sum(x^2) - n mean^2: differences are
// taken from an origin among the numbers themselves, and parts of them (those of lanes, then of
// blocks) are combined in a fixed order about a mean of all (Chan, Golub and LeVeque 1983), which
// is then corrected by what the differences from it sum to.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// n - 1 in the denominator, as torch.std. squares: of deviations from the mean.
template <class Real>
PERILUNE_HD Real sample_variance(Real squares, float n) {
  return n > 1.0f ? squares / Real(n - 1.0f) : Real(0.0f);
}

/// Some numbers: how many, and the sums of their differences from `origin` and of the squares of
/// these.
template <class Real>
struct Moments {
  Real count, origin, sum, squares;

  PERILUNE_HD static Moments none() { return {Real(0.0f), Real(0.0f), Real(0.0f), Real(0.0f)}; }
  /// Another number, not counted; the first is the origin.
  PERILUNE_HD void add(Real x) {
    const Real difference = x - origin;
    sum = sum + difference;
    squares = squares + difference * difference;
  }
  PERILUNE_HD Real total() const { return count * origin + sum; }
  PERILUNE_HD Real sum_about(Real x) const { return sum + count * (origin - x); }
  PERILUNE_HD Real squares_about(Real x) const {
    const Real c = origin - x;
    return squares + c * (sum + sum + count * c);
  }
};

/// n numbers from their parts, with their mean as origin (and a sum of 0). sum(f) sums f(part) over
/// all parts.
template <class Real, class Sum>
PERILUNE_DEVICE Moments<Real> combine_moments(float n, Sum&& sum) {
  if (n == 0.0f) return Moments<Real>::none();
  const Real about = sum([](const auto& part) { return part.total(); }) / Real(n);
  const Real rest = sum([&](const auto& part) { return part.sum_about(about); });
  const Real squares = sum([&](const auto& part) { return part.squares_about(about); });
  return {Real(n), about + rest / Real(n), Real(0.0f), squares - rest * (rest / Real(n))};
}

/// Those of lanes; part(lane) is a lane's. Collective; valid in every lane, as what follows.
template <class B, class F>
PERILUNE_DEVICE Moments<float> combine_lanes(B& block, float n, F&& part) {
  return combine_moments<float>(n, [&](auto&& f) {
    PerLane<B, typename B::Real> term;
    block.lanes([&](typename B::Lane lane) { term[lane] = f(part(lane)); });
    return block.sum(term);
  });
}

/// Those of groups, as arrays of their counts, means and squares about these.
template <class B>
PERILUNE_DEVICE Moments<float> combine_groups(B& block, float n, const float* counts,
                                              const float* means, const float* squares,
                                              int groups) {
  using Real = typename B::Real;
  return combine_moments<float>(n, [&](auto&& f) {
    return sum_over(block, groups, [&](int first, typename B::Lane lane) {
      return f(Moments<Real>{block.load(counts + first, lane), block.load(means + first, lane),
                             Real(0.0f), block.load(squares + first, lane)});
    });
  });
}

}  // namespace perilune::inline PERILUNE_LEVEL
