#include "tests/kernels/fiber_launcher.hpp"

namespace perilune::test {

std::vector<Kernels> tensor_fiber_kernels(LaneOrder order) {
  return in_order(order, []<class Launcher>(Launcher) -> std::vector<Kernels> {
    constexpr Precision kTf32 = Precision::kTf32, kBf16 = Precision::kBf16;
    return {tensor_kernels<Launcher, CartPole, 16, kTf32>(), tensor_kernels<Launcher, CartPole, 32, kTf32>(),
            tensor_kernels<Launcher, CartPole, 64, kTf32>(), tensor_kernels<Launcher, CartPole, 16, kBf16>(),
            tensor_kernels<Launcher, CartPole, 32, kBf16>(), tensor_kernels<Launcher, CartPole, 64, kBf16>()};
  });
}

}  // namespace perilune::test
