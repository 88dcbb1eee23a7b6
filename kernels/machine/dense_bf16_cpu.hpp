// Matrix kernels of the CPU machine in bfloat16: AVX512_BF16's dot products of pairs, accumulated in fp32.
//
// Unlike in fp32 (dense_cpu.hpp), features lie in SIMD lanes and samples are broadcast: a dot-product instruction takes
// two neighbouring factors of the summed dimension from a 32-bit word, and this way round every layout comes for free:
//   rows    [sample][feature]              what a layer multiplies: pairs of features are neighbours as they are
//   pairs   [sample / 2][feature][2]       what a weight gradient multiplies, and what derivatives are computed from
//   weights [in / 2][out][2] for outputs, [out / 2][in][2] for input gradients
// A layer holds as many samples by up to 64 features in registers as make 24 accumulators. Sums, biases, the first
// layer, the head's gradients and the losses are fp32; other weights, activations between layers and their gradients
// are rounded to bf16, to nearest even, once each.
//
// Measured on one Zen 4 core, cycles a sample, 96 samples, 64 x 64 (one dot product a cycle: 128): hidden layer 158
// with tanh and 139 with a rectifier, weight gradient 133, input gradient with the first layer's own 153; first layer
// of 4 inputs 47, head 3 an output, its gradient 27. What is above 128 is tanh, rounding and first-layer products in
// the same two units, not waiting: tanh by table look-up, 3 permutations for 4 multiplications, gained 1% of all.
//
// Functions here are compiled for AVX512_BF16 whatever the level's own flags: only a processor that has it may call
// them.
#pragma once

#include "kernels/machine/dense_cpu.hpp"

#if defined(__AVX512F__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512bf16")
#endif

namespace perilune::inline PERILUNE_LEVEL::bf16 {

using Bits = std::uint16_t;

/// Packs of features and samples that a layer of this width holds in registers at a time. A tile of 96 samples is a
/// whole number of such blocks.
constexpr int columns_in_registers(int width) { return width % 64 == 0 ? 4 : 2; }
constexpr int rows_in_registers(int width) { return 24 / columns_in_registers(width); }

PERILUNE_HD __m512i load_bits(const Bits* from) { return _mm512_loadu_si512(from); }
PERILUNE_HD void store_bits(Bits* to, __m512i x) { _mm512_storeu_si512(to, x); }

/// 32 features of one sample from two packs, rounded to nearest even.
PERILUNE_HD __m512i round_packs(Pack low, Pack high) {
  return (__m512i)_mm512_cvtne2ps_pbh((__m512)high.value, (__m512)low.value);
}
/// The numbers of the even and of the odd sample of 16 pairs.
PERILUNE_HD Pack even_sample(__m512i pairs) { return Pack((FloatVector)_mm512_slli_epi32(pairs, 16)); }
PERILUNE_HD Pack odd_sample(__m512i pairs) {
  return Pack((FloatVector)_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
}
PERILUNE_HD Pack dot(Pack sum, __m512i a, __m512i b) {
  return Pack((FloatVector)_mm512_dpbf16_ps((__m512)sum.value, (__m512bh)a, (__m512bh)b));
}
/// The 32-bit word at `from` in every lane.
PERILUNE_HD __m512i broadcast_pair(const Bits* from) {
  int word;
  memcpy(&word, from, sizeof word);
  return _mm512_set1_epi32(word);
}

/// Stores 32 features of two neighbouring samples as pairs.
PERILUNE_HD void store_pairs(Bits* to, __m512i even, __m512i odd) {
  // Word 2j from word j (16 + j) of `even`, word 2j + 1 from that of `odd` (index bit 5).
  const __m512i low = _mm512_set_epi32(0x2F000F, 0x2E000E, 0x2D000D, 0x2C000C, 0x2B000B, 0x2A000A, 0x290009, 0x280008,
                                       0x270007, 0x260006, 0x250005, 0x240004, 0x230003, 0x220002, 0x210001, 0x200000);
  const __m512i high = _mm512_or_si512(low, _mm512_set1_epi32(0x100010));
  store_bits(to, _mm512_permutex2var_epi16(even, low, odd));
  store_bits(to + 32, _mm512_permutex2var_epi16(even, high, odd));
}

PERILUNE_HD Pack activate(Pack x, Activation activation) {
  return activation == Activation::kTanh ? short_tanh(x) : max(Pack(0.0f), x);
}
/// g times the activation's derivative where its result is h.
PERILUNE_HD Pack times_derivative(Pack g, Pack h, Activation activation) {
  return activation == Activation::kTanh ? g * mul_add(-h, h, Pack(1.0f)) : select(h > Pack(0.0f), g, Pack(0.0f));
}

/// Rows x Columns packs of a product in registers: [sample][16 features each].
template <int Rows, int Columns>
using Accumulators = Pack[Rows][Columns];

/// acc += x M for Rows samples: x rows of K features, matrix pairs [K / 2][Stride][2] from the first column on.
template <int K, int Stride, int Rows, int Columns>
PERILUNE_HD void multiply(Accumulators<Rows, Columns>& acc, const Bits* x, const Bits* matrix) {
  for (int k = 0; k < K; k += 2) {
    __m512i operand[Columns];
    PERILUNE_UNROLL
    for (int c = 0; c < Columns; ++c) operand[c] = load_bits(matrix + k * Stride + c * 32);
    PERILUNE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const __m512i pair = broadcast_pair(x + r * K + k);
      PERILUNE_UNROLL
      for (int c = 0; c < Columns; ++c) acc[r][c] = dot(acc[r][c], pair, operand[c]);
    }
  }
}

/// Rounds accumulators and stores them as rows [.][Width] (if kept) and as pairs [.][Width][2] (if kept).
template <int Width, int Rows, int Columns>
PERILUNE_HD void store_rounded(const Accumulators<Rows, Columns>& acc, Bits* rows, Bits* pairs) {
  PERILUNE_UNROLL
  for (int r = 0; r < Rows; r += 2) {
    PERILUNE_UNROLL
    for (int c = 0; c < Columns; c += 2) {
      const __m512i even = round_packs(acc[r][c], acc[r][c + 1]);
      const __m512i odd = round_packs(acc[r + 1][c], acc[r + 1][c + 1]);
      if (rows != nullptr) {
        store_bits(rows + r * Width + c * kPackLanes, even);
        store_bits(rows + (r + 1) * Width + c * kPackLanes, odd);
      }
      if (pairs != nullptr) store_pairs(pairs + r * Width + c * 2 * kPackLanes, even, odd);
    }
  }
}

template <int Rows, int Columns>
PERILUNE_HD void activate_all(Accumulators<Rows, Columns>& acc, Activation activation) {
  PERILUNE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    PERILUNE_UNROLL
    for (int c = 0; c < Columns; ++c) acc[r][c] = activate(acc[r][c], activation);
  }
}

template <int Rows, int Columns>
PERILUNE_HD void fill_with(Accumulators<Rows, Columns>& acc, const float* bias) {
  PERILUNE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    PERILUNE_UNROLL
    for (int c = 0; c < Columns; ++c) {
      acc[r][c] = bias == nullptr ? Pack(0.0f) : load_pack(bias + c * kPackLanes);
    }
  }
}

/// The first layer for Rows samples, in fp32: x [In][Stride] from the first sample on, weight [In][Width].
template <int In, int Width, int Stride>
void input_layer(const float* weight, const float* bias, const float* x, Bits* rows, Bits* pairs,
                 Activation activation) {
  constexpr int kColumns = columns_in_registers(Width), kRows = rows_in_registers(Width);
  for (int column = 0; column < Width; column += kColumns * kPackLanes) {
    Accumulators<kRows, kColumns> acc;
    fill_with(acc, bias + column);
    for (int i = 0; i < In; ++i) {
      Pack operand[kColumns];
      PERILUNE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        operand[c] = load_pack(weight + i * Width + column + c * kPackLanes);
      }
      PERILUNE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const Pack input(x[i * Stride + r]);
        PERILUNE_UNROLL
        for (int c = 0; c < kColumns; ++c) acc[r][c] = mul_add(input, operand[c], acc[r][c]);
      }
    }
    activate_all(acc, activation);
    store_rounded<Width>(acc, rows + column, pairs == nullptr ? nullptr : pairs + 2 * column);
  }
}

/// A hidden layer for as many samples as rows_in_registers.
template <int Width>
void hidden_layer(const Bits* weight, const float* bias, const Bits* x, Bits* rows, Bits* pairs,
                  Activation activation) {
  constexpr int kColumns = columns_in_registers(Width), kRows = rows_in_registers(Width);
  for (int column = 0; column < Width; column += kColumns * kPackLanes) {
    Accumulators<kRows, kColumns> acc;
    fill_with(acc, bias + column);
    multiply<Width, Width>(acc, x, weight + 2 * column);
    activate_all(acc, activation);
    store_rounded<Width>(acc, rows + column, pairs == nullptr ? nullptr : pairs + 2 * column);
  }
}

/// out[o * Stride + sample] = weight row o . x row sample + bias[o] for `packs` packs of samples; weight [Out][Width].
template <int Width, int Out, int Stride>
void head(int packs, const Bits* weight, const float* bias, const Bits* x, float* out) {
  for (int o = 0; o < Out; ++o) {
    for (int p = 0; p < packs; ++p) {
      Pack acc[kPackLanes];
      PERILUNE_UNROLL
      for (int s = 0; s < kPackLanes; ++s) acc[s] = Pack(0.0f);
      for (int k = 0; k < Width; k += 32) {
        const __m512i operand = load_bits(weight + o * Width + k);
        PERILUNE_UNROLL
        for (int s = 0; s < kPackLanes; ++s) {
          acc[s] = dot(acc[s], operand, load_bits(x + (p * kPackLanes + s) * Width + k));
        }
      }
      store_pack(out + o * Stride + p * kPackLanes, sum_each(acc) + Pack(bias[o]));
    }
  }
}

/// From dy [Out][Stride], the derivatives of the head's outputs, and the last hidden layer in `pairs`: its gradients as
/// rows, and as pairs in the layer's place. Adds to dweight [Out][Width] and dbias [Width], the bias of the layer.
/// weight [Out][Width]. All but the stored gradients is fp32.
template <int Width, int Out, int Stride>
void head_backward(int samples, const float* weight, const float* dy, Bits* rows, Bits* pairs, float* dweight,
                   float* dbias, Activation activation) {
  constexpr int kColumns = 2;
  for (int column = 0; column < Width; column += kColumns * kPackLanes) {
    Pack w[Out][kColumns], dw[Out][kColumns], db[kColumns];
    for (int c = 0; c < kColumns; ++c) {
      db[c] = load_pack(dbias + column + c * kPackLanes);
      for (int o = 0; o < Out; ++o) {
        w[o][c] = load_pack(weight + o * Width + column + c * kPackLanes);
        dw[o][c] = load_pack(dweight + o * Width + column + c * kPackLanes);
      }
    }
    for (int s = 0; s < samples; s += 2) {
      Bits* place = pairs + s * Width + 2 * column;
      Pack g[2][kColumns];
      PERILUNE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const __m512i word = load_bits(place + c * 32);
        const Pack h[2] = {even_sample(word), odd_sample(word)};
        PERILUNE_UNROLL
        for (int i = 0; i < 2; ++i) {
          Pack sum(0.0f);
          PERILUNE_UNROLL
          for (int o = 0; o < Out; ++o) {
            const Pack slope(dy[o * Stride + s + i]);
            sum = o == 0 ? slope * w[o][c] : mul_add(slope, w[o][c], sum);
            dw[o][c] = mul_add(slope, h[i], dw[o][c]);
          }
          g[i][c] = times_derivative(sum, h[i], activation);
          db[c] += g[i][c];
        }
      }
      store_rounded<Width>(g, rows + s * Width + column, place);
    }
    for (int c = 0; c < kColumns; ++c) {
      store_pack(dbias + column + c * kPackLanes, db[c]);
      for (int o = 0; o < Out; ++o) {
        store_pack(dweight + o * Width + column + c * kPackLanes, dw[o][c]);
      }
    }
  }
}

/// acc[r][c] times the derivative of the layer whose results are in `pairs` [.][Width][2].
template <int Width, int Rows, int Columns>
PERILUNE_HD void times_derivatives(Accumulators<Rows, Columns>& acc, const Bits* pairs, Activation activation) {
  PERILUNE_UNROLL
  for (int r = 0; r < Rows; r += 2) {
    PERILUNE_UNROLL
    for (int c = 0; c < Columns; ++c) {
      const __m512i word = load_bits(pairs + r * Width + c * 32);
      acc[r][c] = times_derivative(acc[r][c], even_sample(word), activation);
      acc[r + 1][c] = times_derivative(acc[r + 1][c], odd_sample(word), activation);
    }
  }
}

/// dbias [Columns packs] += sum of rows.
template <int Rows, int Columns>
PERILUNE_HD void add_rows(const Accumulators<Rows, Columns>& acc, float* dbias) {
  PERILUNE_UNROLL
  for (int c = 0; c < Columns; ++c) {
    Pack total = load_pack(dbias + c * kPackLanes);
    PERILUNE_UNROLL
    for (int r = 0; r < Rows; ++r) total += acc[r][c];
    store_pack(dbias + c * kPackLanes, total);
  }
}

/// Input gradient of a hidden layer for as many samples as rows_in_registers, where the layer below has one below
/// itself: from dy rows, dx rows, and pairs in the place of the lower layer's results. weight: row pairs
/// [Width / 2][Width][2].
template <int Width>
void hidden_backward(const Bits* weight, const Bits* dy, Bits* rows, Bits* pairs, float* dbias, Activation activation) {
  constexpr int kColumns = columns_in_registers(Width), kRows = rows_in_registers(Width);
  for (int column = 0; column < Width; column += kColumns * kPackLanes) {
    Accumulators<kRows, kColumns> acc;
    fill_with(acc, nullptr);
    multiply<Width, Width>(acc, dy, weight + 2 * column);
    times_derivatives<Width>(acc, pairs + 2 * column, activation);
    add_rows(acc, dbias + column);
    store_rounded<Width>(acc, rows + column, pairs + 2 * column);
  }
}

/// The same where the layer below is the first: its gradients leave registers only as sums, in fp32. Adds to dweight
/// [In][Width] and dbias; x [In][Stride] is the network's input from the first sample on.
template <int In, int Width, int Stride>
void first_backward(const Bits* weight, const Bits* dy, const Bits* pairs, const float* x, float* dweight, float* dbias,
                    Activation activation) {
  constexpr int kColumns = columns_in_registers(Width), kRows = rows_in_registers(Width);
  for (int column = 0; column < Width; column += kColumns * kPackLanes) {
    Accumulators<kRows, kColumns> acc;
    fill_with(acc, nullptr);
    multiply<Width, Width>(acc, dy, weight + 2 * column);
    times_derivatives<Width>(acc, pairs + 2 * column, activation);
    add_rows(acc, dbias + column);
    for (int i = 0; i < In; ++i) {
      Pack sum[kColumns];
      PERILUNE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        sum[c] = load_pack(dweight + i * Width + column + c * kPackLanes);
      }
      PERILUNE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const Pack input(x[i * Stride + r]);
        PERILUNE_UNROLL
        for (int c = 0; c < kColumns; ++c) sum[c] = mul_add(input, acc[r][c], sum[c]);
      }
      PERILUNE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        store_pack(dweight + i * Width + column + c * kPackLanes, sum[c]);
      }
    }
  }
}

/// dweight [In][Width] += x dy for a first layer whose gradients are in `pairs`; x [In][Stride]. Its bias is not
/// touched.
template <int In, int Width, int Stride>
void input_weight_gradient(int samples, const Bits* pairs, const float* x, float* dweight) {
  for (int column = 0; column < Width; column += kPackLanes) {
    Pack sum[In];
    for (int i = 0; i < In; ++i) sum[i] = load_pack(dweight + i * Width + column);
    for (int s = 0; s < samples; s += 2) {
      const __m512i word = load_bits(pairs + s * Width + 2 * column);
      for (int i = 0; i < In; ++i) {
        sum[i] = mul_add(x[i * Stride + s], even_sample(word), sum[i]);
        sum[i] = mul_add(x[i * Stride + s + 1], odd_sample(word), sum[i]);
      }
    }
    for (int i = 0; i < In; ++i) store_pack(dweight + i * Width + column, sum[i]);
  }
}

/// dweight [Width][Width] += dy^T x over `samples` samples, both as pairs.
template <int Width>
void weight_gradient(int samples, const Bits* dy, const Bits* x, float* dweight) {
  constexpr int kColumns = columns_in_registers(Width), kRows = 4;
  for (int column = 0; column < Width; column += kColumns * kPackLanes) {
    for (int out = 0; out < Width; out += kRows) {
      float* place = dweight + out * Width + column;
      Accumulators<kRows, kColumns> acc;
      PERILUNE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        PERILUNE_UNROLL
        for (int c = 0; c < kColumns; ++c) acc[r][c] = load_pack(place + r * Width + c * kPackLanes);
      }
      for (int s = 0; s < samples; s += 2) {
        __m512i operand[kColumns];
        PERILUNE_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          operand[c] = load_bits(x + s * Width + 2 * column + c * 32);
        }
        PERILUNE_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const __m512i pair = broadcast_pair(dy + s * Width + 2 * (out + r));
          PERILUNE_UNROLL
          for (int c = 0; c < kColumns; ++c) acc[r][c] = dot(acc[r][c], pair, operand[c]);
        }
      }
      PERILUNE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        PERILUNE_UNROLL
        for (int c = 0; c < kColumns; ++c) store_pack(place + r * Width + c * kPackLanes, acc[r][c]);
      }
    }
  }
}

/// Rounds a weight [Rows][Columns] to bf16 in the same order.
template <int Rows, int Columns>
void round_rows(const float* from, Bits* to) {
  for (int i = 0; i < Rows * Columns; i += 32) {
    store_bits(to + i, round_packs(load_pack(from + i), load_pack(from + i + kPackLanes)));
  }
}

/// A weight [Width][Width] as pairs of rows: to[row / 2][column][2].
template <int Width>
void round_row_pairs(const float* from, Bits* to) {
  for (int row = 0; row < Width; row += 2) {
    for (int column = 0; column < Width; column += 32) {
      const float* at = from + row * Width + column;
      store_pairs(to + row * Width + 2 * column, round_packs(load_pack(at), load_pack(at + kPackLanes)),
                  round_packs(load_pack(at + Width), load_pack(at + Width + kPackLanes)));
    }
  }
}

/// A weight [Width][Width] as pairs of columns, transposed: to[column / 2][row][2]. scratch: as large as `to`.
template <int Width>
void round_column_pairs(const float* from, Bits* scratch, Bits* to) {
  round_rows<Width, Width>(from, scratch);
  // A pair is a word like a float; the transposition only moves words.
  transpose<Width, Width / 2>(Width / 2 / kPackLanes, reinterpret_cast<const float*>(scratch),
                              reinterpret_cast<float*>(to));
}

}  // namespace perilune::inline PERILUNE_LEVEL::bf16

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
