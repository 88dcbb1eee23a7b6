#include "tests/ptx/runtime.hpp"

#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

namespace perilune::ptx {
namespace {

/// Something that was captured: run when the graph is launched.
using Node = std::function<cudaError_t()>;
struct Graph {
  std::vector<Node> nodes;
  std::vector<std::unique_ptr<Graph>> bodies;  // of its conditional nodes
};
struct Executable {
  std::shared_ptr<Graph> graph;
};
struct Stream {
  Graph* capture = nullptr;
  bool after_kernel = false;  // what was enqueued last is a kernel
  cudaGraphNode_t last = nullptr;
};
struct Event {
  std::chrono::steady_clock::time_point time{};
  bool recorded = false;
};
struct Kernel {
  std::string name;
  const Function* function = nullptr;  // read at its first launch
  std::size_t allowed_shared = kSharedPerBlock;
};

struct Runtime {
  Machine machine;
  std::map<const void*, Kernel> kernels;
  std::vector<std::unique_ptr<Module>> modules;
  std::string fault;
  cudaError_t last_error = cudaSuccess;
  int captures = 0;
  bool takes_turns = true;
  std::uint64_t turns = 0;
  std::uint64_t next_condition = 1;
  struct Configuration {
    dim3 grid, block;
    std::size_t shared;
    void* stream;
  };
  std::vector<Configuration> configurations;  // of <<<>>>
};

/// What tests ask for: the device is there, and slow.
const bool told = setenv("PERILUNE_REQUIRE_GPU", "1", 1) == 0 && setenv("PERILUNE_GPU_IS_EMULATED", "1", 1) == 0;

/// Never destroyed: libraries' destructors call it.
Runtime& runtime() {
  static Runtime& instance = *new Runtime;
  return instance;
}

cudaError_t result(cudaError_t status) {
  if (status != cudaSuccess) runtime().last_error = status;
  return status;
}
cudaError_t failed(const std::string& why) {
  runtime().fault = why;
  return result(cudaErrorLaunchFailure);
}

Stream& stream_of(cudaStream_t stream) {
  static Stream null_stream;
  return stream == nullptr ? null_stream : *reinterpret_cast<Stream*>(stream);
}
Graph& graph_of(cudaGraph_t graph) { return *reinterpret_cast<Graph*>(graph); }

/// Runs it now, or when the graph that the stream is captured into is launched.
cudaError_t enqueue(cudaStream_t stream, bool is_kernel, Node node) {
  Stream& on = stream_of(stream);
  on.after_kernel = is_kernel;
  if (on.capture == nullptr) return node();
  on.capture->nodes.push_back(std::move(node));
  return cudaSuccess;
}
cudaError_t run_graph(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (const cudaError_t status = node(); status != cudaSuccess) return status;
  }
  return cudaSuccess;
}
/// What may not be called while anything is captured.
bool refused_in_capture() { return runtime().captures > 0; }

const Function& function_of(Kernel& kernel) {
  if (kernel.function == nullptr) kernel.function = &module_of(kernel.name).function(kernel.name);
  return *kernel.function;
}

/// Each launch in another order than the one before.
void take_turns() {
  Runtime& state = runtime();
  if (!state.takes_turns) return;
  constexpr Order kOrders[] = {Order::kForward, Order::kReverse, Order::kShuffled};
  Options& options = state.machine.options;
  options.warps = kOrders[state.turns % 3];
  options.blocks = kOrders[state.turns / 3 % 3];
  options.seed = state.turns++;
  options.tanh = Approximation::kWorst;
}

cudaError_t launch_kernel(const void* symbol, dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream,
                          void** arguments, bool overlaps) {
  Runtime& state = runtime();
  const auto found = state.kernels.find(symbol);
  if (found == state.kernels.end()) return result(cudaErrorInvalidDeviceFunction);
  Kernel& kernel = found->second;
  Launch launch;
  try {
    launch.kernel = &function_of(kernel);
  } catch (const ReadError& error) {
    return failed(error.what());
  }
  const Function& function = *launch.kernel;
  if (grid.x == 0 || block.x == 0 || grid.y * grid.z * block.y * block.z != 1 || block.x > 1024) {
    return result(cudaErrorInvalidConfiguration);
  }
  if (function.max_threads != 0 && static_cast<int>(block.x) > function.max_threads)
    return result(cudaErrorInvalidConfiguration);
  if (shared > kernel.allowed_shared || shared + function.static_shared_bytes > kSharedPerBlockOptin) {
    return result(cudaErrorInvalidValue);
  }
  if (overlaps && !stream_of(stream).after_kernel) {
    return failed(kernel.name + " may overlap with what was enqueued before it, and that was no kernel");
  }
  launch.blocks = grid.x;
  launch.threads = block.x;
  launch.shared_bytes = shared;
  launch.overlaps = overlaps;
  launch.arguments.resize(function.parameter_bytes);
  for (std::size_t i = 0; i < function.parameters.size(); ++i) {
    const Function::Parameter& parameter = function.parameters[i];
    std::memcpy(&launch.arguments[static_cast<std::size_t>(parameter.byte)], arguments[i],
                static_cast<std::size_t>(parameter.size));
  }
  return enqueue(stream, true, [launch = std::move(launch)] {
    try {
      take_turns();
      runtime().machine.run(launch);
    } catch (const std::runtime_error& error) {
      return failed(error.what());
    }
    return cudaSuccess;
  });
}

cudaError_t copy(void* to, const void* from, std::size_t bytes) {
  Memory& memory = runtime().machine.memory;
  std::byte* target = memory.host_view(to, bytes);
  const std::byte* source = memory.host_view(from, bytes);
  if (target == nullptr || source == nullptr) return result(cudaErrorInvalidValue);
  std::memmove(target, source, bytes);
  return cudaSuccess;
}

/// 90 of "CartPole_fp32.compute_90.ptx"; 0 where only one was compiled for.
int architecture(const std::string& path) {
  const std::size_t at = path.rfind("compute_");
  return at == std::string::npos ? 0 : std::atoi(path.c_str() + at + 8);
}

}  // namespace

void enqueue(void* stream, std::function<void()> work) {
  enqueue(static_cast<cudaStream_t>(stream), false, [work = std::move(work)] {
    work();
    return cudaSuccess;
  });
}

Machine& runtime_machine() { return runtime().machine; }

Module& module_of(const std::string& kernel) {
  std::vector<std::unique_ptr<Module>>& modules = runtime().modules;
  for (const auto& module : modules) {
    if (module->has(kernel)) return *module;
  }
  const std::vector<std::string>& files = runtime_files();
  while (modules.size() < files.size()) {
    modules.push_back(Module::open(files[modules.size()]));
    if (modules.back()->has(kernel)) return *modules.back();
  }
  throw ReadError("no PTX file has the kernel " + kernel);
}

void replace_kernel(const std::string& name, Module& module) {
  for (auto& [symbol, kernel] : runtime().kernels) {
    if (kernel.name == name) kernel.function = &module.function(name);
  }
}
void restore_kernels() {
  for (auto& [symbol, kernel] : runtime().kernels) kernel.function = nullptr;
}

void set_options(const Options& options) {
  runtime().takes_turns = false;
  runtime().machine.options = options;
}
void restart_orders() {
  runtime().takes_turns = true;
  runtime().turns = 0;
}

const std::vector<std::string>& runtime_files() {
  static const std::vector<std::string> files = [] {
    std::vector<std::string> result;
    std::ifstream list(PERILUNE_PTX_OBJECTS);
    for (std::string object; std::getline(list, object);) {
      const std::string folder = object + ".report";
      std::string newest;  // of several architectures: "CartPole_fp32.compute_90.ptx"
      for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() != ".ptx") continue;
        if (newest.empty() || architecture(entry.path()) > architecture(newest)) newest = entry.path();
      }
      if (newest.empty()) throw ReadError(folder + " holds no PTX");
      result.push_back(newest);
    }
    return result;
  }();
  return files;
}

std::vector<std::string> registered_kernels() {
  std::vector<std::string> names;
  for (const auto& [symbol, kernel] : runtime().kernels) names.push_back(kernel.name);
  return names;
}

}  // namespace perilune::ptx

using namespace perilune::ptx;

extern "C" {

// ---- what nvcc's host code calls ----

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* symbol, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  runtime().kernels[symbol] = {name, nullptr, kSharedPerBlock};
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* symbol) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(symbol));
  return cudaSuccess;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, void* stream) {
  runtime().configurations.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  const auto configuration = runtime().configurations.back();
  runtime().configurations.pop_back();
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<void**>(stream) = configuration.stream;
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                               cudaStream_t stream) {
  return launch_kernel(kernel, grid, block, shared, stream, arguments, false);
}

// ---- launches ----

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* symbol, void** arguments) {
  bool overlaps = false;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id != cudaLaunchAttributeProgrammaticStreamSerialization) return result(cudaErrorNotSupported);
    overlaps = config->attrs[i].val.programmaticStreamSerializationAllowed != 0;
  }
  return launch_kernel(symbol, config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream, arguments,
                       overlaps);
}
cudaError_t cudaFuncSetAttribute(const void* symbol, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return result(cudaErrorNotSupported);
  if (value < 0 || static_cast<std::size_t>(value) > kSharedPerBlockOptin) return result(cudaErrorInvalidValue);
  runtime().kernels.at(symbol).allowed_shared = std::max<std::size_t>(kSharedPerBlock, static_cast<std::size_t>(value));
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = attributes->binaryVersion = 90;
  return cudaSuccess;
}

// ---- the device ----

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "PTX on a CPU");
  properties->major = 9;
  properties->totalGlobalMem = Memory::kDeviceBytes;
  properties->sharedMemPerBlock = kSharedPerBlock;
  properties->sharedMemPerBlockOptin = kSharedPerBlockOptin;
  properties->multiProcessorCount = kMultiprocessors;
  properties->warpSize = kLanes;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kSharedPerBlockOptin);
      break;
    case cudaDevAttrClockRate:
      *value = 1980000;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = 2619000;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = 5120;
      break;
    default:
      return result(cudaErrorNotSupported);
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return refused_in_capture() ? result(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    default:
      return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorLaunchFailure ? runtime().fault.c_str() : cudaGetErrorName(status);
}
cudaError_t cudaGetLastError() {
  const cudaError_t last = runtime().last_error;
  runtime().last_error = cudaSuccess;
  return last;
}
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

// ---- memory ----

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  if (refused_in_capture()) return result(cudaErrorStreamCaptureUnsupported);
  *pointer = runtime().machine.memory.allocate_device(bytes);
  return *pointer == nullptr ? result(cudaErrorMemoryAllocation) : cudaSuccess;
}
cudaError_t cudaMallocManaged(void** pointer, std::size_t bytes, unsigned) {
  *pointer = runtime().machine.memory.allocate_shared(bytes);
  return *pointer == nullptr ? result(cudaErrorMemoryAllocation) : cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) { return cudaMallocManaged(pointer, bytes, 0); }
cudaError_t cudaFree(void* pointer) {
  return pointer == nullptr || runtime().machine.memory.release(pointer) ? cudaSuccess : result(cudaErrorInvalidValue);
}
cudaError_t cudaFreeHost(void* pointer) { return cudaFree(pointer); }
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = runtime().machine.memory.free_bytes();
  *total = Memory::kDeviceBytes;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return enqueue(stream, false, [=] { return copy(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return enqueue(stream, false, [=] {
    std::byte* target = runtime().machine.memory.host_view(to, bytes);
    if (target == nullptr) return result(cudaErrorInvalidValue);
    std::memset(target, value, bytes);
    return cudaSuccess;
  });
}

// ---- streams and events ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(new Stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete &stream_of(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stream_of(stream).capture != nullptr ? result(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
  return enqueue(stream, false, [] { return cudaSuccess; });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<Event*>(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Event& at = *reinterpret_cast<Event*>(event);
  at = {std::chrono::steady_clock::now(), true};
  return enqueue(stream, false, [] { return cudaSuccess; });
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Event &a = *reinterpret_cast<Event*>(start), &b = *reinterpret_cast<Event*>(end);
  if (!a.recorded || !b.recorded) return result(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(b.time - a.time).count();
  return cudaSuccess;
}

// ---- graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Stream& on = stream_of(stream);
  if (on.capture != nullptr) return result(cudaErrorIllegalState);
  on.capture = new Graph;
  on.after_kernel = false;
  ++runtime().captures;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t*,
                                          const cudaGraphEdgeData*, std::size_t, cudaStreamCaptureMode) {
  Stream& on = stream_of(stream);
  if (on.capture != nullptr) return result(cudaErrorIllegalState);
  on.capture = &graph_of(graph);
  on.after_kernel = false;
  ++runtime().captures;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Stream& on = stream_of(stream);
  if (on.capture == nullptr) return result(cudaErrorIllegalState);
  *graph = reinterpret_cast<cudaGraph_t>(on.capture);
  on.capture = nullptr;
  on.after_kernel = false;
  --runtime().captures;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long*,
                                     cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData**, std::size_t* count) {
  Stream& on = stream_of(stream);
  *status = on.capture != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  if (graph != nullptr) *graph = reinterpret_cast<cudaGraph_t>(on.capture);
  if (dependencies != nullptr) *dependencies = &on.last;
  if (count != nullptr) *count = on.capture != nullptr && !on.capture->nodes.empty() ? 1 : 0;
  return cudaSuccess;
}
cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t stream, cudaGraphNode_t*, const cudaGraphEdgeData*,
                                                std::size_t, unsigned) {
  stream_of(stream).after_kernel = false;
  return cudaSuccess;
}
cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* handle, cudaGraph_t, unsigned value,
                                             unsigned) {
  *handle = runtime().next_condition++;
  runtime().machine.conditions[*handle] = value;
  return cudaSuccess;
}
cudaError_t cudaGraphAddNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t*, const cudaGraphEdgeData*,
                             std::size_t, cudaGraphNodeParams* parameters) {
  if (parameters->type != cudaGraphNodeTypeConditional || parameters->conditional.type != cudaGraphCondTypeIf ||
      parameters->conditional.size != 1) {
    return result(cudaErrorNotSupported);
  }
  Graph& into = graph_of(graph);
  Graph* body = into.bodies.emplace_back(std::make_unique<Graph>()).get();
  static cudaGraph_t bodies[1];  // read before the next node is added
  bodies[0] = reinterpret_cast<cudaGraph_t>(body);
  parameters->conditional.phGraph_out = bodies;
  into.nodes.push_back([body, handle = parameters->conditional.handle] {
    return runtime().machine.conditions.at(handle) != 0 ? run_graph(*body) : cudaSuccess;
  });
  *node = reinterpret_cast<cudaGraphNode_t>(body);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  // The graph's handle stays good, and is destroyed by itself: what was captured moves.
  auto shared = std::make_shared<Graph>(std::move(graph_of(graph)));
  *executable = reinterpret_cast<cudaGraphExec_t>(new Executable{std::move(shared)});
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream) {
  return enqueue(stream, false, [] { return cudaSuccess; });
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return enqueue(stream, false,
                 [graph = reinterpret_cast<Executable*>(executable)->graph] { return run_graph(*graph); });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete &graph_of(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete reinterpret_cast<Executable*>(executable);
  return cudaSuccess;
}

}  // extern "C"
