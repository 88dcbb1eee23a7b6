// The host's table of environments against the simulators it describes.
#include "host/settings/environments.hpp"

#include <gtest/gtest.h>

#include "sims/environments.hpp"

namespace perilune {
namespace {

template <class E>
void expect_described() {
  const EnvironmentInfo& info = find_environment(E::kId);
  EXPECT_EQ(info.max_episode_steps, E::kMaxEpisodeSteps);
  EXPECT_EQ(info.solved_return, static_cast<double>(E::kSolvedReturn));
  EXPECT_EQ(info.obs_dim, E::kObsDim);
  EXPECT_EQ(info.continuous, E::Action::kContinuous);
  EXPECT_EQ(info.num_actions, E::Action::kCount);
  ASSERT_EQ(info.parameters.size(), std::size(E::kParameters));
  for (std::size_t i = 0; i < info.parameters.size(); ++i) {
    EXPECT_EQ(info.parameters[i].name, E::kParameters[i].name);
    EXPECT_EQ(info.parameters[i].default_value, static_cast<double>(E::kParameters[i].default_value));
  }
}

TEST(Environments, TableAgreesWithSimulators) {
  ASSERT_EQ(environments().size(), 5u);
  expect_described<CartPole>();
  expect_described<LunarLander>();
  expect_described<LunarLanderContinuous>();
  expect_described<Lander>();
  expect_described<LanderContinuous>();
}

}  // namespace
}  // namespace perilune
