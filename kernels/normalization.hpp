// Normalisation of observations and rewards by running statistics, as Gymnasium's wrappers and VecNormalize define it,
// but that statistics are updated once for each rollout: one launch runs all of its steps.
//
// Observations: a rollout's networks see them by the statistics before it; then one pass over its records takes the
// moments of what is there and leaves in its place what the networks saw. Rewards: each environment's discounted return
// R <- gamma R + r is followed through the rollout, and its rewards are divided by the standard deviation of all R so
// far, those of this rollout included; R begins again where an episode ends.
//
// Parts (a lane's, then a block's, then the batch's) are combined in a fixed order that no number of threads changes
// (moments.hpp), and join the running statistics by the formula of Chan, Golub and LeVeque (1983).
#pragma once

#include "kernels/moments.hpp"
#include "kernels/network.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A running statistic: what is stored as a float, and what that leaves out.
struct RunningNumber {
  float& stored;
  float& rest;

  PERILUNE_HD void set(float x) const {
    stored = x;
    rest = 0.0f;
  }
  /// Knuth's exact sum of stored and x; what it leaves out joins the rest.
  PERILUNE_HD void add(float x) const {
    const float sum = stored + x, from_x = sum - stored;
    const float left_out = rest + ((stored - (sum - from_x)) + (x - from_x));
    stored = sum + left_out;
    rest = left_out - (stored - sum);
  }
  PERILUNE_HD float distance_to(float x) const { return (x - stored) - rest; }
};

/// How much of all samples those before and the new ones are.
struct Shares {
  float before, added;

  PERILUNE_HD static Shares of(float before, float added) {
    const float all = before + added;
    return {before / all, added / all};
  }
};

/// Adds to one number's statistics samples with this mean and variance.
PERILUNE_HD void merge(Shares share, RunningNumber mean, RunningNumber variance, float new_mean, float new_variance) {
  const float away = mean.distance_to(new_mean);
  const float added = new_variance + away * away * share.before;
  if (share.before < share.added) {  // a sum of what is positive: a variance of nearly 0 stays above it
    variance.set(variance.stored * share.before + added * share.added);
  } else {
    variance.add(variance.distance_to(added) * share.added);
  }
  mean.add(away * share.added);
}

/// A rollout as a block's lanes go through it: columns are environments, and lanes of one share its time.
template <class B>
struct RolloutScan {
  using Real = typename B::Real;
  using Lane = typename B::Lane;
  BlockRange range;
  int count, num_steps;  // N, T

  PERILUNE_DEVICE RolloutScan(const B& block, int envs, int steps)
      : range(block_range < B::kSplit == 1 ? B::kUnit : B::kColumns > (block, envs)), count(envs), num_steps(steps) {}
  PERILUNE_DEVICE int begin_of(int part) const { return static_cast<int>(std::int64_t{num_steps} * part / B::kSplit); }
  /// Of the block's first environment, in an array [T][N].
  PERILUNE_DEVICE std::size_t at(int t) const {
    return static_cast<std::size_t>(t) * static_cast<std::size_t>(count) + static_cast<std::size_t>(range.first);
  }
  PERILUNE_DEVICE float samples() const { return static_cast<float>(range.count) * static_cast<float>(num_steps); }
  PERILUNE_DEVICE float all_samples() const { return static_cast<float>(count) * static_cast<float>(num_steps); }

  /// Sets the counts of lanes that have gone through `steps` each, and forgets what others did. Collective; all lanes
  /// are active after it.
  template <int K, class Steps>
  PERILUNE_DEVICE void count_samples(B& block, PerLane<B, Moments<Real>> (&moments)[K], Steps&& steps) const {
    block.activate(B::kLanes);
    block.lanes([&](Lane lane) {
      const UInt<Real> used(static_cast<std::uint32_t>(range.count));
      const Mask<Real> is_used = block.numbers(B::column(lane)) < used;
      const Real mine(static_cast<float>(steps(lane)));
      PERILUNE_UNROLL
      for (int k = 0; k < K; ++k) {
        Moments<Real>& of = moments[k][lane];
        of = {select(is_used, mine, Real(0.0f)), select(is_used, of.origin, Real(0.0f)),
              select(is_used, of.sum, Real(0.0f)), select(is_used, of.squares, Real(0.0f))};
      }
    });
  }
};

/// A block's moments of the quantities `first` .. first + K - 1, to its column of rows [blocks]: the count, then each
/// quantity's mean and squares about it.
template <int K, class B, class Row>
PERILUNE_DEVICE void store_moments(B& block, float n, PerLane<B, Moments<typename B::Real>> (&moments)[K], int first,
                                   Row&& row) {
  Moments<float> all[K];
  combine_lanes(
      block, n, all, [&](typename B::Lane lane, int k) -> const auto& { return moments[k][lane]; });
  block.one([&] {
    row(0)[block.index()] = n;
    PERILUNE_UNROLL
    for (int k = 0; k < K; ++k) {
      row(1 + 2 * (first + k))[block.index()] = all[k].origin;
      row(2 + 2 * (first + k))[block.index()] = all[k].squares;
    }
  });
}

/// In the last block: adds all blocks' moments to the statistics of as many of the quantities as there are. Those that
/// are not finite stay out of them and end the training, as what is clipped would hide an infinity.
template <int K, class B, class Row>
PERILUNE_DEVICE void merge_moments(B& block, float n, const RunningStatistics& statistics, int first, Row&& row,
                                   NonFinite& nonfinite, NonFinite what) {
  Moments<float> all[K];
  combine_groups(block, n, block.count(), all, [&](int k) { return row(k == 0 ? 0 : k + 2 * first); });
  block.one([&] {
    if (n == 0.0f) return;
    const int size = statistics.size;
    const Shares share = Shares::of(*statistics.count + statistics.rest[2 * size], n);
    PERILUNE_UNROLL
    for (int k = 0; k < K; ++k) {
      const int i = first + k;
      if (i >= size) continue;
      const float variance = all[k].squares / n;  // of a constant number its rounding, below 0 as well
      if (!(variance - variance == 0.0f)) {
        nonfinite = what;
        continue;
      }
      merge(share, {statistics.mean[i], statistics.rest[i]}, {statistics.variance[i], statistics.rest[size + i]},
            all[k].origin, variance < 0.0f ? 0.0f : variance);
    }
  });
}

struct NormalizeObservations {
  static constexpr Grid kGrid = Grid::kScan;
  /// Numbers of an observation that are taken at a time: an aligned part of a record.
  static constexpr int kTogether = kStatisticsTogether;

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const NormalizeObservationsArgs& args) {
    const RunningStatistics& statistics = args.statistics;
    const RolloutScan<B> scan(block, args.count, args.num_steps);
    const auto row = [&](int k) { return args.moments + static_cast<std::ptrdiff_t>(k) * block.count(); };
    for (int first = 0; first < statistics.size; first += kTogether) {
      PerLane<B, Moments<typename B::Real>> moments[kTogether];
      normalize(block, args, scan, first, moments);
      store_moments(block, scan.samples(), moments, first, row);
    }
    if (!block.last_of_grid(args.control->moments_ticket)) return;
    for (int first = 0; first < statistics.size; first += kTogether) {
      merge_moments<kTogether>(block, scan.all_samples(), statistics, first, row, args.control->nonfinite,
                               NonFinite::kObservation);
    }
    block.one([&] {
      RunningNumber{*statistics.count, statistics.rest[2 * statistics.size]}.add(scan.all_samples());
      float sum = 0.0f;
      for (int i = 0; i < statistics.size; ++i) sum += sqrt(statistics.variance[i] + kVarianceFloor);
      args.running[Metric::kObservationStd] = sum / static_cast<float>(statistics.size);
    });
  }

 private:
  /// The numbers `first` .. first + kTogether - 1 of each of the block's observations.
  template <class B>
  PERILUNE_DEVICE static void normalize(B& block, const NormalizeObservationsArgs& args, const RolloutScan<B>& scan,
                                        int first, PerLane<B, Moments<typename B::Real>> (&moments)[kTogether]) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const RunningStatistics& statistics = args.statistics;
    const int used = statistics.size - first < kTogether ? statistics.size - first : kTogether;
    const UInt<Real> stride(static_cast<std::uint32_t>(args.record_floats / kTogether));
    block.activate(B::kLanes);
    block.lanes([&](Lane lane) {
      for (auto& of : moments) of[lane] = Moments<Real>::none();
    });
    block.activate(scan.range.count);
    // Lanes without an environment read the first record from here on, which so must be one that this block writes.
    float* const records = args.records + scan.at(0) * static_cast<std::size_t>(args.record_floats) + first;
    block.lanes([&](Lane lane) {
      const Lane column = B::column(lane);
      const int begin = scan.begin_of(B::part(lane)), end = scan.begin_of(B::part(lane) + 1);
      for (int t = begin; t < end; ++t) {
        const UInt<Real> sample = block.numbers(column) + UInt<Real>(static_cast<std::uint32_t>(t * scan.count));
        Real row[kTogether];
        block.gather_rows(records, sample * stride, column, row);
        PERILUNE_UNROLL
        for (int k = 0; k < kTogether; ++k) {
          if (k >= used) continue;
          if (t == begin) moments[k][lane].origin = row[k];
          moments[k][lane].add(row[k]);
          row[k] = normalized(row[k], statistics.mean[first + k], statistics.variance[first + k], args.clip);
        }
        block.scatter_rows(records, sample * stride, column, row);
      }
    });
    scan.count_samples(block, moments,
                       [&](Lane lane) { return scan.begin_of(B::part(lane) + 1) - scan.begin_of(B::part(lane)); });
  }
};

struct DiscountRewards {
  static constexpr Grid kGrid = Grid::kScan;
  /// Steps that are loaded together: their loads do not wait for each other, as the recurrence does.
  static constexpr int kAhead = 8;

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const DiscountRewardsArgs& args) {
    using Lane = typename B::Lane;
    const RunningStatistics& statistics = args.statistics;
    const RolloutScan<B> scan(block, args.count, args.num_steps);
    const auto row = [&](int k) { return args.moments + static_cast<std::ptrdiff_t>(k) * block.count(); };
    PerLane<B, Moments<typename B::Real>> moments[1];
    block.activate(B::kLanes);
    block.lanes([&](Lane lane) { moments[0][lane] = Moments<typename B::Real>::none(); });
    block.activate(scan.range.count);
    block.lanes([&](Lane lane) {  // the first part's lanes are the columns
      if (B::part(lane) == 0) follow(block, args, scan, lane, moments[0][lane]);
    });
    scan.count_samples(block, moments, [&](Lane lane) { return B::part(lane) == 0 ? args.num_steps : 0; });
    store_moments(block, scan.samples(), moments, 0, row);
    if (!block.last_of_grid(args.control->moments_ticket)) return;
    merge_moments<1>(block, scan.all_samples(), statistics, 0, row, args.control->nonfinite, NonFinite::kReturn);
    block.one([&] {
      RunningNumber{*statistics.count, statistics.rest[2]}.add(scan.all_samples());
      args.running[Metric::kReturnStd] = sqrt(*statistics.variance + kVarianceFloor);
    });
  }

 private:
  template <class B>
  PERILUNE_DEVICE static void follow(const B& block, const DiscountRewardsArgs& args, const RolloutScan<B>& scan,
                                     typename B::Lane column, Moments<typename B::Real>& mine) {
    using Real = typename B::Real;
    float* const kept = args.discounted_return + scan.range.first;
    Real discounted = block.load(kept, column);
    for (int first = 0; first < args.num_steps; first += kAhead) {
      Real reward[kAhead];
      Mask<Real> end[kAhead];
      PERILUNE_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int t = first + i < args.num_steps ? first + i : first;  // beyond the rollout: loaded for nothing
        reward[i] = block.load(args.rewards + scan.at(t), column);
        end[i] = block.load(args.ends + scan.at(t), column);
      }
      PERILUNE_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (first + i >= args.num_steps) break;
        discounted = discounted * Real(args.hyper.gamma) + reward[i];
        if (first + i == 0) mine.origin = discounted;
        mine.add(discounted);
        discounted = select(end[i], Real(0.0f), discounted);
      }
    }
    block.store(kept, column, discounted);
  }
};

struct ScaleRewards {
  static constexpr Grid kGrid = Grid::kElements;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const ScaleRewardsArgs& args) {
    using Real = typename B::Real;
    const int first = block.index() * B::kLanes;
    block.activate(args.batch_size - first < B::kLanes ? args.batch_size - first : B::kLanes);
    block.lanes([&](typename B::Lane lane) {
      const Real reward = block.load(args.rewards + first, lane), bootstrap = block.load(args.bootstraps + first, lane);
      const Real scaled = normalized(reward, 0.0f, *args.statistics.variance, args.hyper.clip_reward);
      block.store(args.rewards + first, lane, scaled + bootstrap);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
