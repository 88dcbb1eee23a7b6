#include "host/device/phases.hpp"

#include <utility>

namespace perilune {

void SteadyPhaseTimer::begin(Phase phase) { started_[static_cast<std::size_t>(phase)] = Clock::now(); }

void SteadyPhaseTimer::end(Phase phase) {
  const auto i = static_cast<std::size_t>(phase);
  totals_[i].seconds += std::chrono::duration<double>(Clock::now() - started_[i]).count();
  totals_[i].count += 1;
}

PhaseTotals SteadyPhaseTimer::take_totals() { return std::exchange(totals_, {}); }

}  // namespace perilune
