// Whole bf16 networks against the same network in double, with a bound on the error that follows the numbers through.
#include "kernels/machine/mlp_bf16_cpu.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/subject.hpp"
#include "tests/kernels/v4/bf16_reference.hpp"

namespace perilune::test {
namespace {

using Block = CpuBlock<96, Precision::kBf16>;

struct Args {
  const float* parameters;
  Network network;
  int tiles, last_tile;        ///< tiles of 96 samples, of which the last has fewer
  const float *input, *slope;  ///< [features][tiles * 96]
  float *inferred, *output, *gradient;
};

template <int In, int Width, int Out>
struct Kernel {
  using Net = perilune::Mlp<Block, In, Width, Out>;

  static int storage_floats(int depth) {
    return Block::kTransposedFloats + (In + Out) * Block::kStride + HiddenLayers<Block, Width>::training_floats(depth) +
           Net::storage_floats(depth);
  }

  static void run(Block& block, const Args& args) {
    Carver<Block> carver{block.storage()};
    const Tile<Block> x = carver.tile(In), y = carver.tile(Out);
    const auto hidden = HiddenLayers<Block, Width>::for_training(carver, args.network.depth);
    Net net(block, carver, args.parameters, args.network, hidden);
    net.begin_gradient(args.gradient);
    const int stride = args.tiles * Block::kLanes;
    for (int tile = 0; tile < args.tiles; ++tile) {
      const int first = tile * Block::kLanes;
      block.activate(tile + 1 < args.tiles ? Block::kLanes : args.last_tile);
      const auto load = [&](const Tile<Block>& to, int features, const float* from) {
        block.lanes([&](Block::Lane lane) {
          for (int i = 0; i < features; ++i) {
            to.store(i, lane, block.load(from + i * stride + first, lane));
          }
        });
      };
      const auto store = [&](float* to) {
        block.lanes([&](Block::Lane lane) {
          for (int o = 0; o < Out; ++o) block.store(to + o * stride + first, lane, y.load(o, lane));
        });
      };
      load(x, In, args.input);
      net.infer(x, y);
      store(args.inferred);
      net.forward(x, y);
      store(args.output);
      load(y, Out, args.slope);
      net.backward(x, y);
    }
    net.finish_gradient();
  }
};

/// Every layer's output, hidden ones rounded: a rectifier must be open or closed for the same samples as the kernel's.
std::vector<Vector> rounded_forward(const Mlp& mlp, const Vector& parameters, const Vector& x) {
  std::vector<Vector> layers = {x};
  for (int l = 0; l <= mlp.network.depth; ++l) {
    Mlp one = mlp;  // this layer as a network's head
    one.network.depth = 0;
    one.inputs = mlp.in(l);
    one.outputs = mlp.out(l);
    one.network.weight[0] = mlp.network.weight[l];
    one.network.bias[0] = mlp.network.bias[l];
    Vector y = one.forward(parameters, layers.back()).back();
    if (l < mlp.network.depth) {
      for (double& h : y) {
        h = round_to_bf16(mlp.network.activation == Activation::kTanh ? std::tanh(h) : std::max(0.0, h));
      }
    }
    layers.push_back(y);
  }
  return layers;
}

template <int In, int Width, int Out>
void check(int depth, int samples, Activation activation) {
  SCOPED_TRACE("width " + std::to_string(Width) + ", depth " + std::to_string(depth) + ", samples " +
               std::to_string(samples));
  Draws draws(static_cast<std::uint64_t>(Width * 100 + depth * 10 + samples));
  int next = 0;
  const Mlp exact = place_mlp(In, Width, Out, depth, activation, next);
  const int tiles = (samples + 95) / 96, stride = tiles * 96;
  Aligned<float> parameters(next, std::nanf("")), input(In * stride), slope(Out * stride);
  const double range = 1.5 / std::sqrt(double{Width});
  for (int i : exact.positions()) parameters[i] = draws.uniform(-range, range);
  for (int i = 0; i < input.size(); ++i) input[i] = draws.uniform(-1.0, 1.0);
  for (int i = 0; i < slope.size(); ++i) slope[i] = draws.uniform(-1.0, 1.0) / static_cast<float>(samples);
  Aligned<float> inferred(Out * stride), output(Out * stride), gradient(next, std::nanf(""));

  using Launch = Kernel<In, Width, Out>;
  // Block storage begins as NaN: nothing may be used before it is written.
  const int floats = Launch::storage_floats(depth);
  Aligned<float> storage(floats, std::nanf(""));
  const Args args{parameters.data(), exact.network, tiles,           samples - (tiles - 1) * 96,
                  input.data(),      slope.data(),  inferred.data(), output.data(),
                  gradient.data()};
  Block block(0, 1, storage.data());
  Launch::run(block, args);

  // The network that is multiplied: every weight but the first layer's rounded.
  Vector weights(at(next), 0.0);
  for (int i : exact.positions()) weights[at(i)] = parameters[i];
  for (int l = 1; l <= depth; ++l) {
    for (int i = 0; i < exact.out(l) * Width; ++i) {
      double& w = weights[at(exact.network.weight[l] + i)];
      w = round_to_bf16(w);
    }
  }
  // Backward takes the head's own weights.
  Vector backward_weights = weights;
  for (int i = 0; i < Out * Width; ++i) {
    backward_weights[at(exact.network.weight[depth] + i)] = parameters[exact.network.weight[depth] + i];
  }

  const double tanh_error = activation == Activation::kTanh ? 2.5e-4 : 0.0;
  Vector expected(at(next), 0.0);
  for (int s = 0; s < samples; ++s) {
    Vector x;
    for (int i = 0; i < In; ++i) x.push_back(input[i * stride + s]);
    const std::vector<Vector> layers = rounded_forward(exact, weights, x);
    // error[i] bounds layer l's results: what it inherits (an activation's slope is at most 1), tanh, rounding.
    Vector error(at(In), 0.0);
    for (int l = 0; l <= depth; ++l) {
      Vector out(at(exact.out(l)), 1e-6);
      for (int o = 0; o < exact.out(l); ++o) {
        for (int i = 0; i < exact.in(l); ++i) {
          out[at(o)] += std::abs(weights[at(exact.network.weight[l] + o * exact.in(l) + i)]) * error[at(i)];
        }
        if (l < depth) out[at(o)] += tanh_error + kBf16Rounding * (std::abs(layers[at(l + 1)][at(o)]) + out[at(o)]);
      }
      error = out;
    }
    Vector sample_slope;
    for (int o = 0; o < Out; ++o) {
      ASSERT_NEAR(output[o * stride + s], layers.back()[at(o)], error[at(o)]) << "sample " << s << ", output " << o;
      ASSERT_EQ(inferred[o * stride + s], output[o * stride + s]) << "sample " << s << ", output " << o;
      sample_slope.push_back(slope[o * stride + s]);
    }
    exact.backward(backward_weights, layers, sample_slope, expected);
  }
  Vector actual, reference;
  double largest = 0.0;
  for (int i : exact.positions()) {
    actual.push_back(gradient[i]);
    reference.push_back(expected[at(i)]);
    largest = std::max(largest, std::abs(reference.back()));
  }
  // Every layer of either direction rounds once, 2^-8 of a sample's term, in signs that differ; the derivative of tanh
  // doubles an activation's error. 2 such errors a layer, of the largest entry, are 2.7 times what is seen.
  expect_close("gradient", actual, reference, {2.0 * depth * kBf16Rounding * largest, 1e-6});
  for (int i = 0; i < next; ++i) ASSERT_FALSE(std::isnan(gradient[i])) << "not written: " << i;
}

TEST(MlpBf16, EqualsTheReference) {
  for (const Activation activation : {Activation::kTanh, Activation::kRelu}) {
    for (const int samples : {1, 7, 16, 17, 33, 95, 96, 97, 257}) {
      check<4, 64, 2>(2, samples, activation);
      check<4, 32, 1>(3, samples, activation);
    }
    for (const int depth : {1, 2, 3}) {
      check<4, 32, 2>(depth, 65, activation);
      check<8, 64, 4>(depth, 97, activation);
      check<4, 128, 1>(depth, 33, activation);
    }
  }
}

}  // namespace
}  // namespace perilune::test
