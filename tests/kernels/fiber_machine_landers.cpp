// The landers and the walker on fibers: reset and simulate alone, for the hashes of their states.
#include "sims/bipedal_walker.hpp"
#include "sims/lander.hpp"
#include "sims/lunar_lander.hpp"
#include "tests/kernels/fiber_launcher.hpp"

namespace perilune::test {
namespace {

template <class Launcher, Env E>
Kernels simulator() {
  Kernels kernels = describe<E>();
  set_simulator<Launcher, E>(kernels);
  return kernels;
}

}  // namespace

std::vector<Kernels> box2d_fiber_simulators(LaneOrder order) {
  return in_order(order, []<class Launcher>(Launcher) -> std::vector<Kernels> {
    return {simulator<Launcher, LunarLander>(), simulator<Launcher, LunarLanderContinuous>(),
            simulator<Launcher, Lander>(), simulator<Launcher, LanderContinuous>(),
            simulator<Launcher, BipedalWalker>()};
  });
}

}  // namespace perilune::test
