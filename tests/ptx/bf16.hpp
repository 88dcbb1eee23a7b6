// Arithmetic on bf16 numbers, as PTX defines it: rounded once, to nearest, ties to even; subnormal numbers are kept, and a
// result that is no number is 7FFF.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/machine/tensor_core_emulation.hpp"

namespace perilune::ptx::bf16 {

using Half = std::uint16_t;

inline float value(Half x) { return std::bit_cast<float>(std::uint32_t{x} << 16); }

/// Rounded to odd on the way (what is cut off sets the last bit), which makes the second rounding the only one.
inline Half rounded(double sum, double error) {
  if (sum != sum) return 0x7FFF;
  if (error != 0.0) {
    auto bits = std::bit_cast<std::uint64_t>(sum);
    if (bits % 2 == 0) bits += (error > 0.0) == (sum > 0.0) ? std::uint64_t{1} : ~std::uint64_t{0};
    sum = std::bit_cast<double>(bits);
  }
  auto narrow = static_cast<float>(sum);
  if (static_cast<double>(narrow) != sum) {
    if (std::abs(static_cast<double>(narrow)) > std::abs(sum)) narrow = std::nextafter(narrow, 0.0f);
    narrow = std::bit_cast<float>(std::bit_cast<std::uint32_t>(narrow) | 1u);
  }
  return static_cast<Half>(std::bit_cast<std::uint32_t>(EmulatedTensorCore::round_bf16(narrow)) >> 16);
}

inline Half fma(Half a, Half b, Half c) {
  const double product = static_cast<double>(value(a)) * static_cast<double>(value(b));  // exact
  const double addend = value(c), sum = product + addend;
  const double part = sum - product;
  const double error = (product - (sum - part)) + (addend - part);
  return rounded(sum, std::isfinite(sum) ? error : 0.0);
}
inline constexpr Half kOne = 0x3F80, kSign = 0x8000;
inline Half add(Half a, Half b) { return fma(a, kOne, b); }
inline Half sub(Half a, Half b) { return fma(b, kOne ^ kSign, a); }
inline Half mul(Half a, Half b) { return fma(a, b, kSign); }
inline Half neg(Half a) { return static_cast<Half>(a ^ kSign); }
inline Half abs(Half a) { return static_cast<Half>(a & ~kSign); }

}  // namespace perilune::ptx::bf16
