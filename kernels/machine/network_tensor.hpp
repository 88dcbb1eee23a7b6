// Networks on tensor cores (tf32 or bf16 operands, fp32 sums), for blocks of whole warps whose lanes are samples.
//
// Weights are staged in block storage, rounded, and stay for as long as the block lives. A warp owns 32 rows of
// samples, two multiplies high, so that each weight it reads is used twice. Where only the output matters hidden layers
// pass from multiply to multiply in registers (fragments.hpp). Training keeps them in block storage, and each layer's
// gradient then in its place; so do rollouts in tf32 at width 128, for which registers do not suffice.
//
// Weight gradients are products over the samples of all warps, split among the warps by rows and columns of the weight.
// They stay in registers from tile to tile, and are written once; only at width 128, where a warp's share is 128
// registers, hidden layers' are added to the partial gradient in device memory after each tile. A hidden bias's
// gradient is one more column of that product, of ones; the head's is summed by each lane for itself.
#pragma once

#include "kernels/machine/tensor_tiles.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <TensorBlock B, int In, int Width, int Out, int MaxDepth>
class Mlp<B, In, Width, Out, MaxDepth> {
  using Operands = perilune::Operands<Width, B>;
  using Fragment = typename Operands::Fragment;
  using A = typename Operands::A;
  using Bs = typename Operands::Bs;
  static constexpr int kWarps = B::kLanes / kWarpLanes;
  static constexpr int kInThins = thin_matrices(In), kOutThins = thin_matrices(Out);
  static constexpr int kFirstFloats = kInThins * Operands::kThinWeightFloats + Width;
  static constexpr int kHiddenFloats = Operands::kWeightFloats + Width;
  static constexpr int kColumns = Width / 8;  // multiplies side by side in a warp's rows
  // How many of them are taken at a time from and to block storage: at width 128 registers do not suffice for all.
  static constexpr int kPart = kColumns < 8 ? kColumns : 8;
  // A warp's share of a hidden weight's gradient: 2 x 2 warps, in pieces of up to 32 x 32.
  static constexpr int kShareRows = Width == 16 ? 16 : Width / 2, kShareColumns = kShareRows;
  static constexpr int kPieceRows = kShareRows < 32 ? kShareRows : 32, kPieceColumns = kPieceRows;
  static constexpr bool kInRegisters = Width <= 64;
  // Of the first layer's and the head's: strips of 16 units of the hidden layer, dealt to the warps.
  static constexpr int kStrips = round_up(Width, 16 * kWarps) / (16 * kWarps);

  /// A warp's rows of a layer: accumulators below each other and side by side.
  template <int Columns>
  using Rows = float[2][Columns][4];
  struct Piece {
    float weight[kPieceRows / 16][kPieceColumns / 8][4];
    float bias[4];  // of one of its halves; all 8 columns of its accumulator are the same
  };
  template <int Thins>
  struct Strips {
    float weight[kStrips][Thins][Operands::kThinParts][4];
  };

 public:
  using Hidden = HiddenLayers<B, Width>;

  static constexpr int storage_floats(int depth) {
    return kFirstFloats + (depth - 1) * kHiddenFloats + kOutThins * (Operands::kThinWeightFloats + 8);
  }

  PERILUNE_DEVICE Mlp(B& block, Carver<B>& carver, const float* parameters, const Network& network,
                      const Hidden& hidden)
      : block_(block),
        network_(network),
        hidden_(hidden),
        staged_(carver.floats(storage_floats(network.depth))),
        warp_(block.lane().number / kWarpLanes),
        lane_(block.lane().number % kWarpLanes),
        operands_(block, lane_) {
    stage_weights(parameters);
  }

  PERILUNE_DEVICE void infer(const Observations<B, In>& input, const Outputs<B, Out>& output) const {
    if constexpr (Hidden::kPassInRegisters) {
      run_in_registers(input, output);
    } else {
      run_in_storage<false>(input, output);
    }
    block_.sync_warp();
  }
  PERILUNE_DEVICE void forward(const Observations<B, In>& input, const Outputs<B, Out>& output) {
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
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < kStrips; ++i) clear(first_bias_[i]);
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < Out; ++i) head_bias_[i][block_.lane()] = 0.0f;
    PERILUNE_UNROLL_ON_GPU
    for (int l = 0; l < kPieces; ++l) pieces_[l] = {};
  }

  PERILUNE_DEVICE void set_gradient(typename B::Lane lane, const Outputs<B, Out>& output, const float (&row)[Out]) {
    output.store_gradient(lane, row);
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < Out; ++i) head_bias_[i][lane] += row[i];
  }

  PERILUNE_DEVICE void backward(const Observations<B, In>& input, const Outputs<B, Out>& output) {
    const int last = network_.depth - 1;
    const auto gradient = [&](int i) { return output.gradient(i); };
    add_strips(hidden_.layer(last), gradient, head_, [](int, const A&) {});
    block_.sync();
    backward_head(output);
    block_.sync();
    for (int l = last; l > 0; --l) {
      add_hidden(l);
      block_.sync();
      backward_hidden(l);
      block_.sync();
    }
    add_strips(
        hidden_.layer(0), [&](int i) { return input.thin(i); }, first_,
        [&](int i, const A& a) { add(first_bias_[i], a, Operands::ones()); });
    block_.sync();
  }

  PERILUNE_DEVICE void finish_gradient() {
    write_first();
    write_head();
    if constexpr (kInRegisters) {
      PERILUNE_UNROLL_ON_GPU
      for (int l = 1; l < MaxDepth; ++l) {
        if (l < network_.depth && shares()) write_piece(pieces_[l - 1], l, 0, 0);
      }
    }
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < Out; ++i) {
      const float sum = block_.sum(head_bias_[i]);
      block_.one([&] { gradient_[network_.bias[network_.depth] + i] = sum; });
    }
  }

 private:
  PERILUNE_DEVICE static void clear(float (&c)[4]) {
    PERILUNE_UNROLL_ON_GPU
    for (int r = 0; r < 4; ++r) c[r] = 0.0f;
  }

  // ---- staged weights, each layer's bias after it ----

  PERILUNE_DEVICE float* weight(int l) const { return staged_ + (l == 0 ? 0 : kFirstFloats + (l - 1) * kHiddenFloats); }
  PERILUNE_DEVICE float* hidden_bias(int l) const {
    return weight(l) + (l == 0 ? kFirstFloats : kHiddenFloats) - Width;
  }
  PERILUNE_DEVICE float* head_bias() const { return weight(network_.depth) + kOutThins * Operands::kThinWeightFloats; }

  /// Thin matrices of all units: value(unit, column), 0 from `columns` on.
  template <class F>
  PERILUNE_DEVICE void stage_thin(float* to, int columns, F&& value) const {
    for (int i = block_.thread(); i < round_up(columns, 8) / 8 * Width; i += B::kThreadCount) {
      const int unit = i % Width, first = i / Width * 8;
      float values[8];
      PERILUNE_UNROLL_ON_GPU
      for (int k = 0; k < 8; ++k) values[k] = first + k < columns ? value(unit, first + k) : 0.0f;
      Operands::stage_thin(to + i / Width * Operands::kThinWeightFloats, unit, values);
    }
  }
  PERILUNE_DEVICE void stage_weights(const float* parameters) const {
    const int number = block_.thread(), head = network_.depth;
    const float* first = parameters + network_.weight[0];
    stage_thin(weight(0), In, [&](int unit, int in) { return first[unit * In + in]; });
    for (int l = 1; l < head; ++l) {
      const float* from = parameters + network_.weight[l];
      for (int i = number; i < Width * Width / 8; i += B::kThreadCount) {
        const int out = i / (Width / 8), in = i % (Width / 8) * 8;
        float values[8];
        PERILUNE_UNROLL_ON_GPU
        for (int k = 0; k < 8; k += 4) {
          const Float4 four = *reinterpret_cast<const Float4*>(from + out * Width + in + k);
          PERILUNE_UNROLL_ON_GPU
          for (int j = 0; j < 4; ++j) values[k + j] = four.x[j];
        }
        Operands::stage(weight(l), out, in, values);
      }
    }
    const float* last = parameters + network_.weight[head];
    stage_thin(weight(head), Out, [&](int unit, int out) { return last[out * Width + unit]; });
    for (int l = 0; l < head; ++l) {
      for (int i = number; i < Width; i += B::kThreadCount) {
        hidden_bias(l)[i] = parameters[network_.bias[l] + i];
      }
    }
    if (number < 8 * kOutThins) head_bias()[number] = number < Out ? parameters[network_.bias[head] + number] : 0.0f;
    block_.sync();
  }

  // ---- products ----

  /// c += a b, sixteen deep.
  PERILUNE_DEVICE void add(float (&c)[4], const A& a, const Bs& b) const {
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < A::kMultiplies; ++i) block_.mma(Fragment{}, c, a.word[i], b.word[i], c);
  }
  /// c = a b + start.
  PERILUNE_DEVICE void set(float (&c)[4], const A& a, const Bs& b, const float (&start)[4]) const {
    block_.mma(Fragment{}, c, a.word[0], b.word[0], start);
    PERILUNE_UNROLL_ON_GPU
    for (int i = 1; i < A::kMultiplies; ++i) block_.mma(Fragment{}, c, a.word[i], b.word[i], c);
  }
  /// What an accumulator of columns column..column+7 starts with.
  PERILUNE_DEVICE void start_with(const float* bias, int column, float (&start)[4]) const {
    const Float2 pair = bias == nullptr ? Float2{0.0f, 0.0f} : load_pair(bias + column + c_column(lane_, 0));
    start[0] = start[2] = pair.x;
    start[1] = start[3] = pair.y;
  }
  /// y = x W + bias, for Columns * 8 columns from `column` on. x: a_of(m, k), sixteen columns; W: b_of(k, column, b),
  /// sixteen rows and as many columns. No bias: null.
  template <int Columns, class FA, class FB>
  PERILUNE_DEVICE void multiply(const float* bias, int column, Rows<Columns>& y, FA&& a_of, FB&& b_of) const {
    PERILUNE_UNROLL_ON_GPU
    for (int k = 0; k < Width; k += 16) {
      const A a[2] = {a_of(0, k), a_of(1, k)};
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < Columns; n += 2) {
        Bs b[2];
        b_of(k, column + 8 * n, b);
        PERILUNE_UNROLL_ON_GPU
        for (int i = 0; i < 2; ++i) {
          float start[4];
          if (k == 0) start_with(bias, column + 8 * (n + i), start);
          PERILUNE_UNROLL_ON_GPU
          for (int m = 0; m < 2; ++m) {
            if (k == 0) {
              set(y[m][n + i], a[m], b[i], start);
            } else {
              add(y[m][n + i], a[m], b[i]);
            }
          }
        }
      }
    }
  }
  /// The same of thin matrices: x: thin_of(i); W: `weight`, one after another.
  template <int Thins, int Columns, class F>
  PERILUNE_DEVICE void multiply_thin(const float* bias, int column, Rows<Columns>& y, F&& thin_of,
                                     const float* weight) const {
    PERILUNE_UNROLL_ON_GPU
    for (int k = 0; k < Thins; ++k) {
      WordsA a[2];
      PERILUNE_UNROLL_ON_GPU
      for (int m = 0; m < 2; ++m) operands_.thin_a(thin_of(k), first_row() + 16 * m, a[m]);
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < Columns; n += 2) {
        WordsB b[2];
        operands_.thin_forward_b(weight + k * Operands::kThinWeightFloats, column + 8 * n, b);
        PERILUNE_UNROLL_ON_GPU
        for (int i = 0; i < 2; ++i) {
          float start[4];
          if (k == 0) start_with(bias, column + 8 * (n + i), start);
          PERILUNE_UNROLL_ON_GPU
          for (int m = 0; m < 2; ++m) {
            float(&c)[4] = y[m][n + i];
            block_.mma(Fragment{}, c, a[m], b[i], k == 0 ? start : c);
          }
        }
      }
    }
  }

  // ---- forward: a warp's own rows, and no other warp's ----

  PERILUNE_DEVICE int first_row() const { return warp_ * kWarpLanes; }

  template <int Columns>
  PERILUNE_DEVICE void first_layer(const Observations<B, In>& input, int column, Rows<Columns>& y) const {
    multiply_thin<kInThins, Columns>(
        hidden_bias(0), column, y, [&](int i) { return input.thin(i); }, weight(0));
  }
  /// The head's outputs; x: a_of(m, k).
  template <class F>
  PERILUNE_DEVICE void head(const Outputs<B, Out>& output, F&& a_of) const {
    Rows<kOutThins> y;
    PERILUNE_UNROLL_ON_GPU
    for (int k = 0; k < Width; k += 16) {
      const A a[2] = {a_of(0, k), a_of(1, k)};
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < kOutThins; ++n) {
        const Bs b = operands_.thin_rows_b(weight(network_.depth) + n * Operands::kThinWeightFloats, k);
        float start[4];
        if (k == 0) start_with(head_bias(), 8 * n, start);
        PERILUNE_UNROLL_ON_GPU
        for (int m = 0; m < 2; ++m) {
          if (k == 0) {
            set(y[m][n], a[m], b, start);
          } else {
            add(y[m][n], a[m], b);
          }
        }
      }
    }
    PERILUNE_UNROLL_ON_GPU
    for (int m = 0; m < 2; ++m) {
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < kOutThins; ++n) {
        PERILUNE_UNROLL_ON_GPU
        for (int r = 0; r < 4; r += 2) {
          output.put(first_row() + 16 * m + c_row(lane_, r), 8 * n + c_column(lane_, r), y[m][n][r], y[m][n][r + 1]);
        }
      }
    }
  }
  PERILUNE_DEVICE void run_in_registers(const Observations<B, In>& input, const Outputs<B, Out>& output) const {
    Rows<kColumns> y;
    A x[2][kColumns / 2];
    const auto keep = [&](int m, int n, const A& a) { x[m][n / 2] = a; };
    const auto rows = [&](int m, int k) { return x[m][k / 16]; };
    first_layer<kColumns>(input, 0, y);
    activate<kColumns>(y, keep);
    for (int l = 1; l < network_.depth; ++l) {
      multiply<kColumns>(hidden_bias(l), 0, y, rows, forward_weights(l));
      activate<kColumns>(y, keep);
    }
    head(output, rows);
  }
  /// Keep: every layer in its place; else all in the first one's.
  template <bool Keep>
  PERILUNE_DEVICE void run_in_storage(const Observations<B, In>& input, const Outputs<B, Out>& output) const {
    constexpr int kTaken = Keep ? kPart : kColumns;
    const float* layer = nullptr;
    const auto rows = [&](int m, int k) { return operands_.load(layer, first_row() + 16 * m, k); };
    for (int l = 0; l < network_.depth; ++l) {
      float* to = hidden_.layer(Keep ? l : 0);
      PERILUNE_ROLLED
      for (int column = 0; column < Width; column += 8 * kTaken) {
        Rows<kTaken> y;
        if (l == 0) {
          first_layer<kTaken>(input, column, y);
        } else {
          multiply<kTaken>(hidden_bias(l), column, y, rows, forward_weights(l));
        }
        activate<kTaken>(
            y, [&](int m, int n, const A& a) { operands_.store(to, first_row() + 16 * m, column + 8 * n, a); });
      }
      block_.sync_warp();
      layer = to;
    }
    head(output, rows);
  }
  PERILUNE_DEVICE auto forward_weights(int l) const {
    return [this, matrix = weight(l)](int k, int column, Bs(&b)[2]) { operands_.forward_b(matrix, k, column, b); };
  }
  /// Calls f(m, n, activation(y[m][n] and y[m][n + 1]), rounded) for even n.
  template <int Columns, class F>
  PERILUNE_DEVICE void activate(const Rows<Columns>& y, F&& f) const {
    // Two loops, so that the choice is not made for each number.
    if (network_.activation == Activation::kTanh) {
      round_each<Columns>(y, f, [](float value) { return B::network_tanh(value); });
    } else {
      round_each<Columns>(y, f, [](float value) { return max(0.0f, value); });
    }
  }
  template <int Columns, class F, class G>
  PERILUNE_DEVICE static void round_each(const Rows<Columns>& y, F&& f, G&& g) {
    PERILUNE_UNROLL_ON_GPU
    for (int m = 0; m < 2; ++m) {
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < Columns; n += 2) {
        float x[2][4];
        PERILUNE_UNROLL_ON_GPU
        for (int i = 0; i < 2; ++i) {
          PERILUNE_UNROLL_ON_GPU
          for (int r = 0; r < 4; ++r) x[i][r] = g(y[m][n + i][r]);
        }
        f(m, n, Operands::rounded(x[0], x[1]));
      }
    }
  }

  // ---- backward through a layer's input: own rows again, in place ----

  PERILUNE_DEVICE void backward_head(const Outputs<B, Out>& output) const {
    const int head = network_.depth;
    PERILUNE_ROLLED
    for (int column = 0; column < Width; column += 8 * kPart) {
      Rows<kPart> y;
      multiply_thin<kOutThins, kPart>(
          nullptr, column, y, [&](int i) { return output.gradient(i); }, weight(head));
      replace_by_gradient(y, hidden_.layer(head - 1), column);
    }
  }
  PERILUNE_DEVICE void backward_hidden(int l) const {
    const float *matrix = weight(l), *dy = hidden_.layer(l);
    PERILUNE_ROLLED
    for (int column = 0; column < Width; column += 8 * kPart) {
      Rows<kPart> y;
      multiply<kPart>(
          nullptr, column, y, [&](int m, int k) { return operands_.load(dy, first_row() + 16 * m, k); },
          [&](int k, int to, Bs(&b)[2]) { operands_.backward_b(matrix, k, to, b); });
      replace_by_gradient(y, hidden_.layer(l - 1), column);
    }
  }
  /// A layer's outputs h <- y * activation'(h), rounded.
  PERILUNE_DEVICE void replace_by_gradient(const Rows<kPart>& y, float* layer, int column) const {
    if (network_.activation == Activation::kTanh) {
      multiply_by_derivatives(y, layer, column, [](float h, float dy) { return dy * mul_add(-h, h, 1.0f); });
    } else {
      // A rounded 0 may have bits that multiplies do not look at.
      multiply_by_derivatives(y, layer, column, [](float h, float dy) { return select(h > 0x1p-126f, dy, 0.0f); });
    }
  }
  template <class F>
  PERILUNE_DEVICE void multiply_by_derivatives(const Rows<kPart>& y, float* layer, int column, F&& f) const {
    PERILUNE_UNROLL_ON_GPU
    for (int m = 0; m < 2; ++m) {
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < kPart; n += 2) {
        const int row = first_row() + 16 * m, at = column + 8 * n;
        float h[2][4];
        Operands::unpack(operands_.load(layer, row, at), h[0], h[1]);
        PERILUNE_UNROLL_ON_GPU
        for (int i = 0; i < 2; ++i) {
          PERILUNE_UNROLL_ON_GPU
          for (int r = 0; r < 4; ++r) h[i][r] = f(h[i][r], y[m][n + i][r]);
        }
        operands_.store(layer, row, at, Operands::rounded(h[0], h[1]));
      }
    }
  }

  // ---- weight gradients: sums over all samples of the block ----

  /// Does this warp have a share of the hidden weights? At width 16 there is work for one.
  PERILUNE_DEVICE bool shares() const { return warp_ / 2 * kShareRows < Width && warp_ % 2 * kShareColumns < Width; }

  PERILUNE_DEVICE void add_hidden(int l) {
    if (!shares()) return;
    if constexpr (kInRegisters) {
      PERILUNE_UNROLL_ON_GPU
      for (int i = 1; i < MaxDepth; ++i) {
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
  // Two warps have the same rows of a weight and share its bias's gradient: each sums half of a piece's rows, where
  // they are two multiplies high, in the first piece of its columns.
  static constexpr int kHalves = kPieceRows / 16;
  PERILUNE_DEVICE int bias_half() const { return kHalves == 1 ? 0 : warp_ % 2; }
  PERILUNE_DEVICE bool has_bias(int piece_column) const {
    return piece_column == 0 && (kHalves == 2 || warp_ % 2 == 0);
  }

  /// piece += dy x^T for its rows (outputs) and columns (inputs) of the warp's share.
  PERILUNE_DEVICE void add_piece(Piece& piece, int l, int piece_row, int piece_column) const {
    const float *dy = hidden_.layer(l), *x = hidden_.layer(l - 1);
    const int out = warp_ / 2 * kShareRows + piece_row;
    const int in = warp_ % 2 * kShareColumns + piece_column;
    PERILUNE_PAIRED
    for (int sample = 0; sample < B::kLanes; sample += 16) {
      A a[kPieceRows / 16];
      PERILUNE_UNROLL_ON_GPU
      for (int m = 0; m < kPieceRows / 16; ++m) {
        a[m] = operands_.columns_a(dy, sample, out + 16 * m);
      }
      if (has_bias(piece_column)) {
        A half;
        PERILUNE_UNROLL_ON_GPU
        for (int i = 0; i < A::kMultiplies; ++i) {
          PERILUNE_UNROLL_ON_GPU
          for (int r = 0; r < 4; ++r) half.word[i][r] = bias_half() == 0 ? a[0].word[i][r] : a[kHalves - 1].word[i][r];
        }
        add(piece.bias, half, Operands::ones());
      }
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < kPieceColumns / 8; n += 2) {
        Bs b[2];
        operands_.columns_b(x, sample, in + 8 * n, b);
        PERILUNE_UNROLL_ON_GPU
        for (int i = 0; i < 2; ++i) {
          PERILUNE_UNROLL_ON_GPU
          for (int m = 0; m < kPieceRows / 16; ++m) add(piece.weight[m][n + i], a[m], b[i]);
        }
      }
    }
  }
  /// First hidden unit of this warp's i-th strip; Width or more: it has none.
  PERILUNE_DEVICE int strip(int i) const { return 16 * (warp_ + kWarps * i); }

  /// strips += layer^T thin, for the warp's strips of units; and calls also(i, layer^T) with the i-th one's operand.
  template <int Thins, class F, class G>
  PERILUNE_DEVICE void add_strips(const float* layer, F&& thin_of, Strips<Thins>& strips, G&& also) const {
    constexpr int kParts = Operands::kThinParts;
    PERILUNE_PAIRED
    for (int sample = 0; sample < B::kLanes; sample += 16) {
      Bs b[Thins][kParts];
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < Thins; ++n) operands_.thin_columns_b(thin_of(n), sample, b[n]);
      PERILUNE_UNROLL_ON_GPU
      for (int i = 0; i < kStrips; ++i) {
        if (strip(i) >= Width) continue;
        const A a = operands_.columns_a(layer, sample, strip(i));
        PERILUNE_UNROLL_ON_GPU
        for (int n = 0; n < Thins; ++n) {
          PERILUNE_UNROLL_ON_GPU
          for (int part = 0; part < kParts; ++part) add(strips.weight[i][n][part], a, b[n][part]);
        }
        also(i, a);
      }
    }
  }

  // ---- to device memory; every entry is one lane's ----

  PERILUNE_DEVICE void write_piece(const Piece& piece, int l, int piece_row, int piece_column) const {
    float* dweight = gradient_ + network_.weight[l];
    float* dbias = gradient_ + network_.bias[l];
    const int out = warp_ / 2 * kShareRows + piece_row;
    const int in = warp_ % 2 * kShareColumns + piece_column;
    PERILUNE_UNROLL_ON_GPU
    for (int m = 0; m < kPieceRows / 16; ++m) {
      PERILUNE_UNROLL_ON_GPU
      for (int r = 0; r < 4; r += 2) {
        const int row = out + 16 * m + c_row(lane_, r);
        PERILUNE_UNROLL_ON_GPU
        for (int n = 0; n < kPieceColumns / 8; ++n) {
          float* at = dweight + row * Width + in + 8 * n + c_column(lane_, r);
          const Float2 sum = kInRegisters ? Float2{0.0f, 0.0f} : load_pair(at);
          store_pair(at, sum.x + piece.weight[m][n][r], sum.y + piece.weight[m][n][r + 1]);
        }
        if (has_bias(piece_column) && m == bias_half() && lane_ % 4 == 0) dbias[row] += piece.bias[r];
      }
    }
  }
  /// Calls f(unit, column, sum) for the numbers of the warp's strips that this lane holds.
  template <int Thins, class F>
  PERILUNE_DEVICE void each_sum(const Strips<Thins>& strips, int columns, F&& f) const {
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < kStrips; ++i) {
      if (strip(i) >= Width) continue;
      PERILUNE_UNROLL_ON_GPU
      for (int n = 0; n < Thins; ++n) {
        PERILUNE_UNROLL_ON_GPU
        for (int r = 0; r < 4; ++r) {
          float sum = 0.0f;
          PERILUNE_UNROLL_ON_GPU
          for (int part = 0; part < Operands::kThinParts; ++part) sum += strips.weight[i][n][part][r];
          const int column = 8 * n + c_column(lane_, r);
          if (column < columns) f(strip(i) + c_row(lane_, r), column, sum);
        }
      }
    }
  }
  PERILUNE_DEVICE void write_first() const {
    float* dweight = gradient_ + network_.weight[0];
    each_sum(first_, In, [&](int unit, int in, float sum) { dweight[unit * In + in] = sum; });
    PERILUNE_UNROLL_ON_GPU
    for (int i = 0; i < kStrips; ++i) {
      if (strip(i) >= Width || lane_ % 4 != 0) continue;
      PERILUNE_UNROLL_ON_GPU
      for (int r = 0; r < 4; r += 2) gradient_[network_.bias[0] + strip(i) + c_row(lane_, r)] = first_bias_[i][r];
    }
  }
  PERILUNE_DEVICE void write_head() const {
    float* dweight = gradient_ + network_.weight[network_.depth];
    each_sum(head_, Out, [&](int unit, int out, float sum) { dweight[out * Width + unit] = sum; });
  }

  static constexpr int kPieces = kInRegisters ? MaxDepth - 1 : 0;

  B& block_;
  const Network& network_;
  Hidden hidden_;
  float* staged_;
  int warp_, lane_;  // lane_: its number in the warp
  Operands operands_;
  float* gradient_ = nullptr;
  Strips<kInThins> first_;
  float first_bias_[kStrips][4];
  Strips<kOutThins> head_;
  PerLane<B, float> head_bias_[Out];
  Piece pieces_[kPieces > 0 ? kPieces : 1];
};

}  // namespace perilune::inline PERILUNE_LEVEL
