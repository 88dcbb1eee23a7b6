// Words and numbers of PTX.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace perilune::ptx {

inline std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\n\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n\r") - begin + 1);
}

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline bool is_name(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%' ||
         c == '.';
}

/// Words of a text, without what stands between them.
inline std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t i = 0; i < text.size();) {
    if (!is_name(text[i])) {
      ++i;
      continue;
    }
    const std::size_t begin = i;
    while (i < text.size() && is_name(text[i])) ++i;
    words.push_back(text.substr(begin, i - begin));
  }
  return words;
}

template <class T>
bool parse_number(std::string_view text, T& value, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

/// 12, -4, 0x1F, 0f3F800000, 0d3FF0000000000000: its bits.
inline bool parse_literal(std::string_view text, std::uint64_t& bits) {
  if (text.empty()) return false;
  if (text.starts_with("0f") || text.starts_with("0F"))
    return text.size() == 10 && parse_number(text.substr(2), bits, 16);
  if (text.starts_with("0d") || text.starts_with("0D"))
    return text.size() == 18 && parse_number(text.substr(2), bits, 16);
  const bool negative = text[0] == '-';
  if (negative) text.remove_prefix(1);
  if (text.ends_with("U")) text.remove_suffix(1);
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  if (!parse_number(hexadecimal ? text.substr(2) : text, bits, hexadecimal ? 16 : 10)) return false;
  if (negative) bits = ~bits + 1;
  return true;
}

/// The class of registers of a type (".b32"), or 0.
inline char class_of(std::string_view type) {
  if (type == ".pred") return 'p';
  if (type.size() < 3 || type[0] != '.' || std::string_view("bsuf").find(type[1]) == std::string_view::npos) return 0;
  const std::string_view bits = type.substr(2);
  return bits == "64" ? 'd' : bits == "32" ? 'w' : bits == "16" ? 'h' : bits == "8" ? 'b' : '\0';
}
inline std::int32_t bytes_of_class(char register_class) {
  return register_class == 'd' ? 8 : register_class == 'w' ? 4 : register_class == 'h' ? 2 : 1;
}

}  // namespace perilune::ptx
