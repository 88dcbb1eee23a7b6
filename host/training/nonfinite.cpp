#include "host/training/nonfinite.hpp"

#include <algorithm>
#include <cmath>

namespace perilune {

namespace {

bool is_finite(float x) { return std::isfinite(x); }

std::optional<std::size_t> nonfinite_field(const RolloutTrace& trace, std::size_t environment) {
  for (std::size_t at = environment; at < trace.fields.size(); at += trace.count) {
    if (!is_finite(trace.fields[at])) return at / trace.count;
  }
  return {};
}

// The episode and step in which an environment is before step t of the rollout.
NonfiniteEnvironment place_of(const RolloutTrace& trace, std::size_t environment, std::size_t t) {
  const auto ends = [&](std::size_t step) { return trace.ends[step * trace.count + environment] != 0; };
  std::uint32_t episodes = 0;
  std::size_t last_end = 0;  // steps up to and with it
  for (std::size_t step = 0; step < trace.num_steps; ++step) {
    if (!ends(step)) continue;
    ++episodes;
    last_end = step + 1;
  }
  // Steps taken when the rollout began; the first episode to end in it began before.
  const std::size_t before = episodes > 0 ? static_cast<std::size_t>(trace.ended_lengths[environment]) - last_end
                                          : trace.elapsed[environment] - trace.num_steps;
  NonfiniteEnvironment place{static_cast<std::uint32_t>(environment), trace.episode[environment] - episodes,
                             static_cast<std::uint32_t>(before), nonfinite_field(trace, environment)};
  for (std::size_t step = 0; step < t; ++step) {
    if (ends(step)) {
      ++place.episode;
      place.step = 0;
    } else {
      ++place.step;
    }
  }
  return place;
}

}  // namespace

std::optional<NonfiniteEnvironment> find_nonfinite_environment(const RolloutTrace& trace) {
  for (std::size_t t = 0; t < trace.num_steps; ++t) {
    for (std::size_t n = 0; n < trace.count; ++n) {
      const auto observation =
          trace.records.subspan((t * trace.count + n) * trace.record_floats, trace.observation_dim);
      if (!std::ranges::all_of(observation, is_finite)) return place_of(trace, n, t);
    }
  }
  for (std::size_t n = 0; n < trace.count; ++n) {
    if (nonfinite_field(trace, n)) return place_of(trace, n, trace.num_steps);
  }
  return {};
}

}  // namespace perilune
