// Which sample stands at which position of a minibatch.
#pragma once

#include "kernels/machine/block.hpp"
#include "kernels/shuffle.hpp"

namespace perilune::inline PERILUNE_LEVEL {

class SampleOrder {
 public:
  PERILUNE_DEVICE SampleOrder(const Sampling& sampling, std::uint32_t iteration)
      : shuffled_(sampling.shuffled != 0),
        size_(sampling.minibatch_size),
        batch_(sampling.batch_size),
        shuffle_(static_cast<std::uint32_t>(sampling.batch_size), sampling.key, iteration, sampling.epoch) {}

  /// U: uint32 or a pack. Positions beyond the batch (inactive lanes) give some sample of it.
  template <class U>
  PERILUNE_DEVICE U operator()(int minibatch, U position) const {
    const U index = position + U(static_cast<std::uint32_t>(minibatch * size_));
    const U last(static_cast<std::uint32_t>(batch_ - 1));
    const U safe = select(index < last, index, last);
    return shuffled_ ? shuffle_(safe) : safe;
  }

 private:
  bool shuffled_;
  std::int32_t size_, batch_;
  Shuffle shuffle_;
};

}  // namespace perilune::inline PERILUNE_LEVEL
