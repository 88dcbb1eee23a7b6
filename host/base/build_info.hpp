// What this program was built from and with: shown by `perilune info` and written into run directories and benchmarks.
// No dates, so that the same source gives the same program.
#pragma once

#include <string_view>

namespace perilune {

struct BuildInfo {
  std::string_view version;     // "0.1.0"
  std::string_view commit;      // of the source tree when it was built; "unknown" without its history
  std::string_view compiler;    // "GNU 12.2.0"
  std::string_view cuda;        // the toolkit's version, "13.0.88", or "none"
  std::string_view gpus;        // whose machine code is in it, "sm_86 sm_89", or "none"
  std::string_view no_cuda;     // why there are no GPU kernels, "no GPU was found"; empty where there are
  std::string_view build_type;  // "Release"
};

const BuildInfo& build_info();

}  // namespace perilune
