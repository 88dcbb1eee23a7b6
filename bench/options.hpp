// What benchmarks have in common as programs: numbers among their options, and what becomes of errors.
#pragma once

#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune::bench {

inline int count_option(std::string_view option, std::string_view text) {
  constexpr std::int64_t kMost = 1 << 30;
  const std::optional<std::int64_t> number = read_integer(text);
  if (number && *number >= 1 && *number <= kMost) return static_cast<int>(*number);
  throw UsageError(
      formatted("{} {} is not possible - allowed: a whole number, 1 .. {}", option, in_quotes(text), kMost));
}

inline double seconds_option(std::string_view option, std::string_view text) {
  const std::optional<double> number = read_number(text);
  if (number && *number >= 0.0 && *number <= 1e6) return *number;
  throw UsageError(formatted("{} {} is not possible - allowed: a number, 0 .. 1000000", option, in_quotes(text)));
}

// main(): the exit status of run, or of the error that it throws, which is told.
inline int run_bench(const char* name, int (*run)(int, char**), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

}  // namespace perilune::bench
