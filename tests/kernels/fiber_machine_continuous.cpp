#include "tests/kernels/fiber_launcher.hpp"
#include "tests/kernels/point_mass.hpp"

namespace perilune::test {

namespace {

template <LaneOrder Order>
std::vector<Kernels> instances() {
  return {fused_kernels<PointMass, 32, Order>(), fused_kernels<PointMass, 32, Order, Precision::kTf32>(),
          fused_kernels<PointMass, 32, Order, Precision::kBf16>()};
}

}  // namespace

std::vector<Kernels> continuous_fiber_kernels(LaneOrder order) {
  return order == LaneOrder::kForward ? instances<LaneOrder::kForward>() : instances<LaneOrder::kReverse>();
}

}  // namespace perilune::test
