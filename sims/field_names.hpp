// Names of a state's fields, put together at compile time from the names of its parts.
#pragma once

#include <array>
#include <cstddef>

namespace perilune {

/// Room for kCount names, filled by add(); pointers() are what an environment's kFieldNames asks for.
template <std::size_t kCount>
struct FieldNames {
  static constexpr std::size_t kLongest = 47;
  char text[kCount][kLongest + 1] = {};
  std::size_t count = 0;

  /// Appends the parts as one name.
  template <class... Parts>
  constexpr void add(const Parts&... parts) {
    std::size_t length = 0;
    for (const char* part : {static_cast<const char*>(parts)...}) {
      for (; *part != '\0'; ++part) text[count][length++] = *part;
    }
    ++count;
  }
  /// Appends prefix + name for each of the names.
  template <std::size_t kNames>
  constexpr void add_all(const char* prefix, const char* const (&names)[kNames]) {
    for (const char* name : names) add(prefix, name);
  }
  /// Appends prefix + 0, prefix + 1, ...
  constexpr void add_numbered(const char* prefix, int how_many) {
    for (int i = 0; i < how_many; ++i) {
      char digits[12] = {};
      std::size_t length = 1;
      for (int rest = i / 10; rest > 0; rest /= 10) ++length;
      int rest = i;
      for (std::size_t d = length; d > 0; --d, rest /= 10) digits[d - 1] = static_cast<char>('0' + rest % 10);
      add(prefix, digits);
    }
  }
};

/// `names` must live as long as the program.
template <std::size_t kCount>
constexpr std::array<const char*, kCount> pointers(const FieldNames<kCount>& names) {
  std::array<const char*, kCount> result = {};
  for (std::size_t i = 0; i < kCount; ++i) result[i] = names.text[i];
  return result;
}

}  // namespace perilune
