// Where an iteration's time goes, phase by phase, beside what the performance model predicts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "host/device/cpu_counters.hpp"
#include "host/device/device.hpp"
#include "host/planning/performance_model.hpp"
#include "host/settings/config.hpp"

namespace perilune {

struct ProfileRow {
  PhasePrediction model;  // of the phases that do work
  double seconds = 0.0;   // measured, per iteration; 0 in a prediction
  double marks = 0.0;     // how often the phase occurs in an iteration
  CounterTotal counters;  // per iteration; zeros where the processor shows none
};

struct Profile {
  Config config;
  std::string device;  // of a prediction: the hardware's name
  Precision precision = Precision::kFp32;
  Hardware hardware;
  double steps_per_iteration = 0.0;
  int iterations = 0;  // 0: a prediction
  // Seconds per iteration: launched one by one without timing, with timing, and as one CUDA graph (0 where there is
  // none).
  double plain = 0.0, marked = 0.0, graph = 0.0;
  double update = 0.0;           // measured, of all of "update": gradient, reduce, apply and what lies between
  std::vector<ProfileRow> rows;  // rollout, gae, gradient, reduce, apply
  double predicted = 0.0;        // seconds per iteration
};

// Trains for a few iterations and times their phases; means over the faster half. counters: null, or made before the
// device.
Profile profile_training(const Config& config, Device& device, int iterations, CpuCounters* counters);

// The same without running: what the model says of a machine that need not be here.
Profile predict_training(const Config& config, const Hardware& hardware, Precision precision);

}  // namespace perilune
