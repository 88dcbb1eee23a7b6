// Multilayer perceptrons of run-time depth, and where a sample's numbers lie in its record.
//
// Kernels use two types, which a machine may specialise for a precision: HiddenLayers, the activations between layers,
// and Mlp, one network's weights as the machine wants them and its gradient. Observations and outputs are fp32 tiles in
// every precision. Here is the plain implementation for fp32 blocks, over the matrix verbs: weights stay where they are
// and the gradient is accumulated in memory.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Outputs of the hidden layers in block storage. Networks that run in turn share one.
template <class B, int Width>
class HiddenLayers;

/// One network with In inputs, hidden layers of Width units and Out outputs. Members are collective.
template <class B, int In, int Width, int Out>
class Mlp;

template <class B, int Width>
  requires(B::kPrecision == Precision::kFp32)
class HiddenLayers<B, Width> {
 public:
  static constexpr int inference_floats() { return training_floats(2); }
  static constexpr int training_floats(int depth) { return depth * Width * B::kStride; }
  /// Two tiles in turn: only the last layer matters.
  PERILUNE_DEVICE static HiddenLayers for_inference(Carver<B>& carver) { return {carver, 2}; }
  /// All of up to `depth` layers, for backward.
  PERILUNE_DEVICE static HiddenLayers for_training(Carver<B>& carver, int depth) {
    return {carver, depth};
  }

  HiddenLayers() = default;
  PERILUNE_DEVICE Tile<B> layer(int l) const {
    return {data_ + (kept_ == 2 ? l % 2 : l) * Width * B::kStride};
  }

 private:
  PERILUNE_DEVICE HiddenLayers(Carver<B>& carver, int kept)
      : data_(carver.floats(training_floats(kept))), kept_(kept) {}

  float* data_;
  int kept_;  // layers before a tile is used again
};

template <class B, int In, int Width, int Out>
  requires(B::kPrecision == Precision::kFp32)
class Mlp<B, In, Width, Out> {
 public:
  using Hidden = HiddenLayers<B, Width>;

  /// What the constructor carves.
  static constexpr int storage_floats(int) { return 0; }

  /// Stages the weights for as long as the object lives; visible to all lanes on return.
  PERILUNE_DEVICE Mlp(B& block, Carver<B>&, const float* parameters, const Network& network,
                      const Hidden& hidden)
      : block_(block), parameters_(parameters), network_(network), hidden_(hidden) {}

  /// output = network(input). The input must be visible to all lanes, and the output is on return.
  PERILUNE_DEVICE void infer(Tile<B> input, Tile<B> output) const {
    const Activation activation = network_.activation;
    dense<In, Width, true>(block_, weight(0), bias(0), input, hidden_.layer(0), activation);
    block_.sync();
    for (int l = 1; l < network_.depth; ++l) {
      dense<Width, Width, true>(block_, weight(l), bias(l), hidden_.layer(l - 1), hidden_.layer(l),
                                activation);
      block_.sync();
    }
    const int head = network_.depth;
    dense<Width, Out, false>(block_, weight(head), bias(head), hidden_.layer(head - 1), output,
                             activation);
    block_.sync();
  }

  /// The same, and keeps what backward needs; `hidden` must be one for training.
  PERILUNE_DEVICE void forward(Tile<B> input, Tile<B> output) { infer(input, output); }

  /// Starts the gradient that backward adds to; it lies at gradient[0..parameters) after finish_gradient.
  PERILUNE_DEVICE void begin_gradient(float* gradient) {
    gradient_ = gradient;
    block_.fill_zero(gradient + network_.begin, network_.end - network_.begin);
    block_.sync();
  }

  /// Adds the gradient of every parameter, given the tiles of the last forward() and now d(loss)/d(output) in `output`,
  /// visible to all lanes and 0 in inactive ones. Both tiles may be written again on return.
  PERILUNE_DEVICE void backward(Tile<B> input, Tile<B> output) {
    const int head = network_.depth;
    const Activation activation = network_.activation;
    dense_backward_weights<Width, Out>(block_, hidden_.layer(head - 1), output,
                                       gradient_ + network_.weight[head],
                                       gradient_ + network_.bias[head]);
    block_.sync();
    dense_backward_input<Width, Out>(block_, weight(head), output, hidden_.layer(head - 1),
                                     activation);
    block_.sync();
    for (int l = head - 1; l > 0; --l) {
      dense_backward_weights<Width, Width>(block_, hidden_.layer(l - 1), hidden_.layer(l),
                                           gradient_ + network_.weight[l],
                                           gradient_ + network_.bias[l]);
      block_.sync();
      dense_backward_input<Width, Width>(block_, weight(l), hidden_.layer(l), hidden_.layer(l - 1),
                                         activation);
      block_.sync();
    }
    dense_backward_weights<In, Width>(block_, input, hidden_.layer(0),
                                      gradient_ + network_.weight[0], gradient_ + network_.bias[0]);
    block_.sync();
  }

  /// Every entry of the network's range, between its tensors as well, is written.
  PERILUNE_DEVICE void finish_gradient() {}

 private:
  PERILUNE_DEVICE const float* weight(int l) const { return parameters_ + network_.weight[l]; }
  PERILUNE_DEVICE const float* bias(int l) const { return parameters_ + network_.bias[l]; }

  B& block_;
  const float* parameters_;
  const Network& network_;
  Hidden hidden_;
  float* gradient_ = nullptr;
};

/// What networks and losses see of an environment. Environments that look alike share the kernels that see no more.
template <int ObsDim, class ActionOf>
struct Interface {
  static constexpr int kObsDim = ObsDim;
  using Action = ActionOf;
};
template <class E>
using InterfaceOf = Interface<E::kObsDim, typename E::Action>;

/// A sample's record: observation, action (the number of a discrete one, or each of a box's), log-probability, value,
/// padding to a multiple of 8 floats.
template <class E>
struct Record {
  static constexpr int kAction = E::kObsDim;
  static constexpr int kLogProbability =
      kAction + (E::Action::kContinuous ? E::Action::kCount : 1);
  static constexpr int kValue = kLogProbability + 1;
  static constexpr int kFloats = round_up(kValue + 1, 8);
};

}  // namespace perilune::inline PERILUNE_LEVEL
