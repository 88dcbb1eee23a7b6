// What blocks for tensor cores keep of their samples: observations, the layers between, and outputs.
#pragma once

#include "kernels/machine/tensor_operands.hpp"
#include "kernels/network.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Thin matrices that hold so many features.
constexpr int thin_matrices(int features) { return round_up(features, 8) / 8; }

template <TensorBlock B, int Features>
class Observations<B, Features> {
 public:
  static constexpr int floats() { return thin_matrices(Features) * Thin<B>::kFloats; }
  PERILUNE_DEVICE explicit Observations(Carver<B>& carver) : data_(carver.floats(floats())) {}

  PERILUNE_DEVICE void store(typename B::Lane lane, const float (&row)[Features]) const {
    store_thin_rows(data_, lane.number, row);
  }
  /// The thin matrix of features 8i..8i+7.
  PERILUNE_DEVICE const float* thin(int i) const { return data_ + i * Thin<B>::kFloats; }

  /// Of `Features` numbers of a sample, eight to a matrix.
  PERILUNE_DEVICE static void store_thin_rows(float* to, int sample, const float (&row)[Features]) {
    for (int i = 0; i < thin_matrices(Features); ++i) {
      float values[8];
      PERILUNE_UNROLL_ON_GPU
      for (int k = 0; k < 8; ++k) values[k] = 8 * i + k < Features ? row[8 * i + k] : 0.0f;
      Thin<B>::store(to + i * Thin<B>::kFloats, sample, values);
    }
  }

 private:
  float* data_;
};

template <TensorBlock B, int Count>
class Outputs<B, Count> {
 public:
  static constexpr int inference_floats() { return B::kLanes * kRow; }
  static constexpr int training_floats() { return inference_floats() + thin_matrices(Count) * Thin<B>::kFloats; }
  PERILUNE_DEVICE static Outputs for_inference(Carver<B>& carver) { return Outputs(carver.floats(inference_floats())); }
  PERILUNE_DEVICE static Outputs for_training(Carver<B>& carver) { return Outputs(carver.floats(training_floats())); }

  PERILUNE_DEVICE void load(typename B::Lane lane, float (&row)[Count]) const {
    const float* from = data_ + lane.number * kRow;
    if constexpr (kRow == 2) {
      const Float2 pair = load_pair(from);
      row[0] = pair.x, row[1] = pair.y;
    } else {
      PERILUNE_UNROLL_ON_GPU
      for (int i = 0; i < Count; ++i) row[i] = from[i];
    }
  }
  PERILUNE_DEVICE void store_gradient(typename B::Lane lane, const float (&row)[Count]) const {
    Observations<B, Count>::store_thin_rows(data_ + inference_floats(), lane.number, row);
  }

  /// Columns output and output + 1 of a sample, for an even output.
  PERILUNE_DEVICE void put(int sample, int output, float x, float y) const {
    float* to = data_ + sample * kRow + output;
    if constexpr (Count == 1) {
      if (output == 0) *to = x;
    } else {
      if (output < Count) store_pair(to, x, y);
    }
  }
  /// The thin matrix of gradients of outputs 8i..8i+7.
  PERILUNE_DEVICE const float* gradient(int i) const { return data_ + inference_floats() + i * Thin<B>::kFloats; }

 private:
  static constexpr int kRow = Count == 1 ? 1 : round_up(Count, 2);
  PERILUNE_DEVICE explicit Outputs(float* data) : data_(data) {}

  float* data_;
};

template <TensorBlock B, int Width>
class HiddenLayers<B, Width> {
 public:
  /// Do a warp's rows of two layers fit its registers?
  static constexpr bool kPassInRegisters = Width <= (B::kPrecision == Precision::kBf16 ? 128 : 64);

  static constexpr int inference_floats() { return kPassInRegisters ? 0 : kLayerFloats; }
  static constexpr int training_floats(int depth) { return depth * kLayerFloats; }
  PERILUNE_DEVICE static HiddenLayers for_inference(Carver<B>& carver) {
    return HiddenLayers(carver.floats(inference_floats()));
  }
  PERILUNE_DEVICE static HiddenLayers for_training(Carver<B>& carver, int depth) {
    return HiddenLayers(carver.floats(training_floats(depth)));
  }

  PERILUNE_DEVICE float* layer(int l) const { return data_ + l * kLayerFloats; }

 private:
  static constexpr int kLayerFloats = Operands<Width, B>::kLayerFloats;
  PERILUNE_DEVICE explicit HiddenLayers(float* data) : data_(data) {}

  float* data_;
};

}  // namespace perilune::inline PERILUNE_LEVEL
