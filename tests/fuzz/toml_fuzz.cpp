// Any bytes as a configuration file: either UsageError and an untouched configuration, or one that
// is written and read back as itself.
//
// As libFuzzer program: cmake --preset fuzz && cmake --build --preset fuzz, then build/fuzz/toml_fuzz
// -max_total_time=120 <new inputs> <corpus>.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "host/base/error.hpp"
#include "host/settings/config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace perilune;
  Config config;
  try {
    apply_toml(config, {reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const UsageError&) {
    if (config != Config()) std::abort();
    return 0;
  }
  Config again;
  apply_toml(again, to_toml(config), "written");
  if (to_toml(again) != to_toml(config)) std::abort();
  try {
    constexpr std::array kWidths = {16, 32, 64, 128};
    validate(config, kWidths);
  } catch (const UsageError&) {
  }
  return 0;
}
