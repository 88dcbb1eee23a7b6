// Batches of whole episodes: when a rollout has enough of them, and which samples these are.
//
// All environments begin fresh episodes and go on, step by step and from episode to episode, until those that have
// ended are of WholeEpisodes::least_steps together; what then still runs is dropped, and its environment begins anew in
// the next rollout. One environment alone thus plays one whole episode after the other. The batch has an environment's
// first EpisodeSums::total_length steps, environment by environment.
#pragma once

#include "kernels/environment_lane.hpp"
#include "kernels/optimizer.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Whether the batch is of whole episodes, and has enough of them.
PERILUNE_DEVICE bool is_over(const RolloutArgs& args) {
  return args.whole.least_steps > 0 && skipped(*args.whole.control, Losses::kBoth);
}

/// An episode that has begun is dropped for the next.
template <Env E, class Real>
PERILUNE_DEVICE void drop_episode(const typename E::Params& params, RngKey key, UInt<Real> environment,
                                  EnvironmentLane<E, Real>& lane) {
  next_episode<E>(params, key, environment, lane.elapsed > UInt<Real>(0u), lane);
  lane.finished = lane.total_return = lane.total_length = Real(0.0f);
}

struct EpisodeStepsArgs {
  RolloutArgs rollout;
  std::int32_t step;
};

/// Ends the rollout after this step if the episodes that have ended are enough. One block.
struct CountEpisodeSteps {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const EpisodeStepsArgs& args) {
    const RolloutArgs& rollout = args.rollout;
    if (is_over(rollout)) return;
    // Floats count up to 2^24, sixteen times what least_steps may be.
    const Sums<1> ended = sum_arrays(block, {rollout.episodes.total_length}, {rollout.environments.count});
    block.one([&] {
      Control& control = *rollout.whole.control;
      control.rows = static_cast<std::uint32_t>(args.step + 1);
      if (ended[0] >= static_cast<float>(rollout.whole.least_steps)) control.stop_policy = 1;
    });
  }
};

/// Where each environment's samples and episodes begin in the batch, and how many samples there are. One block.
struct PlaceEpisodes {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const RolloutArgs& args) {
    block.one([&] {
      const WholeEpisodes& whole = args.whole;
      std::uint32_t samples = 0, episodes = 0;
      for (int n = 0; n < args.environments.count; ++n) {
        whole.first_sample[n] = samples;
        whole.first_episode[n] = episodes;
        samples += static_cast<std::uint32_t>(args.episodes.total_length[n]);
        episodes += static_cast<std::uint32_t>(args.episodes.count[n]);
      }
      whole.control->samples = samples;
      whole.control->stop_policy = 0;
    });
  }
};

/// Which samples they are, and what each episode returned: before rewards are given what a truncated one bootstraps
/// from.
struct ListEpisodes {
  static constexpr Grid kGrid = Grid::kLanes;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const RolloutArgs& args) {
    const BlockRange range = block_range(block, args.environments.count);
    block.activate(range.count);
    block.lanes([&](typename B::Lane lane) {
      block.each(lane, block.active(lane), [&](int number) { list(args, range.first + number); });
    });
  }

 private:
  PERILUNE_DEVICE static void list(const RolloutArgs& args, int environment) {
    const WholeEpisodes& whole = args.whole;
    const auto count = static_cast<std::uint32_t>(args.environments.count);
    const auto room = static_cast<std::size_t>(args.num_steps) * count;
    const auto length = static_cast<std::uint32_t>(args.episodes.total_length[environment]);
    std::uint32_t* const samples = whole.samples + whole.first_sample[environment];
    float* returns = whole.returns + whole.control->iteration % kReturnsRing * room + whole.first_episode[environment];
    float total = 0.0f;
    for (std::uint32_t t = 0; t < length; ++t) {
      const std::uint32_t sample = t * count + static_cast<std::uint32_t>(environment);
      samples[t] = sample;
      total += args.rewards[sample];
      if (args.ends[sample] == 0) continue;
      *returns++ = total;
      total = 0.0f;
    }
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
