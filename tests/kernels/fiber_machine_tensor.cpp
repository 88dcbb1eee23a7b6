#include "tests/kernels/fiber_instances.hpp"

namespace perilune::test {

namespace {

template <LaneOrder Order>
std::vector<Instance> instances() {
  constexpr Precision kTf32 = Precision::kTf32, kBf16 = Precision::kBf16;
  return {make_instance<CartPole, 16, Order, kTf32>(), make_instance<CartPole, 32, Order, kTf32>(),
          make_instance<CartPole, 64, Order, kTf32>(), make_instance<CartPole, 16, Order, kBf16>(),
          make_instance<CartPole, 32, Order, kBf16>(), make_instance<CartPole, 64, Order, kBf16>()};
}

}  // namespace

std::vector<Instance> tensor_fiber_instances(LaneOrder order) {
  return order == LaneOrder::kForward ? instances<LaneOrder::kForward>()
                                      : instances<LaneOrder::kReverse>();
}

}  // namespace perilune::test
