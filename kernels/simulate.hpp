// The simulator alone: T steps of N environments with uniformly random actions, reset inside.
//
// One word of random bits serves 32 steps of an environment with two actions; other action counts draw a word each
// step.
#pragma once

#include "kernels/environment_lane.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <Env E>
struct Simulate {
  static constexpr int kActions = E::Action::kCount;

  template <class B>
  PERILUNE_DEVICE static void run(B& block, const SimulateArgs& args) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const EnvironmentBatch& batch = args.environments;
    const Share share = block_share(block, batch.count);
    block.activate(share.count);
    const typename E::Params params = E::params(batch.parameters);
    PerLane<B, EnvironmentLane<E, Real>> lanes;
    PerLane<B, UInt<Real>> bits;
    block.lanes([&](Lane lane) {
      load_environment<E>(block, batch, share.first, lane, lanes[lane]);
    });
    for (int t = 0; t < args.num_steps; ++t) {
      block.lanes([&](Lane lane) {
        auto& mine = lanes[lane];
        const UInt<Real> environment =
            block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(share.first));
        if (kActions != 2 || t % 32 == 0) {
          CounterRandom<Real> draw(batch.key, environment, mine.episode, mine.elapsed,
                                   Purpose::kAction);
          bits[lane] = draw.bits();
        }
        const UInt<Real> action =
            kActions == 2 ? bits[lane] & UInt<Real>(1u)
                          : mul_hi(bits[lane], UInt<Real>(static_cast<std::uint32_t>(kActions)));
        bits[lane] = bits[lane] >> 1;
        CounterRandom<Real> random(batch.key, environment, mine.episode, mine.elapsed,
                                   Purpose::kStep);
        const Outcome<Real> outcome = E::step(params, mine.state, action, random);
        mine.elapsed = mine.elapsed + UInt<Real>(1u);
        mine.episode_return = mine.episode_return + outcome.reward;
        const Mask<Real> ended =
            outcome.terminated || mine.elapsed >= UInt<Real>(batch.max_episode_steps);
        if (any(ended)) finish_episode<E, Real>(params, batch.key, environment, ended, mine);
      });
    }
    block.lanes([&](Lane lane) {
      store_environment<E>(block, batch, args.episodes, share.first, lane, lanes[lane]);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
