// Networks of the CPU machine in bfloat16: see network.hpp for the contract, dense_bf16_cpu.hpp for layouts and
// rounding.
//
// A tile's samples go through all layers a register block at a time, so that only the last layer's rows and, for
// training, every layer's pairs are kept: 36 KB for 96 samples of two layers of 64. Weights are laid out again in every
// launch: 1400 cycles for 64 x 64, less than 3% of a tile's update.
#pragma once

#include "kernels/machine/dense_bf16_cpu.hpp"
#include "kernels/network.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Whether this level has them. They are part of level v4: where the processor lacks AVX512_BF16, cpu_supports() says
/// so. A width of 16 would leave half of a register of bf16 empty.
constexpr bool has_bf16_networks(int width) {
#if defined(__AVX512F__)
  return width % 32 == 0;
#else
  return width < 0;
#endif
}

#if defined(__AVX512F__)

template <int L, int Width>
class HiddenLayers<CpuBlock<L, Precision::kBf16>, Width> {
 public:
  using Block = CpuBlock<L, Precision::kBf16>;
  using Bits = bf16::Bits;
  static constexpr int kRows = bf16::rows_in_registers(Width);
  static_assert(L % kRows == 0 && Width % 32 == 0);

  static constexpr int inference_floats() { return kGroupFloats + kTileFloats; }
  static constexpr int training_floats(int depth) { return kGroupFloats + (2 + depth) * kTileFloats; }
  static HiddenLayers for_inference(Carver<Block>& carver) { return {carver, inference_floats()}; }
  static HiddenLayers for_training(Carver<Block>& carver, int depth) { return {carver, training_floats(depth)}; }

  HiddenLayers() = default;
  /// Rows of one register block, for a layer that only the next one reads. Two in turn.
  Bits* group(int l) const { return base_ + l % 2 * kRows * Width; }
  /// Rows of the last layer, and in backward of gradients. Two in turn; inference has the first.
  Bits* rows(int which) const { return base_ + 2 * kRows * Width + which % 2 * L * Width; }
  /// Layer l's results, and in backward its gradients, as pairs.
  Bits* pairs(int l) const { return rows(0) + (2 + l) * L * Width; }

 private:
  static constexpr int kGroupFloats = 2 * kRows * Width / 2, kTileFloats = L * Width / 2;
  HiddenLayers(Carver<Block>& carver, int floats) : base_(reinterpret_cast<Bits*>(carver.floats(floats))) {}

  Bits* base_;
};

template <int L, int In, int Width, int Out, int MaxDepth>
class Mlp<CpuBlock<L, Precision::kBf16>, In, Width, Out, MaxDepth> {
 public:
  using Block = CpuBlock<L, Precision::kBf16>;
  using Hidden = HiddenLayers<Block, Width>;
  using Bits = bf16::Bits;

  static constexpr int storage_floats(int depth) {
    return 2 * In * Width + Out * Width / 2 + (depth - 1) * Width * Width;
  }

  Mlp(Block& block, Carver<Block>& carver, const float* parameters, const Network& network, const Hidden& hidden)
      : block_(block), parameters_(parameters), network_(network), hidden_(hidden) {
    first_ = carver.floats(In * Width);
    first_gradient_ = carver.floats(In * Width);
    head_ = reinterpret_cast<Bits*>(carver.floats(Out * Width / 2));
    squares_ = reinterpret_cast<Bits*>(carver.floats((network.depth - 1) * Width * Width));
    for (int i = 0; i < In; ++i) {
      for (int o = 0; o < Width; ++o) first_[i * Width + o] = weight(0)[o * In + i];
    }
    for (int l = 1; l < network.depth; ++l) {
      bf16::round_column_pairs<Width>(weight(l), for_gradient(l), for_output(l));
    }
    bf16::round_rows<Out, Width>(weight(network.depth), head_);
  }

  void infer(Tile<Block> input, Tile<Block> output) const { run<false>(input, output); }
  void forward(Tile<Block> input, Tile<Block> output) const {
    clear_padding<In>(input);
    run<true>(input, output);
  }

  void begin_gradient(float* gradient) {
    gradient_ = gradient;
    block_.fill_zero(gradient + network_.begin, network_.end - network_.begin);
    block_.fill_zero(first_gradient_, In * Width);
    for (int l = 1; l < network_.depth; ++l) {
      bf16::round_row_pairs<Width>(weight(l), for_gradient(l));
    }
  }

  void set_gradient(typename Block::Lane lane, const Outputs<Block, Out>& output,
                    const typename Block::Real (&row)[Out]) const {
    for (int i = 0; i < Out; ++i) output.Tile<Block>::store(i, lane, row[i]);
  }
  void backward(Tile<Block> input, Tile<Block> output) {
    const int top = network_.depth - 1, n = samples();
    const Activation activation = network_.activation;
    clear_padding<Out>(output);
    add_row_sums<Out, L>(block_.packs(), output.data, bias_gradient(top + 1));
    bf16::head_backward<Width, Out, L>(n, weight(top + 1), output.data, hidden_.rows(0), hidden_.pairs(top),
                                       weight_gradient(top + 1), bias_gradient(top), activation);
    for (int l = top; l > 0; --l) {
      bf16::weight_gradient<Width>(n, hidden_.pairs(l), hidden_.pairs(l - 1), weight_gradient(l));
      const Bits* from = hidden_.rows(top - l);
      Bits *to = hidden_.rows(top - l + 1), *pairs = hidden_.pairs(l - 1);
      for (int s = 0; s < n; s += kRows) {
        if (l == 1) {
          bf16::first_backward<In, Width, L>(for_gradient(l), from + s * Width, pairs + s * Width, input.data + s,
                                             first_gradient_, bias_gradient(0), activation);
        } else {
          bf16::hidden_backward<Width>(for_gradient(l), from + s * Width, to + s * Width, pairs + s * Width,
                                       bias_gradient(l - 1), activation);
        }
      }
    }
    if (top == 0) {
      bf16::input_weight_gradient<In, Width, L>(n, hidden_.pairs(0), input.data, first_gradient_);
    }
  }

  void finish_gradient() {
    for (int o = 0; o < Width; ++o) {
      for (int i = 0; i < In; ++i) weight_gradient(0)[o * In + i] = first_gradient_[i * Width + o];
    }
  }

 private:
  static constexpr int kRows = Hidden::kRows;

  /// Samples in whole register blocks; those beyond the active packs are padding.
  int samples() const { return round_up(block_.packs() * kPackLanes, kRows); }
  /// Padding must be finite in the input and 0 in gradients, so that it adds nothing to sums.
  template <int Features>
  void clear_padding(Tile<Block> tile) const {
    const int begin = block_.packs() * kPackLanes, end = samples();
    for (int i = 0; begin < end && i < Features; ++i) {
      memset(tile.data + i * L + begin, 0, static_cast<std::size_t>(end - begin) * sizeof(float));
    }
  }

  template <bool Training>
  void run(Tile<Block> input, Tile<Block> output) const {
    const int top = network_.depth - 1, n = samples();
    for (int s = 0; s < n; s += kRows) {
      const auto rows = [&](int l) { return l == top ? hidden_.rows(0) + s * Width : hidden_.group(l); };
      const auto pairs = [&](int l) { return Training ? hidden_.pairs(l) + s * Width : nullptr; };
      bf16::input_layer<In, Width, L>(first_, bias(0), input.data + s, rows(0), pairs(0), network_.activation);
      for (int l = 1; l <= top; ++l) {
        bf16::hidden_layer<Width>(for_output(l), bias(l), rows(l - 1), rows(l), pairs(l), network_.activation);
      }
    }
    bf16::head<Width, Out, L>(block_.packs(), head_, bias(top + 1), hidden_.rows(0), output.data);
  }

  const float* weight(int l) const { return parameters_ + network_.weight[l]; }
  const float* bias(int l) const { return parameters_ + network_.bias[l]; }
  float* weight_gradient(int l) const { return gradient_ + network_.weight[l]; }
  float* bias_gradient(int l) const { return gradient_ + network_.bias[l]; }
  /// Hidden layer l's weight, l >= 1, laid out for outputs and for input gradients.
  Bits* for_output(int l) const { return squares_ + 2 * (l - 1) * Width * Width; }
  Bits* for_gradient(int l) const { return for_output(l) + Width * Width; }

  Block& block_;
  const float* parameters_;
  const Network& network_;
  Hidden hidden_;
  float *first_, *first_gradient_;  // [In][Width]
  Bits *head_, *squares_;
  float* gradient_ = nullptr;
};

#endif

}  // namespace perilune::inline PERILUNE_LEVEL
