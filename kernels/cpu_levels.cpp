// The program's machines: which of the compiled CPU levels this processor runs, chosen once, and the CUDA machine.
//
// PERILUNE_BUILD_LEVEL_v4, _v3 and _portable are 1 where that level was compiled (tools/cmake/processor.cmake).
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/cpu_levels.hpp"
#include "kernels/machine/processor.hpp"

namespace perilune {

#if PERILUNE_BUILD_LEVEL_v4
namespace v4 {
const Machine& level_machine();
}
#endif
#if PERILUNE_BUILD_LEVEL_v3
namespace v3 {
const Machine& level_machine();
}
#endif
#if PERILUNE_BUILD_LEVEL_portable
namespace portable {
const Machine& level_machine();
}
#endif

const CpuLevel& best_level(std::span<const CpuLevel> levels, const char* wanted) {
  std::string known, built, runs;
  const auto append = [](std::string& list, const char* name) {
    list += list.empty() ? "" : ", ";
    list += name;
  };
  for (const CpuLevel& level : levels) {
    append(known, level.name);
    if (level.machine == nullptr) continue;
    append(built, level.name);
    if (!level.supported) continue;
    append(runs, level.name);
    if (wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, level.name) == 0) return level;
  }
  if (runs.empty()) {
    throw NoCpuLevelError("this program was built for processors of level " + built +
                          ", and this one is not - build it on "
                          "this machine, or for every processor with -DPERILUNE_CPU_LEVELS=all");
  }
  throw std::invalid_argument("PERILUNE_CPU_LEVEL is \"" + std::string(wanted) +
                              "\" - allowed in this program on this "
                              "processor: " +
                              runs + " (of " + known +
                              "); unset it to use the best, or build with "
                              "-DPERILUNE_CPU_LEVELS=all");
}

std::span<const CpuLevel> cpu_levels() {
  static const CpuLevel levels[] = {
#if PERILUNE_BUILD_LEVEL_v4
    {"v4", processor_has_v4(), v4::level_machine},
#else
    {"v4", processor_has_v4(), nullptr},
#endif
#if PERILUNE_BUILD_LEVEL_v3
    {"v3", processor_has_v3(), v3::level_machine},
#else
    {"v3", processor_has_v3(), nullptr},
#endif
#if PERILUNE_BUILD_LEVEL_portable
    {"portable", true, portable::level_machine},
#else
    {"portable", true, nullptr},
#endif
  };
  return levels;
}

const Machine& cpu_machine() {
  static const Machine& machine = best_level(cpu_levels(), std::getenv("PERILUNE_CPU_LEVEL")).machine();
  return machine;
}

bool cpu_supports(Precision precision) {
  return precision == Precision::kFp32 || (precision == Precision::kBf16 && processor_has_bf16());
}

const Kernels* find_kernels(const Machine& machine, const char* environment, int width, Precision precision) {
  for (int i = 0; i < machine.table.fused_count; ++i) {
    const Kernels& kernels = machine.table.fused[i];
    if (kernels.width == width && kernels.precision == precision &&
        std::strcmp(kernels.environment->id, environment) == 0) {
      return &kernels;
    }
  }
  return nullptr;
}

const Kernels* find_layerwise_kernels(const Machine& machine, const char* environment) {
  for (int i = 0; i < machine.table.layerwise_count; ++i) {
    const Kernels& kernels = machine.table.layerwise[i];
    if (std::strcmp(kernels.environment->id, environment) == 0) return &kernels;
  }
  return nullptr;
}

#if PERILUNE_HAS_CUDA
namespace base {
const Machine& level_machine();
bool has_tensor_kernels();
}  // namespace base
const Machine* cuda_machine() { return &base::level_machine(); }
bool cuda_supports(Precision precision) { return precision == Precision::kFp32 || base::has_tensor_kernels(); }
#else
const Machine* cuda_machine() { return nullptr; }
bool cuda_supports(Precision) { return false; }
#endif

}  // namespace perilune
