// A number that shows at compile time what a simulator may not do with numbers that are several at once.
//
// ProbeReal, its integers and its mask have the operations of sims/real.hpp as Pack has them
// (kernels/machine/pack.hpp), but no values: they are declared and never defined. concept Env (sims/env.hpp) compiles
// every environment over them, so that an `if` on a number's comparison is an error where the environment is declared
// one.
#pragma once

#include <concepts>
#include <cstdint>

#include "sims/math.hpp"
#include "sims/portable.hpp"
#include "sims/real.hpp"

namespace perilune::inline PERILUNE_LEVEL {

struct ProbeMask {
  ProbeMask();
  ProbeMask(bool);
  friend ProbeMask operator&&(ProbeMask, ProbeMask);
  friend ProbeMask operator||(ProbeMask, ProbeMask);
  friend ProbeMask operator&(ProbeMask, ProbeMask);
  friend ProbeMask operator|(ProbeMask, ProbeMask);
  friend ProbeMask operator^(ProbeMask, ProbeMask);
  ProbeMask operator!() const;

  /// `if`, `while`, `?:` and std::max ask for a bool.
  template <std::same_as<bool> T>
  operator T() const {
    static_assert(
        !std::same_as<T, bool>,
        "an environment may be one of several in a SIMD register: choose with select(mask, a, b), not with if "
        "(to skip work that no environment needs: if (any(mask)))");
    return false;
  }
};

#define PERILUNE_PROBE_COMPARISONS(type)   \
  friend ProbeMask operator<(type, type);  \
  friend ProbeMask operator<=(type, type); \
  friend ProbeMask operator>(type, type);  \
  friend ProbeMask operator>=(type, type); \
  friend ProbeMask operator==(type, type); \
  friend ProbeMask operator!=(type, type);

#define PERILUNE_PROBE_INTEGER(type, scalar) \
  type() = default;                          \
  type(scalar);                              \
  friend type operator+(type, type);         \
  friend type operator-(type, type);         \
  friend type operator*(type, type);         \
  friend type operator&(type, type);         \
  friend type operator|(type, type);         \
  friend type operator^(type, type);         \
  friend type operator<<(type, int);         \
  friend type operator>>(type, int);         \
  type operator~() const;                    \
  type& operator+=(type);                    \
  PERILUNE_PROBE_COMPARISONS(type)

struct ProbeReal {
  ProbeReal() = default;
  ProbeReal(float);
  friend ProbeReal operator+(ProbeReal, ProbeReal);
  friend ProbeReal operator-(ProbeReal, ProbeReal);
  friend ProbeReal operator*(ProbeReal, ProbeReal);
  friend ProbeReal operator/(ProbeReal, ProbeReal);
  ProbeReal operator-() const;
  ProbeReal& operator+=(ProbeReal);
  ProbeReal& operator-=(ProbeReal);
  ProbeReal& operator*=(ProbeReal);
  PERILUNE_PROBE_COMPARISONS(ProbeReal)
};

struct ProbeUInt {
  PERILUNE_PROBE_INTEGER(ProbeUInt, std::uint32_t)
};

struct ProbeInt {
  ProbeInt operator-() const;
  PERILUNE_PROBE_INTEGER(ProbeInt, std::int32_t)
};

#undef PERILUNE_PROBE_COMPARISONS
#undef PERILUNE_PROBE_INTEGER

template <>
struct RealTraits<ProbeReal> {
  using UInt = ProbeUInt;
  using Int = ProbeInt;
  using Mask = ProbeMask;
  static constexpr bool kIsDouble = false;
};

ProbeReal select(ProbeMask, ProbeReal, ProbeReal);
ProbeUInt select(ProbeMask, ProbeUInt, ProbeUInt);
ProbeInt select(ProbeMask, ProbeInt, ProbeInt);
bool any(ProbeMask);
bool all(ProbeMask);
ProbeReal min(ProbeReal, ProbeReal);
ProbeReal max(ProbeReal, ProbeReal);
ProbeReal lookup(const ProbeReal*, ProbeInt);
ProbeReal sqrt(ProbeReal);
ProbeReal abs(ProbeReal);
ProbeUInt mul_hi(ProbeUInt, ProbeUInt);
ProbeUInt as_uint(ProbeReal);
ProbeReal as_float(ProbeUInt);
template <class Real>
Real to_real(ProbeUInt);
template <class Real>
Real to_real(ProbeInt);
ProbeInt to_int(ProbeReal);
ProbeUInt to_uint(ProbeInt);

/// A random source of them.
struct ProbeRandom {
  ProbeUInt bits();
  ProbeReal uniform();
  ProbeReal uniform(float low, float high);
  ProbeReal integer(int low, int high);
  ProbeReal normal();
};

/// What kernels call of an environment with packs.
template <class E>
void call_with_packs(const typename E::Params& params, ProbeRandom& rng,
                     const typename E::Action::template Value<ProbeReal>& action) {
  typename E::template State<ProbeReal> state = E::template reset<ProbeReal>(params, rng);
  E::step(params, state, action, rng);
  ProbeReal observation[E::kObsDim];
  E::observe(params, state, observation);
}

/// Whether the environment can be called so. If it cannot, compilers say why: they compile a function whose address is
/// taken. (With sanitizers a comparison of the address would be none of constants.)
template <auto function>
inline constexpr bool kIsCompiled = true;
template <class E>
inline constexpr bool kTakesPacks = kIsCompiled<&call_with_packs<E>>;

}  // namespace perilune::inline PERILUNE_LEVEL
