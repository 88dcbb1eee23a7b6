// sin, cos, exp, log and tanh over the number type, with the same bits on every machine.
//
// For float (and packs of floats) these are polynomials of our own: only + - * /, integer
// operations and select, no fused multiply-add and no branch, so that a CPU core, a SIMD lane and a
// GPU thread give the same result. For double they are the standard library's functions: double
// exists for tests against float64 references only.
//
// Error against double (1 ulp is the spacing of floats at the exact result), measured over every
// float from 2^-14 to the end of the range (log: 1/4 to 4) and every 97th or sparser elsewhere;
// tests/sims/math_test.cpp samples the same ranges:
//
//   function        range        error                    beyond the range, and for Inf
//   sincos_reduced  |x| <= pi/4  sin .78 ulp, cos 1.25    grows smoothly with |x|
//   sin, cos        |x| <= 1e4   9.5e-8 absolute          meaningless; +-Inf -> NaN
//   exp             every float  1.02 ulp                 Inf, subnormals and 0 as IEEE rounds
//   log             every float  .86 ulp                  0 -> -Inf, negative -> NaN, Inf -> Inf
//   tanh            every float  6.2 ulp, 3.7e-7 abs.     |result| < 1 always, also for +-Inf
//
// NaN gives NaN, everywhere; which NaN (sign, payload) differs between machines.
// The coefficients are minimax fits (Remez exchange in 50 digits) to the function with its leading
// terms taken out. Ranges are reduced with constants split so that their products with the integer
// are exact (Cody and Waite 1980).
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "sims/portable.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL::math {

/// The scalar that mixes with a number type: float for float and packs, double for double.
template <class Real>
using Scalar = std::conditional_t<RealTraits<Real>::kIsDouble, double, float>;

/// A compile-time constant at the number type's own precision, so that no double arithmetic reaches
/// float code.
template <class Real>
PERILUNE_HD constexpr Scalar<Real> constant(double value) {
  return static_cast<Scalar<Real>>(value);
}

/// x / divisor for a compile-time divisor: exact for double, a product with the rounded reciprocal
/// (within 1.5 ulp) for float, because divisions would dominate a simulator's cost.
template <class Real>
PERILUNE_HD Real divide_by_constant(Real x, double divisor) {
  if constexpr (RealTraits<Real>::kIsDouble) {
    return x / divisor;
  } else {
    return x * constant<Real>(1.0 / divisor);
  }
}

/// The greatest integer that is not above x; |x| < 2^31.
template <class Real>
PERILUNE_HD Real floor(Real x) {
  const Real truncated = to_real<Real>(to_int(x));
  return select(truncated > x, truncated - Real(1.0f), truncated);
}

template <class Real>
struct SinCos {
  Real sin;
  Real cos;
};

/// Sine and cosine of an angle that the caller knows to lie in |x| <= pi/4.
template <class Real>
PERILUNE_HD SinCos<Real> sincos_reduced(Real x) {
  if constexpr (RealTraits<Real>::kIsDouble) {
    return {std::sin(x), std::cos(x)};
  } else {
    const Real z = x * x;
    const Real s = (-0.000195156918f * z + 0.00833216663f) * z + -0.166666548f;
    const Real c = (2.4436649e-05f * z + -0.00138873523f) * z + 0.0416666466f;
    return {x + x * (z * s), (1.0f - 0.5f * z) + (z * z) * c};
  }
}

/// Sine and cosine of the same angle, sharing the reduction to [-pi/4, pi/4].
template <class Real>
PERILUNE_HD SinCos<Real> sincos(Real x) {
  if constexpr (RealTraits<Real>::kIsDouble) {
    return {std::sin(x), std::cos(x)};
  } else {
    // Adding 1.5 * 2^23 leaves round(x * 2 / pi) in the low mantissa bits.
    constexpr float kRound = 12582912.0f;
    const Real shifted = x * 0.636619772f + kRound;
    const Real turns = shifted - kRound;
    // pi/2 in parts of 11, 11 and 24 bits: the first two products are exact for |x| <= 1e4.
    const Real r = ((x - turns * 1.5703125f) - turns * 0.000483751297f) - turns * 7.54979013e-08f;
    const SinCos<Real> y = sincos_reduced(r);

    const UInt<Real> quadrant = as_uint(shifted);
    const UInt<Real> sin_bits = as_uint(y.sin);
    const UInt<Real> cos_bits = as_uint(y.cos);
    const UInt<Real> odd = UInt<Real>(0u) - (quadrant & UInt<Real>(1u));
    const UInt<Real> exchange = (sin_bits ^ cos_bits) & odd;
    const UInt<Real> sin_sign = (quadrant & UInt<Real>(2u)) << 30;
    const UInt<Real> cos_sign = ((quadrant + UInt<Real>(1u)) & UInt<Real>(2u)) << 30;
    return {as_float((sin_bits ^ exchange) ^ sin_sign), as_float((cos_bits ^ exchange) ^ cos_sign)};
  }
}

template <class Real>
PERILUNE_HD Real sin(Real x) {
  return sincos(x).sin;
}

template <class Real>
PERILUNE_HD Real cos(Real x) {
  return sincos(x).cos;
}

template <class Real>
PERILUNE_HD Real exp(Real x) {
  if constexpr (RealTraits<Real>::kIsDouble) {
    return std::exp(x);
  } else {
    constexpr float kRound = 12582912.0f;
    // Beyond these the result is 0 or Inf anyway; written so that a NaN passes.
    const Real low = select(x < Real(-104.0f), Real(-104.0f), x);
    const Real clamped = select(low > Real(89.0f), Real(89.0f), low);
    const Real shifted = clamped * 1.44269504f + kRound;
    const Real n = shifted - kRound;
    const Real r = (clamped - n * 0.693145752f) - n * 1.42860682e-06f;
    Real p = 0.00139507253f * r + 0.00836902485f;
    p = p * r + 0.0416662023f;
    p = p * r + 0.166665177f;
    p = p * r + 0.50000001f;
    p = 1.0f + (r + (r * r) * p);
    // 2^n in two factors, so that n = 128 and subnormal results need no special case.
    const UInt<Real> biased = as_uint(shifted) - UInt<Real>(0x4b400000u - 254u);
    const UInt<Real> half = biased >> 1;
    return (p * as_float(half << 23)) * as_float((biased - half) << 23);
  }
}

template <class Real>
PERILUNE_HD Real log(Real x) {
  if constexpr (RealTraits<Real>::kIsDouble) {
    return std::log(x);
  } else {
    const auto subnormal = x < Real(1.17549435e-38f);
    const Real normal = select(subnormal, x * 8388608.0f, x);
    const Real bias = select(subnormal, Real(150.0f), Real(127.0f));
    // x = 2^e * m with m in [sqrt(1/2), sqrt(2)); 0x3f3504f3 is sqrt(1/2).
    const UInt<Real> bits = as_uint(normal) + UInt<Real>(0x3f800000u - 0x3f3504f3u);
    const Real e = to_real<Real>(bits >> 23) - bias;
    const Real f = as_float((bits & UInt<Real>(0x007fffffu)) + UInt<Real>(0x3f3504f3u)) - 1.0f;
    const Real z = f * f;
    Real p = -0.0763455643f * f + 0.127616067f;
    p = p * f + -0.131601725f;
    p = p * f + 0.142017539f;
    p = p * f + -0.166233583f;
    p = p * f + 0.20001227f;
    p = p * f + -0.25000821f;
    p = p * f + 0.333333317f;
    const Real tail = ((f * z) * p + e * 1.42860682e-06f) - 0.5f * z;
    const Real y = (f + tail) + e * 0.693145752f;
    const Real infinity(__builtin_inff());
    const Real special = select(x == Real(0.0f), Real(0.0f) - infinity, Real(__builtin_nanf("")));
    return select(x > Real(0.0f), select(x < infinity, y, infinity), special);
  }
}

template <class Real>
PERILUNE_HD Real tanh(Real x) {
  if constexpr (RealTraits<Real>::kIsDouble) {
    return std::tanh(x);
  } else {
    // Beyond 7.9 tanh(x) is within 2.8e-7 of 1; written so that a NaN passes.
    const Real low = select(x < Real(-7.9f), Real(-7.9f), x);
    const Real clamped = select(low > Real(7.9f), Real(7.9f), low);
    const Real z = clamped * clamped;
    Real p = 1.54277081e-08f * z + 2.20230685e-05f;
    p = p * z + 0.00357898176f;
    p = p * z + 0.134506121f;
    p = p * z + 1.0f;
    Real q = 8.59867634e-07f * z + 0.000342363346f;
    q = q * z + 0.0261921993f;
    q = q * z + 0.467839401f;
    q = q * z + 1.0f;
    return (clamped * p) / q;
  }
}

}  // namespace perilune::inline PERILUNE_LEVEL::math
