// Networks on tensor cores (tf32 or bf16 operands, fp32 sums), for blocks of whole warps whose lanes are samples.
//
// Weights are staged in block storage, rounded, and stay for as long as the block lives. A warp owns 32 rows of samples,
// two multiplies high, so that each weight it reads is used twice. Where only the output matters hidden layers pass from
// multiply to multiply in registers (fragments.hpp). Training keeps them in block storage, as [layer][sample][Width], and
// there a lane reads as operands what it wrote itself; so do rollouts at width 128, for which registers do not suffice.
// Products with an fp32 tile (observations; output gradients) are tf32 in bf16 blocks as well: their depth is padded to 8,
// so that bf16's 16 would save nothing, and observations keep 10 bits.
//
// Weight gradients are products over the samples of all warps, split among the warps by rows and columns of the weight.
// They stay in registers from tile to tile, and are written once; only at width 128, where a warp's share is 128 registers,
// hidden layers' are added to the partial gradient in device memory after each tile. A bias's gradient is one more column
// of that product, of ones.
#pragma once

#include "kernels/machine/tensor_operands.hpp"
#include "kernels/network.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <TensorBlock B, int Width>
class HiddenLayers<B, Width> {
 public:
  /// Do a warp's rows of two layers fit its registers?
  static constexpr bool kPassInRegisters = Width <= 64;

  static constexpr int inference_floats() { return kPassInRegisters ? 0 : kLayerFloats; }
  static constexpr int training_floats(int depth) { return depth * kLayerFloats; }
  PERILUNE_DEVICE static HiddenLayers for_inference(Carver<B>& carver) {
    HiddenLayers result;
    result.data_ = carver.floats(inference_floats());
    return result;
  }
  PERILUNE_DEVICE static HiddenLayers for_training(Carver<B>& carver, int depth) {
    HiddenLayers result;
    result.data_ = carver.floats(training_floats(depth));
    return result;
  }
  /// [kLanes][Width], swizzled.
  PERILUNE_DEVICE float* layer(int l) const { return data_ + l * kLayerFloats; }

 private:
  static constexpr int kLayerFloats = B::kLanes * Width;
  float* data_ = nullptr;
};

template <TensorBlock B, int In, int Width, int Out>
class Mlp<B, In, Width, Out> {
  static constexpr Precision kPrecision = B::kPrecision;
  static constexpr Precision kTf32 = Precision::kTf32;
  static constexpr int kWarps = B::kLanes / kWarpLanes;
  static constexpr int kIn = round_up(In, 8), kOut = round_up(Out, 8);
  static constexpr int kFirstFloats = (kIn + 1) * Width, kHiddenFloats = (Width + 1) * Width;
  static constexpr int kColumns = Width / 8;  // multiplies side by side in a warp's rows
  // How many of them training takes at a time: at width 128 the gradients leave no registers for all.
  static constexpr int kPart = kColumns < 8 ? kColumns : 8;
  // A warp's share of a hidden weight's gradient: 2 x 2 warps, in pieces of up to 32 x 32.
  static constexpr int kShareRows = Width == 16 ? 16 : Width / 2, kShareColumns = Width / 2;
  static constexpr int kPieceRows = kShareRows < 32 ? kShareRows : 32;
  static constexpr int kPieceColumns = kShareColumns < 32 ? kShareColumns : 32;
  static constexpr bool kInRegisters = Width <= 64;
  // Of the first layer's and the head's: strips of 16 features of the hidden layer, dealt to the warps.
  static constexpr int kStrips = round_up(Width, 16 * kWarps) / (16 * kWarps);

  /// A warp's rows of a layer: accumulators below each other and side by side.
  template <int Columns>
  using Rows = float[2][Columns][4];
  struct Piece {
    float weight[kPieceRows / 16][kPieceColumns / 8][4];
    float bias[kPieceRows / 16][4];  // all 8 columns of its accumulator are the same
  };
  template <int Padded>
  struct Strips {
    float weight[kStrips][Padded / 8][4];
  };

 public:
  using Hidden = HiddenLayers<B, Width>;

  static constexpr int storage_floats(int depth) {
    return kFirstFloats + (depth - 1) * kHiddenFloats + kOut * (Width + 1);
  }

  PERILUNE_DEVICE Mlp(B& block, Carver<B>& carver, const float* parameters, const Network& network,
                      const Hidden& hidden)
      : block_(block),
        network_(network),
        hidden_(hidden),
        staged_(carver.floats(storage_floats(network.depth))),
        warp_(block.lane().number / kWarpLanes),
        lane_(block.lane().number % kWarpLanes),
        operands_{lane_} {
    stage_weights(parameters);
  }

  PERILUNE_DEVICE void infer(Tile<B> input, Tile<B> output) const {
    if constexpr (Hidden::kPassInRegisters) {
      run_in_registers(input, output);
    } else {
      run_in_storage<false>(input, output);
    }
    block_.sync_warp();
  }
  PERILUNE_DEVICE void forward(Tile<B> input, Tile<B> output) {
    run_in_storage<true>(input, output);
    block_.sync_warp();
  }

  PERILUNE_DEVICE void begin_gradient(float* gradient) {
    static_assert(kWarps == 4, "the warps' shares of a gradient are for four");
    gradient_ = gradient;
    block_.fill_zero(gradient + network_.begin, network_.end - network_.begin);
    block_.sync();
    first_ = {};
    head_ = {};
    PERILUNE_UNROLL
    for (int i = 0; i < kStrips; ++i) clear(first_bias_[i]);
    PERILUNE_UNROLL
    for (int n = 0; n < kOut / 8; ++n) clear(head_bias_[n]);
    PERILUNE_UNROLL
    for (int l = 0; l < kPieces; ++l) pieces_[l] = {};
  }

  PERILUNE_DEVICE void backward(Tile<B> input, Tile<B> output) {
    const int last = network_.depth - 1;
    add_head(output, hidden_.layer(last));
    block_.sync();
    backward_head(output);
    block_.sync();
    for (int l = last; l > 0; --l) {
      add_hidden(l);
      block_.sync();
      backward_hidden(l);
      block_.sync();
    }
    add_first(input, hidden_.layer(0));
    block_.sync();
  }

  PERILUNE_DEVICE void finish_gradient() {
    write_first();
    write_head();
    if constexpr (kInRegisters) {
      PERILUNE_UNROLL
      for (int l = 1; l < kMaxFusedLayers; ++l) {
        if (l < network_.depth && shares()) write_piece(pieces_[l - 1], l, 0, 0);
      }
    }
  }

 private:
  PERILUNE_DEVICE static void clear(float (&c)[4]) {
    PERILUNE_UNROLL
    for (int r = 0; r < 4; ++r) c[r] = 0.0f;
  }

  // ---- staged weights: rows of Width words, swizzled, and the bias after them ----

  PERILUNE_DEVICE float* weight(int l) const {
    return staged_ + (l == 0 ? 0 : kFirstFloats + (l - 1) * kHiddenFloats);
  }
  PERILUNE_DEVICE float* hidden_bias(int l) const {
    return weight(l) + (l == 0 ? kIn : Width) * Width;
  }
  PERILUNE_DEVICE float* head_bias() const { return weight(network_.depth) + kOut * Width; }

  /// to[row][column] = value(row, column).
  template <class F>
  PERILUNE_DEVICE void stage(float* to, int rows, F&& value) const {
    for (int i = block_.lane().number; i < rows * Width; i += B::kLanes) {
      const int row = i / Width, column = i % Width;
      to[swizzled<Width>(lane_word<Width>(row & 7, column & 7), row, column)] = value(row, column);
    }
  }
  PERILUNE_DEVICE void stage_weights(const float* parameters) const {
    const int number = block_.lane().number, head = network_.depth;
    const float* from = parameters + network_.weight[0];
    stage(weight(0), kIn, [&](int in, int out) {
      return in < In ? B::round_tf32(from[out * In + in]) : 0.0f;
    });
    for (int l = 1; l < head; ++l) {
      from = parameters + network_.weight[l];
      stage(weight(l), Width,
            [&](int out, int in) { return round_operand<B>(from[out * Width + in]); });
    }
    from = parameters + network_.weight[head];
    stage(weight(head), kOut, [&](int row, int in) {
      const int out = head_output(row);
      return out < Out ? round_operand<B>(from[out * Width + in]) : 0.0f;
    });
    for (int l = 0; l < head; ++l) {
      for (int i = number; i < Width; i += B::kLanes) {
        hidden_bias(l)[i] = parameters[network_.bias[l] + i];
      }
    }
    if (number < kOut) {
      const int out = head_output(number);
      head_bias()[number] = out < Out ? parameters[network_.bias[head] + out] : 0.0f;
    }
    block_.sync();
  }

  // ---- forward: a warp's own rows, and no other warp's ----

  PERILUNE_DEVICE int first_row() const { return warp_ * kWarpLanes; }

  PERILUNE_DEVICE void run_in_registers(Tile<B> input, Tile<B> output) const {
    Rows<kColumns> x;
    first_layer(input, 0, x);
    activate(x, x);
    for (int l = 1; l < network_.depth; ++l) {
      Rows<kColumns> y;
      multiply_in_registers<kColumns>(weight(l), hidden_bias(l), x, y);
      activate(y, x);
    }
    Rows<kOut / 8> y;
    multiply_in_registers<kOut / 8>(weight(network_.depth), head_bias(), x, y);
    write_output(y, output);
  }
  /// Keep: every layer in its place; else all in the first one's.
  template <bool Keep>
  PERILUNE_DEVICE void run_in_storage(Tile<B> input, Tile<B> output) const {
    constexpr int kTaken = Keep ? kPart : kColumns;
    const float* layer = nullptr;
    for (int l = 0; l < network_.depth; ++l) {
      float* to = hidden_.layer(Keep ? l : 0);
      PERILUNE_ROLLED
      for (int column = 0; column < Width; column += 8 * kTaken) {
        Rows<kTaken> x;
        if (l == 0) {
          first_layer(input, column, x);
        } else {
          multiply_in_storage<kTaken>(weight(l), hidden_bias(l), column, layer, x);
        }
        activate(x, x);
        for_pairs<kTaken>(to, column, [&](float* at, int m, int n, int r) {
          store_pair(at, x[m][n][r], x[m][n][r + 1]);
        });
      }
      layer = to;
    }
    Rows<kOut / 8> y;
    multiply_in_storage<kOut / 8>(weight(network_.depth), head_bias(), 0, layer, y);
    write_output(y, output);
  }

  // Where functions take a `column` their accumulators are those from that column (a feature) on.

  /// Calls f(place of elements r and r + 1 of accumulator (m, n) in the layer, m, n, r).
  template <int Columns, class F>
  PERILUNE_DEVICE void for_pairs(float* layer, int column, F&& f) const {
    PERILUNE_UNROLL
    for (int m = 0; m < 2; ++m) {
      PERILUNE_UNROLL
      for (int n = 0; n < Columns; ++n) {
        PERILUNE_UNROLL
        for (int r = 0; r < 4; r += 2) {
          f(layer + swizzled<Width>(operands_.pair, first_row() + 16 * m + 4 * r, column + n * 8), m, n, r);
        }
      }
    }
  }
  template <int Columns>
  PERILUNE_DEVICE void start(const float* bias, Rows<Columns>& y) const {
    PERILUNE_UNROLL
    for (int n = 0; n < Columns; ++n) {
      const Float2 pair = load_pair(bias + n * 8 + c_column(lane_, 0));
      PERILUNE_UNROLL
      for (int m = 0; m < 2; ++m) {
        y[m][n][0] = y[m][n][2] = pair.x;
        y[m][n][1] = y[m][n][3] = pair.y;
      }
    }
  }
  /// y += eight features of an fp32 tile times eight rows of weights, of which the lane takes those of these two words.
  template <int Features, int Columns>
  PERILUNE_DEVICE void multiply_tile(Tile<B> tile, int feature, const float* matrix, int low,
                                     int high, int column, Rows<Columns>& y) const {
    std::uint32_t a[2][4];
    PERILUNE_UNROLL
    for (int m = 0; m < 2; ++m) {
      samples_a<Features>(tile, lane_, first_row() + 16 * m, feature, a[m]);
    }
    PERILUNE_UNROLL
    for (int n = 0; n < Columns; ++n) {
      const std::uint32_t b[2] = {as_uint(matrix[swizzled<Width>(low, feature, column + n * 8)]),
                                  as_uint(matrix[swizzled<Width>(high, feature, column + n * 8)])};
      PERILUNE_UNROLL
      for (int m = 0; m < 2; ++m) block_.mma(Tf32Fragment{}, y[m][n], a[m], b);
    }
  }
  template <int Columns>
  PERILUNE_DEVICE void first_layer(Tile<B> input, int column, Rows<Columns>& y) const {
    start<Columns>(hidden_bias(0) + column, y);
    PERILUNE_UNROLL
    for (int k = 0; k < kIn; k += 8) {
      multiply_tile<In, Columns>(input, k, weight(0), operands_.first, operands_.fifth, column, y);
    }
  }
  /// y += a step of sixteen: a_of(m) times b_of(n).
  template <int Columns, class FA, class FB>
  PERILUNE_DEVICE void multiply_step(Rows<Columns>& y, FA&& a_of, FB&& b_of) const {
    const OperandA<kPrecision> a[2] = {a_of(0), a_of(1)};
    PERILUNE_UNROLL
    for (int n = 0; n < Columns; ++n) {
      const OperandB<kPrecision> b = b_of(n);
      PERILUNE_UNROLL
      for (int m = 0; m < 2; ++m) multiply<kPrecision>(block_, y[m][n], a[m], b);
    }
  }
  /// y = x W^T + bias.
  template <int Columns>
  PERILUNE_DEVICE void multiply_in_registers(const float* matrix, const float* bias,
                                             const Rows<kColumns>& x, Rows<Columns>& y) const {
    start<Columns>(bias, y);
    PERILUNE_UNROLL
    for (int k = 0; k < kColumns; k += 2) {
      multiply_step<Columns>(
          y, [&](int m) { return operand_a<kPrecision, B>(x[m][k], x[m][k + 1]); },
          [&](int n) { return operands_.rows_b(matrix, n * 8, k * 8); });
    }
  }
  template <int Columns>
  PERILUNE_DEVICE void multiply_in_storage(const float* matrix, const float* bias, int column,
                                           const float* x, Rows<Columns>& y) const {
    start<Columns>(bias + column, y);
    PERILUNE_ROLLED
    for (int k = 0; k < Width; k += 16) {
      multiply_step<Columns>(
          y, [&](int m) { return operands_.rows_a(x, first_row() + 16 * m, k); },
          [&](int n) { return operands_.rows_b(matrix, column + n * 8, k); });
    }
  }
  /// x = activation(y), rounded.
  template <int Columns>
  PERILUNE_DEVICE void activate(const float (&y)[2][Columns][4], float (&x)[2][Columns][4]) const {
    // Two loops, so that the choice is not made for each number.
    if (network_.activation == Activation::kTanh) {
      for_elements(y, x, [](float value) { return B::network_tanh(value); });
    } else {
      for_elements(y, x, [](float value) { return max(0.0f, value); });
    }
  }
  template <int Columns, class F>
  PERILUNE_DEVICE static void for_elements(const float (&y)[2][Columns][4],
                                           float (&x)[2][Columns][4], F&& f) {
    PERILUNE_UNROLL
    for (int m = 0; m < 2; ++m) {
      PERILUNE_UNROLL
      for (int n = 0; n < Columns; ++n) {
        PERILUNE_UNROLL
        for (int r = 0; r < 4; ++r) x[m][n][r] = round_operand<B>(f(y[m][n][r]));
      }
    }
  }
  PERILUNE_DEVICE void write_output(const Rows<kOut / 8>& y, Tile<B> output) const {
    PERILUNE_UNROLL
    for (int m = 0; m < 2; ++m) {
      PERILUNE_UNROLL
      for (int n = 0; n < kOut / 8; ++n) {
        PERILUNE_UNROLL
        for (int r = 0; r < 4; ++r) {
          const int out = head_output(n * 8 + c_column(lane_, r));
          const int sample = first_row() + 16 * m + c_row(lane_, r);
          if (out < Out) output.data[out * B::kStride + sample] = y[m][n][r];
        }
      }
    }
  }

  // ---- backward through a layer's input: own rows again, in place ----

  PERILUNE_DEVICE void backward_head(Tile<B> output) const {
    const int head = network_.depth;
    PERILUNE_ROLLED
    for (int column = 0; column < Width; column += 8 * kPart) {
      Rows<kPart> y = {};
      PERILUNE_UNROLL
      for (int k = 0; k < kOut; k += 8) {
        // Depth t is output t, which is row 2t of the staged head; t + 4 is row 2t + 1.
        multiply_tile<Out, kPart>(output, k, weight(head), operands_.even, operands_.odd, column, y);
      }
      replace_by_gradient(y, hidden_.layer(head - 1), column);
    }
  }
  PERILUNE_DEVICE void backward_hidden(int l) const {
    const float *matrix = weight(l), *dy = hidden_.layer(l);
    PERILUNE_ROLLED
    for (int column = 0; column < Width; column += 8 * kPart) {
      Rows<kPart> y = {};
      PERILUNE_ROLLED
      for (int k = 0; k < Width; k += 16) {
        multiply_step<kPart>(
            y, [&](int m) { return operands_.rows_a(dy, first_row() + 16 * m, k); },
            [&](int n) { return operands_.columns_b(matrix, k, column + n * 8); });
      }
      replace_by_gradient(y, hidden_.layer(l - 1), column);
    }
  }
  /// A layer's outputs h <- y * activation'(h), rounded.
  PERILUNE_DEVICE void replace_by_gradient(const Rows<kPart>& y, float* layer, int column) const {
    if (network_.activation == Activation::kTanh) {
      multiply_by_slopes(y, layer, column,
                         [](float h, float dy) { return dy * mul_add(-h, h, 1.0f); });
    } else {
      multiply_by_slopes(y, layer, column,
                         [](float h, float dy) { return select(h > 0.0f, dy, 0.0f); });
    }
  }
  template <class F>
  PERILUNE_DEVICE void multiply_by_slopes(const Rows<kPart>& y, float* layer, int column,
                                          F&& f) const {
    for_pairs<kPart>(layer, column, [&](float* at, int m, int n, int r) {
      const Float2 h = load_pair(at);
      store_pair(at, round_operand<B>(f(h.x, y[m][n][r])), round_operand<B>(f(h.y, y[m][n][r + 1])));
    });
  }

  // ---- weight gradients: sums over all samples of the block ----

  /// Does this warp have a share of the hidden weights? At width 16 there is work for two.
  PERILUNE_DEVICE bool shares() const { return warp_ / 2 * kShareRows < Width; }

  PERILUNE_DEVICE void add_hidden(int l) {
    if (!shares()) return;
    if constexpr (kInRegisters) {
      PERILUNE_UNROLL
      for (int i = 1; i < kMaxFusedLayers; ++i) {
        if (i == l) add_piece(pieces_[i - 1], l, 0, 0);
      }
    } else {
      for (int row = 0; row < kShareRows; row += kPieceRows) {
        for (int column = 0; column < kShareColumns; column += kPieceColumns) {
          Piece piece = {};
          add_piece(piece, l, row, column);
          write_piece(piece, l, row, column);
        }
      }
    }
  }
  /// piece += dy x^T for its rows (outputs) and columns (inputs) of the warp's share.
  PERILUNE_DEVICE void add_piece(Piece& piece, int l, int piece_row, int piece_column) const {
    const float *dy = hidden_.layer(l), *x = hidden_.layer(l - 1);
    const int out = warp_ / 2 * kShareRows + piece_row;
    const int in = warp_ % 2 * kShareColumns + piece_column;
    PERILUNE_ROLLED
    for (int sample = 0; sample < B::kLanes; sample += 16) {
      OperandA<kPrecision> a[kPieceRows / 16];
      PERILUNE_UNROLL
      for (int m = 0; m < kPieceRows / 16; ++m) {
        a[m] = operands_.columns_a(dy, sample, out + 16 * m);
      }
      PERILUNE_UNROLL
      for (int n = 0; n < kPieceColumns / 8; ++n) {
        const OperandB<kPrecision> b = operands_.columns_b(x, sample, in + 8 * n);
        PERILUNE_UNROLL
        for (int m = 0; m < kPieceRows / 16; ++m) {
          multiply<kPrecision>(block_, piece.weight[m][n], a[m], b);
        }
      }
      if (in == 0) {
        PERILUNE_UNROLL
        for (int m = 0; m < kPieceRows / 16; ++m) {
          multiply<kPrecision>(block_, piece.bias[m], a[m], ones_b<kPrecision, B>());
        }
      }
    }
  }
  /// First hidden feature of this warp's i-th strip; Width or more: it has none.
  PERILUNE_DEVICE int strip(int i) const { return 16 * (warp_ + kWarps * i); }

  PERILUNE_DEVICE void add_first(Tile<B> input, const float* dy) {
    PERILUNE_ROLLED
    for (int sample = 0; sample < B::kLanes; sample += 16) {
      PERILUNE_UNROLL
      for (int i = 0; i < kStrips; ++i) {
        if (strip(i) >= Width) continue;
        const OperandA<kTf32> a = operands_.template columns_a<kTf32>(dy, sample, strip(i));
        PERILUNE_UNROLL
        for (int n = 0; n < kIn / 8; ++n) {
          multiply<kTf32>(block_, first_.weight[i][n], a, samples_b<In>(input, lane_, sample, 8 * n));
        }
        multiply<kTf32>(block_, first_bias_[i], a, ones_b<kTf32, B>());
      }
    }
  }
  /// Transposed, inputs x outputs, so that the few outputs are the side that is padded to 8 and not to 16.
  PERILUNE_DEVICE void add_head(Tile<B> output, const float* x) {
    PERILUNE_ROLLED
    for (int sample = 0; sample < B::kLanes; sample += 16) {
      PERILUNE_UNROLL
      for (int n = 0; n < kOut / 8; ++n) {
        const OperandB<kTf32> b = samples_b<Out>(output, lane_, sample, 8 * n);
        PERILUNE_UNROLL
        for (int i = 0; i < kStrips; ++i) {
          if (strip(i) >= Width) continue;
          multiply<kTf32>(block_, head_.weight[i][n],
                          operands_.template columns_a<kTf32>(x, sample, strip(i)), b);
        }
        if (warp_ == kWarps - 1) multiply<kTf32>(block_, head_bias_[n], ones_a<kTf32, B>(), b);
      }
    }
  }

  // ---- to device memory; every entry is one lane's ----

  PERILUNE_DEVICE void write_piece(const Piece& piece, int l, int piece_row, int piece_column) const {
    float* dweight = gradient_ + network_.weight[l];
    float* dbias = gradient_ + network_.bias[l];
    const int out = warp_ / 2 * kShareRows + piece_row;
    const int in = warp_ % 2 * kShareColumns + piece_column;
    PERILUNE_UNROLL
    for (int m = 0; m < kPieceRows / 16; ++m) {
      PERILUNE_UNROLL
      for (int r = 0; r < 4; r += 2) {
        const int row = out + 16 * m + c_row(lane_, r);
        PERILUNE_UNROLL
        for (int n = 0; n < kPieceColumns / 8; ++n) {
          float* at = dweight + row * Width + in + 8 * n + c_column(lane_, r);
          const Float2 sum = kInRegisters ? Float2{0.0f, 0.0f} : load_pair(at);
          store_pair(at, sum.x + piece.weight[m][n][r], sum.y + piece.weight[m][n][r + 1]);
        }
        if (in == 0 && lane_ % 4 == 0) dbias[row] += piece.bias[m][r];
      }
    }
  }
  PERILUNE_DEVICE void write_first() const {
    PERILUNE_UNROLL
    for (int i = 0; i < kStrips; ++i) {
      if (strip(i) >= Width) continue;
      PERILUNE_UNROLL
      for (int r = 0; r < 4; ++r) {
        const int out = strip(i) + c_row(lane_, r), in = c_column(lane_, r);
        PERILUNE_UNROLL
        for (int n = 0; n < kIn / 8; ++n) {
          if (8 * n + in < In) {
            gradient_[network_.weight[0] + out * In + 8 * n + in] = first_.weight[i][n][r];
          }
        }
        if (in == 0) gradient_[network_.bias[0] + out] = first_bias_[i][r];
      }
    }
  }
  PERILUNE_DEVICE void write_head() const {
    const int head = network_.depth;
    PERILUNE_UNROLL
    for (int n = 0; n < kOut / 8; ++n) {
      PERILUNE_UNROLL
      for (int r = 0; r < 4; ++r) {
        const int out = 8 * n + c_column(lane_, r);
        if (out >= Out) continue;
        PERILUNE_UNROLL
        for (int i = 0; i < kStrips; ++i) {
          if (strip(i) >= Width) continue;
          const int in = strip(i) + c_row(lane_, r);
          gradient_[network_.weight[head] + out * Width + in] = head_.weight[i][n][r];
        }
        if (warp_ == kWarps - 1 && c_row(lane_, r) == 0) {
          gradient_[network_.bias[head] + out] = head_bias_[n][r];
        }
      }
    }
  }

  static constexpr int kPieces = kInRegisters ? kMaxFusedLayers - 1 : 0;

  B& block_;
  const Network& network_;
  Hidden hidden_;
  float* staged_;
  int warp_, lane_;  // lane_: its number in the warp
  SwizzledOperands<Width, B> operands_;
  float* gradient_ = nullptr;
  Strips<kIn> first_;
  float first_bias_[kStrips][4];
  Strips<kOut> head_;
  float head_bias_[kOut / 8][4];
  Piece pieces_[kPieces > 0 ? kPieces : 1];
};

}  // namespace perilune::inline PERILUNE_LEVEL
