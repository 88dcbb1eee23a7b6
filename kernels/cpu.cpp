// The CPU machine at one instruction-set level. Compiled once per level, with PERILUNE_LEVEL naming it
// (sims/portable.hpp), as are the units of the environments (cpu_launcher.hpp); cpu_levels.cpp chooses among levels at
// start-up.
#include "kernels/cpu_launcher.hpp"

namespace perilune::inline PERILUNE_LEVEL {

#define PERILUNE_ENVIRONMENT(environment, header, ...) void add_##environment(KernelList&);
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT

namespace {

#define PERILUNE_TEXT_OF(x) #x
#define PERILUNE_TEXT(x) PERILUNE_TEXT_OF(x)
constexpr const char* kLevelName = "cpu " PERILUNE_TEXT(PERILUNE_LEVEL);

const KernelList& all_kernels() {
  static const KernelList all = [] {
    KernelList list;
#define PERILUNE_ENVIRONMENT(environment, header, ...) add_##environment(list);
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT
    return list;
  }();
  return all;
}

}  // namespace

const Machine& level_machine() {
  static const Machine machine = make_machine<CpuLauncher>(kLevelName, all_kernels().table());
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
