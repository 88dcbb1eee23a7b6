#include "host/runs/run_record.hpp"

#include <algorithm>
#include <limits>

namespace perilune {

void RecentReturns::add(const IterationMetrics& row) {
  if (row.episodes <= 0.0f) return;
  if (episodes >= 100.0) {  // forget slowly: an exponential average once there are enough
    const double keep = std::max(0.0, 1.0 - row.episodes / 100.0);
    episodes *= keep;
    sum *= keep;
  }
  episodes += row.episodes;
  sum += row.episode_return_sum;
}

double RecentReturns::mean() const {
  return episodes > 0.0 ? sum / episodes : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace perilune
