#include "tests/kernels/fiber_launcher.hpp"

namespace perilune::test {

namespace {

template <LaneOrder Order>
std::vector<Kernels> instances() {
  constexpr Precision kTf32 = Precision::kTf32, kBf16 = Precision::kBf16;
  return {fused_kernels<CartPole, 16, Order, kTf32>(), fused_kernels<CartPole, 32, Order, kTf32>(),
          fused_kernels<CartPole, 64, Order, kTf32>(), fused_kernels<CartPole, 16, Order, kBf16>(),
          fused_kernels<CartPole, 32, Order, kBf16>(), fused_kernels<CartPole, 64, Order, kBf16>()};
}

}  // namespace

std::vector<Kernels> tensor_fiber_kernels(LaneOrder order) {
  return order == LaneOrder::kForward ? instances<LaneOrder::kForward>() : instances<LaneOrder::kReverse>();
}

}  // namespace perilune::test
