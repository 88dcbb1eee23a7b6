// A JSON value that is built to be written. Its text is made by nlohmann's library, which only json.cpp includes: every
// other file that built values with it took four seconds longer to compile.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace perilune {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // in the order in which they were added

  Json() = default;  // null
  Json(std::nullptr_t) {}
  template <class Number>
  requires std::is_arithmetic_v<Number> Json(Number number) : value_(widest(number)) {}
  Json(std::string_view text) : value_(std::string(text)) {}
  Json(const std::string& text) : value_(text) {}
  Json(const char* text) : value_(std::string(text)) {}
  template <class Range>
  requires(!std::convertible_to<Range, std::string_view>) && requires { typename Range::value_type; }
  Json(const Range& values) : value_(Array(values.begin(), values.end())) {}
  // An object if every value is a pair whose first is text, {{"a", 1}, {"b", 2}}; an array otherwise.
  Json(std::initializer_list<Json> values);
  static Json array();
  static Json object();

  // The member of this name, added where there is none. What is null becomes an object.
  Json& operator[](std::string_view name);
  // What is null becomes an array.
  void push_back(Json value);

  // Numbers that are not finite become null, bytes that are not UTF-8 are replaced. On one line if `indent` is
  // negative.
  std::string dump(int indent = -1) const;

 private:
  using Value = std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Array, Object>;

  template <class Number>
  static auto widest(Number number) {
    if constexpr (std::is_same_v<Number, bool>) {
      return number;
    } else if constexpr (std::is_floating_point_v<Number>) {
      return static_cast<double>(number);
    } else if constexpr (std::is_signed_v<Number>) {
      return static_cast<std::int64_t>(number);
    } else {
      return static_cast<std::uint64_t>(number);
    }
  }
  bool is_member() const;

  Value value_;
  friend struct JsonText;
};

}  // namespace perilune
