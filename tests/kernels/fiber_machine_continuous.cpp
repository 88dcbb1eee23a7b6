#include "tests/kernels/fiber_launcher.hpp"
#include "tests/kernels/point_mass.hpp"

namespace perilune::test {

std::vector<Kernels> continuous_fiber_kernels(LaneOrder order) {
  return in_order(order, []<class Launcher>(Launcher) -> std::vector<Kernels> {
    return {fused_kernels<Launcher, PointMass, 32>(), tensor_kernels<Launcher, PointMass, 32, Precision::kTf32>(),
            tensor_kernels<Launcher, PointMass, 32, Precision::kBf16>()};
  });
}

}  // namespace perilune::test
