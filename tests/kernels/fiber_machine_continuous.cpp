#include "tests/kernels/fiber_instances.hpp"
#include "tests/kernels/point_mass.hpp"

namespace perilune::test {

namespace {

template <LaneOrder Order>
std::vector<Instance> instances() {
  return {make_instance<PointMass, 32, Order>(),
          make_instance<PointMass, 32, Order, Precision::kTf32>(),
          make_instance<PointMass, 32, Order, Precision::kBf16>()};
}

}  // namespace

std::vector<Instance> continuous_fiber_instances(LaneOrder order) {
  return order == LaneOrder::kForward ? instances<LaneOrder::kForward>()
                                      : instances<LaneOrder::kReverse>();
}

}  // namespace perilune::test
