// Box2dFloat: a float for the simulators whose sine and cosine are the C library's, and whose
// tasks are computed in float64: the arithmetic of Gymnasium's environments on Box2D, so
// that recorded episodes can be replayed to the bit. For replays alone: it is slow, and only as
// portable as a C library's last bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "sims/math.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

struct Box2dFloat {
  float value;

  Box2dFloat() = default;
  Box2dFloat(float x) : value(x) {}
  explicit Box2dFloat(double x) : value(static_cast<float>(x)) {}
  explicit Box2dFloat(std::int32_t x) : value(static_cast<float>(x)) {}
  explicit operator double() const { return static_cast<double>(value); }

  friend Box2dFloat operator+(Box2dFloat a, Box2dFloat b) { return a.value + b.value; }
  friend Box2dFloat operator-(Box2dFloat a, Box2dFloat b) { return a.value - b.value; }
  friend Box2dFloat operator*(Box2dFloat a, Box2dFloat b) { return a.value * b.value; }
  friend Box2dFloat operator/(Box2dFloat a, Box2dFloat b) { return a.value / b.value; }
  Box2dFloat operator-() const { return -value; }
  friend bool operator<(Box2dFloat a, Box2dFloat b) { return a.value < b.value; }
  friend bool operator<=(Box2dFloat a, Box2dFloat b) { return a.value <= b.value; }
  friend bool operator>(Box2dFloat a, Box2dFloat b) { return a.value > b.value; }
  friend bool operator>=(Box2dFloat a, Box2dFloat b) { return a.value >= b.value; }
  friend bool operator==(Box2dFloat a, Box2dFloat b) { return a.value == b.value; }
  friend bool operator!=(Box2dFloat a, Box2dFloat b) { return a.value != b.value; }
};

template <>
struct RealTraits<Box2dFloat> {
  using UInt = std::uint32_t;
  using Int = std::int32_t;
  using Mask = bool;
  static constexpr bool kIsDouble = false;
};

inline Box2dFloat select(bool mask, Box2dFloat a, Box2dFloat b) { return mask ? a : b; }
inline Box2dFloat min(Box2dFloat a, Box2dFloat b) { return a.value < b.value ? a : b; }
inline Box2dFloat max(Box2dFloat a, Box2dFloat b) { return a.value > b.value ? a : b; }
inline Box2dFloat lookup(const Box2dFloat* table, std::int32_t index) { return table[index]; }
inline Box2dFloat sqrt(Box2dFloat x) { return std::sqrt(x.value); }
inline Box2dFloat abs(Box2dFloat x) { return std::fabs(x.value); }
inline std::int32_t to_int(Box2dFloat x) { return static_cast<std::int32_t>(x.value); }

namespace math {
template <>
inline SinCos<Box2dFloat> sincos(Box2dFloat x) {
  return {std::sin(x.value), std::cos(x.value)};
}
}  // namespace math

template <>
struct TaskNumber<Box2dFloat> {
  using Type = double;
};

}  // namespace perilune::inline PERILUNE_LEVEL
