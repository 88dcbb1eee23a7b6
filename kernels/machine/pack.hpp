// Pack: the CPU machine's number, one environment or sample in each lane of a SIMD register.
//
// 16 lanes under AVX-512, 8 under AVX2, 4 otherwise; the same vocabulary as sims/real.hpp, and the same bits lane by
// lane, since every operation used by a simulator is correctly rounded. GCC vector types supply the arithmetic;
// intrinsics appear only where a vector type has no operator (masks, square root, high products, reciprocals).
#pragma once

#include <cstdint>
#include <cstring>

#include "sims/real.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace perilune::inline PERILUNE_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kPackLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kPackLanes = 8;
#else
inline constexpr int kPackLanes = 4;
#endif

using FloatVector = float __attribute__((vector_size(kPackLanes * 4)));
using IntVector = std::int32_t __attribute__((vector_size(kPackLanes * 4)));
using UIntVector = std::uint32_t __attribute__((vector_size(kPackLanes * 4)));

struct PackMask {
#if defined(__AVX512F__)
  __mmask16 bits;
  PERILUNE_HD PackMask() : bits(0) {}
  PERILUNE_HD PackMask(bool value) : bits(value ? __mmask16(0xFFFF) : __mmask16(0)) {}
  PERILUNE_HD explicit PackMask(IntVector lanes) : bits(_mm512_test_epi32_mask((__m512i)lanes, (__m512i)lanes)) {}
  PERILUNE_HD IntVector lanes() const { return (IntVector)_mm512_maskz_set1_epi32(bits, -1); }
  friend PERILUNE_HD PackMask operator&(PackMask a, PackMask b) { return from(a.bits & b.bits); }
  friend PERILUNE_HD PackMask operator|(PackMask a, PackMask b) { return from(a.bits | b.bits); }
  friend PERILUNE_HD PackMask operator^(PackMask a, PackMask b) { return from(a.bits ^ b.bits); }
  PERILUNE_HD PackMask operator!() const { return from(~bits); }
  static PERILUNE_HD PackMask from(int value) {
    PackMask mask;
    mask.bits = static_cast<__mmask16>(value);
    return mask;
  }
#else
  IntVector value;  // 0 or -1
  PERILUNE_HD PackMask() : value{} {}
  PERILUNE_HD PackMask(bool all) : value(IntVector{} - static_cast<std::int32_t>(all)) {}
  PERILUNE_HD explicit PackMask(IntVector lanes) : value(lanes) {}
  PERILUNE_HD IntVector lanes() const { return value; }
  friend PERILUNE_HD PackMask operator&(PackMask a, PackMask b) { return PackMask(a.value & b.value); }
  friend PERILUNE_HD PackMask operator|(PackMask a, PackMask b) { return PackMask(a.value | b.value); }
  friend PERILUNE_HD PackMask operator^(PackMask a, PackMask b) { return PackMask(a.value ^ b.value); }
  PERILUNE_HD PackMask operator!() const { return PackMask(~value); }
#endif
  PERILUNE_HD bool operator[](int lane) const { return lanes()[lane] != 0; }
  friend PERILUNE_HD PackMask operator&&(PackMask a, PackMask b) { return a & b; }
  friend PERILUNE_HD PackMask operator||(PackMask a, PackMask b) { return a | b; }
};

PERILUNE_HD bool any(PackMask mask) {
#if defined(__AVX512F__)
  return mask.bits != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)mask.value) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)mask.value) != 0;
#else
  std::int32_t found = 0;
  for (int i = 0; i < kPackLanes; ++i) found |= mask.value[i];
  return found != 0;
#endif
}
PERILUNE_HD bool all(PackMask mask) { return !any(!mask); }

#if defined(__AVX512F__)
#define PERILUNE_COMPARE(op, type, intrinsic, cast, code)                 \
  friend PERILUNE_HD PackMask operator op(type a, type b) {               \
    return PackMask::from(intrinsic((cast)a.value, (cast)b.value, code)); \
  }
#define PERILUNE_FLOAT_COMPARE(op, code) PERILUNE_COMPARE(op, Pack, _mm512_cmp_ps_mask, __m512, code)
#define PERILUNE_INT_COMPARE(op, type, suffix, code) \
  PERILUNE_COMPARE(op, type, _mm512_cmp_##suffix##_mask, __m512i, code)
#else
#define PERILUNE_FLOAT_COMPARE(op, code) \
  friend PERILUNE_HD PackMask operator op(Pack a, Pack b) { return PackMask(a.value op b.value); }
#define PERILUNE_INT_COMPARE(op, type, suffix, code) \
  friend PERILUNE_HD PackMask operator op(type a, type b) { return PackMask((IntVector)(a.value op b.value)); }
#endif

struct Pack {
  FloatVector value;
  Pack() = default;
  PERILUNE_HD Pack(float x) : value(x - FloatVector{}) {}  // of -0 the sum would be +0
  PERILUNE_HD explicit Pack(FloatVector x) : value(x) {}
  PERILUNE_HD float operator[](int lane) const { return value[lane]; }
  friend PERILUNE_HD Pack operator+(Pack a, Pack b) { return Pack(a.value + b.value); }
  friend PERILUNE_HD Pack operator-(Pack a, Pack b) { return Pack(a.value - b.value); }
  friend PERILUNE_HD Pack operator*(Pack a, Pack b) { return Pack(a.value * b.value); }
  friend PERILUNE_HD Pack operator/(Pack a, Pack b) { return Pack(a.value / b.value); }
  PERILUNE_HD Pack operator-() const { return Pack(-value); }
  PERILUNE_HD Pack& operator+=(Pack b) { return *this = *this + b; }
  PERILUNE_HD Pack& operator-=(Pack b) { return *this = *this - b; }
  PERILUNE_HD Pack& operator*=(Pack b) { return *this = *this * b; }
  PERILUNE_FLOAT_COMPARE(<, _CMP_LT_OQ)
  PERILUNE_FLOAT_COMPARE(<=, _CMP_LE_OQ)
  PERILUNE_FLOAT_COMPARE(>, _CMP_GT_OQ)
  PERILUNE_FLOAT_COMPARE(>=, _CMP_GE_OQ)
  PERILUNE_FLOAT_COMPARE(==, _CMP_EQ_OQ)
  PERILUNE_FLOAT_COMPARE(!=, _CMP_NEQ_UQ)
};

#define PERILUNE_INT_OPERATORS(type)                                                     \
  friend PERILUNE_HD type operator+(type a, type b) { return type(a.value + b.value); }  \
  friend PERILUNE_HD type operator-(type a, type b) { return type(a.value - b.value); }  \
  friend PERILUNE_HD type operator*(type a, type b) { return type(a.value * b.value); }  \
  friend PERILUNE_HD type operator&(type a, type b) { return type(a.value & b.value); }  \
  friend PERILUNE_HD type operator|(type a, type b) { return type(a.value | b.value); }  \
  friend PERILUNE_HD type operator^(type a, type b) { return type(a.value ^ b.value); }  \
  friend PERILUNE_HD type operator<<(type a, int bits) { return type(a.value << bits); } \
  friend PERILUNE_HD type operator>>(type a, int bits) { return type(a.value >> bits); } \
  PERILUNE_HD type operator~() const { return type(~value); }                            \
  PERILUNE_HD type& operator+=(type b) { return *this = *this + b; }

struct PackUInt {
  UIntVector value;
  PackUInt() = default;
  PERILUNE_HD PackUInt(std::uint32_t x) : value(UIntVector{} + x) {}
  PERILUNE_HD explicit PackUInt(UIntVector x) : value(x) {}
  PERILUNE_HD std::uint32_t operator[](int lane) const { return value[lane]; }
  PERILUNE_INT_OPERATORS(PackUInt)
  PERILUNE_INT_COMPARE(<, PackUInt, epu32, _MM_CMPINT_LT)
  PERILUNE_INT_COMPARE(<=, PackUInt, epu32, _MM_CMPINT_LE)
  PERILUNE_INT_COMPARE(>, PackUInt, epu32, _MM_CMPINT_NLE)
  PERILUNE_INT_COMPARE(>=, PackUInt, epu32, _MM_CMPINT_NLT)
  PERILUNE_INT_COMPARE(==, PackUInt, epu32, _MM_CMPINT_EQ)
  PERILUNE_INT_COMPARE(!=, PackUInt, epu32, _MM_CMPINT_NE)
};

struct PackInt {
  IntVector value;
  PackInt() = default;
  PERILUNE_HD PackInt(std::int32_t x) : value(IntVector{} + x) {}
  PERILUNE_HD explicit PackInt(IntVector x) : value(x) {}
  PERILUNE_HD std::int32_t operator[](int lane) const { return value[lane]; }
  PERILUNE_HD PackInt operator-() const { return PackInt(-value); }
  PERILUNE_INT_OPERATORS(PackInt)
  PERILUNE_INT_COMPARE(<, PackInt, epi32, _MM_CMPINT_LT)
  PERILUNE_INT_COMPARE(<=, PackInt, epi32, _MM_CMPINT_LE)
  PERILUNE_INT_COMPARE(>, PackInt, epi32, _MM_CMPINT_NLE)
  PERILUNE_INT_COMPARE(>=, PackInt, epi32, _MM_CMPINT_NLT)
  PERILUNE_INT_COMPARE(==, PackInt, epi32, _MM_CMPINT_EQ)
  PERILUNE_INT_COMPARE(!=, PackInt, epi32, _MM_CMPINT_NE)
};

#undef PERILUNE_COMPARE
#undef PERILUNE_FLOAT_COMPARE
#undef PERILUNE_INT_COMPARE
#undef PERILUNE_INT_OPERATORS

template <>
struct RealTraits<Pack> {
  using UInt = PackUInt;
  using Int = PackInt;
  using Mask = PackMask;
  static constexpr bool kIsDouble = false;
};

#if defined(__AVX512F__)
PERILUNE_HD Pack select(PackMask mask, Pack a, Pack b) {
  return Pack((FloatVector)_mm512_mask_blend_ps(mask.bits, (__m512)b.value, (__m512)a.value));
}
PERILUNE_HD PackUInt select(PackMask mask, PackUInt a, PackUInt b) {
  return PackUInt((UIntVector)_mm512_mask_blend_epi32(mask.bits, (__m512i)b.value, (__m512i)a.value));
}
PERILUNE_HD PackInt select(PackMask mask, PackInt a, PackInt b) {
  return PackInt((IntVector)_mm512_mask_blend_epi32(mask.bits, (__m512i)b.value, (__m512i)a.value));
}
PERILUNE_HD Pack sqrt(Pack x) { return Pack((FloatVector)_mm512_sqrt_ps((__m512)x.value)); }
PERILUNE_HD PackUInt mul_hi(PackUInt a, PackUInt b) {
  const __m512i even = _mm512_mul_epu32((__m512i)a.value, (__m512i)b.value);
  const __m512i odd =
      _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a.value, 32), _mm512_srli_epi64((__m512i)b.value, 32));
  return PackUInt((UIntVector)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd));
}
#else
PERILUNE_HD Pack select(PackMask mask, Pack a, Pack b) { return Pack(mask.value ? a.value : b.value); }
PERILUNE_HD PackUInt select(PackMask mask, PackUInt a, PackUInt b) { return PackUInt(mask.value ? a.value : b.value); }
PERILUNE_HD PackInt select(PackMask mask, PackInt a, PackInt b) { return PackInt(mask.value ? a.value : b.value); }
PERILUNE_HD Pack sqrt(Pack x) {
  for (int i = 0; i < kPackLanes; ++i) x.value[i] = __builtin_sqrtf(x.value[i]);
  return x;
}
#if defined(__AVX2__)
PERILUNE_HD PackUInt mul_hi(PackUInt a, PackUInt b) {
  const __m256i x = (__m256i)a.value, y = (__m256i)b.value;
  const __m256i even = _mm256_mul_epu32(x, y);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(y, 32));
  return PackUInt((UIntVector)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA));
}
#else
PERILUNE_HD PackUInt mul_hi(PackUInt a, PackUInt b) {
  PackUInt high;
  for (int i = 0; i < kPackLanes; ++i) high.value[i] = mul_hi(a.value[i], b.value[i]);
  return high;
}
#endif
#endif

PERILUNE_HD Pack as_float(PackUInt bits) { return Pack((FloatVector)bits.value); }
PERILUNE_HD PackUInt as_uint(Pack x) { return PackUInt((UIntVector)x.value); }
PERILUNE_HD Pack abs(Pack x) { return as_float(as_uint(x) & 0x7FFFFFFFu); }
// As the scalar ones, b where either is NaN.
#if defined(__AVX512F__)
PERILUNE_HD Pack min(Pack a, Pack b) { return Pack((FloatVector)_mm512_min_ps((__m512)a.value, (__m512)b.value)); }
PERILUNE_HD Pack max(Pack a, Pack b) { return Pack((FloatVector)_mm512_max_ps((__m512)a.value, (__m512)b.value)); }
#else
PERILUNE_HD Pack min(Pack a, Pack b) { return select(a < b, a, b); }
PERILUNE_HD Pack max(Pack a, Pack b) { return select(a > b, a, b); }
#endif

PERILUNE_HD Pack mul_add(Pack a, Pack b, Pack c) {
#if defined(__AVX512F__)
  return Pack((FloatVector)_mm512_fmadd_ps((__m512)a.value, (__m512)b.value, (__m512)c.value));
#elif defined(__FMA__)
  return Pack((FloatVector)_mm256_fmadd_ps((__m256)a.value, (__m256)b.value, (__m256)c.value));
#else
  return a * b + c;
#endif
}

template <class Real>
PERILUNE_HD Real to_real(PackInt x) {
  return Real(__builtin_convertvector(x.value, FloatVector));
}
/// Needs x < 2^31.
template <class Real>
PERILUNE_HD Real to_real(PackUInt x) {
  return Real(__builtin_convertvector((IntVector)x.value, FloatVector));
}
PERILUNE_HD PackInt to_int(Pack x) { return PackInt(__builtin_convertvector(x.value, IntVector)); }
PERILUNE_HD PackUInt to_uint(PackInt x) { return PackUInt((UIntVector)x.value); }

/// Lane l of table[index in lane l].
PERILUNE_HD Pack lookup(const Pack* table, PackInt index) {
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i at = _mm512_add_epi32(_mm512_slli_epi32((__m512i)index.value, 4), lanes);
  return Pack((FloatVector)_mm512_i32gather_ps(at, table, 4));
#else
  Pack x;
  for (int i = 0; i < kPackLanes; ++i) x.value[i] = table[index.value[i]].value[i];
  return x;
#endif
}

/// Lane k holds first + k.
PERILUNE_HD PackUInt lane_numbers(std::uint32_t first) {
  PackUInt result;
  for (int i = 0; i < kPackLanes; ++i) result.value[i] = first + static_cast<std::uint32_t>(i);
  return result;
}

/// Sum of the lanes, in a fixed order (pairs of halves).
PERILUNE_HD float sum_lanes(Pack x) {
  float lanes[kPackLanes];
  memcpy(lanes, &x.value, sizeof lanes);
  PERILUNE_UNROLL
  for (int half = kPackLanes / 2; half > 0; half /= 2) {
    PERILUNE_UNROLL
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

PERILUNE_HD Pack load_pack(const float* from) {
  Pack x;
  memcpy(&x.value, from, sizeof x.value);
  return x;
}
PERILUNE_HD void store_pack(float* to, Pack x) { memcpy(to, &x.value, sizeof x.value); }

/// Integers of which the first lane's is at `from`; those that are negative or need more than 32 bits become the
/// largest.
PERILUNE_HD PackUInt load_choices(const std::int32_t* from) {
  PackUInt x;
  memcpy(&x.value, from, sizeof x.value);
  return x;
}
PERILUNE_HD PackUInt load_choices(const std::int64_t* from) {
#if defined(__AVX512F__)
  const __m256i low = _mm512_cvtusepi64_epi32(_mm512_loadu_si512(from));
  const __m256i high = _mm512_cvtusepi64_epi32(_mm512_loadu_si512(from + 8));
  return PackUInt((UIntVector)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
#elif defined(__AVX2__)
  const __m256 a = (__m256)_mm256_loadu_si256((const __m256i*)from);
  const __m256 b = (__m256)_mm256_loadu_si256((const __m256i*)(from + 4));
  // Numbers 0, 1, 4, 5, 2, 3, 6, 7: their low words, and their high ones.
  const __m256i low = _mm256_permute4x64_epi64((__m256i)_mm256_shuffle_ps(a, b, 0x88), 0xD8);
  const __m256i high = _mm256_permute4x64_epi64((__m256i)_mm256_shuffle_ps(a, b, 0xDD), 0xD8);
  return select(PackUInt((UIntVector)high) == PackUInt(0u), PackUInt((UIntVector)low), PackUInt(~0u));
#else
  PackUInt x;
  for (int i = 0; i < kPackLanes; ++i) {
    const auto word = static_cast<std::uint64_t>(from[i]);
    x.value[i] = word >> 32 == 0 ? static_cast<std::uint32_t>(word) : ~0u;
  }
  return x;
#endif
}

/// One byte per lane: is it 1 (not 0). The other way round, 0 or 1.
PERILUNE_HD PackMask load_mask(const std::uint8_t* from) {
#if defined(__AVX512F__)
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)from));
  return PackMask((IntVector)bytes);
#elif defined(__AVX2__)
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)from));
  return PackMask(-(IntVector)bytes);
#else
  IntVector x;
  for (int i = 0; i < kPackLanes; ++i) x[i] = from[i];
  return PackMask(-x);
#endif
}
PERILUNE_HD void store_mask(std::uint8_t* to, PackMask mask) {
#if defined(__AVX512F__)
  _mm_storeu_si128((__m128i*)to, _mm512_cvtepi32_epi8(_mm512_maskz_set1_epi32(mask.bits, 1)));
#elif defined(__AVX2__)
  const __m256i lanes = (__m256i)mask.value;
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  _mm_storel_epi64((__m128i*)to, _mm_and_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(1)));
#else
  for (int i = 0; i < kPackLanes; ++i) to[i] = mask.value[i] != 0;
#endif
}

/// Four neighbouring numbers of every lane's row: lane l of to[k] is row(l)[k]; row(l) is a pointer.
template <class F>
PERILUNE_HD void load_quads(F&& row, Pack (&to)[4]) {
#if defined(__AVX512F__)
  // Rows i, i+4, i+8, i+12 meet in one register as 128-bit quarters on the way in; two in-lane rounds finish it.
  __m512 four[4];
  PERILUNE_UNROLL
  for (int i = 0; i < 4; ++i) {
    __m512 r = _mm512_castps128_ps512(_mm_loadu_ps(row(i)));
    r = _mm512_insertf32x4(r, _mm_loadu_ps(row(i + 4)), 1);
    r = _mm512_insertf32x4(r, _mm_loadu_ps(row(i + 8)), 2);
    four[i] = _mm512_insertf32x4(r, _mm_loadu_ps(row(i + 12)), 3);
  }
  const __m512d a = (__m512d)_mm512_unpacklo_ps(four[0], four[1]);
  const __m512d b = (__m512d)_mm512_unpackhi_ps(four[0], four[1]);
  const __m512d c = (__m512d)_mm512_unpacklo_ps(four[2], four[3]);
  const __m512d d = (__m512d)_mm512_unpackhi_ps(four[2], four[3]);
  to[0] = Pack((FloatVector)_mm512_unpacklo_pd(a, c));
  to[1] = Pack((FloatVector)_mm512_unpackhi_pd(a, c));
  to[2] = Pack((FloatVector)_mm512_unpacklo_pd(b, d));
  to[3] = Pack((FloatVector)_mm512_unpackhi_pd(b, d));
#else
  for (int l = 0; l < kPackLanes; ++l) {
    const float* from = row(l);
    for (int k = 0; k < 4; ++k) to[k].value[l] = from[k];
  }
#endif
}

/// The reverse of load_quads: row(l)[k] is lane l of from[k]. A 4x4 transpose within each 128-bit quarter: quarter q of
/// r[i] is then the row of lane 4 q + i.
template <class F>
PERILUNE_HD void store_quads(F&& row, const Pack (&from)[4]) {
#if defined(__AVX512F__)
  const __m512 x0 = (__m512)from[0].value, x1 = (__m512)from[1].value;
  const __m512 x2 = (__m512)from[2].value, x3 = (__m512)from[3].value;
  const __m512d a = (__m512d)_mm512_unpacklo_ps(x0, x1), b = (__m512d)_mm512_unpackhi_ps(x0, x1);
  const __m512d c = (__m512d)_mm512_unpacklo_ps(x2, x3), d = (__m512d)_mm512_unpackhi_ps(x2, x3);
  const __m512 r[4] = {(__m512)_mm512_unpacklo_pd(a, c), (__m512)_mm512_unpackhi_pd(a, c),
                       (__m512)_mm512_unpacklo_pd(b, d), (__m512)_mm512_unpackhi_pd(b, d)};
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_ps(row(i), _mm512_castps512_ps128(r[i]));
    _mm_storeu_ps(row(i + 4), _mm512_extractf32x4_ps(r[i], 1));
    _mm_storeu_ps(row(i + 8), _mm512_extractf32x4_ps(r[i], 2));
    _mm_storeu_ps(row(i + 12), _mm512_extractf32x4_ps(r[i], 3));
  }
#elif defined(__AVX2__)
  const __m256 x0 = (__m256)from[0].value, x1 = (__m256)from[1].value;
  const __m256 x2 = (__m256)from[2].value, x3 = (__m256)from[3].value;
  const __m256d a = (__m256d)_mm256_unpacklo_ps(x0, x1), b = (__m256d)_mm256_unpackhi_ps(x0, x1);
  const __m256d c = (__m256d)_mm256_unpacklo_ps(x2, x3), d = (__m256d)_mm256_unpackhi_ps(x2, x3);
  const __m256 r[4] = {(__m256)_mm256_unpacklo_pd(a, c), (__m256)_mm256_unpackhi_pd(a, c),
                       (__m256)_mm256_unpacklo_pd(b, d), (__m256)_mm256_unpackhi_pd(b, d)};
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_ps(row(i), _mm256_castps256_ps128(r[i]));
    _mm_storeu_ps(row(i + 4), _mm256_extractf128_ps(r[i], 1));
  }
#else
  for (int l = 0; l < kPackLanes; ++l) {
    for (int k = 0; k < 4; ++k) row(l)[k] = from[k].value[l];
  }
#endif
}

/// All lanes' rows of Count numbers, one after the other.
template <int Count>
PERILUNE_HD void store_rows(float* to, const Pack (&x)[Count]) {
  constexpr int kInQuads = Count / 4 * 4;
  for (int k = 0; k < kInQuads; k += 4) {
    const Pack four[4] = {x[k], x[k + 1], x[k + 2], x[k + 3]};
    store_quads([&](int l) { return to + l * Count + k; }, four);
  }
  for (int k = kInQuads; k < Count; ++k) {
    for (int l = 0; l < kPackLanes; ++l) to[l * Count + k] = x[k][l];
  }
}

}  // namespace perilune::inline PERILUNE_LEVEL
