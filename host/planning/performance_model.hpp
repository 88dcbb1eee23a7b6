// What an iteration of training has to do, and how long that should take on a given machine.
//
// Work is nominal: what the algorithm needs, counted from the configuration, whatever the kernels really execute. A
// measured time divided into it gives rates that can be compared between machines and versions. A prediction takes the
// ceilings of a Hardware, the share of each that is reached in practice, the lanes there are to fill the machine, and
// of a GPU's kernels the cycles that their machine code needs: how long the chain of a warp's instructions is, and how
// long schedulers are busy with those of all warps. It names the one that binds. Constants and their sources are in
// performance_model.cpp. It is a model, to tell good from bad: expect a factor of two, not ten percent.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "host/device/hardware.hpp"
#include "host/device/phases.hpp"
#include "host/networks/model.hpp"
#include "host/settings/config.hpp"

namespace perilune {

// One phase's work in one iteration.
struct PhaseWork {
  Phase phase;
  double flop = 0.0;   // of the networks: 2 per parameter and sample forward, 4 more backward; tanh counts apart
  double tanh = 0.0;   // activations evaluated
  double other = 0.0;  // environment steps, losses and the like, in FLOP that take as long on a CPU
  double bytes = 0.0;  // to and from device memory, each array once, 32 at least where samples are drawn at random
  double launches = 0.0;
  double lanes = 0.0;  // that can run side by side
  double chain = 0.0;  // seconds of dependent steps on a GPU, however wide it is
  double issue = 0.0;  // seconds that a GPU's schedulers are busy with all warps
};

struct PhasePrediction {
  PhaseWork work;
  double seconds = 0.0;
  std::string_view bound;  // "fp32", "tf32", "bf16", "tanh", "memory", "latency", "issue", "launches"
};

// What bench/sass.py counted of a kernel's machine code for sm_90: CartPole, networks of two layers of 64 units. A pass
// is a step of 32 environments or the gradient of 32 samples.
struct KernelCycles {
  std::string_view walk;  // as bench/results/sass.json calls it
  Precision precision;
  double alone;  // cycles of a pass of a warp that has its multiprocessor for itself; of a kernel without, all of it
  double together = 0.0;  // cycles of a pass for each warp where as many as have registers share a scheduler
  double issued = 0.0;    // instructions of a pass
  double before = 0.0;    // instructions until the second pass
};

// Those that predictions are made from. Other networks, environments and architectures are reckoned from them.
std::span<const KernelCycles> kernel_cycles();

// Nominal FLOP of one training step: rollout and every epoch.
double flop_per_step(const Model& model, const Config& config);

// Rollout, gae, gradient, reduce and apply, in this order; partials: blocks that an update gives each network (0: what
// the hardware would take).
std::vector<PhaseWork> iteration_work(const Config& config, const Hardware& hardware, Precision precision,
                                      int partials = 0);

std::vector<PhasePrediction> predict_iteration(const Config& config, const Hardware& hardware, Precision precision,
                                               int partials = 0);
// Of one phase; also for a kernel that is launched alone.
PhasePrediction predict(const PhaseWork& work, const Hardware& hardware, Precision precision);

// An evaluation's seconds at most: as many episodes side by side, each up to the configuration's limit.
double predict_evaluation(const Config& config, const Hardware& hardware, int episodes);

// What a machine is predicted with: the configuration's precision, or what auto would take there.
Precision expected_precision(const Config& config, const Hardware& hardware);

// Steps per second of the configuration's simulator alone, in num_envs environments.
double predict_simulation(const Config& config, const Hardware& hardware);

}  // namespace perilune
