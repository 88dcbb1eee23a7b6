#include "host/device/device.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "host/base/build_info.hpp"
#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/device/device_cuda.hpp"
#include "host/device/matrix_library.hpp"
#include "host/device/processor.hpp"
#include "kernels/machine/thread_pool.hpp"

namespace perilune {

namespace {

std::size_t largest_block_storage(const Machine& machine) {
  std::size_t largest = 0;
  for (int i = 0; i < machine.table.fused_count; ++i) {
    largest = std::max(largest, largest_block_storage(machine.table.fused[i], kMaxFusedLayers));
  }
  return largest;
}

class CpuDevice : public Device {
 public:
  explicit CpuDevice(int threads) : machine_(cpu_machine()), pool_(threads, largest_block_storage(machine_)) {
    queue_.pool = &pool_;
  }

  const Machine& machine() const override { return machine_; }
  std::string description() const override {
    const int threads = pool_.threads();
    return std::string(machine_.name) + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
  }
  bool is_cuda() const override { return false; }
  bool supports(Precision precision) const override { return cpu_supports(precision); }
  Fastest fastest_precision() const override {
    if (!supports(Precision::kBf16)) return {Precision::kFp32, "there are no dot products in bf16 here"};
    const Processor processor = this_processor();
    if (bf16_is_faster(processor)) return {Precision::kBf16, "measured to be faster on " + processor_name(processor)};
    return {Precision::kFp32, "bf16 is not known to be faster on " + processor_name(processor)};
  }
  Queue& queue() override { return queue_; }
  MatrixLibrary& matrix_library(Precision) override {
    if (!matrix_library_) matrix_library_ = open_cpu_matrices();
    return *matrix_library_;
  }

  // What the kernel could hand out without swapping.
  std::size_t free_memory() const override {
    std::size_t kilobytes = 0;
    if (std::FILE* file = std::fopen("/proc/meminfo", "r")) {
      char line[256];
      while (std::fgets(line, sizeof line, file) != nullptr) {
        if (std::sscanf(line, "MemAvailable: %zu kB", &kilobytes) == 1) break;
      }
      std::fclose(file);
    }
    return kilobytes == 0 ? static_cast<std::size_t>(-1) : kilobytes * 1024;
  }
  std::size_t max_block_storage() const override { return pool_.storage_bytes(); }

  void* allocate(std::size_t bytes) override {
    constexpr std::size_t kAlignment = 256;  // of which aligned_alloc wants whole multiples
    const std::size_t blocks = std::max<std::size_t>((bytes + kAlignment - 1) / kAlignment, 1);
    void* memory = std::aligned_alloc(kAlignment, blocks * kAlignment);
    if (memory == nullptr) throw OutOfMemoryError("no " + std::to_string(bytes) + " bytes of memory are left");
    std::memset(memory, 0, bytes);
    return memory;
  }
  void release(void* memory) override { std::free(memory); }
  void* allocate_shared(std::size_t bytes) override { return allocate(bytes); }
  void release_shared(void* memory) override { std::free(memory); }
  void upload(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void synchronize() override {}

  std::unique_ptr<Recording> record(std::function<void(Queue&)> enqueue, bool) override {
    return std::make_unique<Replay>(std::move(enqueue), queue_);
  }
  Hardware hardware() const override { return measure_processor(pool_.threads()); }

 private:
  const Machine& machine_;
  ThreadPool pool_;
  Queue queue_;
  std::unique_ptr<MatrixLibrary> matrix_library_;
};

std::unique_ptr<Device> open_cpu(int threads) {
  return std::make_unique<CpuDevice>(threads > 0 ? threads : available_cores());
}

}  // namespace

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

std::string threads_warning(int threads, int cores) {
  if (threads <= 2 * cores) return "";
  return formatted(
      "threads = {} on {} {}: threads take turns and wait for each other, which is slower - leave it out for one "
      "thread per core",
      threads, cores, cores == 1 ? "core" : "cores");
}

DeviceChoice device_choice(std::string_view option, std::string_view text) {
  std::string name(text.substr(0, 64));
  for (char& letter : name) letter = letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
  if (name == "auto") return DeviceChoice::kAuto;
  if (name == "cpu") return DeviceChoice::kCpu;
  if (name == "cuda" || name == "gpu" || name == "cuda:0" || name == "gpu:0") return DeviceChoice::kCuda;
  const std::size_t colon = name.find(':');
  const std::string_view number = std::string_view(name).substr(std::min(colon, name.size()));
  if ((name.starts_with("cuda:") || name.starts_with("gpu:")) && number.size() > 1 &&
      number.find_first_not_of("0123456789", 1) == std::string_view::npos) {
    throw UsageError(
        formatted("{} {} is not possible - allowed: auto, cpu, cuda - cuda is the first GPU that this "
                  "process sees: set the environment variable CUDA_VISIBLE_DEVICES={} to choose this one",
                  option, in_quotes(text), number.substr(1)));
  }
  constexpr std::array<std::string_view, 3> kNames = {"auto", "cpu", "cuda"};
  throw UsageError(formatted("{} {} is unknown - allowed: {} - did you mean {}?", option, in_quotes(text),
                             joined(kNames), nearest(name, kNames)));
}

SelectedDevice select_device(DeviceChoice choice, int threads) {
  if (choice == DeviceChoice::kCpu) return {open_cpu(threads), "asked for"};
  std::string why_not;
  if (std::unique_ptr<Device> cuda = open_cuda_device(why_not)) {
    return {std::move(cuda), choice == DeviceChoice::kCuda ? "asked for" : "the first CUDA device"};
  }
  if (choice == DeviceChoice::kCuda) {
    throw NoDeviceError("--device cuda: " + cuda_status() + " - use --device cpu, or auto to take what there is");
  }
  return {open_cpu(threads), why_not};
}

std::string describe_cuda() { return cuda_status(); }

#if !PERILUNE_HAS_CUDA
std::unique_ptr<Device> open_cuda_device(std::string& why_not) {
  why_not = "this program was built without CUDA";
  return nullptr;
}

std::optional<Hardware> cuda_hardware(std::string& why_not) {
  open_cuda_device(why_not);
  return std::nullopt;
}

std::string cuda_status() {
  return formatted(
      "this program was built without CUDA ({}): build it where a GPU and a CUDA toolkit are, or with "
      "PERILUNE_CUDA=ON",
      build_info().no_cuda);
}
#endif

}  // namespace perilune
