// Where in a rollout an environment stopped being finite, from what the rollout leaves behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace perilune {

// What T steps of N environments leave. Spans may be of host memory only.
struct RolloutTrace {
  std::size_t count, num_steps;  // N, T
  std::size_t record_floats, observation_dim;
  std::span<const float> records;                   // [T, N, record floats], the observation before the step first
  std::span<const std::uint8_t> ends;               // [T, N]: 1 where an episode ended with this step
  std::span<const float> ended_lengths;             // [N]: steps of all episodes that ended in it
  std::span<const float> fields;                    // [state fields, N], after it
  std::span<const std::uint32_t> episode, elapsed;  // [N], after it
};

struct NonfiniteEnvironment {
  std::uint32_t environment;
  std::uint32_t episode;
  std::uint32_t step;                // steps taken in the episode when it was first seen; 0: as it was reset
  std::optional<std::size_t> field;  // the first of the state's that is not finite now
};

// The environment with the earliest NaN or Inf in an observation, or else the first with one in its
// state.
std::optional<NonfiniteEnvironment> find_nonfinite_environment(const RolloutTrace& trace);

}  // namespace perilune
