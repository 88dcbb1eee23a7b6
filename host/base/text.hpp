// Small text helpers that more than one part of the host needs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace perilune {

// The shortest decimal text that reads back as exactly this double, in the C locale.
std::string shortest_text(double value);

// The whole of `text` as a decimal number in the C locale. As in TOML, a '+' may lead and single underscores may stand
// between digits: 1_000_000. "inf" and "nan" are numbers.
std::optional<double> read_number(std::string_view text);
// The same without a point or an exponent.
std::optional<std::int64_t> read_integer(std::string_view text);

// The candidate with the smallest edit distance to `text`, upper and lower case alike; among equals
// the one that shares the longest beginning with it. `candidates` must not be empty.
std::string_view nearest(std::string_view text, std::span<const std::string_view> candidates);

// "a, b, c".
std::string joined(std::span<const std::string_view> words, std::string_view between = ", ");

// "1, 2, 3".
template <class Numbers>
requires std::is_integral_v<typename Numbers::value_type> std::string joined(const Numbers& numbers,
                                                                             std::string_view between = ", ") {
  std::string text;
  for (const auto number : numbers) {
    if (!text.empty()) text += between;
    text += std::to_string(number);
  }
  return text;
}

// `text` in quotes, with control characters escaped and cut to a readable length: for messages that
// show input.
std::string in_quotes(std::string_view text);

}  // namespace perilune
