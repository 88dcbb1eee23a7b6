#include "tests/kernels/fiber_machine.hpp"

#include "kernels/gae.hpp"
#include "kernels/layerwise_launch.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/statistics.hpp"
#include "tests/kernels/fiber_launcher.hpp"
#include "tests/kernels/point_mass.hpp"

namespace perilune::test {

namespace {

using Block = FiberBlock<kFiberLanes>;

constexpr int columns_for(int n) { return (n + Block::kColumns - 1) / Block::kColumns; }

/// Not a multiple of the parts that lanes split them into, and more than small minibatches have samples.
constexpr int kMomentChunks = 11;

template <class K, LaneOrder Order, class Args>
void launch_one(const Args& args, Queue&) {
  launch<K, Order>(args, 1);
}

/// See kernels/layerwise_launch.hpp.
template <LaneOrder Order>
struct FiberLauncher {
  template <class K, class Args>
  static void lanes(const Args& args, int lanes, Queue&) {
    launch<K, Order>(args, blocks_for(lanes));
  }
  template <class K, class Args>
  static void rows(const Args& args, int rows, Queue&) {
    launch<K, Order>(args, rows < 3 ? rows : 3);
  }
  template <class K, class Args>
  static void single(const Args& args, Queue&) {
    launch<K, Order>(args, 1);
  }
  static float read(const float* value, Queue&) { return *value; }
  static bool skips(const Control* control, Losses losses) { return skipped(*control, losses); }
};

template <class E, LaneOrder Order>
Kernels layerwise_fiber_kernels() {
  return layerwise_kernels<E, FiberLauncher<Order>>(make_environment<E, Order>());
}

template <LaneOrder Order>
const Machine& fiber_machine() {
  static const std::vector<Kernels> layerwise = [] {
    std::vector<Kernels> result = {layerwise_fiber_kernels<CartPole, Order>(),
                                   layerwise_fiber_kernels<PointMass, Order>()};
    const auto landers = lander_fiber_simulators(Order);
    result.insert(result.end(), landers.begin(), landers.end());
    return result;
  }();
  static const std::vector<Kernels> instances = [] {
    std::vector<Kernels> result = {fused_kernels<CartPole, 16, Order>(), fused_kernels<CartPole, 32, Order>()};
    for (const auto& more : {tensor_fiber_kernels(Order), continuous_fiber_kernels(Order)}) {
      result.insert(result.end(), more.begin(), more.end());
    }
    return result;
  }();
  static const Machine machine = [] {
    Machine result{};
    result.name = "fiber";
    result.kernels = instances.data();
    result.kernel_count = static_cast<int>(instances.size());
    result.layerwise = layerwise.data();
    result.layerwise_count = static_cast<int>(layerwise.size());
    result.gae_blocks = columns_for;
    result.moment_chunks = [](int) { return kMomentChunks; };
    result.reduce_blocks = columns_for;
    result.gae = [](const GaeArgs& args, Queue&) {
      launch<Gae, Order>(args, columns_for(args.count), Gae::storage_floats<Block>());
    };
    result.advantage_moments = [](const AdvantageMomentsArgs& args, Queue&) {
      launch<AdvantageMoments, Order>(args, args.num_epochs * args.num_minibatches * kMomentChunks,
                                      AdvantageMoments::storage_floats<Block>());
    };
    result.reduce_gradients = [](const ReduceGradientsArgs& args, Queue&) {
      launch<ReduceGradients, Order>(args, columns_for(args.end - args.begin),
                                     ReduceGradients::storage_floats<Block>());
    };
    result.apply_gradients = [](const ApplyGradientsArgs& args, Queue&) {
      launch<ApplyGradients, Order>(args, blocks_for(args.end - args.begin));
    };
    result.begin_iteration = launch_one<BeginIteration, Order, BeginIterationArgs>;
    result.end_iteration = launch_one<EndIteration, Order, EndIterationArgs>;
    return result;
  }();
  return machine;
}

}  // namespace

const Machine& forward_fiber_machine() { return fiber_machine<LaneOrder::kForward>(); }
const Machine& reverse_fiber_machine() { return fiber_machine<LaneOrder::kReverse>(); }

}  // namespace perilune::test
