// Finding the environment and the step of a NaN, against counters kept while the rollout is made
// up.
#include "host/training/nonfinite.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace perilune {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::size_t kRecord = 8, kObservation = 5, kFields = 3;

/// A rollout of episodes that end at random, and where each environment was before each step and at
/// the end.
struct MadeUp {
  struct Place {
    std::uint32_t episode, step;
  };
  std::size_t count, num_steps;
  std::vector<float> records, ended_lengths, fields;
  std::vector<std::uint8_t> ends;
  std::vector<std::uint32_t> episode, elapsed;
  std::vector<Place> places;  // [T + 1, N]

  MadeUp(std::size_t environments, std::size_t steps, std::uint32_t seed)
      : count(environments),
        num_steps(steps),
        records(steps * environments * kRecord, 1.0f),
        ended_lengths(environments),
        fields(kFields * environments, 2.0f),
        ends(steps * environments),
        episode(environments),
        elapsed(environments) {
    std::mt19937 generator(seed);
    const auto random = [&] { return static_cast<std::uint32_t>(generator()); };
    for (std::size_t n = 0; n < count; ++n) {
      episode[n] = random() % 10;
      elapsed[n] = random() % 10;
      // The rest of a record may be anything: it is not looked at.
      for (std::size_t t = 0; t < num_steps; ++t) records[(t * count + n) * kRecord + kObservation] = kNaN;
    }
    for (std::size_t t = 0; t <= num_steps; ++t) {
      for (std::size_t n = 0; n < count; ++n) {
        places.push_back({episode[n], elapsed[n]});
        if (t == num_steps) continue;
        ++elapsed[n];
        if (random() % 6 != 0) continue;
        ends[t * count + n] = 1;
        ended_lengths[n] += static_cast<float>(elapsed[n]);
        elapsed[n] = 0;
        ++episode[n];
      }
    }
  }

  void spoil(std::size_t t, std::size_t n, std::size_t i, float value) {
    records[(t * count + n) * kRecord + i] = value;
  }
  void expect(std::size_t t, std::size_t n, std::optional<std::size_t> field) const {
    const auto found = find_nonfinite_environment(
        {count, num_steps, kRecord, kObservation, records, ends, ended_lengths, fields, episode, elapsed});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->environment, n);
    EXPECT_EQ(found->episode, places[t * count + n].episode) << "before step " << t;
    EXPECT_EQ(found->step, places[t * count + n].step) << "before step " << t;
    EXPECT_EQ(found->field, field);
  }
};

TEST(FindNonfinite, NamesTheEarliestObservation) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    MadeUp rollout(7, 31, seed);
    const std::size_t t = seed % 31, n = seed % 7;
    rollout.spoil(t, n, kObservation - 1, kNaN);
    rollout.expect(t, n, std::nullopt);
    for (std::size_t later = t; later < 31; ++later) rollout.spoil(later, (n + 1) % 7, 0, kNaN);
    if (n + 1 < 7) rollout.expect(t, n, std::nullopt);
    if (t == 0) continue;
    rollout.spoil(t - 1, 3, 0, -std::numeric_limits<float>::infinity());
    rollout.fields[2 * 7 + 3] = kNaN;
    rollout.expect(t - 1, 3, 2);
  }
}

TEST(FindNonfinite, NamesAStateThatNoObservationShows) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    MadeUp rollout(5, 9, seed);
    rollout.fields[5 + seed % 5] = kNaN;
    rollout.expect(9, seed % 5, 1);
  }
}

TEST(FindNonfinite, FindsNothingWhereAllIsFinite) {
  const MadeUp rollout(5, 9, 1);
  EXPECT_FALSE(find_nonfinite_environment({5, 9, kRecord, kObservation, rollout.records, rollout.ends,
                                           rollout.ended_lengths, rollout.fields, rollout.episode, rollout.elapsed}));
}

}  // namespace
}  // namespace perilune
