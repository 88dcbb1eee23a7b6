// The number vocabulary of simulators and kernel bodies, for plain float and double.
//
// Code is a template over Real: float (one environment per CUDA thread or test fiber), Pack (16 environments in the
// lanes of a SIMD register, kernels/machine/pack.hpp) or double (tests against float64 references). These are the
// only operations it may use besides + - * / and comparisons; Pack provides the same names, found by argument lookup.
// Instead of `if` on a per-environment condition, write select(mask, a, b).
#pragma once

#include <cstdint>
#include <cstring>

#include "sims/portable.hpp"

#ifndef __CUDA_ARCH__
#include <cmath>
#endif

namespace perilune::inline PERILUNE_LEVEL {

/// Whether this compiler makes packs: nvcc gives each environment a thread.
#ifdef __CUDACC__
inline constexpr bool kHasPacks = false;
#else
inline constexpr bool kHasPacks = true;
#endif

/// The types that go with a number type: a 32-bit unsigned, a 32-bit signed, and a truth value per environment.
template <class Real>
struct RealTraits;

template <>
struct RealTraits<float> {
  using UInt = std::uint32_t;
  using Int = std::int32_t;
  using Mask = bool;
  static constexpr bool kIsDouble = false;
};

template <>
struct RealTraits<double> {
  using UInt = std::uint32_t;
  using Int = std::int32_t;
  using Mask = bool;
  static constexpr bool kIsDouble = true;
};

/// What a task around a physics engine is computed in: draws come in it, and results are rounded to Real.
template <class Real>
struct TaskNumber {
  using Type = Real;
};
template <class Real>
using Number = typename TaskNumber<Real>::Type;

template <class Real>
using UInt = typename RealTraits<Real>::UInt;
template <class Real>
using Int = typename RealTraits<Real>::Int;
template <class Real>
using Mask = typename RealTraits<Real>::Mask;

PERILUNE_HD float select(bool mask, float a, float b) { return mask ? a : b; }
PERILUNE_HD double select(bool mask, double a, double b) { return mask ? a : b; }
PERILUNE_HD std::int32_t select(bool mask, std::int32_t a, std::int32_t b) { return mask ? a : b; }
PERILUNE_HD std::uint32_t select(bool mask, std::uint32_t a, std::uint32_t b) { return mask ? a : b; }
PERILUNE_HD bool any(bool mask) { return mask; }
PERILUNE_HD bool all(bool mask) { return mask; }

PERILUNE_HD float min(float a, float b) { return a < b ? a : b; }
PERILUNE_HD double min(double a, double b) { return a < b ? a : b; }
PERILUNE_HD float max(float a, float b) { return a > b ? a : b; }
PERILUNE_HD double max(double a, double b) { return a > b ? a : b; }

/// table[index]. Each environment has a table and an index of its own.
PERILUNE_HD float lookup(const float* table, std::int32_t index) { return table[index]; }
PERILUNE_HD double lookup(const double* table, std::int32_t index) { return table[index]; }

/// Correctly rounded square root.
PERILUNE_HD float sqrt(float x) { return __builtin_sqrtf(x); }
PERILUNE_HD double sqrt(double x) { return __builtin_sqrt(x); }
PERILUNE_HD float abs(float x) { return __builtin_fabsf(x); }
PERILUNE_HD double abs(double x) { return __builtin_fabs(x); }

/// a * b + c, fused where the machine has the instruction: for network arithmetic only, never in a simulator, because
/// its last bit differs between machines.
PERILUNE_HD float mul_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
PERILUNE_HD double mul_add(double a, double b, double c) { return a * b + c; }

/// The high 32 bits of the 64-bit product.
PERILUNE_HD std::uint32_t mul_hi(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>((static_cast<std::uint64_t>(a) * b) >> 32);
}

PERILUNE_HD std::uint32_t as_uint(float x) {
  std::uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
PERILUNE_HD float as_float(std::uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/// Conversions between the number and its integers. to_int truncates towards zero and needs |x| < 2^31.
template <class Real>
PERILUNE_HD Real to_real(std::uint32_t x) {
  return static_cast<Real>(x);
}
template <class Real>
PERILUNE_HD Real to_real(std::int32_t x) {
  return static_cast<Real>(x);
}
PERILUNE_HD std::int32_t to_int(float x) { return static_cast<std::int32_t>(x); }
PERILUNE_HD std::int32_t to_int(double x) { return static_cast<std::int32_t>(x); }
PERILUNE_HD std::uint32_t to_uint(std::int32_t x) { return static_cast<std::uint32_t>(x); }

}  // namespace perilune::inline PERILUNE_LEVEL
