// The matrix verbs on the CPU machine: register-blocked fused multiply-adds over tiles that stay in L1 and L2.
//
// Samples lie in SIMD lanes. Forward and input gradient hold kRows features by up to kGroup packs of samples in
// registers and broadcast one weight per row. The weight gradient of a wide layer transposes x so that inputs lie in
// lanes, and broadcasts dy; small ones (first layer, heads, biases) are dot products over lanes, summed 16 at a time.
#pragma once

#include "kernels/machine/activation_cpu.hpp"
#include "kernels/machine/cpu_block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

// Registers: kRows * kGroup accumulators + kGroup operands + 1 broadcast of 32 (AVX-512) or 16. Measured on one AVX-512
// core over K = 64: 4 x 6 104 GFLOP/s, 4 x 4 95, 8 x 3 88.
#if defined(__AVX512F__)
inline constexpr int kGroup = 6;
#else
inline constexpr int kGroup = 3;
#endif

/// Rows in registers for a group of `packs` packs and a layer of `rows` rows; divides `rows`.
constexpr int rows_in_registers(int packs, int rows) {
#if defined(__AVX512F__)
  const int wanted = packs <= 3 ? 8 : 4;
#else
  const int wanted = packs <= 1 ? 8 : 4;
#endif
  int r = wanted;
  while (rows % r != 0) --r;
  return r;
}

/// Calls f.template operator()<Packs>(first pack) over the block's packs in groups of at most kGroup.
template <class B, class F>
PERILUNE_HD void for_groups(const B& block, F&& f) {
  for (int first = 0; first < block.packs(); first += kGroup) {
    switch (block.packs() - first) {
      case 1:
        f.template operator()<1>(first);
        break;
      case 2:
        f.template operator()<2>(first);
        break;
#if defined(__AVX512F__)
      case 3:
        f.template operator()<3>(first);
        break;
      case 4:
        f.template operator()<4>(first);
        break;
      case 5:
        f.template operator()<5>(first);
        break;
#endif
      default:
        f.template operator()<kGroup>(first);
        break;
    }
  }
}

/// acc[r][p] += sum over k of matrix[r * row_step + k * k_step] * x[k][p]: the core of forward and input gradient.
template <int K, int Rows, int Packs, int RowStep, int KStep, int Stride>
PERILUNE_HD void multiply_block(Pack (&acc)[Rows][Packs], const float* matrix, const float* x) {
  for (int k = 0; k < K; ++k) {
    Pack operand[Packs];
    PERILUNE_UNROLL
    for (int p = 0; p < Packs; ++p) operand[p] = load_pack(x + k * Stride + p * kPackLanes);
    PERILUNE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const Pack weight(matrix[r * RowStep + k * KStep]);
      PERILUNE_UNROLL
      for (int p = 0; p < Packs; ++p) acc[r][p] = mul_add(weight, operand[p], acc[r][p]);
    }
  }
}

/// Applies the activation to rows that were just stored. Done on the accumulators themselves it measured the same.
template <int Rows, int Packs, int Stride>
PERILUNE_HD void activate_rows(float* y, Activation activation) {
  for (int r = 0; r < Rows; ++r) {
    if (activation == Activation::kTanh) {
      PERILUNE_UNROLL
      for (int p = 0; p < Packs; ++p) {
        float* place = y + r * Stride + p * kPackLanes;
        store_pack(place, network_tanh(load_pack(place)));
      }
    } else {
      PERILUNE_UNROLL
      for (int p = 0; p < Packs; ++p) {
        float* place = y + r * Stride + p * kPackLanes;
        store_pack(place, max(Pack(0.0f), load_pack(place)));
      }
    }
  }
}

template <int In, int Out, bool Hidden, int Packs, int Stride>
void dense_group(const float* weight, const float* bias, const float* x, float* y, Activation activation) {
  constexpr int kRows = rows_in_registers(Packs, Out);
  for (int out = 0; out < Out; out += kRows) {
    Pack acc[kRows][Packs];
    PERILUNE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      PERILUNE_UNROLL
      for (int p = 0; p < Packs; ++p) acc[r][p] = Pack(bias[out + r]);
    }
    multiply_block<In, kRows, Packs, In, 1, Stride>(acc, weight + out * In, x);
    PERILUNE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      PERILUNE_UNROLL
      for (int p = 0; p < Packs; ++p) {
        store_pack(y + (out + r) * Stride + p * kPackLanes, acc[r][p]);
      }
    }
    if constexpr (Hidden) activate_rows<kRows, Packs, Stride>(y + out * Stride, activation);
  }
}

/// y = W x + b, then the activation if Hidden.
template <int In, int Out, bool Hidden, int L>
PERILUNE_HD void dense(CpuBlock<L>& block, const float* weight, const float* bias, Tile<CpuBlock<L>> x,
                       Tile<CpuBlock<L>> y, Activation activation) {
  for_groups(block, [&]<int Packs>(int first) {
    dense_group<In, Out, Hidden, Packs, L>(weight, bias, x.data + first * kPackLanes, y.data + first * kPackLanes,
                                           activation);
  });
}

template <int In, int Out, int Packs, int Stride>
void dense_backward_input_group(const float* weight, const float* dy, float* x, Activation activation) {
  constexpr int kRows = rows_in_registers(Packs, In);
  for (int in = 0; in < In; in += kRows) {
    Pack acc[kRows][Packs];
    PERILUNE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      PERILUNE_UNROLL
      for (int p = 0; p < Packs; ++p) acc[r][p] = Pack(0.0f);
    }
    multiply_block<Out, kRows, Packs, 1, In, Stride>(acc, weight + in, dy);
    PERILUNE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      PERILUNE_UNROLL
      for (int p = 0; p < Packs; ++p) {
        float* place = x + (in + r) * Stride + p * kPackLanes;
        const Pack h = load_pack(place);
        store_pack(place, activation_derivative(acc[r][p], h, activation));
      }
    }
  }
}

/// x <- (W^T dy) * activation'(x): x holds a layer's outputs, and afterwards its pre-activation gradient.
template <int In, int Out, int L>
PERILUNE_HD void dense_backward_input(CpuBlock<L>& block, const float* weight, Tile<CpuBlock<L>> dy,
                                      Tile<CpuBlock<L>> x, Activation activation) {
  for_groups(block, [&]<int Packs>(int first) {
    dense_backward_input_group<In, Out, Packs, L>(weight, dy.data + first * kPackLanes, x.data + first * kPackLanes,
                                                  activation);
  });
}

/// Lane j of the result is the sum of x[j]'s lanes.
PERILUNE_HD Pack sum_each(const Pack (&x)[kPackLanes]) {
#if defined(__AVX512F__)
  __m512 pairs[8], quads[4];
  PERILUNE_UNROLL
  for (int i = 0; i < 8; ++i) {
    const __m512 a = (__m512)x[2 * i].value, b = (__m512)x[2 * i + 1].value;
    pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  }
  PERILUNE_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m512d a = (__m512d)pairs[2 * i], b = (__m512d)pairs[2 * i + 1];
    quads[i] = _mm512_add_ps((__m512)_mm512_unpacklo_pd(a, b), (__m512)_mm512_unpackhi_pd(a, b));
  }
  const __m512 low =
      _mm512_add_ps(_mm512_shuffle_f32x4(quads[0], quads[1], 0x88), _mm512_shuffle_f32x4(quads[0], quads[1], 0xdd));
  const __m512 high =
      _mm512_add_ps(_mm512_shuffle_f32x4(quads[2], quads[3], 0x88), _mm512_shuffle_f32x4(quads[2], quads[3], 0xdd));
  return Pack((FloatVector)_mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd)));
#else
  Pack result;
  for (int j = 0; j < kPackLanes; ++j) result.value[j] = sum_lanes(x[j]);
  return result;
#endif
}

/// out[o * In + i] += dot(dy row o, x row i) over `packs` packs, kPackLanes neighbouring entries at a time.
template <int In, int Out, int Stride>
void add_dots(int packs, const float* dy, const float* x, float* out) {
  static_assert(In % kPackLanes == 0 || In * Out % kPackLanes == 0);
  for (int base = 0; base < In * Out; base += kPackLanes) {
    Pack acc[kPackLanes];
    const float *a[kPackLanes], *b[kPackLanes];
    PERILUNE_UNROLL
    for (int j = 0; j < kPackLanes; ++j) {
      acc[j] = Pack(0.0f);
      a[j] = dy + (base + j) / In * Stride;
      b[j] = x + (base + j) % In * Stride;
    }
    for (int p = 0; p < packs; ++p) {
      PERILUNE_UNROLL
      for (int j = 0; j < kPackLanes; ++j) {
        acc[j] = mul_add(load_pack(a[j] + p * kPackLanes), load_pack(b[j] + p * kPackLanes), acc[j]);
      }
    }
    store_pack(out + base, load_pack(out + base) + sum_each(acc));
  }
}

/// db[o] += sum of row o.
template <int Out, int Stride>
void add_row_sums(int packs, const float* dy, float* out) {
  Pack acc[kPackLanes];
  constexpr int kWhole = Out / kPackLanes * kPackLanes;
  for (int base = 0; base < kWhole; base += kPackLanes) {
    PERILUNE_UNROLL
    for (int j = 0; j < kPackLanes; ++j) acc[j] = load_pack(dy + (base + j) * Stride);
    for (int p = 1; p < packs; ++p) {
      PERILUNE_UNROLL
      for (int j = 0; j < kPackLanes; ++j) {
        acc[j] += load_pack(dy + (base + j) * Stride + p * kPackLanes);
      }
    }
    store_pack(out + base, load_pack(out + base) + sum_each(acc));
  }
  for (int o = kWhole; o < Out; ++o) {
    Pack total = load_pack(dy + o * Stride);
    for (int p = 1; p < packs; ++p) total += load_pack(dy + o * Stride + p * kPackLanes);
    out[o] += sum_lanes(total);
  }
}

/// to[sample][feature] = from[feature][sample] for `packs` packs of samples.
template <int Features, int Stride>
void transpose(int packs, const float* from, float* to) {
  for (int feature = 0; feature < Features; feature += kPackLanes) {
    for (int p = 0; p < packs; ++p) {
      const float* source = from + feature * Stride + p * kPackLanes;
      float* target = to + p * kPackLanes * Features + feature;
#if defined(__AVX512F__)
      PERILUNE_UNROLL
      for (int q = 0; q < kPackLanes; q += 4) {
        Pack samples[4];
        load_quads([&](int f) { return source + f * Stride + q; }, samples);
        PERILUNE_UNROLL
        for (int s = 0; s < 4; ++s) store_pack(target + (q + s) * Features, samples[s]);
      }
#else
      for (int s = 0; s < kPackLanes; ++s) {
        for (int f = 0; f < kPackLanes; ++f) target[s * Features + f] = source[f * Stride + s];
      }
#endif
    }
  }
}

/// Rows x Columns packs of dW += dy x^T, from x with inputs in lanes. Not inlined: the whole verb, transpose and bias
/// sums included, measured 85 GFLOP/s so and 71 inlined (64 x 64, 96 samples, one AVX-512 core).
template <int In, int Rows, int Columns, int Stride>
__attribute__((noinline)) void add_outer_products(int samples, const float* transposed, const float* dy,
                                                  float* dweight) {
  Pack acc[Rows][Columns];
  PERILUNE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    PERILUNE_UNROLL
    for (int c = 0; c < Columns; ++c) acc[r][c] = load_pack(dweight + r * In + c * kPackLanes);
  }
  for (int s = 0; s < samples; ++s) {
    Pack operand[Columns];
    PERILUNE_UNROLL
    for (int c = 0; c < Columns; ++c) operand[c] = load_pack(transposed + s * In + c * kPackLanes);
    PERILUNE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const Pack scale(dy[r * Stride + s]);
      PERILUNE_UNROLL
      for (int c = 0; c < Columns; ++c) acc[r][c] = mul_add(scale, operand[c], acc[r][c]);
    }
  }
  PERILUNE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    PERILUNE_UNROLL
    for (int c = 0; c < Columns; ++c) store_pack(dweight + r * In + c * kPackLanes, acc[r][c]);
  }
}

/// dW += dy x^T, db += sum(dy) over the block's packs.
template <int In, int Out, int L>
PERILUNE_HD void dense_backward_weights(CpuBlock<L>& block, Tile<CpuBlock<L>> x, Tile<CpuBlock<L>> dy, float* dweight,
                                        float* dbias) {
  add_row_sums<Out, L>(block.packs(), dy.data, dbias);
  if constexpr (In % kPackLanes != 0 || Out < kPackLanes) {
    add_dots<In, Out, L>(block.packs(), dy.data, x.data, dweight);
  } else {
    float* transposed = block.transposed();
    transpose<In, L>(block.packs(), x.data, transposed);
    constexpr int kColumns = In / kPackLanes % 4 == 0 ? 4 : In / kPackLanes % 2 == 0 ? 2 : 1;
#if defined(__AVX512F__)
    constexpr int kRows = kColumns == 4 ? 4 : 8;
#else
    constexpr int kRows = kColumns == 4 ? 2 : 4;
#endif
    for (int column = 0; column < In; column += kColumns * kPackLanes) {
      for (int out = 0; out < Out; out += kRows) {
        add_outer_products<In, kRows, kColumns, L>(block.packs() * kPackLanes, transposed + column, dy.data + out * L,
                                                   dweight + out * In + column);
      }
    }
  }
}

}  // namespace perilune::inline PERILUNE_LEVEL
