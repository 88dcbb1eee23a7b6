// The program's machines: which of the compiled CPU levels this processor runs, chosen once, and the CUDA machine.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/api.hpp"

namespace perilune {

#if defined(__x86_64__)
namespace v4 {
const Machine& level_machine();
}
namespace v3 {
const Machine& level_machine();
}
#endif
namespace portable {
const Machine& level_machine();
}

namespace {

struct Level {
  const char* name;
  bool supported;
  const Machine& (*machine)();
};

const Machine& choose() {
  const Level levels[] = {
#if defined(__x86_64__)
      {"v4", __builtin_cpu_supports("x86-64-v4") != 0, v4::level_machine},
      {"v3", __builtin_cpu_supports("x86-64-v3") != 0, v3::level_machine},
#endif
      {"portable", true, portable::level_machine},
  };
  const char* wanted = std::getenv("PERILUNE_CPU_LEVEL");
  std::string names;
  for (const Level& level : levels) {
    if (!level.supported) continue;
    if (wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, level.name) == 0) {
      return level.machine();
    }
    names += names.empty() ? level.name : std::string(", ") + level.name;
  }
  throw std::invalid_argument("PERILUNE_CPU_LEVEL is \"" + std::string(wanted) +
                              "\", but this processor runs: " + names +
                              "; unset it to use the best");
}

}  // namespace

const Machine& cpu_machine() {
  static const Machine& machine = choose();
  return machine;
}

bool cpu_supports(Precision precision) {
#if defined(__x86_64__)
  if (precision == Precision::kBf16) return __builtin_cpu_supports("avx512bf16") != 0;
#endif
  return precision == Precision::kFp32;
}

const Instance* find_instance(const Machine& machine, const char* environment, int width,
                              Precision precision) {
  for (int i = 0; i < machine.instance_count; ++i) {
    const Instance& instance = machine.instances[i];
    if (instance.width == width && instance.precision == precision &&
        std::strcmp(instance.environment, environment) == 0) {
      return &instance;
    }
  }
  return nullptr;
}

const Instance* find_wide_instance(const Machine& machine, const char* environment) {
  for (int i = 0; i < machine.wide_instance_count; ++i) {
    const Instance& instance = machine.wide_instances[i];
    if (std::strcmp(instance.environment, environment) == 0) return &instance;
  }
  return nullptr;
}

#if PERILUNE_HAS_CUDA
namespace base {
const Machine& level_machine();
bool has_tensor_kernels();
}
const Machine* cuda_machine() { return &base::level_machine(); }
bool cuda_supports(Precision precision) {
  return precision == Precision::kFp32 || base::has_tensor_kernels();
}
#else
const Machine* cuda_machine() { return nullptr; }
bool cuda_supports(Precision) { return false; }
#endif

}  // namespace perilune
