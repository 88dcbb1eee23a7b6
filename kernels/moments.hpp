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

/// K sets of n numbers each from their parts, with their means as origins (and sums of 0). sums<N>(f) adds up N terms
/// over all parts: f(part, terms) sets those of one, of which part(k) is what it has of set k.
template <int K, class Real, class SumsOf>
PERILUNE_DEVICE void combine_moments(float n, Moments<Real> (&all)[K], SumsOf&& sums) {
  PERILUNE_UNROLL
  for (int k = 0; k < K; ++k) all[k] = Moments<Real>::none();
  if (n == 0.0f) return;
  auto about = sums.template operator()<K>([](auto&& part, auto& terms) {
    PERILUNE_UNROLL
    for (int k = 0; k < K; ++k) terms[k] = part(k).total();
  });
  PERILUNE_UNROLL
  for (int k = 0; k < K; ++k) about[k] = about[k] / Real(n);
  const auto from_it = sums.template operator()<2 * K>([&](auto&& part, auto& terms) {
    PERILUNE_UNROLL
    for (int k = 0; k < K; ++k) {
      const auto& mine = part(k);
      terms[k] = mine.sum_about(about[k]);
      terms[K + k] = mine.squares_about(about[k]);
    }
  });
  PERILUNE_UNROLL
  for (int k = 0; k < K; ++k) {
    const Real rest = from_it[k];
    all[k] = {Real(n), about[k] + rest / Real(n), Real(0.0f), from_it[K + k] - rest * (rest / Real(n))};
  }
}

/// Those of lanes; part(lane, k) is what a lane has of set k. Collective; valid in every lane, as what follows.
template <int K, class B, class F>
PERILUNE_DEVICE void combine_lanes(B& block, float n, Moments<float> (&all)[K], F&& part) {
  using Real = typename B::Real;
  using Lane = typename B::Lane;
  combine_moments(n, all, [&]<int N>(auto&& set_terms) {
    PerLane<B, Real> terms[N];
    block.lanes([&](Lane lane) {
      Real mine[N];
      set_terms(
          [&](int k) -> const auto& { return part(lane, k); }, mine);
      PERILUNE_UNROLL
      for (int i = 0; i < N; ++i) terms[i][lane] = mine[i];
    });
    return block.sums(terms);
  });
}

/// Those of groups, from the rows of an array: their counts, and then for each set their means and squares about these.
template <int K, class B, class F>
PERILUNE_DEVICE void combine_groups(B& block, float n, int groups, Moments<float> (&all)[K], F&& row) {
  using Real = typename B::Real;
  using Lane = typename B::Lane;
  combine_moments(n, all, [&]<int N>(auto&& set_terms) {
    return sums_over<N>(block, groups, [&](int first, Lane lane, Real(&terms)[N]) {
      set_terms(
          [&](int k) {
            return Moments<Real>{block.load(row(0) + first, lane), block.load(row(1 + 2 * k) + first, lane), Real(0.0f),
                                 block.load(row(2 + 2 * k) + first, lane)};
          },
          terms);
    });
  });
}

/// One set's, of parts that a lane adds up by itself: part(i) for i in [from, to).
template <class Real, class F>
PERILUNE_DEVICE Moments<Real> combine_in_order(float n, int from, int to, F&& part) {
  Moments<Real> all[1];
  combine_moments(n, all, [&]<int N>(auto&& set_terms) {
    Sums<N, Real> sums;
    PERILUNE_UNROLL
    for (int k = 0; k < N; ++k) sums[k] = Real(0.0f);
    for (int i = from; i < to; ++i) {
      Real terms[N];
      set_terms([&](int) { return part(i); }, terms);
      PERILUNE_UNROLL
      for (int k = 0; k < N; ++k) sums[k] = sums[k] + terms[k];
    }
    return sums;
  });
  return all[0];
}

}  // namespace perilune::inline PERILUNE_LEVEL
