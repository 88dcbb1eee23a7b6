// Generalised advantage estimation (Schulman et al. 2016) as a reverse scan over time, one environment per lane:
//   delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lambda A_{t+1},  both cut where an episode ends.
// The reward of a truncated step already holds gamma V(final observation) (rollout.hpp). The value target is A_t + V_t,
// or the discounted return R_t = r_t + gamma R_{t+1} with R_T = V_T; it replaces V_t in place.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

struct Gae {
  template <class B>
  PERILUNE_DEVICE static void run(B& block, const GaeArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    struct Carried {
      Real next_value, advantage, discounted;
      Real sums[kBatchMoments];
    };
    const Share share = block_share(block, args.count);
    block.activate(share.count);
    const auto at = [&](int t) {
      return static_cast<std::size_t>(t) * static_cast<std::size_t>(args.count) +
             static_cast<std::size_t>(share.first);
    };
    const Real zero(0.0f), gamma(args.gamma), decay(args.gamma * args.gae_lambda);
    PerLane<B, Carried> carried;
    block.lanes([&](Lane lane) {
      Carried& mine = carried[lane];
      mine.next_value = block.load(args.values + at(args.num_steps), lane);
      mine.discounted = mine.next_value;
      mine.advantage = zero;
      for (int k = 0; k < kBatchMoments; ++k) mine.sums[k] = zero;
    });
    for (int t = args.num_steps - 1; t >= 0; --t) {
      block.lanes([&](Lane lane) {
        Carried& mine = carried[lane];
        const Real reward = block.load(args.rewards + at(t), lane);
        const Real value = block.load(args.values + at(t), lane);
        const Mask<Real> end = block.load(args.ends + at(t), lane);
        const Real delta = reward + select(end, zero, gamma * mine.next_value) - value;
        mine.advantage = delta + select(end, zero, decay * mine.advantage);
        mine.discounted = reward + select(end, zero, gamma * mine.discounted);
        const Real target =
            args.discounted_target != 0 ? mine.discounted : mine.advantage + value;
        const Real residual = target - value;
        mine.next_value = value;
        block.store(args.advantages + at(t), lane, mine.advantage);
        block.store(args.values + at(t), lane, target);
        const Real terms[3] = {mine.advantage, target, residual};
        PERILUNE_UNROLL
        for (int k = 0; k < 3; ++k) {
          mine.sums[2 * k] = mine.sums[2 * k] + terms[k];
          mine.sums[2 * k + 1] = mine.sums[2 * k + 1] + terms[k] * terms[k];
        }
      });
    }
    for (int k = 0; k < kBatchMoments; ++k) {
      PerLane<B, Real> term;
      block.lanes([&](Lane lane) { term[lane] = carried[lane].sums[k]; });
      const float total = block.sum(term);
      block.one([&] { args.moments[block.index() * kBatchMoments + k] = total; });
    }
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
