// The NVTX header is the toolkit's own; it opens the library that a tool injects, and nothing is linked.
#include "host/device/phases_cuda.hpp"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <array>
#include <string>
#include <vector>

#include "host/base/error.hpp"

namespace perilune {

namespace {

class NvtxRanges : public PhaseListener {
 public:
  NvtxRanges() : domain_(nvtxDomainCreateA("perilune")) {
    // Registered strings are what `nsys -c nvtx` can select.
    for (std::size_t i = 0; i < kPhases; ++i) names_[i] = nvtxDomainRegisterStringA(domain_, kPhaseNames[i]);
  }
  ~NvtxRanges() override { nvtxDomainDestroy(domain_); }
  NvtxRanges(const NvtxRanges&) = delete;
  NvtxRanges& operator=(const NvtxRanges&) = delete;

  void begin(Phase phase) override {
    nvtxEventAttributes_t attributes{};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    attributes.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
    attributes.message.registered = names_[static_cast<std::size_t>(phase)];
    nvtxDomainRangePushEx(domain_, &attributes);
  }
  void end(Phase) override { nvtxDomainRangePop(domain_); }

 private:
  nvtxDomainHandle_t domain_;
  std::array<nvtxStringHandle_t, kPhases> names_{};
};

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(std::string("CUDA failed while ") + what + ": " + cudaGetErrorString(status) + " (" +
              cudaGetErrorName(status) + ")");
}

class EventTimer : public PhaseTimer {
 public:
  explicit EventTimer(Queue& queue) : queue_(queue) {}
  ~EventTimer() override {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  EventTimer(const EventTimer&) = delete;
  EventTimer& operator=(const EventTimer&) = delete;

  void begin(Phase phase) override {
    open_.push_back(spans_.size());
    spans_.push_back({phase, record(), nullptr});
  }
  void end(Phase) override {
    spans_[open_.back()].end = record();
    open_.pop_back();
  }
  PhaseTotals take_totals() override {
    check(cudaStreamSynchronize(stream()), "running kernels");
    PhaseTotals totals{};
    for (const Span& span : spans_) {
      float milliseconds = 0.0f;
      check(cudaEventElapsedTime(&milliseconds, span.begin, span.end), "reading events");
      PhaseTotal& total = totals[static_cast<std::size_t>(span.phase)];
      total.seconds += 1e-3 * static_cast<double>(milliseconds);
      total.count += 1;
    }
    spans_.clear();
    used_ = 0;
    return totals;
  }

 private:
  struct Span {
    Phase phase;
    cudaEvent_t begin, end;
  };

  cudaStream_t stream() const { return static_cast<cudaStream_t>(queue_.stream); }
  // An event that is recorded now. Unchecked, since a scope may end while an error passes: reading it fails then.
  cudaEvent_t record() {
    if (used_ == events_.size()) cudaEventCreate(&events_.emplace_back(nullptr));
    cudaEventRecord(events_[used_], stream());
    queue_.after_kernel = false;
    return events_[used_++];
  }

  Queue& queue_;
  std::vector<cudaEvent_t> events_;
  std::size_t used_ = 0;
  std::vector<Span> spans_;
  std::vector<std::size_t> open_;
};

}  // namespace

std::unique_ptr<PhaseListener> make_nvtx_ranges() { return std::make_unique<NvtxRanges>(); }

std::unique_ptr<PhaseTimer> make_event_timer(Queue& queue) { return std::make_unique<EventTimer>(queue); }

}  // namespace perilune
