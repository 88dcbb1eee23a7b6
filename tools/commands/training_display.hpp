// What a person sees of a training run: a heading, one live line, and a closing table.
#pragma once

#include <chrono>
#include <string>

#include "host/runs/training.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {

class TrainingDisplay {
 public:
  // Prints to `out`, which must outlive it.
  explicit TrainingDisplay(Terminal& out) : out_(out) {}

  // `reason`: why this device; `free_memory`: of the device, in bytes. memory_table: also print the plan's arrays.
  void show_plan(const Config& config, const TrainingPlan& plan, const std::string& reason, std::size_t free_memory,
                 bool memory_table);
  // Redraws the live line, at most ten times a second; where lines cannot be redrawn, a line at most every five
  // seconds.
  void show_progress(const TrainingProgress& progress);
  // Leaves the live line as it is at the end; what is printed next begins on a fresh line.
  void finish_progress();
  // `seconds`: from the start of the process. `program`: how to call it, for the commands to try next.
  void show_result(const TrainingResult& result, double seconds, const std::string& program);

 private:
  using Clock = std::chrono::steady_clock;

  void draw();

  Terminal& out_;
  TrainingProgress last_{};
  Clock::time_point drawn_at_ = Clock::now();
  bool has_progress_ = false;
  bool is_drawn_ = false;  // the live line shows something
  bool is_stale_ = false;  // ... which is not the last progress
};

}  // namespace perilune
