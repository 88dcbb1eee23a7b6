// The order in which a block steps more environments than it has lanes, where steps are uneven (UnevenEnv).
//
// A warp carries out all that one of its lanes needs: a lander that touches the ground keeps 31 in the air waiting for
// its contacts. What an environment does hangs on no neighbour, so any may be stepped side by side: in rounds, the busy
// ones first, and only rounds with a busy one take long. Between its steps an environment lies in its batch's memory.
//
// 32 landers with random actions and the exact (fast) solver take 116 k (56 k) instructions of a warp for a step in
// their own order, and 108 k (50 k) out of two rounds, 96 k (41 k) of four, 82 k (33 k) of eight. Warps that changed
// environments with each other, so that one has all busy ones, would save as much, and then wait for that one: with the
// 16 warps that a multiprocessor has room for, that lost more than it saved.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// An environment's place in the block's share is a lane's number, beyond those that there are, to the block's load and
/// store: the whole share is active.
template <class B>
class Rounds {
 public:
  using Lane = typename B::Lane;
  /// How many there may be.
  static constexpr int kMost = 8;

  static constexpr int storage_floats() { return (2 * kMost + 1) * B::kLanes; }

  /// None is busy yet. environments: up to kMost times kLanes.
  PERILUNE_DEVICE Rounds(const B& block, Carver<B>& carver, int environments)
      : environments_(environments),
        busy_(carver.floats(kMost * B::kLanes)),
        order_(carver.floats(kMost * B::kLanes)),
        counts_(carver.floats(B::kLanes)) {
    for (int i = block.lane().number; i < environments; i += B::kLanes) busy_[i] = 0.0f;
  }

  PERILUNE_DEVICE int count() const { return (environments_ + B::kLanes - 1) / B::kLanes; }

  /// Where in the block's share the lane's environment of this round lies, after sort(). An idle lane's is no active
  /// one.
  PERILUNE_DEVICE Lane place(int round, Lane lane) const {
    const int number = round * B::kLanes + lane.number;
    return {number < environments_ ? static_cast<int>(order_[number]) : number};
  }

  PERILUNE_DEVICE void set_busy(Lane place, bool busy) const {
    if (place.number < environments_) busy_[place.number] = busy ? 1.0f : 0.0f;
  }

  /// Those that are busy first, and otherwise in the order of their places. Collective.
  PERILUNE_DEVICE void sort(B& block) {
    // Each lane counts, and then orders, some that are next to each other.
    const int lane = block.lane().number, begin = lane * count();
    const int end = begin + count() < environments_ ? begin + count() : environments_;
    block.sync();
    float mine = 0.0f;
    for (int i = begin; i < end; ++i) mine += busy_[i];
    counts_[lane] = mine;
    block.sync();
    float before = 0.0f, all = 0.0f;
    for (int other = 0; other < B::kLanes; ++other) {
      if (other == lane) before = all;
      all += counts_[other];
    }
    int next_busy = static_cast<int>(before), next = begin + static_cast<int>(all - before);
    for (int i = begin; i < end; ++i) order_[busy_[i] != 0.0f ? next_busy++ : next++] = static_cast<float>(i);
    block.sync();
  }

 private:
  int environments_;
  float *busy_, *order_, *counts_;
};

}  // namespace perilune::inline PERILUNE_LEVEL
