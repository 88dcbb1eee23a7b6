// The matrix verbs for blocks whose lanes are threads (CudaBlock, and FiberBlock in tests): plain fp32 multiply-adds.
//
// A thread owns small rectangles of the output and keeps them in registers; tiles lie in block storage, weights and
// gradients in device memory. The rectangle-to-thread map depends only on the shape, so a weight-gradient entry belongs
// to the same thread for every tile and needs no atomics. Rows of a tile are kStride floats apart, a multiple of 4 that
// is not one of 32, so that the four-float loads of neighbouring threads fall into different banks.
#pragma once

#include "kernels/machine/simt_block.hpp"
#include "sims/math.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A block whose lanes are threads: Real is float and lane() names the calling thread.
template <class B>
concept SimtBlock = requires(B block) {
  { block.lane().number } -> std::convertible_to<int>;
};
template <class B>
concept PlainSimtBlock = SimtBlock<B> && B::kPrecision == Precision::kFp32;

PERILUNE_DEVICE float activate_value(float x, Activation activation) {
  return activation == Activation::kTanh ? math::tanh(x) : max(0.0f, x);
}
/// d(loss)/d(x), given d(loss)/d(y) and y = activate_value(x).
PERILUNE_DEVICE float activation_derivative(float dy, float y, Activation activation) {
  return activation == Activation::kTanh ? dy * mul_add(-y, y, 1.0f) : select(y > 0.0f, dy, 0.0f);
}

/// Features per rectangle: enough rectangles of 4 samples for every thread, at most 8 features.
constexpr int simt_rows(int features) {
  return features % 32 == 0 ? 8 : features % 16 == 0 ? 4 : features % 2 == 0 ? 2 : 1;
}

template <int In, int Out, bool Hidden, PlainSimtBlock B>
PERILUNE_DEVICE void dense(B& block, const float* weight, const float* bias, Tile<B> x, Tile<B> y,
                           Activation activation) {
  constexpr int kRows = simt_rows(Out);
  constexpr int kColumns = B::kLanes / 4;
  for (int i = block.lane().number; i < Out / kRows * kColumns; i += B::kLanes) {
    const int sample = i % kColumns * 4;
    const int out = i / kColumns * kRows;
    float acc[kRows][4];
    PERILUNE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      PERILUNE_UNROLL
      for (int s = 0; s < 4; ++s) acc[r][s] = bias[out + r];
    }
    for (int k = 0; k < In; ++k) {
      const Float4 operand = *reinterpret_cast<const Float4*>(x.data + k * B::kStride + sample);
      PERILUNE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const float scale = weight[(out + r) * In + k];
        PERILUNE_UNROLL
        for (int s = 0; s < 4; ++s) acc[r][s] = mul_add(scale, operand.x[s], acc[r][s]);
      }
    }
    PERILUNE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      Float4 result;
      PERILUNE_UNROLL
      for (int s = 0; s < 4; ++s) {
        result.x[s] = Hidden ? activate_value(acc[r][s], activation) : acc[r][s];
      }
      *reinterpret_cast<Float4*>(y.data + (out + r) * B::kStride + sample) = result;
    }
  }
}

template <int In, int Out, PlainSimtBlock B>
PERILUNE_DEVICE void dense_backward_input(B& block, const float* weight, Tile<B> dy, Tile<B> x, Activation activation) {
  constexpr int kRows = simt_rows(In);
  constexpr int kColumns = B::kLanes / 4;
  for (int i = block.lane().number; i < In / kRows * kColumns; i += B::kLanes) {
    const int sample = i % kColumns * 4;
    const int in = i / kColumns * kRows;
    float acc[kRows][4] = {};
    for (int k = 0; k < Out; ++k) {
      const Float4 operand = *reinterpret_cast<const Float4*>(dy.data + k * B::kStride + sample);
      PERILUNE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const float scale = weight[k * In + in + r];
        PERILUNE_UNROLL
        for (int s = 0; s < 4; ++s) acc[r][s] = mul_add(scale, operand.x[s], acc[r][s]);
      }
    }
    PERILUNE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      Float4* place = reinterpret_cast<Float4*>(x.data + (in + r) * B::kStride + sample);
      Float4 h = *place;
      PERILUNE_UNROLL
      for (int s = 0; s < 4; ++s) {
        h.x[s] = activation_derivative(acc[r][s], h.x[s], activation);
      }
      *place = h;
    }
  }
}

template <int In, int Out, PlainSimtBlock B>
PERILUNE_DEVICE void dense_backward_weights(B& block, Tile<B> x, Tile<B> dy, float* dweight, float* dbias) {
  constexpr int kOuts = Out % 4 == 0 ? 4 : Out % 2 == 0 ? 2 : 1;
  constexpr int kIns = In % 4 == 0 ? 4 : In % 2 == 0 ? 2 : 1;
  constexpr int kColumns = In / kIns;
  for (int i = block.lane().number; i < Out / kOuts * kColumns; i += B::kLanes) {
    const int in = i % kColumns;  // and in + kColumns, in + 2 kColumns, ...: neighbours read neighbouring rows
    const int out = i / kColumns * kOuts;
    float acc[kOuts][kIns] = {};
    for (int sample = 0; sample < B::kLanes; sample += 4) {
      Float4 operand[kIns];
      PERILUNE_UNROLL
      for (int c = 0; c < kIns; ++c) {
        operand[c] = *reinterpret_cast<const Float4*>(x.data + (in + c * kColumns) * B::kStride + sample);
      }
      PERILUNE_UNROLL
      for (int r = 0; r < kOuts; ++r) {
        const Float4 scale = *reinterpret_cast<const Float4*>(dy.data + (out + r) * B::kStride + sample);
        PERILUNE_UNROLL
        for (int c = 0; c < kIns; ++c) {
          PERILUNE_UNROLL
          for (int s = 0; s < 4; ++s) {
            acc[r][c] = mul_add(scale.x[s], operand[c].x[s], acc[r][c]);
          }
        }
      }
    }
    PERILUNE_UNROLL
    for (int r = 0; r < kOuts; ++r) {
      PERILUNE_UNROLL
      for (int c = 0; c < kIns; ++c) dweight[(out + r) * In + in + c * kColumns] += acc[r][c];
    }
  }
  for (int out = block.lane().number; out < Out; out += B::kLanes) {
    float total = 0.0f;
    for (int sample = 0; sample < B::kLanes; ++sample) total += dy.data[out * B::kStride + sample];
    dbias[out] += total;
  }
}

}  // namespace perilune::inline PERILUNE_LEVEL
