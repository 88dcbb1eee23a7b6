#include "host/runs/run_record.hpp"

#include <algorithm>
#include <limits>

namespace perilune {

void RecentReturns::add(const IterationMetrics& row) {
  const float ended = row.values[Metric::kEpisodes];
  if (ended <= 0.0f) return;
  if (episodes >= 100.0) {  // forget slowly: an exponential average once there are enough
    const double keep = std::max(0.0, 1.0 - ended / 100.0);
    episodes *= keep;
    sum *= keep;
  }
  episodes += ended;
  sum += row.values[Metric::kEpisodicReturn];
}

double RecentReturns::mean() const {
  return episodes > 0.0 ? sum / episodes : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace perilune
