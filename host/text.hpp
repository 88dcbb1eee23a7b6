// Small text helpers that more than one part of the host needs.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace perilune {

// The shortest decimal text that reads back as exactly this double, in the C locale.
std::string shortest_text(double value);

// The candidate with the smallest edit distance to `text`, upper and lower case alike; among equals
// the one that shares the longest beginning with it. `candidates` must not be empty.
std::string_view nearest(std::string_view text, std::span<const std::string_view> candidates);

// "a, b, c".
std::string joined(std::span<const std::string_view> words);

// `text` in quotes, with control characters escaped and cut to a readable length: for messages that
// show input.
std::string in_quotes(std::string_view text);

}  // namespace perilune
