// bf16 as bits, for tests: rounding from double, and matrices in the layouts of dense_bf16_cpu.hpp.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/support/reference.hpp"

namespace perilune::test {

inline double from_bits(std::uint16_t bits) {
  return double{std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16)};
}

/// The nearest number with 8 significant bits, ties to even; for normal results.
inline double round_to_bf16(double x) {
  if (x == 0.0) return 0.0;
  int exponent = 0;
  const double scaled = std::ldexp(std::frexp(x, &exponent), 8);  // 128 <= |scaled| < 256
  return std::ldexp(std::nearbyint(scaled), exponent - 8);
}

inline std::uint16_t to_bits(double x) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(round_to_bf16(x))) >> 16);
}

/// Largest relative error of one rounding: half a step just above a power of two.
inline constexpr double kBf16Rounding = 0x1p-8;

/// Memory as the kernels want it: aligned to a register.
template <class T>
class Aligned {
 public:
  explicit Aligned(int n, T value = T{}) : blocks_((at(n) * sizeof(T) + 63) / 64), size_(n) {
    for (int i = 0; i < n; ++i) data()[i] = value;
  }
  T* data() { return reinterpret_cast<T*>(blocks_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(blocks_.data()); }
  T& operator[](int i) { return data()[i]; }
  const T& operator[](int i) const { return data()[i]; }
  int size() const { return size_; }

 private:
  struct alignas(64) Block {
    unsigned char bytes[64];
  };
  std::vector<Block> blocks_;
  int size_;
};

/// A matrix [rows][columns] of numbers that bf16 holds exactly, between -1 and 1.
struct Bf16Matrix {
  int rows, columns;
  Vector values;

  Bf16Matrix(int r, int c, Draws& draws) : rows(r), columns(c) {
    for (int i = 0; i < r * c; ++i) values.push_back(round_to_bf16(draws.uniform(-1.0, 1.0)));
  }
  double operator()(int r, int c) const { return values[at(r * columns + c)]; }

  Aligned<std::uint16_t> as_rows() const {
    Aligned<std::uint16_t> result(rows * columns);
    for (int i = 0; i < rows * columns; ++i) result[i] = to_bits(values[at(i)]);
    return result;
  }
  /// [rows / 2][columns][2]
  Aligned<std::uint16_t> as_pairs() const {
    Aligned<std::uint16_t> result(rows * columns);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) {
        result[r / 2 * 2 * columns + 2 * c + r % 2] = to_bits((*this)(r, c));
      }
    }
    return result;
  }
};

}  // namespace perilune::test
