#include "tests/kernels/fiber_machine.hpp"

#include <algorithm>

#include "kernels/evaluate.hpp"
#include "kernels/gae.hpp"
#include "kernels/machine/fiber_block.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/rollout.hpp"
#include "kernels/simulate.hpp"
#include "kernels/statistics.hpp"
#include "kernels/update.hpp"
#include "kernels/wide_launch.hpp"
#include "sims/cartpole.hpp"

namespace perilune::test {

namespace {

constexpr int kLanes = 32;
using Block = FiberBlock<kLanes>;

constexpr int blocks_for(int lanes) { return (lanes + kLanes - 1) / kLanes; }
constexpr int columns_for(int n) { return (n + Block::kColumns - 1) / Block::kColumns; }

template <class K, LaneOrder Order, class Args>
void launch(const Args& args, int blocks, int storage_floats = 0) {
  launch_fibers<K, kLanes>(args, blocks, static_cast<std::size_t>(storage_floats), Order);
}

template <class K, LaneOrder Order, class Args>
void launch_one(const Args& args, Queue&) {
  launch<K, Order>(args, 1);
}

int depth_of(const Network& actor, const Network& critic) {
  return std::max(actor.depth, critic.depth);
}

using E = CartPole;

template <LaneOrder Order>
Instance make_environment() {
  Instance instance{};
  instance.environment = E::kId;
  instance.observation_dim = E::kObsDim;
  instance.num_actions = E::Action::kCount;
  instance.state_fields = E::State<float>::kFields;
  instance.record_floats = Record<E>::kFloats;
  instance.reset = [](const ResetArgs& args, Queue&) {
    launch<Reset<E>, Order>(args, blocks_for(args.environments.count));
  };
  instance.simulate = [](const SimulateArgs& args, Queue&) {
    launch<Simulate<E>, Order>(args, blocks_for(args.environments.count));
  };
  return instance;
}

template <int Width, LaneOrder Order>
Instance make_instance() {
  Instance instance = make_environment<Order>();
  instance.width = Width;
  instance.rollout = [](const RolloutArgs& args, Queue&) {
    using K = Rollout<E, Width>;
    launch<K, Order>(args, blocks_for(args.environments.count),
                     K::template storage_floats<Block>(depth_of(args.actor, args.critic)));
  };
  instance.update = [](const UpdateArgs& args, Queue&) {
    using K = Update<E, Width>;
    launch<K, Order>(args, (args.losses == Losses::kBoth ? 2 : 1) * args.partials,
                     K::template storage_floats<Block>(depth_of(args.actor, args.critic)));
  };
  instance.evaluate = [](const EvaluateArgs& args, Queue&) {
    using K = Evaluate<E, Width>;
    launch<K, Order>(args, blocks_for(args.episodes), K::template storage_floats<Block>(args.actor.depth));
  };
  instance.block_storage = [](int depth) -> std::size_t {
    return sizeof(float) *
           static_cast<std::size_t>(Update<E, Width>::template storage_floats<Block>(depth));
  };
  return instance;
}

/// See kernels/wide_launch.hpp.
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

template <LaneOrder Order>
const Machine& fiber_machine() {
  static const Instance instances[] = {make_instance<16, Order>(), make_instance<32, Order>()};
  static const Instance wide = wide_instance<E, FiberLauncher<Order>>(make_environment<Order>());
  static const Machine machine = [] {
    Machine result{};
    result.name = "fiber";
    result.instances = instances;
    result.instance_count = 2;
    result.wide_instances = &wide;
    result.wide_instance_count = 1;
    result.update_tile = kLanes;
    result.max_partials = [] { return 4; };
    result.gae_blocks = columns_for;
    result.reduce_blocks = columns_for;
    result.gae = [](const GaeArgs& args, Queue&) {
      launch<Gae, Order>(args, columns_for(args.count), Gae::storage_floats<Block>());
    };
    result.advantage_moments = [](const AdvantageMomentsArgs& args, Queue&) {
      launch<AdvantageMoments, Order>(args,
                                      args.num_epochs * args.num_minibatches * kMomentChunks);
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
