#include "host/device/processor.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstring>

#include "host/base/format.hpp"

namespace perilune {

Processor this_processor() {
  Processor processor;
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  char vendor[12];
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return processor;
  std::memcpy(vendor, &b, 4);
  std::memcpy(vendor + 4, &d, 4);
  std::memcpy(vendor + 8, &c, 4);
  processor.vendor.assign(vendor, sizeof vendor);
  __get_cpuid(1, &a, &b, &c, &d);
  const auto bits = [&](int first, unsigned mask) { return static_cast<int>(a >> first & mask); };
  processor.family = bits(8, 0xF) == 0xF ? 0xF + bits(20, 0xFF) : bits(8, 0xF);
  processor.model = bits(4, 0xF) | bits(16, 0xF) << 4;
#endif
  return processor;
}

std::string processor_name(const Processor& processor) {
  if (processor.vendor.empty()) return "a processor without CPUID";
  return formatted("{} family {} model {}", processor.vendor, processor.family, processor.model);
}

// A table and no timing at start-up: a run on the same machine must get the same bits, whatever else the machine does.
// Where AMD's family 25 has AVX512_BF16 it is Zen 4, whose units take a dot product as often as a fused multiply-add of
// half as many factors. GenuineIntel family 6 model 207 takes them so much more seldom that fp32 wins. Steps per second
// in bf16 against fp32, whole training, 2 layers:
//   Zen 4, one core             minibatch   4     16    32    64    128   256   2048
//                               width 32    1.15  1.19  1.29  1.29  1.41  1.46  1.61
//                               width 64    1.23  1.38  1.51  1.45  1.59  1.65  1.73
//                               width 128   1.23  1.39  1.53  1.48  1.63  1.69  1.79
//   family 6 model 207, 2 cores  width 64, 1024 environments x 128 steps: 0.65 (601 k of 926 k)
// It learns as well as fp32 (bench/precision.py).
bool bf16_is_faster(const Processor& processor) { return processor.vendor == "AuthenticAMD" && processor.family == 25; }

}  // namespace perilune
