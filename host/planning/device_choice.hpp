// Which device `auto` takes for work whose size is known: the one where the performance model expects it to end first,
// starting a GPU included.
//
// Nothing is timed for the choice, so that the same work on the same machine always runs on the same device and gives
// the same bits. For a run that goes on the work is the whole run, so that it goes on where it began.
#pragma once

#include <span>

#include "host/device/device.hpp"
#include "host/settings/config.hpp"

namespace perilune {

struct Work {
  Config config;
  double iterations = 0.0;  // of training, as many as are expected
  double evaluations = 0.0;
  int episodes = 0;  // of each evaluation
  double runs = 1.0;
};

// A training run with its evaluations. One that has a target_return may end at any time: it counts half, where taking
// the GPU for a run that ends at once loses as much as taking the CPU for one that never gets there.
Work training_work(const Config& config);
Work evaluation_work(const Config& task, int episodes);

// Seconds until all work is done.
struct DeviceEstimate {
  double cpu = 0.0;
  double gpu = 0.0;  // from before the GPU is started
  bool gpu_is_faster() const { return gpu < cpu; }
};

// side_by_side: runs that the CPU's cores train at a time, each on the threads of `cpu`; a GPU trains one at a time. A
// precision of auto is each hardware's own. The two sums are compared as they are, though the model may be wrong by a
// factor of two: where they are equal either mistake costs about as much.
DeviceEstimate estimate(std::span<const Work> work, const Hardware& cpu, const Hardware& gpu, int side_by_side = 1);

// As select_device(choice, threads), but `auto` chooses for this work. A GPU is asked for nothing, since its driver
// takes long to start, where the CPU is done before.
SelectedDevice select_device(DeviceChoice choice, int threads, std::span<const Work> work, int side_by_side = 1);

}  // namespace perilune
