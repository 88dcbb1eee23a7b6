// The names of random streams: plain data that the host, the kernels and the simulators share.
#pragma once

#include <cstdint>

namespace perilune {

/// Key of the counter-based generator: a run's seed, and a stream (training, or one evaluation) within it.
struct RngKey {
  std::uint32_t seed;
  std::uint32_t stream;
};

/// The streams of a seed: training and stepped environments, evaluation, actions that a policy is asked for.
inline constexpr std::uint32_t kTrainingStream = 0, kEvaluationStream = 1, kActStream = 2;

/// What a draw is for; part of the counter, so that draws for different purposes never coincide.
enum class Purpose : std::uint32_t { kReset, kStep, kAction, kShuffle, kInitialise, kTest };

}  // namespace perilune
