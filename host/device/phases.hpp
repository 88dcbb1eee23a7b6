// Phases of training, and who is told where they begin and end.
//
// The trainer marks the launches of a phase with a PhaseScope; the device hands the marks to its listeners: a timer
// (`perilune profile`), and on CUDA the NVTX ranges that Nsight shows. Without a listener a mark is one comparison.
// A mark is made when launches are made: in a captured graph it would mark the capture, so the CUDA device passes none
// on then, and only "iteration", around the graph's launch, remains.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/phases.hpp"

namespace perilune {

class PhaseListener {
 public:
  virtual ~PhaseListener() = default;
  virtual void begin(Phase phase) = 0;
  virtual void end(Phase phase) = 0;
};

// The listeners of a device; owns none of them.
class PhaseMarks {
 public:
  void begin(Phase phase) const {
    for (PhaseListener* listener : listeners_) listener->begin(phase);
  }
  void end(Phase phase) const {
    for (std::size_t i = listeners_.size(); i > 0; --i) listeners_[i - 1]->end(phase);
  }
  void add(PhaseListener& listener) { listeners_.push_back(&listener); }
  void remove(PhaseListener& listener) { std::erase(listeners_, &listener); }

 private:
  std::vector<PhaseListener*> listeners_;
};

// Marks what is launched during its life.
class PhaseScope {
 public:
  PhaseScope(const PhaseMarks& marks, Phase phase) : marks_(marks), phase_(phase) { marks_.begin(phase_); }
  ~PhaseScope() { marks_.end(phase_); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  const PhaseMarks& marks_;
  const Phase phase_;
};

// What a phase took, summed over its `count` marks.
struct PhaseTotal {
  double seconds = 0.0;
  std::uint64_t count = 0;
};
using PhaseTotals = std::array<PhaseTotal, kPhases>;

// Times phases on a device: CPU by the steady clock, CUDA by events in the stream.
class PhaseTimer : public PhaseListener {
 public:
  // Since it was made or last asked. Waits for what was enqueued.
  virtual PhaseTotals take_totals() = 0;
};

// For devices that run a launch at once. No phase contains itself.
class SteadyPhaseTimer : public PhaseTimer {
 public:
  void begin(Phase phase) override;
  void end(Phase phase) override;
  PhaseTotals take_totals() override;

 private:
  using Clock = std::chrono::steady_clock;
  std::array<Clock::time_point, kPhases> started_{};
  PhaseTotals totals_{};
};

}  // namespace perilune
