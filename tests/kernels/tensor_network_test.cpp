// Networks on tensor cores, over emulated ones on fibers, against the double reference.
//
// Weights and observations of these tests are numbers that a bf16 holds, so that staging them changes nothing. What is
// left are the roundings of hidden activations and gradients between layers, and those of output gradients: to tf32, or
// to the 16 bits of a sum of two bf16 numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "kernels/machine/fiber_block.hpp"
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

constexpr int kLanes = 128;

struct Args {
  const float* parameters;
  Network network;
  const float* inputs;            ///< [tiles][inputs][kLanes]
  const float* output_gradients;  ///< [tiles][outputs][kLanes]
  int tiles;
  float *inferred, *outputs;  ///< [tiles][outputs][kLanes]
  float* gradient;
};

/// Forward by both ways and backward over all tiles, as the update kernel does it.
template <int In, int Width, int Out>
struct TrainOnce {
  template <class B>
  using Net = perilune::Mlp<B, In, Width, Out>;

  template <class B>
  static int storage_floats(int depth) {
    return Observations<B, In>::floats() + Outputs<B, Out>::training_floats() + Net<B>::Hidden::training_floats(depth) +
           Net<B>::storage_floats(depth);
  }

  template <class B>
  static void run(B& block, const Args& args) {
    using Lane = typename B::Lane;
    Carver<B> carver{block.storage()};
    const Observations<B, In> input(carver);
    const auto output = Outputs<B, Out>::for_training(carver);
    const auto hidden = Net<B>::Hidden::for_training(carver, args.network.depth);
    Net<B> net(block, carver, args.parameters, args.network, hidden);
    net.begin_gradient(args.gradient);
    for (int tile = 0; tile < args.tiles; ++tile) {
      const auto keep = [&](float* array) {
        block.lanes([&](Lane lane) {
          float row[Out];
          output.load(lane, row);
          for (int i = 0; i < Out; ++i) array[(tile * Out + i) * kLanes + lane.number] = row[i];
        });
      };
      block.lanes([&](Lane lane) {
        float row[In];
        for (int i = 0; i < In; ++i) row[i] = args.inputs[(tile * In + i) * kLanes + lane.number];
        input.store(lane, row);
      });
      block.sync();
      net.infer(input, output);
      keep(args.inferred);
      net.forward(input, output);
      keep(args.outputs);
      block.lanes([&](Lane lane) {
        float row[Out];
        for (int i = 0; i < Out; ++i) row[i] = args.output_gradients[(tile * Out + i) * kLanes + lane.number];
        net.set_gradient(lane, output, row);
      });
      block.sync();
      net.backward(input, output);
    }
    net.finish_gradient();
  }
};

/// Relative error of one rounding.
double unit_of(Precision precision) { return precision == Precision::kBf16 ? 0x1p-8 : 0x1p-11; }

template <int In, int Width, int Out, Precision P>
void check(int depth, int tiles, Activation activation, LaneOrder order, std::uint64_t seed) {
  SCOPED_TRACE(::testing::Message() << In << " x " << Width << " x " << Out << ", depth " << depth << ", tiles "
                                    << tiles << ", precision " << static_cast<int>(P) << ", seed " << seed);
  Draws draws(seed, 8), fine_draws(seed);
  int next = 0;
  place_mlp(3, 16, 1, 1, activation, next);  // so that the network does not begin at 0
  const Mlp mlp = place_mlp(In, Width, Out, depth, activation, next);
  Vector parameters(at(next), std::numeric_limits<double>::quiet_NaN());
  const double range = 1.5 / std::sqrt(static_cast<double>(Width));
  for (int i : mlp.positions()) parameters[at(i)] = draws.uniform(-range, range);

  const int samples = tiles * kLanes;
  std::vector<float> inputs(at(In * samples)), output_gradients(at(Out * samples));
  const auto index = [](int features, int i, int s) { return at((s / kLanes * features + i) * kLanes + s % kLanes); };
  for (int s = 0; s < samples; ++s) {
    Vector x(In);
    do {  // no ReLU so near to 0 that rounding could decide whether it is on
      for (double& value : x) value = draws.uniform(-1.5, 1.5);
    } while (mlp.nearest_kink(parameters, mlp.forward(parameters, x)) < 3.0 * unit_of(P));
    for (int i = 0; i < In; ++i) inputs[index(In, i, s)] = static_cast<float>(x[at(i)]);
  }
  for (float& x : output_gradients) x = fine_draws.uniform(-1.0, 1.0) / static_cast<float>(samples);
  std::vector<float> inferred(output_gradients.size()), outputs(output_gradients.size());
  const std::vector<float> weights(parameters.begin(), parameters.end());
  std::vector<float> gradient(at(next), std::numeric_limits<float>::quiet_NaN());
  using K = TrainOnce<In, Width, Out>;
  launch_fibers<K, kLanes, P>(Args{weights.data(), mlp.network, inputs.data(), output_gradients.data(), tiles,
                                   inferred.data(), outputs.data(), gradient.data()},
                              1, at(K::template storage_floats<FiberBlock<kLanes, P>>(depth)), order);

  Vector expected_outputs(output_gradients.size()), expected_gradient(at(next), 0.0);
  for (int s = 0; s < samples; ++s) {
    Vector x, slope;
    for (int i = 0; i < In; ++i) x.push_back(inputs[index(In, i, s)]);
    for (int o = 0; o < Out; ++o) slope.push_back(output_gradients[index(Out, o, s)]);
    const std::vector<Vector> layers = mlp.forward(parameters, x);
    for (int o = 0; o < Out; ++o) expected_outputs[index(Out, o, s)] = layers.back()[at(o)];
    mlp.backward(parameters, layers, slope, expected_gradient);
  }

  // An output sums Width activations with errors of up to one unit of about 1, times weights of up to 1.5 /
  // sqrt(Width): sqrt(Width) of them add up at random, to at most 1.5 units a layer; four times that for the largest of
  // all.
  const double unit = unit_of(P);
  const double error = 6.0 * unit * depth;
  expect_close("output", outputs, expected_outputs, {error, error});
  expect_same_bits("inferred output", inferred, outputs);
  double largest = 0.0;
  Vector actual, reference;
  for (int i : mlp.positions()) {
    actual.push_back(gradient[at(i)]);
    reference.push_back(expected_gradient[at(i)]);
    largest = std::max(largest, std::abs(reference.back()));
  }
  // An entry is a sum over samples of products of numbers with a few such errors each.
  expect_close("gradient", actual, reference, {error * largest, error});
  for (int i = 0; i < next; ++i) {
    const bool inside = i >= mlp.network.begin;
    EXPECT_EQ(std::isnan(gradient[at(i)]), !inside) << "entry " << i << " outside or between tensors";
  }
}

template <int In, int Width, int Out>
void check_both(int depth, int tiles, Activation activation, LaneOrder order, std::uint64_t seed) {
  check<In, Width, Out, Precision::kTf32>(depth, tiles, activation, order, seed);
  check<In, Width, Out, Precision::kBf16>(depth, tiles, activation, order, seed);
}

/// Numbers in [1, 2) * scale that lie just below the next one of the format: to nearest they are nearly right, and cut
/// off they are wrong by as much as a number can be. All are positive, so that errors of one sign add up, and others
/// average out.
template <Precision P>
void check_rounding_is_to_nearest() {
  constexpr int kIn = 4, kWidth = 32, kOut = 2, kDepth = 2;
  constexpr std::uint32_t kRest = P == Precision::kBf16 ? 0xFFFFu : 0x1FFFu;
  SCOPED_TRACE(static_cast<int>(P));
  std::mt19937_64 engine(12);
  const auto draw = [&](int scale) {
    return as_float(static_cast<std::uint32_t>(127 + scale) << 23 | (static_cast<std::uint32_t>(engine()) & 0x7FFFFFu) |
                    kRest);
  };
  int next = 0;
  const Mlp mlp = place_mlp(kIn, kWidth, kOut, kDepth, Activation::kRelu, next);
  std::vector<float> weights(at(next), 0.0f), inputs(kIn * kLanes), output_gradients(kOut * kLanes),
      inferred(output_gradients), outputs(output_gradients);
  for (const int i : mlp.positions()) weights[at(i)] = draw(-5);
  for (float& x : inputs) x = draw(0);
  for (float& x : output_gradients) x = draw(-7);
  std::vector<float> gradient(at(next));
  using K = TrainOnce<kIn, kWidth, kOut>;
  launch_fibers<K, kLanes, P>(Args{weights.data(), mlp.network, inputs.data(), output_gradients.data(), 1,
                                   inferred.data(), outputs.data(), gradient.data()},
                              1, at(K::template storage_floats<FiberBlock<kLanes, P>>(kDepth)), LaneOrder::kForward);
  const Vector parameters(weights.begin(), weights.end());
  Vector expected_outputs(output_gradients.size()), expected_gradient(at(next), 0.0);
  for (int s = 0; s < kLanes; ++s) {
    Vector x, slope;
    for (int i = 0; i < kIn; ++i) x.push_back(inputs[at(i * kLanes + s)]);
    for (int o = 0; o < kOut; ++o) slope.push_back(output_gradients[at(o * kLanes + s)]);
    const std::vector<Vector> layers = mlp.forward(parameters, x);
    for (int o = 0; o < kOut; ++o) expected_outputs[at(o * kLanes + s)] = layers.back()[at(o)];
    mlp.backward(parameters, layers, slope, expected_gradient);
  }
  // Errors to nearest are 0.4 units as a root mean square, those of numbers cut off 0.7 units on average.
  const auto mean_error = [&](const Vector& actual, const Vector& reference) {
    double total = 0.0;
    for (std::size_t i = 0; i < actual.size(); ++i) total += actual[i] / reference[i] - 1.0;
    return total / static_cast<double>(actual.size()) / unit_of(P);
  };
  EXPECT_NEAR(mean_error(Vector(outputs.begin(), outputs.end()), expected_outputs), 0.0, 0.1);
  for (int l = 0; l <= kDepth; ++l) {
    SCOPED_TRACE(l);
    Vector actual, reference;
    for (const int i : mlp.positions(l))
      actual.push_back(gradient[at(i)]), reference.push_back(expected_gradient[at(i)]);
    EXPECT_NEAR(mean_error(actual, reference), 0.0, 0.1);
  }
}

TEST(TensorNetwork, RoundsToNearest) {
  check_rounding_is_to_nearest<Precision::kTf32>();
  check_rounding_is_to_nearest<Precision::kBf16>();
}

TEST(TensorNetwork, EqualsTheReference) {
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
    check_both<4, 64, 2>(2, 2, Activation::kTanh, order, 1);
    check_both<4, 64, 2>(3, 1, Activation::kTanh, order, 2);
    check_both<8, 32, 4>(1, 2, Activation::kRelu, order, 3);
    check_both<8, 32, 4>(3, 1, Activation::kTanh, order, 4);
    check_both<4, 16, 1>(2, 3, Activation::kTanh, order, 5);
    check_both<4, 16, 1>(3, 1, Activation::kRelu, order, 6);
  }
}
TEST(TensorNetwork, AnyObservationsAndActions) {
  check_both<24, 32, 5>(1, 1, Activation::kTanh, LaneOrder::kReverse, 7);
  check_both<3, 16, 24>(2, 1, Activation::kRelu, LaneOrder::kForward, 8);
  check_both<11, 16, 9>(1, 2, Activation::kTanh, LaneOrder::kReverse, 9);
}
TEST(TensorNetwork, WidestAccumulatesInMemory) {
  check_both<4, 128, 2>(2, 2, Activation::kTanh, LaneOrder::kForward, 10);
  check_both<4, 128, 2>(3, 1, Activation::kTanh, LaneOrder::kReverse, 11);
}

}  // namespace
}  // namespace perilune::test
