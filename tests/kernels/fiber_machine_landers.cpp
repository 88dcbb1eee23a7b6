// The landers on fibers: reset and simulate alone, for the hashes of their states. Uneven ones are begun by few lanes
// of a block, and stepped in four rounds.
#include "kernels/simulate.hpp"
#include "sims/environments.hpp"
#include "tests/kernels/fiber_launcher.hpp"

namespace perilune::test {
namespace {

template <class E, LaneOrder Order>
Kernels make_simulator() {
  Kernels kernels{};
  kernels.environment = E::kId;
  kernels.state_fields = E::template State<float>::kFields;
  kernels.reset = [](const ResetArgs& args, Queue&) {
    launch<Reset<E>, Order>(args, blocks_for(args.environments.count, UnevenEnv<E> ? 5 : kFiberLanes));
  };
  kernels.simulate = [](const SimulateArgs& args, Queue&) {
    constexpr int kRounds = UnevenEnv<E> ? 4 : 1;
    launch<Simulate<E>, Order>(args, blocks_for(args.environments.count, kRounds * kFiberLanes),
                               Simulate<E>::template storage_floats<FiberBlock<kFiberLanes>>());
  };
  return kernels;
}

template <LaneOrder Order>
std::vector<Kernels> simulators() {
  return {make_simulator<LunarLander, Order>(), make_simulator<LunarLanderContinuous, Order>(),
          make_simulator<Lander, Order>(), make_simulator<LanderContinuous, Order>()};
}

}  // namespace

std::vector<Kernels> lander_fiber_simulators(LaneOrder order) {
  return order == LaneOrder::kForward ? simulators<LaneOrder::kForward>() : simulators<LaneOrder::kReverse>();
}

}  // namespace perilune::test
