// What listens to phases on CUDA.
#pragma once

#include <memory>

#include "host/device/phases.hpp"
#include "kernels/machine/queue.hpp"

namespace perilune {

// Phases as NVTX ranges of the domain "perilune" with registered names, for Nsight. Free until a tool is there.
std::unique_ptr<PhaseListener> make_nvtx_ranges();

// Events in the queue's stream around each phase.
std::unique_ptr<PhaseTimer> make_event_timer(Queue& queue);

}  // namespace perilune
