// The matrix verbs, called directly on a CPU block and on fibers, against matrix products in
// double.
#include <gtest/gtest.h>

#include "kernels/machine/dense_cpu.hpp"
#include "kernels/machine/fiber_block.hpp"
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

/// Matrices of one layer; rows are features, columns samples.
struct Layer {
  int in, out, samples;
  std::vector<float> weight, bias, x, dy, dweight, dbias;
  float& x_at(int feature, int sample) { return x[at(feature * samples + sample)]; }

  Layer(int inputs, int outputs, int columns, std::uint64_t seed) : in(inputs), out(outputs), samples(columns) {
    Draws draws(seed);
    const auto fill = [&](std::vector<float>& to, int n) {
      for (int i = 0; i < n; ++i) to.push_back(draws.uniform(-1.0, 1.0));
    };
    fill(weight, out * in);
    fill(bias, out);
    fill(x, in * samples);
    fill(dy, out * samples);
    fill(dweight, out * in);
    fill(dbias, out);
  }
};

/// What a verb left: y [out][samples], dx [in][samples], and the weights' and biases' accumulated
/// gradients.
struct Results {
  std::vector<float> y, dx, dweight, dbias;
};

/// Runs the three verbs on one block; lane l is sample l. Inactive lanes hold dy = 0.
struct Verbs {
  struct Args {
    const Layer* layer;
    Results* results;
    Activation activation;
    bool hidden;
    float *weight, *bias, *dweight, *dbias;  ///< aligned copies
  };

  template <int In, int Out>
  struct Kernel {
    template <class B>
    static void run(B& block, const Args& args) {
      using Lane = typename B::Lane;
      using Real = typename B::Real;
      const Layer& layer = *args.layer;
      Carver<B> carver{block.storage()};
      const Tile<B> x = carver.tile(In), y = carver.tile(Out), dy = carver.tile(Out);
      block.activate(layer.samples);
      block.lanes([&](Lane lane) {
        for (int i = 0; i < In; ++i) x.store(i, lane, block.load(&layer.x[at(i * layer.samples)], lane));
        for (int o = 0; o < Out; ++o) {
          dy.store(o, lane, select(block.active(lane), block.load(&layer.dy[at(o * layer.samples)], lane), Real(0.0f)));
        }
      });
      block.sync();
      if (args.hidden) {
        dense<In, Out, true>(block, args.weight, args.bias, x, y, args.activation);
      } else {
        dense<In, Out, false>(block, args.weight, args.bias, x, y, args.activation);
      }
      dense_backward_weights<In, Out>(block, x, dy, args.dweight, args.dbias);
      block.sync();
      dense_backward_input<In, Out>(block, args.weight, dy, x, args.activation);
      block.sync();
      block.lanes([&](Lane lane) {
        for (int o = 0; o < Out; ++o) {
          block.store(&args.results->y[at(o * layer.samples)], lane, y.load(o, lane));
        }
        for (int i = 0; i < In; ++i) {
          block.store(&args.results->dx[at(i * layer.samples)], lane, x.load(i, lane));
        }
      });
    }
  };
};

enum class Place { kCpu, kFibersForward, kFibersReverse };

template <int In, int Out>
Results run(Layer layer, Activation activation, bool hidden, Place place) {
  // A row's tail may be read: the last row's lies beyond the array.
  layer.x.resize(layer.x.size() + kTailPadding, std::nanf(""));
  layer.dy.resize(layer.dy.size() + kTailPadding, std::nanf(""));
  Results results{std::vector<float>(at(Out * layer.samples)), std::vector<float>(at(In * layer.samples)),
                  layer.dweight, layer.dbias};
  const Verbs::Args args{&layer,
                         &results,
                         activation,
                         hidden,
                         layer.weight.data(),
                         layer.bias.data(),
                         results.dweight.data(),
                         results.dbias.data()};
  using Kernel = Verbs::Kernel<In, Out>;
  if (place == Place::kCpu) {
    using Block = CpuBlock<96>;
    const int floats = Block::kTransposedFloats + (In + 2 * Out) * Block::kStride;
    ThreadPool pool(1, static_cast<std::size_t>(floats) * sizeof(float));
    Queue queue{&pool, nullptr};
    launch_cpu<Kernel, Block>(args, 1, queue);
  } else {
    launch_fibers<Kernel, 32>(args, 1, (In + 2 * Out) * FiberBlock<32>::kStride,
                              place == Place::kFibersForward ? LaneOrder::kForward : LaneOrder::kReverse);
  }
  return results;
}

template <int In, int Out>
void check(int samples, Activation activation, bool hidden, Place place) {
  SCOPED_TRACE(std::to_string(In) + " -> " + std::to_string(Out) + ", samples " + std::to_string(samples) + ", place " +
               std::to_string(static_cast<int>(place)));
  const Layer layer(In, Out, samples, static_cast<std::uint64_t>(In * 1000 + samples));
  const Results results = run<In, Out>(layer, activation, hidden, place);
  const auto x = [&](int i, int s) { return double{layer.x[at(i * samples + s)]}; };
  const auto dy = [&](int o, int s) { return double{layer.dy[at(o * samples + s)]}; };
  const auto w = [&](int o, int i) { return double{layer.weight[at(o * In + i)]}; };
  Vector y, dx, dweight, dbias;
  for (int o = 0; o < Out; ++o) {
    double dbias_sum = layer.dbias[at(o)];
    for (int s = 0; s < samples; ++s) {
      double sum = layer.bias[at(o)];
      for (int i = 0; i < In; ++i) sum += w(o, i) * x(i, s);
      y.push_back(!hidden ? sum : activation == Activation::kTanh ? std::tanh(sum) : std::max(0.0, sum));
      dbias_sum += dy(o, s);
    }
    dbias.push_back(dbias_sum);
    for (int i = 0; i < In; ++i) {
      double sum = layer.dweight[at(o * In + i)];
      for (int s = 0; s < samples; ++s) sum += dy(o, s) * x(i, s);
      dweight.push_back(sum);
    }
  }
  for (int i = 0; i < In; ++i) {
    for (int s = 0; s < samples; ++s) {
      double sum = 0.0;
      for (int o = 0; o < Out; ++o) sum += w(o, i) * dy(o, s);
      const double h = x(i, s);
      dx.push_back(sum * (activation == Activation::kTanh ? 1.0 - h * h : h > 0.0 ? 1.0 : 0.0));
    }
  }
  // A float sum of n products below 1 has rounding errors of about 6e-8 sqrt(n) times its size,
  // itself sqrt(n).
  const auto rounding = [](int n) { return 2e-7 * n + 1e-7; };
  const double tanh_error = hidden && activation == Activation::kTanh ? 4e-6 : 0.0;
  expect_close("y", results.y, y, {rounding(In) + tanh_error, 1e-6});
  expect_close("dx", results.dx, dx, {rounding(Out), 1e-6});
  expect_close("dweight", results.dweight, dweight, {rounding(samples), 1e-6});
  expect_close("dbias", results.dbias, dbias, {rounding(samples), 1e-6});
}

template <int In, int Out>
void check_everywhere() {
  for (const Activation activation : {Activation::kTanh, Activation::kRelu}) {
    for (const int samples : {1, 7, 31, 33, 65, 95, 96}) {
      check<In, Out>(samples, activation, Out > 2, Place::kCpu);
    }
    if (In > 32 || Out > 32) continue;
    for (const int samples : {1, 7, 31, 32}) {
      check<In, Out>(samples, activation, Out > 2, Place::kFibersForward);
      check<In, Out>(samples, activation, Out > 2, Place::kFibersReverse);
    }
  }
}

TEST(MatrixVerbs, FirstLayer) {
  check_everywhere<4, 16>();
  check_everywhere<8, 32>();
}
TEST(MatrixVerbs, HiddenLayer) {
  check_everywhere<16, 16>();
  check_everywhere<32, 32>();
  check_everywhere<64, 64>();
  check_everywhere<128, 128>();
}
TEST(MatrixVerbs, Heads) {
  check_everywhere<16, 1>();
  check_everywhere<32, 2>();
  check_everywhere<64, 4>();
}

}  // namespace
}  // namespace perilune::test
