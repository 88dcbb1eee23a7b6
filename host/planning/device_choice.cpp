#include "host/planning/device_choice.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/device/device_cuda.hpp"
#include "host/networks/networks.hpp"
#include "host/planning/performance_model.hpp"
#include "host/planning/precision.hpp"

namespace perilune {

namespace {

// Seconds until a GPU has its first kernel: starting the driver and making a context, which take 0.2 to 1 s depending
// on the machine, and loading kernels. An assumption, not measured with this program.
constexpr double kStartSeconds = 0.5;

// The driver's control node; under WSL, its stand-in.
bool has_gpu_driver() {
  std::error_code ignored;
  return cuda_machine() != nullptr &&
         (std::filesystem::exists("/dev/nvidiactl", ignored) || std::filesystem::exists("/dev/dxg", ignored));
}

bool has_cpu_level() {
  const std::span<const CpuLevel> levels = cpu_levels();
  return std::any_of(levels.begin(), levels.end(),
                     [](const CpuLevel& level) { return level.machine != nullptr && level.supported; });
}

double total_seconds(std::span<const Work> work, const Hardware& hardware, int side_by_side) {
  double seconds = 0.0, runs = 0.0;
  for (const Work& part : work) {
    double one = part.evaluations * predict_evaluation(part.config, hardware, part.episodes);
    if (part.iterations > 0.0) {
      for (const PhasePrediction& phase :
           predict_iteration(part.config, hardware, expected_precision(part.config, hardware))) {
        one += part.iterations * phase.seconds;
      }
    }
    seconds += part.runs * one;
    runs += part.runs;
  }
  return seconds / std::clamp(static_cast<double>(side_by_side), 1.0, std::max(runs, 1.0));
}

// Why the CPU refuses this work, which a GPU may take; empty: it does not.
std::string cpu_obstacle(std::span<const Work> work, Device& cpu) {
  try {
    for (const Work& part : work) {
      const Precision precision = part.iterations > 0.0 ? choose_precision(part.config, cpu) : Precision::kFp32;
      if (is_layerwise(choose_kernels(part.config, cpu, precision))) cpu.matrix_library(precision);
    }
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

std::string seconds_text(double seconds) {
  return seconds < 9.95 ? formatted("{:.2g} s", seconds) : formatted("{:.0f} s", seconds);
}

}  // namespace

Work training_work(const Config& config) {
  Work work{config};
  work.iterations = static_cast<double>(iteration_count(config)) * (config.target_return ? 0.5 : 1.0);
  work.evaluations = 1.0 + (config.eval_every > 0 ? work.iterations / config.eval_every : 0.0);
  work.episodes = config.eval_episodes;
  return work;
}

Work evaluation_work(const Config& task, int episodes) {
  Work work{task};
  work.evaluations = 1.0;
  work.episodes = episodes;
  return work;
}

DeviceEstimate estimate(std::span<const Work> work, const Hardware& cpu, const Hardware& gpu, int side_by_side) {
  return {total_seconds(work, cpu, side_by_side), kStartSeconds + total_seconds(work, gpu, 1)};
}

SelectedDevice select_device(DeviceChoice choice, int threads, std::span<const Work> work, int side_by_side) {
  if (choice != DeviceChoice::kAuto || !has_gpu_driver() || !has_cpu_level()) return select_device(choice, threads);
  SelectedDevice cpu = select_device(DeviceChoice::kCpu, threads);
  const Hardware processor = nominal_processor(threads > 0 ? threads : available_cores());
  const double seconds = total_seconds(work, processor, side_by_side);
  std::string reason = formatted("this takes about {} here, less than starting a GPU", seconds_text(seconds));
  std::string gpu_reason;
  if (seconds > kStartSeconds) {
    std::string why_not;
    const std::optional<Hardware> gpu = cuda_hardware(why_not);
    if (!gpu) return {std::move(cpu.device), why_not};
    const DeviceEstimate expected = estimate(work, processor, *gpu, side_by_side);
    const std::string both = formatted("{} on the CPU, {} on the GPU, starting it included", seconds_text(expected.cpu),
                                       seconds_text(expected.gpu));
    reason = "expected: " + both;
    if (expected.gpu_is_faster()) gpu_reason = "the first CUDA device; " + reason;
  }
  if (gpu_reason.empty()) {
    const std::string obstacle = cpu_obstacle(work, *cpu.device);
    if (obstacle.empty()) return {std::move(cpu.device), reason + " (--device cuda takes it anyway)"};
    gpu_reason = "the CPU cannot: " + obstacle;
  }
  SelectedDevice selected = select_device(DeviceChoice::kAuto, threads);
  if (selected.device->is_cuda()) selected.reason = gpu_reason;
  return selected;
}

}  // namespace perilune
