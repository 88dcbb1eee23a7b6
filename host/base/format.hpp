// Text from fmt's format strings, which are checked when they are compiled. What fills them in is compiled once, in
// format.cpp: with <fmt/format.h> each source file took two to three seconds longer.
#pragma once

#include <string>

#include <fmt/core.h>

namespace perilune {

std::string filled(fmt::string_view text, fmt::format_args values);

// Not `format`: arguments of the standard library would bring std::format beside it.
template <class... Values>
std::string formatted(fmt::format_string<Values...> text, Values&&... values) {
  return filled(text, fmt::make_format_args(values...));
}

}  // namespace perilune
