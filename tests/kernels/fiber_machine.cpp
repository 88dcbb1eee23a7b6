#include "tests/kernels/fiber_machine.hpp"

#include "tests/kernels/fiber_launcher.hpp"
#include "tests/kernels/point_mass.hpp"

namespace perilune::test {

namespace {

template <LaneOrder Order>
const Machine& fiber_machine() {
  using Launcher = FiberLauncher<Order>;
  static const std::vector<Kernels> layerwise = [] {
    std::vector<Kernels> result = {layerwise_kernels<Launcher, CartPole>(), layerwise_kernels<Launcher, PointMass>()};
    const auto landers = box2d_fiber_simulators(Order);
    result.insert(result.end(), landers.begin(), landers.end());
    return result;
  }();
  static const std::vector<Kernels> fused = [] {
    std::vector<Kernels> result = {fused_kernels<Launcher, CartPole, 16>(), fused_kernels<Launcher, CartPole, 32>()};
    for (const auto& others : {tensor_fiber_kernels(Order), continuous_fiber_kernels(Order)}) {
      result.insert(result.end(), others.begin(), others.end());
    }
    return result;
  }();
  static const Machine machine =
      make_machine<Launcher>("fiber", {.version = kKernelTableVersion,
                                       .fused_count = static_cast<std::int32_t>(fused.size()),
                                       .layerwise_count = static_cast<std::int32_t>(layerwise.size()),
                                       .fused = fused.data(),
                                       .layerwise = layerwise.data()});
  return machine;
}

}  // namespace

const Machine& forward_fiber_machine() { return fiber_machine<LaneOrder::kForward>(); }
const Machine& reverse_fiber_machine() { return fiber_machine<LaneOrder::kReverse>(); }

}  // namespace perilune::test
