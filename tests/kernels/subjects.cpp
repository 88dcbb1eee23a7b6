// The subjects of kernels_tests: each CPU level, and the fiber machine.
#include <algorithm>
#include <cstdlib>
#include <limits>

#include "kernels/cpu_levels.hpp"
#include "kernels/machine/processor.hpp"
#include "kernels/machine/thread_pool.hpp"
#include "tests/kernels/fiber_machine.hpp"
#include "tests/kernels/joined_machine.hpp"
#include "tests/kernels/subject.hpp"
#include "tests/support/naive_matrix.hpp"

namespace perilune {

// 1 where tests/CMakeLists.txt built that level.
#define PERILUNE_DECLARE_LEVEL(level)  \
  namespace level {                    \
  const Machine& level_machine();      \
  const Machine& point_mass_machine(); \
  }
#if PERILUNE_BUILD_LEVEL_v4
PERILUNE_DECLARE_LEVEL(v4)
#endif
#if PERILUNE_BUILD_LEVEL_v3
PERILUNE_DECLARE_LEVEL(v3)
#endif
#if PERILUNE_BUILD_LEVEL_portable
PERILUNE_DECLARE_LEVEL(portable)
#endif

namespace test {

namespace {

void* allocate(std::size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); }
void release(void* memory) { std::free(memory); }
void finish() {}

/// What the hungriest kernel of any level that runs here needs.
std::size_t largest_block_storage() {
  std::size_t largest = 0;
  for (const Subject& subject : subjects()) {
    if (!subject.missing().empty()) continue;
    const Machine& machine = subject.machine();
    for (int i = 0; i < machine.table.fused_count; ++i) {
      largest = std::max(largest, largest_block_storage(machine.table.fused[i], kMaxFusedLayers));
    }
  }
  return largest;
}

ThreadPool& cpu_pool() {
  static ThreadPool pool(2, largest_block_storage());
  return pool;
}

Queue& cpu_queue() {
  static NaiveMatrixLibrary matrix;
  static Queue queue{.pool = &cpu_pool(), .matrix = &matrix};
  return queue;
}

Queue& no_queue() {
  static NaiveMatrixLibrary matrix;
  static Queue queue{.matrix = &matrix};
  return queue;
}

std::string nothing_missing() { return ""; }

Subject cpu_level(const char* name, const Machine& (*machine)(), std::string (*missing)()) {
  // 4e-6: the CPU network's rational tanh (kernels/machine/activation_cpu.hpp).
  return {name,    machine,  kMaxFusedWidth, 4e-6,   cpu_queue,
          missing, allocate, release,        finish, [] { return cpu_pool().storage_bytes(); }};
}

#if PERILUNE_BUILD_LEVEL_v4
Subject cpu_bf16(const char* name, const Machine& (*machine)()) {
  Subject subject = cpu_level(
      name, machine, [] { return std::string(cpu_supports(Precision::kBf16) ? "" : "this CPU lacks AVX512_BF16"); });
  subject.precision = Precision::kBf16;
  subject.tanh_error = 2.5e-4;
  subject.rounding = 0x1p-8;  // 8 significant bits
  subject.min_width = 32;
  return subject;
}
#endif

Subject fibers(const char* name, const Machine& (*machine)()) {
  // 3e-7: the simulators' tanh (sims/math.hpp), a few ulp of 1.
  Subject subject = {name,     machine,
                     32,       3e-7,
                     no_queue, nothing_missing,
                     allocate, release,
                     finish,   [] { return std::numeric_limits<std::size_t>::max(); }};
  subject.rigid_body_networks = false;
  subject.speed = Speed::kFibers;
  return subject;
}

/// Emulated tensor cores.
Subject tensor_fibers(const char* name, const Machine& (*machine)(), Precision precision) {
  Subject subject = fibers(name, machine);
  subject.max_width = 64;
  subject.precision = precision;
  subject.rounding = precision == Precision::kBf16 ? 0x1p-8 : 0x1p-11;  // 8 and 11 significant bits
  return subject;
}

}  // namespace

const std::vector<Subject>& subjects() {
  static const std::vector<Subject> all = {
#if PERILUNE_BUILD_LEVEL_v4
    cpu_level("CpuV4", joined_machine<v4::level_machine, v4::point_mass_machine>,
              [] { return std::string(processor_has_v4() ? "" : "this CPU lacks AVX-512"); }),
    cpu_bf16("CpuV4Bf16", joined_machine<v4::level_machine, v4::point_mass_machine>),
#endif
#if PERILUNE_BUILD_LEVEL_v3
    cpu_level("CpuV3", joined_machine<v3::level_machine, v3::point_mass_machine>,
              [] { return std::string(processor_has_v3() ? "" : "this CPU lacks AVX2"); }),
#endif
#if PERILUNE_BUILD_LEVEL_portable
    cpu_level("CpuPortable", joined_machine<portable::level_machine, portable::point_mass_machine>, nothing_missing),
#endif
    fibers("FibersForward", forward_fiber_machine),
    fibers("FibersReverse", reverse_fiber_machine),
    tensor_fibers("FibersForwardTf32", forward_fiber_machine, Precision::kTf32),
    tensor_fibers("FibersReverseTf32", reverse_fiber_machine, Precision::kTf32),
    tensor_fibers("FibersForwardBf16", forward_fiber_machine, Precision::kBf16),
    tensor_fibers("FibersReverseBf16", reverse_fiber_machine, Precision::kBf16),
  };
  return all;
}

bool gpu_required() { return false; }

}  // namespace test
}  // namespace perilune
