// What a machine can do at most: the ceilings that measurements are held against and predictions are made from.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "kernels/api.hpp"

namespace perilune {

inline constexpr int kPrecisions = 3;

struct Hardware {
  std::string name;  // "h200"; of a device that is here, what it calls itself
  bool is_gpu = false;
  int processors = 0;                       // multiprocessors, or CPU threads
  double clock = 0.0;                       // GPU: Hz
  std::array<double, kPrecisions> flops{};  // FLOP/s of matrix products at each Precision
  double memory = 0.0;                      // bytes/s
  double special = 0.0;                     // GPU: hardware tanh and exp results per second
  Precision automatic = Precision::kFp32;   // that precision = auto takes here, where it is built
};

// A GPU by its properties: compute capability ("90"), multiprocessors, Hz, and bytes/s of its memory.
Hardware gpu_hardware(std::string name, int capability, int processors, double clock, double memory);

// GPUs that can be predicted without having one.
std::span<const Hardware> known_hardware();
// Throws UsageError that lists them.
const Hardware& find_hardware(std::string_view name);

// This processor: fused multiply-adds and a copy through memory on `threads` threads, a tenth of a second each.
Hardware measure_processor(int threads);

// What threads of this processor are reckoned with where the answer must not depend on what else the machine does: by
// their instructions alone, within a factor of two of most.
Hardware nominal_processor(int threads);

}  // namespace perilune
