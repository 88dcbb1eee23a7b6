// Reset and Simulate: the bits of environments stepped one by one, on every machine.
#include "tests/kernels/environments.hpp"
#include "tests/kernels/point_mass.hpp"

namespace perilune::test {
namespace {

class SimulateTest : public EveryMachine {};

TEST_P(SimulateTest, ResetStartsEpisodeZero) {
  for (int count : {1, 7, 31, 33, 65, 97, 257}) {
    Environments environments(subject(), count, {11, 3});
    environments.finished.fill(0.0f);
    environments.total_return.fill(0.0f);
    environments.total_length.fill(0.0f);
    kernels_for(small_width()).reset({environments.batch}, queue());
    finish();
    std::vector<ByHand> expected;
    for (int n = 0; n < count; ++n) expected.emplace_back(environments.batch, n);
    expect_environments(environments, expected);
  }
}

/// The random actions of Simulate: one word of bits serves 32 steps of the launch.
void simulate_by_hand(ByHand& one, int num_steps) {
  one.finished = one.total_return = one.total_length = 0.0f;
  std::uint32_t bits = 0;
  for (int t = 0; t < num_steps; ++t) {
    if (t % 32 == 0) bits = one.random(Purpose::kAction).bits();
    const Outcome<float> outcome = one.step(bits & 1u);
    bits >>= 1;
    if (outcome.terminated || one.out_of_time()) one.end_episode();
  }
}

TEST_P(SimulateTest, StepsAsByHand) {
  for (int count : {1, 31, 97, 257}) {
    for (const bool sutton_barto : {false, true}) {
      // A limit of 15 steps truncates some episodes; others fall before it.
      Environments environments(subject(), count, {static_cast<std::uint32_t>(count), 1}, 15, sutton_barto);
      kernels_for(small_width()).reset({environments.batch}, queue());
      std::vector<ByHand> expected;
      for (int n = 0; n < count; ++n) expected.emplace_back(environments.batch, n);
      for (int num_steps : {70, 1, 33}) {
        kernels_for(small_width()).simulate({environments.batch, environments.sums, num_steps}, queue());
        finish();
        for (ByHand& one : expected) simulate_by_hand(one, num_steps);
        expect_environments(environments, expected);
      }
    }
  }
}

/// Uniform in the box, and the draws of every step.
TEST_P(SimulateTest, StepsWithNumbersAsByHand) {
  for (int count : {1, 31, 97}) {
    Environments environments(subject(), kPointMass, count, {static_cast<std::uint32_t>(count), 1}, 15,
                              kPointMass.parameters);
    const Kernels& kernels = kernels_for(small_width(kPointMass), kPointMass);
    kernels.reset({environments.batch}, queue());
    std::vector<ByHandOf<PointMass>> expected;
    for (int n = 0; n < count; ++n) expected.emplace_back(environments.batch, n);
    for (int num_steps : {40, 1, 33}) {
      kernels.simulate({environments.batch, environments.sums, num_steps}, queue());
      finish();
      for (ByHandOf<PointMass>& one : expected) {
        one.finished = one.total_return = one.total_length = 0.0f;
        for (int t = 0; t < num_steps; ++t) {
          CounterRandom<float> draws = one.random(Purpose::kAction);
          const float first = draws.uniform(-1.0f, 1.0f), second = draws.uniform(-1.0f, 1.0f);
          const Outcome<float> outcome = one.step({{first, second}});
          if (outcome.terminated || one.out_of_time()) one.end_episode();
        }
      }
      expect_environments(environments, expected);
    }
  }
}

PERILUNE_ON_EVERY_MACHINE(SimulateTest);

}  // namespace
}  // namespace perilune::test
