// A multilayer perceptron of run-time depth over the matrix verbs, and where a sample's numbers lie in its record.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Outputs of the hidden layers: all kept, for backward, or two tiles in turn where only the last one matters.
template <class B>
struct HiddenTiles {
  float* data;
  int floats;  // of one layer's tile
  int kept;    // layers before a tile is used again
  PERILUNE_DEVICE Tile<B> layer(int l) const {
    return {data + (kept == 2 ? l % 2 : l) * floats};
  }
};

/// Tiles for `kept` hidden layers (2: in turn).
template <int Width, class B>
PERILUNE_DEVICE HiddenTiles<B> carve_hidden(Carver<B>& carver, int kept) {
  const HiddenTiles<B> result{carver.next, Width * B::kStride, kept};
  for (int l = 0; l < kept; ++l) carver.tile(Width);
  return result;
}

/// output = network(input). Collective; the input must be visible to all lanes, and the output is on return.
template <int In, int Width, int Out, class B>
PERILUNE_DEVICE void forward(B& block, const float* parameters, const Network& network,
                             Tile<B> input, const HiddenTiles<B>& hidden, Tile<B> output) {
  const Activation activation = network.activation;
  dense<In, Width, true>(block, parameters + network.weight[0], parameters + network.bias[0],
                         input, hidden.layer(0), activation);
  block.sync();
  for (int l = 1; l < network.depth; ++l) {
    dense<Width, Width, true>(block, parameters + network.weight[l],
                              parameters + network.bias[l], hidden.layer(l - 1), hidden.layer(l),
                              activation);
    block.sync();
  }
  const int head = network.depth;
  dense<Width, Out, false>(block, parameters + network.weight[head],
                           parameters + network.bias[head], hidden.layer(head - 1), output,
                           activation);
  block.sync();
}

/// Adds the gradient of every parameter to gradient[0..parameters), given d(loss)/d(output) in `output`. Collective;
/// `output` must be visible to all lanes; `hidden`, as forward left it, is overwritten. Ends without a sync.
template <int In, int Width, int Out, class B>
PERILUNE_DEVICE void backward(B& block, const float* parameters, const Network& network,
                              Tile<B> input, const HiddenTiles<B>& hidden, Tile<B> output,
                              float* gradient) {
  const int head = network.depth;
  const Activation activation = network.activation;
  dense_backward_weights<Width, Out>(block, hidden.layer(head - 1), output,
                                     gradient + network.weight[head],
                                     gradient + network.bias[head]);
  block.sync();
  dense_backward_input<Width, Out>(block, parameters + network.weight[head], output,
                                   hidden.layer(head - 1), activation);
  block.sync();
  for (int l = head - 1; l > 0; --l) {
    dense_backward_weights<Width, Width>(block, hidden.layer(l - 1), hidden.layer(l),
                                         gradient + network.weight[l],
                                         gradient + network.bias[l]);
    block.sync();
    dense_backward_input<Width, Width>(block, parameters + network.weight[l], hidden.layer(l),
                                       hidden.layer(l - 1), activation);
    block.sync();
  }
  dense_backward_weights<In, Width>(block, input, hidden.layer(0), gradient + network.weight[0],
                                    gradient + network.bias[0]);
}

/// A sample's record: observation, action, log-probability, value, padding to a multiple of 8 floats.
template <class E>
struct Record {
  static constexpr int kAction = E::kObsDim;
  static constexpr int kLogProbability = kAction + 1;
  static constexpr int kValue = kAction + 2;
  static constexpr int kFloats = (kAction + 3 + 7) / 8 * 8;
};

}  // namespace perilune::inline PERILUNE_LEVEL
