// Numbers among the benchmarks' options.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "host/error.hpp"
#include "host/format.hpp"
#include "host/text.hpp"

namespace perilune::bench {

inline int count_option(std::string_view option, std::string_view text) {
  constexpr std::int64_t kMost = 1 << 30;
  const std::optional<std::int64_t> number = read_integer(text);
  if (number && *number >= 1 && *number <= kMost) return static_cast<int>(*number);
  throw UsageError(formatted("{} {} is not possible - allowed: a whole number, 1 .. {}", option, in_quotes(text), kMost));
}

inline double seconds_option(std::string_view option, std::string_view text) {
  const std::optional<double> number = read_number(text);
  if (number && *number >= 0.0 && *number <= 1e6) return *number;
  throw UsageError(formatted("{} {} is not possible - allowed: a number, 0 .. 1000000", option, in_quotes(text)));
}

}  // namespace perilune::bench
