// Which CPU machines are in this program, and the one for this processor. Not for kernel bodies: api.hpp is.
#pragma once

#include <span>
#include <stdexcept>

#include "kernels/api.hpp"

namespace perilune {

/// An instruction-set level of the CPU machine: x86-64-v4 (AVX-512), x86-64-v3 (AVX2), or what every processor runs.
struct CpuLevel {
  const char* name;             ///< "v4", "v3" or "portable"
  bool supported;               ///< by this processor
  const Machine& (*machine)();  ///< null where it is not in this program; runs the level's instructions
};

/// All levels, best first.
std::span<const CpuLevel> cpu_levels();

/// None of the levels in this program runs on this processor.
struct NoCpuLevelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The first that is in this program and that this processor runs, or the one of those that is `wanted`, if that is
/// neither null nor empty. Throws std::invalid_argument when that one cannot be used here, NoCpuLevelError when none
/// can.
const CpuLevel& best_level(std::span<const CpuLevel> levels, const char* wanted);

/// The machine of the best level, or of the one that the environment's PERILUNE_CPU_LEVEL names; throws as best_level.
const Machine& cpu_machine();

/// Whether this processor has the instructions of the CPU machine's kernels of this precision, where there are any.
bool cpu_supports(Precision precision);

}  // namespace perilune
