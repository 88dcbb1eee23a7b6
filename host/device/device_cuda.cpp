#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "host/base/error.hpp"
#include "host/device/device_cuda.hpp"
#include "host/device/matrix_library.hpp"
#include "host/device/phases_cuda.hpp"

namespace perilune {

namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(std::string("CUDA failed while ") + what + ": " + cudaGetErrorString(status) + " (" +
              cudaGetErrorName(status) + ")");
}

void check_allocation(cudaError_t status, std::size_t bytes, const char* what) {
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it does not stick: later calls are fine
    throw OutOfMemoryError("no " + std::to_string(bytes) + " bytes of " + what + " are left");
  }
  check(status, (std::string("allocating ") + what).c_str());
}

// A queue's stream, for all that is no kernel of ours: the kernel after it then waits for it, instead of overlapping
// with the kernel before it. Only launches of kernels take the stream from the queue itself.
cudaStream_t stream_of(Queue& queue) {
  queue.after_kernel = false;
  return static_cast<cudaStream_t>(queue.stream);
}

class CudaGraph : public Recording {
 public:
  CudaGraph(const std::function<void(Queue&)>& enqueue, Queue& queue) : queue_(queue) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream_of(queue_), cudaStreamCaptureModeThreadLocal), "starting to capture a graph");
    try {
      enqueue(queue_);
    } catch (...) {
      cudaStreamEndCapture(stream_of(queue_), &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream_of(queue_), &graph), "capturing a graph");
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "instantiating a graph");
    check(cudaGraphUpload(executable_, stream_of(queue_)), "uploading a graph");
  }
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }
  void launch() override { check(cudaGraphLaunch(executable_, stream_of(queue_)), "launching a graph"); }

 private:
  Queue& queue_;
  cudaGraphExec_t executable_ = nullptr;
};

// Asks the driver alone: none of this makes a context.
Hardware first_device_hardware() {
  int clock = 0, memory_clock = 0, bus_bits = 0;  // kHz, kHz, bits
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "asking for the device's properties");
  check(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0), "asking for the clock");
  check(cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, 0), "asking for the memory's clock");
  check(cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, 0), "asking for the memory's width");
  // Two transfers a clock.
  return gpu_hardware(properties.name, 10 * properties.major + properties.minor, properties.multiProcessorCount,
                      1e3 * clock, 2e3 * memory_clock * bus_bits / 8);
}

class CudaDevice : public Device {
 public:
  CudaDevice() {
    check(cudaSetDevice(0), "choosing the device");
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "asking for the device's properties");
    name_ = properties.name;
    block_storage_ = properties.sharedMemPerBlockOptin;
    queue_.stream = new_stream();
    branch_ = new_stream();
    const char* overlap = std::getenv("PERILUNE_CUDA_OVERLAP");
    queue_.overlaps = properties.major >= 9 && (overlap == nullptr || std::strcmp(overlap, "off") != 0);
    for (cudaEvent_t& event : events_) {
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
    }
    check(cudaEventCreateWithFlags(&handover_, cudaEventDisableTiming), "creating an event");
    phases().add(*ranges_);
  }
  ~CudaDevice() override {
    cudaEventDestroy(handover_);
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
    cudaStreamDestroy(branch_);
    cudaStreamDestroy(stream());
  }

  const Machine& machine() const override { return *cuda_machine(); }
  std::string description() const override { return name_; }
  bool is_cuda() const override { return true; }
  bool supports(Precision precision) const override { return cuda_supports(precision); }
  // By the cost model 8 multiply-adds of one mma take a tensor core less time than the loads of one fp32 multiply-add.
  Fastest fastest_precision() const override {
    if (!supports(Precision::kTf32)) return {Precision::kFp32, "this GPU has no tf32"};
    return {Precision::kTf32, "tensor cores multiply in it; expected, not measured"};
  }
  Queue& queue() override { return queue_; }
  MatrixLibrary& matrix_library(Precision precision) override {
    std::unique_ptr<MatrixLibrary>& library = matrix_libraries_[precision == Precision::kTf32 ? 1 : 0];
    if (!library) library = open_cublas(precision);
    return *library;
  }

  std::size_t free_memory() const override {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "asking for free memory");
    return free;
  }
  std::size_t max_block_storage() const override { return block_storage_; }

  void* allocate(std::size_t bytes) override {
    void* memory = nullptr;
    check_allocation(cudaMalloc(&memory, bytes), bytes, "device memory");
    check(cudaMemsetAsync(memory, 0, bytes, stream()), "clearing device memory");
    return memory;
  }
  void release(void* memory) override { cudaFree(memory); }
  void* allocate_shared(std::size_t bytes) override {
    void* memory = nullptr;
    check_allocation(cudaHostAlloc(&memory, bytes, cudaHostAllocMapped), bytes, "page-locked memory");
    return memory;
  }
  void release_shared(void* memory) override { cudaFreeHost(memory); }
  void upload(void* to, const void* from, std::size_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()), "copying to the device");
    synchronize();
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()), "copying from the device");
    synchronize();
  }
  void synchronize() override { check(cudaStreamSynchronize(stream()), "running kernels"); }

  std::uint64_t mark() override {
    check(cudaEventRecord(events_[marks_ % kMarks], stream()), "marking the queue");
    return marks_++;
  }
  void wait(std::uint64_t mark) override { check(cudaEventSynchronize(events_[mark % kMarks]), "running kernels"); }

  void wait_for_stream(void* other) override { order(static_cast<cudaStream_t>(other), stream()); }
  void signal_stream(void* other) override { order(stream(), static_cast<cudaStream_t>(other)); }

  void unless_stopped(Queue& queue, const Control* control, const std::function<void(Queue&)>& body) override {
    Capture capture = capture_of(queue);
    if (capture.graph == nullptr) {
      body(queue);
      return;
    }
    cudaGraphConditionalHandle handle{};
    check(cudaGraphConditionalHandleCreate(&handle, capture.graph, 0, 0), "creating a graph's condition");
    machine().set_condition(control, handle, queue);

    cudaGraphNodeParams parameters{};
    parameters.type = cudaGraphNodeTypeConditional;
    parameters.conditional.handle = handle;
    parameters.conditional.type = cudaGraphCondTypeIf;
    parameters.conditional.size = 1;
    cudaGraphNode_t node = nullptr;
    capture = capture_of(queue);
    check(cudaGraphAddNode(&node, capture.graph, capture.dependencies, nullptr, capture.count, &parameters),
          "adding a conditional node");
    check(cudaStreamBeginCaptureToGraph(branch_, parameters.conditional.phGraph_out[0], nullptr, nullptr, 0,
                                        cudaStreamCaptureModeThreadLocal),
          "starting to capture a conditional graph");
    Queue inner = queue;
    inner.stream = branch_;
    inner.overlaps = false;          // whether programmatic edges may lie in a conditional body is not documented
    cudaGraph_t captured = nullptr;  // the node's own, which frees it
    try {
      body(inner);
    } catch (...) {
      cudaStreamEndCapture(branch_, &captured);
      throw;
    }
    check(cudaStreamEndCapture(branch_, &captured), "capturing a conditional graph");
    check(cudaStreamUpdateCaptureDependencies(stream_of(queue), &node, nullptr, 1, cudaStreamSetCaptureDependencies),
          "going on after a conditional graph");
  }

  std::unique_ptr<Recording> record(std::function<void(Queue&)> enqueue, bool as_graph) override {
    if (!as_graph) return std::make_unique<Replay>(std::move(enqueue), queue_);
    struct Silence {  // capturing is no phase of training
      PhaseMarks& marks;
      PhaseMarks listeners = std::exchange(marks, {});
      ~Silence() { marks = listeners; }
    } const silence{phases()};
    return std::make_unique<CudaGraph>(enqueue, queue_);
  }

  std::unique_ptr<PhaseTimer> make_phase_timer() override { return make_event_timer(queue_); }
  Hardware hardware() const override { return first_device_hardware(); }
  void start_profiler() override { check(cudaProfilerStart(), "starting the profiler"); }
  void stop_profiler() override { check(cudaProfilerStop(), "stopping the profiler"); }

 private:
  // What a stream is being captured into; graph is null if it is not.
  struct Capture {
    cudaGraph_t graph = nullptr;
    const cudaGraphNode_t* dependencies = nullptr;
    std::size_t count = 0;
  };
  // Enqueues nothing, and so leaves the queue as it is.
  static Capture capture_of(const Queue& queue) {
    Capture capture;
    cudaStreamCaptureStatus status{};
    check(cudaStreamGetCaptureInfo(static_cast<cudaStream_t>(queue.stream), &status, nullptr, &capture.graph,
                                   &capture.dependencies, nullptr, &capture.count),
          "asking what is being captured");
    return status == cudaStreamCaptureStatusActive ? capture : Capture{};
  }
  void order(cudaStream_t first, cudaStream_t then) {
    check(cudaEventRecord(handover_, first), "marking a stream");
    check(cudaStreamWaitEvent(then, handover_, 0), "ordering two streams");
  }
  static cudaStream_t new_stream() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    return stream;
  }
  cudaStream_t stream() { return stream_of(queue_); }

  std::string name_;
  std::size_t block_storage_ = 0;
  Queue queue_;
  std::unique_ptr<MatrixLibrary> matrix_libraries_[2];  // fp32, tf32
  cudaStream_t branch_ = nullptr;                       // captures the bodies of conditional nodes
  cudaEvent_t events_[kMarks] = {};
  cudaEvent_t handover_ = nullptr;  // to or from a caller's stream
  std::uint64_t marks_ = 0;
  std::unique_ptr<PhaseListener> ranges_ = make_nvtx_ranges();
};

// Empty if there is a usable device, else why not.
std::string obstacle() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) return "no NVIDIA driver, or one older than this program's CUDA";
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return "no CUDA device";
  if (status != cudaSuccess) return std::string("CUDA does not start: ") + cudaGetErrorString(status);
  return {};
}

}  // namespace

std::unique_ptr<Device> open_cuda_device(std::string& why_not) {
  why_not = obstacle();
  if (!why_not.empty()) return nullptr;
  return std::make_unique<CudaDevice>();
}

std::optional<Hardware> cuda_hardware(std::string& why_not) {
  why_not = obstacle();
  if (!why_not.empty()) return std::nullopt;
  return first_device_hardware();
}

std::string cuda_status() {
  const std::string why_not = obstacle();
  if (!why_not.empty()) return why_not;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "asking for the device's properties");
  return std::string("usable: ") + properties.name + ", " + std::to_string(properties.totalGlobalMem >> 30) +
         " GiB, sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
}

}  // namespace perilune
