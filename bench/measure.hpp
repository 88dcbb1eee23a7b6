// How benchmarks time: warm up once, repeat, and report the median with its deviation.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace perilune {

using Clock = std::chrono::steady_clock;

struct Timing {
  double median = 0.0, deviation = 0.0;  // seconds
  int runs = 0;
};

inline double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Times f, after one call that is not counted, until `seconds` have passed and at least five times.
inline Timing time_repeatedly(double seconds, const std::function<void()>& f) {
  f();
  std::vector<double> times;
  const Clock::time_point begin = Clock::now();
  while (times.size() < 5 || std::chrono::duration<double>(Clock::now() - begin).count() < seconds) {
    const Clock::time_point start = Clock::now();
    f();
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  Timing timing;
  timing.runs = static_cast<int>(times.size());
  timing.median = median_of(times);
  for (double& time : times) time = std::abs(time - timing.median);
  timing.deviation = median_of(times);
  return timing;
}

}  // namespace perilune
