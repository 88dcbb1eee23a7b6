// Multilayer perceptrons of run-time depth, and where a sample's numbers lie in its record.
//
// Kernels use four types, which a machine may specialise for a precision: Observations and Outputs, what lanes give to
// networks and take from them; HiddenLayers, the activations between layers; and Mlp, one network's weights as the
// machine wants them and its gradient. Here is the plain implementation for fp32 blocks, over the matrix verbs: weights
// stay where they are and the gradient is accumulated in memory.
#pragma once

#include "kernels/machine/block.hpp"
#include "kernels/policy.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// (x - mean) / sqrt(variance + kVarianceFloor), clipped: as Gymnasium's wrappers and VecNormalize normalise. A NaN
/// stays one.
inline constexpr float kVarianceFloor = 1e-8f;
template <class Real>
PERILUNE_HD Real clipped(Real x, float limit) {
  return select(x > Real(limit), Real(limit), select(x < Real(-limit), Real(-limit), x));
}
template <class Real>
PERILUNE_HD Real normalized(Real x, float mean, float variance, float limit) {
  return clipped((x - Real(mean)) / Real(sqrt(variance + kVarianceFloor)), limit);
}

/// What the network is given of an observation: it is normalised where the network has statistics.
template <class Real, int N>
PERILUNE_DEVICE void normalize_inputs(const Network& network, const float* parameters, Real (&observation)[N]) {
  if (network.inputs.size == 0) return;
  for (int i = 0; i < N; ++i) {
    observation[i] = normalized(observation[i], parameters[network.inputs.mean + i],
                                parameters[network.inputs.variance + i], network.input_clip);
  }
}

/// The observation of each lane's sample, in block storage.
template <class B, int Features>
class Observations : public Tile<B> {
 public:
  static constexpr int floats() { return Features * B::kStride; }
  PERILUNE_DEVICE explicit Observations(Carver<B>& carver) : Tile<B>(carver.tile(Features)) {}

  PERILUNE_DEVICE void store(typename B::Lane lane, const typename B::Real (&row)[Features]) const {
    PERILUNE_UNROLL
    for (int i = 0; i < Features; ++i) Tile<B>::store(i, lane, row[i]);
  }
};

/// A network's outputs for each lane's sample, and in training d(loss)/d(them).
template <class B, int Count>
class Outputs : public Tile<B> {
 public:
  static constexpr int inference_floats() { return Count * B::kStride; }
  static constexpr int training_floats() { return inference_floats(); }
  PERILUNE_DEVICE static Outputs for_inference(Carver<B>& carver) { return Outputs(carver.tile(Count)); }
  PERILUNE_DEVICE static Outputs for_training(Carver<B>& carver) { return Outputs(carver.tile(Count)); }

  PERILUNE_DEVICE void load(typename B::Lane lane, typename B::Real (&row)[Count]) const {
    for (int i = 0; i < Count; ++i) row[i] = Tile<B>::load(i, lane);
  }

 private:
  PERILUNE_DEVICE explicit Outputs(Tile<B> tile) : Tile<B>(tile) {}
};

/// Outputs of the hidden layers in block storage. Networks that run in turn share one.
template <class B, int Width>
class HiddenLayers;

/// One network with In inputs, up to MaxDepth hidden layers of Width units, and Out outputs. Members are collective,
/// but for set_gradient.
template <class B, int In, int Width, int Out, int MaxDepth = kMaxFusedLayers>
class Mlp;

template <class B, int Width>
requires(B::kPrecision == Precision::kFp32) class HiddenLayers<B, Width> {
 public:
  static constexpr int inference_floats() { return training_floats(2); }
  static constexpr int training_floats(int depth) { return depth * Width * B::kStride; }
  /// Two tiles in turn: only the last layer matters.
  PERILUNE_DEVICE static HiddenLayers for_inference(Carver<B>& carver) { return {carver, 2}; }
  /// All of up to `depth` layers, for backward.
  PERILUNE_DEVICE static HiddenLayers for_training(Carver<B>& carver, int depth) { return {carver, depth}; }

  HiddenLayers() = default;
  PERILUNE_DEVICE Tile<B> layer(int l) const { return {data_ + (kept_ == 2 ? l % 2 : l) * Width * B::kStride}; }

 private:
  PERILUNE_DEVICE HiddenLayers(Carver<B>& carver, int kept)
      : data_(carver.floats(training_floats(kept))), kept_(kept) {}

  float* data_;
  int kept_;  // layers before a tile is used again
};

template <class B, int In, int Width, int Out, int MaxDepth>
requires(B::kPrecision == Precision::kFp32) class Mlp<B, In, Width, Out, MaxDepth> {
 public:
  using Hidden = HiddenLayers<B, Width>;

  /// What the constructor carves.
  static constexpr int storage_floats(int) { return 0; }

  /// Stages the weights for as long as the object lives; visible to all lanes on return.
  PERILUNE_DEVICE Mlp(B& block, Carver<B>&, const float* parameters, const Network& network, const Hidden& hidden)
      : block_(block), parameters_(parameters), network_(network), hidden_(hidden) {}

  /// output = network(input). The input must be visible to all lanes, and the output is on return.
  PERILUNE_DEVICE void infer(Tile<B> input, Tile<B> output) const {
    const Activation activation = network_.activation;
    dense<In, Width, true>(block_, weight(0), bias(0), input, hidden_.layer(0), activation);
    block_.sync();
    for (int l = 1; l < network_.depth; ++l) {
      dense<Width, Width, true>(block_, weight(l), bias(l), hidden_.layer(l - 1), hidden_.layer(l), activation);
      block_.sync();
    }
    const int head = network_.depth;
    dense<Width, Out, false>(block_, weight(head), bias(head), hidden_.layer(head - 1), output, activation);
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

  /// A lane replaces its sample's outputs by d(loss)/d(them), 0 in inactive lanes.
  PERILUNE_DEVICE void set_gradient(typename B::Lane lane, const Outputs<B, Out>& output,
                                    const typename B::Real (&row)[Out]) const {
    for (int i = 0; i < Out; ++i) output.Tile<B>::store(i, lane, row[i]);
  }

  /// Adds the gradient of every parameter, given the tiles of the last forward() and what set_gradient() made of
  /// `output`, visible to all lanes. Both tiles may be written again on return.
  PERILUNE_DEVICE void backward(Tile<B> input, Tile<B> output) {
    const int head = network_.depth;
    const Activation activation = network_.activation;
    dense_backward_weights<Width, Out>(block_, hidden_.layer(head - 1), output, gradient_ + network_.weight[head],
                                       gradient_ + network_.bias[head]);
    block_.sync();
    dense_backward_input<Width, Out>(block_, weight(head), output, hidden_.layer(head - 1), activation);
    block_.sync();
    for (int l = head - 1; l > 0; --l) {
      dense_backward_weights<Width, Width>(block_, hidden_.layer(l - 1), hidden_.layer(l),
                                           gradient_ + network_.weight[l], gradient_ + network_.bias[l]);
      block_.sync();
      dense_backward_input<Width, Width>(block_, weight(l), hidden_.layer(l), hidden_.layer(l - 1), activation);
      block_.sync();
    }
    dense_backward_weights<In, Width>(block_, input, hidden_.layer(0), gradient_ + network_.weight[0],
                                      gradient_ + network_.bias[0]);
    block_.sync();
  }

  /// Every entry of the network's range, between its tensors as well, is written on return. Every lane must be active.
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
  static constexpr int kLogProbability = kAction + kActionFloats<E>;
  static constexpr int kValue = kLogProbability + 1;
  static constexpr int kFloats = round_up(kValue + 1, 8);
};

}  // namespace perilune::inline PERILUNE_LEVEL
