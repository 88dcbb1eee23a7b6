// Cycles and instructions of this process from the processor's own counters, where Linux lets it read them.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "host/device/phases.hpp"

namespace perilune {

struct CounterTotal {
  std::uint64_t cycles = 0, instructions = 0;
};
using CounterTotals = std::array<CounterTotal, kPhases>;

// Counts user-space work of the calling thread and of all threads it starts afterwards: make it before the device.
class CpuCounters : public PhaseListener {
 public:
  CpuCounters();
  ~CpuCounters() override;
  CpuCounters(const CpuCounters&) = delete;
  CpuCounters& operator=(const CpuCounters&) = delete;

  // Empty if it counts, else why not.
  const std::string& obstacle() const { return obstacle_; }

  void begin(Phase phase) override { begun_[static_cast<std::size_t>(phase)] = read(); }
  void end(Phase phase) override;
  const CounterTotals& totals() const { return totals_; }

 private:
  CounterTotal read() const;

  std::array<int, 2> files_ = {-1, -1};
  std::string obstacle_;
  CounterTotals begun_{}, totals_{};
};

}  // namespace perilune
