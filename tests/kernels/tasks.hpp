// The environments that Task names, as types.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "sims/bipedal_walker.hpp"
#include "sims/cartpole.hpp"
#include "sims/lander.hpp"
#include "sims/lunar_lander.hpp"
#include "tests/kernels/point_mass.hpp"
#include "tests/kernels/subject.hpp"

namespace perilune::test {

template <class... Environments, class F>
void with_one_of(const Task& task, F f) {
  if (!((std::string_view(task.id) == Environments::kId && (f(Environments{}), true)) || ...)) {
    throw std::logic_error(std::string(task.id) + " is not listed in with_environment");
  }
}

/// Calls f(E{}) with the task's environment.
template <class F>
void with_environment(const Task& task, F f) {
  with_one_of<CartPole, PointMass, LunarLander, LunarLanderContinuous, Lander, LanderContinuous, BipedalWalker>(task,
                                                                                                                f);
}

}  // namespace perilune::test
