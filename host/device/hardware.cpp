#include "host/device/hardware.hpp"

#include <algorithm>
#include <vector>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {

namespace {

// Per multiprocessor and clock, dense products (CUDA C++ Programming Guide, arithmetic throughput; the tensor rates
// from the architectures' white papers: A100 312 TFLOP/s bf16, H100 989, RTX 4090 165, RTX 5090 210).
struct PerClock {
  int from_capability;
  double fp32, tf32, bf16;  // FLOP
};
constexpr PerClock kPerClock[] = {
    {75, 128, 128, 128},    // no tf32 or bf16: those products run as fp32
    {80, 128, 1024, 2048},  //
    {86, 256, 256, 512},    // consumer chips: half rate with fp32 sums
    {90, 256, 2048, 4096},  //
    {100, 256, 4096, 8192}, {120, 256, 256, 512},
};
// Hardware tanh, exp and the like per multiprocessor and clock, on every architecture here.
constexpr double kSpecialPerClock = 16;

}  // namespace

Hardware gpu_hardware(std::string name, int capability, int processors, double clock, double memory) {
  const PerClock* rates = kPerClock;
  for (const PerClock& row : kPerClock) {
    if (row.from_capability <= capability) rates = &row;
  }
  const double clocks = processors * clock;
  Hardware gpu;
  gpu.name = std::move(name);
  gpu.is_gpu = true;
  gpu.processors = processors;
  gpu.clock = clock;
  gpu.flops = {rates->fp32 * clocks, rates->tf32 * clocks, rates->bf16 * clocks};
  gpu.memory = memory;
  gpu.special = kSpecialPerClock * clocks;
  if (capability >= 80) gpu.automatic = Precision::kTf32;
  return gpu;
}

std::span<const Hardware> known_hardware() {
  // Multiprocessors, boost clock and memory from NVIDIA's data sheets. Data sheets give the tensor rates of h100 and
  // h200 at 1.83 GHz (495 and 989 TFLOP/s) but their fp32 rate at 1.98 GHz (67): the one clock here is the latter.
  static const std::vector<Hardware> table = {
      gpu_hardware("h200", 90, 132, 1.98e9, 4.8e12),        gpu_hardware("h100", 90, 132, 1.98e9, 3.35e12),
      gpu_hardware("b200", 100, 148, 1.965e9, 8.0e12),      gpu_hardware("a100", 80, 108, 1.41e9, 2.039e12),
      gpu_hardware("rtx-5090", 120, 170, 2.41e9, 1.792e12), gpu_hardware("rtx-4090", 89, 128, 2.52e9, 1.008e12),
      gpu_hardware("rtx-3090", 86, 82, 1.695e9, 0.936e12),  gpu_hardware("l4", 89, 58, 2.04e9, 0.3e12),
  };
  return table;
}

const Hardware& find_hardware(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Hardware& hardware : known_hardware()) {
    if (hardware.name == name) return hardware;
    names.push_back(hardware.name);
  }
  throw UsageError(formatted("--predict {} is unknown - allowed: {} - did you mean {}?", in_quotes(name), joined(names),
                             nearest(name, names)));
}

}  // namespace perilune
