// Generalised advantage estimation (Schulman et al. 2016) as a reverse scan over time, a column of lanes per
// environment:
//   delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lambda A_{t+1},  both cut where an episode ends.
// The reward of a truncated step already holds gamma V(final observation) (rollout.hpp). The value target is A_t + V_t,
// or the discounted return R_t = r_t + gamma R_{t+1} with R_T = V_T; it replaces V_t in place.
//
// Where several lanes share an environment (kSplit), each takes a part of its time: A and R at a part's start are
// affine in those at its end, so a first pass finds the two coefficients, the parts are chained through block storage,
// and the second pass is the plain recurrence. The last block combines the blocks' moments into the batch's.
#pragma once

#include "kernels/moments.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// kWhole: of each environment's first steps alone, as many as `lengths` says; what is stored of others is 0.
template <bool kWhole>
struct GaeScan {
  static constexpr Grid kGrid = Grid::kScan;
  /// Steps that are loaded together: their loads do not wait for each other, as the recurrence does.
  static constexpr int kAhead = 8;
  /// Per lane, for the chain of parts: b and a of A and of R.
  static constexpr int kCoefficients = 4;

  template <class B>
  static constexpr int storage_floats() {
    return B::kSplit > 1 ? kCoefficients * B::kLanes : 0;
  }

  template <class Real>
  struct Scan {
    Real next_value, advantage, discounted;
    int from, to;  // this lane's steps, [from, to)
    Real counted;  // how many of them there are, where lengths say
    Moments<Real> moments[kBatchQuantities];
  };

  /// Steps of one lane, last first: f(step, index, reward, value, end) for those among `done` ..
  /// `done + kAhead - 1` from its end.
  template <class B, class F>
  PERILUNE_DEVICE static void steps(const B& block, const GaeArgs& args, int first, int done, typename B::Lane column,
                                    Scan<typename B::Real>& mine, F&& f) {
    using Real = typename B::Real;
    const auto at = [&](int t) {
      return static_cast<std::size_t>(t) * static_cast<std::size_t>(args.count) + static_cast<std::size_t>(first);
    };
    Real reward[kAhead], value[kAhead];
    Mask<Real> end[kAhead];
    [[maybe_unused]] Real length(0.0f);
    if constexpr (kWhole) length = block.load(args.lengths + first, column);
    PERILUNE_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int before = mine.to - 1 - done - i;
      const int t = before > 0 ? before : 0;  // beyond this lane's steps: loaded for nothing
      reward[i] = block.load(args.rewards + at(t), column);
      value[i] = block.load(args.values + at(t), column);
      end[i] = block.load(args.ends + at(t), column);
      if constexpr (kWhole) {  // steps that are not part of the batch hold anything
        const Mask<Real> counts = Real(static_cast<float>(t)) < length;
        reward[i] = select(counts, reward[i], Real(0.0f));
        value[i] = select(counts, value[i], Real(0.0f));
        end[i] = end[i] || !counts;
      }
    }
    PERILUNE_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int t = mine.to - 1 - done - i;
      if (t < mine.from) break;
      f(t, at(t), reward[i], value[i], end[i]);
    }
  }

  /// Sets what each lane's scan starts from, by chaining the parts of its environment.
  template <class B>
  PERILUNE_DEVICE static void chain(B& block, const GaeArgs& args, int first, int longest,
                                    PerLane<B, Scan<typename B::Real>>& scans) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const Real zero(0.0f), gamma(args.hyper.gamma), decay(args.hyper.gamma * args.hyper.gae_lambda);
    float* const storage = block.storage();
    const auto slot = [&](int coefficient, int part) {
      return storage + (coefficient * B::kSplit + part) * B::kColumns;
    };
    struct Affine {
      Real next_value, advantage, discounted, advantage_factor, discounted_factor;
    };
    PerLane<B, Affine> affine;
    block.lanes([&](Lane lane) { affine[lane] = {scans[lane].next_value, zero, zero, Real(1.0f), Real(1.0f)}; });
    for (int done = 0; done < longest; done += kAhead) {
      block.lanes([&](Lane lane) {
        Affine& mine = affine[lane];
        steps(block, args, first, done, B::column(lane), scans[lane],
              [&](int, std::size_t, Real reward, Real value, Mask<Real> end) {
                const Real delta = reward + select(end, zero, gamma * mine.next_value) - value;
                mine.advantage = delta + select(end, zero, decay * mine.advantage);
                mine.advantage_factor = select(end, zero, decay * mine.advantage_factor);
                mine.discounted = reward + select(end, zero, gamma * mine.discounted);
                mine.discounted_factor = select(end, zero, gamma * mine.discounted_factor);
                mine.next_value = value;
              });
      });
    }
    block.lanes([&](Lane lane) {
      const Real coefficients[kCoefficients] = {affine[lane].advantage, affine[lane].advantage_factor,
                                                affine[lane].discounted, affine[lane].discounted_factor};
      PERILUNE_UNROLL
      for (int k = 0; k < kCoefficients; ++k) {
        B::store_lane(slot(k, B::part(lane)), B::column(lane), coefficients[k]);
      }
    });
    block.sync();
    block.lanes([&](Lane lane) {
      const Lane column = B::column(lane);
      for (int part = B::kSplit - 1; part > B::part(lane); --part) {
        scans[lane].advantage =
            B::load_lane(slot(0, part), column) + B::load_lane(slot(1, part), column) * scans[lane].advantage;
        scans[lane].discounted =
            B::load_lane(slot(2, part), column) + B::load_lane(slot(3, part), column) * scans[lane].discounted;
      }
    });
  }

  /// The block's moments to its column of args.moments; then, in the last block, the batch's to Control.
  template <class B>
  PERILUNE_DEVICE static void finish(B& block, const GaeArgs& args, int columns,
                                     PerLane<B, Scan<typename B::Real>>& scans) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const auto row = [&](int k) { return args.moments + k * block.count(); };
    [[maybe_unused]] PerLane<B, Real> counts;
    block.activate(B::kLanes);
    block.lanes([&](Lane lane) {
      Real steps(static_cast<float>(scans[lane].to - scans[lane].from));
      if constexpr (kWhole) steps = scans[lane].counted;
      const UInt<Real> used(static_cast<std::uint32_t>(columns));
      const Real count = select(block.numbers(B::column(lane)) < used, steps, Real(0.0f));
      for (Moments<Real>& moments : scans[lane].moments) moments.count = count;
      if constexpr (kWhole) counts[lane] = count;
    });
    float in_block = static_cast<float>(columns) * static_cast<float>(args.num_steps);
    if constexpr (kWhole) in_block = block.sum(counts);
    Moments<float> moments[kBatchQuantities];
    combine_lanes(
        block, in_block, moments, [&](Lane lane, int k) -> const auto& { return scans[lane].moments[k]; });
    block.one([&] {
      row(0)[block.index()] = in_block;
      PERILUNE_UNROLL
      for (int k = 0; k < kBatchQuantities; ++k) {
        row(1 + 2 * k)[block.index()] = moments[k].origin;
        row(2 + 2 * k)[block.index()] = moments[k].squares;
      }
    });
    if (!block.last_of_grid(args.control->moments_ticket)) return;
    float n = static_cast<float>(args.count) * static_cast<float>(args.num_steps);
    if constexpr (kWhole) n = static_cast<float>(args.control->samples);
    Moments<float> batch[kBatchQuantities];
    combine_groups(block, n, block.count(), batch, row);
    block.one([&] {
      Control& control = *args.control;
      control.advantage_mean = batch[0].origin;
      control.advantage_std = sqrt(sample_variance(batch[0].squares, n));
      control.target_variance = sample_variance(batch[1].squares, n);
      control.residual_variance = sample_variance(batch[2].squares, n);
    });
  }

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const GaeArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    constexpr int kUnit = B::kSplit == 1 ? B::kUnit : B::kColumns;
    const BlockRange range = block_range<kUnit>(block, args.count);
    const Real zero(0.0f), gamma(args.hyper.gamma), decay(args.hyper.gamma * args.hyper.gae_lambda);
    const std::int64_t num_steps = args.num_steps;
    const int longest = static_cast<int>((num_steps + B::kSplit - 1) / B::kSplit);
    const auto values = [&](int t) {
      return args.values + static_cast<std::size_t>(t) * static_cast<std::size_t>(args.count) +
             static_cast<std::size_t>(range.first);
    };
    PerLane<B, Scan<Real>> scans;
    [[maybe_unused]] PerLane<B, Real> length;
    block.activate(B::kLanes);
    block.lanes([&](Lane lane) {
      scans[lane].from = scans[lane].to = 0;
      scans[lane].counted = zero;
      for (Moments<Real>& moments : scans[lane].moments) moments = Moments<Real>::none();
    });
    block.activate(range.count);  // columns beyond it read zeros and write nothing
    block.lanes([&](Lane lane) {
      Scan<Real>& mine = scans[lane];
      mine.from = static_cast<int>(num_steps * B::part(lane) / B::kSplit);
      mine.to = static_cast<int>(num_steps * (B::part(lane) + 1) / B::kSplit);
      mine.advantage = zero;
      mine.discounted = block.load(values(args.num_steps), B::column(lane));
      mine.next_value = block.load(values(mine.to), B::column(lane));
      if constexpr (kWhole) {
        length[lane] = block.load(args.lengths + range.first, B::column(lane));
        const Real part(static_cast<float>(mine.to - mine.from));
        mine.counted = min(max(length[lane] - Real(static_cast<float>(mine.from)), zero), part);
      }
    });
    if constexpr (B::kSplit > 1) chain(block, args, range.first, longest, scans);
    for (int done = 0; done < longest; done += kAhead) {
      block.lanes([&](Lane lane) {
        Scan<Real>& mine = scans[lane];
        const Lane column = B::column(lane);
        steps(block, args, range.first, done, column, mine,
              [&](int t, std::size_t at, Real reward, Real value, Mask<Real> end) {
                const Real delta = reward + select(end, zero, gamma * mine.next_value) - value;
                mine.advantage = delta + select(end, zero, decay * mine.advantage);
                mine.discounted = reward + select(end, zero, gamma * mine.discounted);
                const Real target =
                    args.hyper.value_target == ValueTarget::kDiscounted ? mine.discounted : mine.advantage + value;
                const Real residual = target - value;
                mine.next_value = value;
                block.store(args.advantages + at, column, mine.advantage);
                block.store(args.values + at, column, target);
                const Real quantities[kBatchQuantities] = {mine.advantage, target, residual};
                PERILUNE_UNROLL
                for (int k = 0; k < kBatchQuantities; ++k) {
                  if constexpr (kWhole) {
                    Moments<Real>& moments = mine.moments[k];
                    const Real left = length[lane] - Real(static_cast<float>(t));  // steps that count, from this one on
                    const Mask<Real> is_first =
                        left == Real(1.0f) || (left > Real(1.0f) && Mask<Real>(t + 1 == mine.to));
                    moments.origin = select(is_first, quantities[k], moments.origin);
                    moments.add(select(left > Real(0.0f), quantities[k], moments.origin));
                  } else {
                    if (t + 1 == mine.to) mine.moments[k].origin = quantities[k];
                    mine.moments[k].add(quantities[k]);
                  }
                }
              });
      });
    }
    finish(block, args, range.count, scans);
  }
};

struct Gae : GaeScan<false> {};
/// Of whole episodes.
struct EpisodeGae : GaeScan<true> {};

}  // namespace perilune::inline PERILUNE_LEVEL
