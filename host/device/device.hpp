// The device a run uses: its memory, its queue of kernel launches, and recorded sequences of them.
//
// Two kinds: CPU cores (launches run at once; a Recording is just called again) and CUDA (launches go to one stream; a
// Recording is a CUDA graph, captured once). Nothing outside device*.cpp knows which it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "host/device/hardware.hpp"
#include "host/device/phases.hpp"
#include "kernels/cpu_levels.hpp"
#include "kernels/machine/matrix.hpp"

namespace perilune {

// A sequence of launches that can be enqueued again and again.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void launch() = 0;
};

// Calls the launches again each time.
class Replay : public Recording {
 public:
  Replay(std::function<void(Queue&)> enqueue, Queue& queue) : enqueue_(std::move(enqueue)), queue_(queue) {}
  void launch() override { enqueue_(queue_); }

 private:
  std::function<void(Queue&)> enqueue_;
  Queue& queue_;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual const Machine& machine() const = 0;
  virtual std::string description() const = 0;  // "2 CPU threads (v4)", "NVIDIA H200"
  virtual bool is_cuda() const = 0;
  // Whether the hardware runs kernels of this precision, where they were built (see precision.hpp).
  virtual bool supports(Precision precision) const = 0;
  // The precision whose fused kernels train fastest here, where they were built, and how that is known.
  struct Fastest {
    Precision precision;
    std::string reason;
  };
  virtual Fastest fastest_precision() const { return {Precision::kFp32, "there is no other"}; }
  virtual Queue& queue() = 0;
  // Multiplies matrices for networks without fused kernels; opened at the first call. Whoever launches them puts it
  // into the queue. Throws Error where the library is not installed.
  virtual MatrixLibrary& matrix_library(Precision precision) = 0;

  virtual std::size_t free_memory() const = 0;
  // Bytes of block storage a kernel may have (CUDA: shared memory per block).
  virtual std::size_t max_block_storage() const = 0;

  // Device memory, zeroed, aligned to at least 256 bytes. Both allocations throw OutOfMemoryError.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* memory) = 0;
  // Memory that kernels write and the host reads; valid on the host after synchronize().
  virtual void* allocate_shared(std::size_t bytes) = 0;
  virtual void release_shared(void* memory) = 0;
  // Both wait for everything enqueued before.
  virtual void upload(void* to, const void* from, std::size_t bytes) = 0;
  virtual void download(void* to, const void* from, std::size_t bytes) = 0;
  virtual void synchronize() = 0;

  // As they are on a device that runs launches at once:
  // A point of the queue, to wait for while more is enqueued. At most kMarks are waited for at any time.
  static constexpr std::uint64_t kMarks = 4;
  virtual std::uint64_t mark() { return 0; }
  virtual void wait(std::uint64_t) {}

  // What is enqueued from now on runs after what `stream` (a cudaStream_t of the same device) holds now.
  virtual void wait_for_stream(void* /*stream*/) {}
  // What is enqueued on `stream` from now on runs after what this queue holds now.
  virtual void signal_stream(void* /*stream*/) {}

  // Enqueues `body` so that it only runs if, by then, neither a KL stop nor a NaN has ended the updates (Control). In a
  // graph that is a conditional node; launched eagerly on CUDA, the body's kernels see it themselves and do nothing.
  virtual void unless_stopped(Queue& queue, const Control* control, const std::function<void(Queue&)>& body) {
    if (control->stop_policy == 0 && control->nonfinite == NonFinite::kNone) body(queue);
  }

  // Records what `enqueue` launches. as_graph: as one CUDA graph (ignored on the CPU); else it is called on each
  // launch.
  virtual std::unique_ptr<Recording> record(std::function<void(Queue&)> enqueue, bool as_graph) = 0;

  // Who is told of the phases of what is enqueued.
  PhaseMarks& phases() { return phases_; }
  // The default is for devices that run a launch at once.
  virtual std::unique_ptr<PhaseTimer> make_phase_timer() { return std::make_unique<SteadyPhaseTimer>(); }
  // What it can do at most: CUDA from its properties, CPU by measuring, which takes a moment.
  virtual Hardware hardware() const { return measure_processor(1); }
  // Bounds what Nsight records with a capture range of cudaProfilerApi.
  virtual void start_profiler() {}
  virtual void stop_profiler() {}

 private:
  PhaseMarks phases_;
};

enum class DeviceChoice { kAuto, kCpu, kCuda };

// "auto", "cpu" or "cuda"; also "gpu" and "cuda:0", in upper or lower case. Throws UsageError that begins with
// `option`.
DeviceChoice device_choice(std::string_view option, std::string_view text);

struct SelectedDevice {
  std::unique_ptr<Device> device;
  std::string reason;  // "no CUDA in this build", "first CUDA device", ...
};

// Opens a device. threads: CPU threads, 0 for one per available core. Throws NoDeviceError if kCuda and there is none.
SelectedDevice select_device(DeviceChoice choice, int threads);

// Whether and why CUDA can or cannot be used here, in words; for `info`.
std::string describe_cuda();
// Cores this process may run on.
int available_cores();
// What is to be said about so many CPU threads on so many cores; empty: nothing.
std::string threads_warning(int threads, int cores);

}  // namespace perilune
