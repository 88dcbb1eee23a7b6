// The reference's own gradients against central differences, before anything is compared with it.
#include "tests/support/reference.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/subject.hpp"

namespace perilune::test {
namespace {

struct Case {
  Activation activation;
  int actor_depth, critic_depth;
  bool clip_vloss, gaussian;
  OutputActivation output_activation = OutputActivation::kNone;
};

class ReferenceGradient : public ::testing::TestWithParam<Case> {};

TEST_P(ReferenceGradient, IsTheDerivativeOfTheLoss) {
  const Case& c = GetParam();
  Networks networks = place_networks(4, 16, 2, c.actor_depth, c.critic_depth, c.activation, c.gaussian);
  networks.actor.network.output_activation = networks.critic.network.output_activation = c.output_activation;
  const LossSettings settings{0.2, 0.01, 0.5, c.clip_vloss};
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Draws draws(seed);
    Vector parameters = networks.draw(draws);
    const auto samples = draw_samples(networks, parameters, 33, settings.clip, draws, 1e-3, 1e-4);
    Vector gradient(parameters.size(), 0.0);
    loss_totals(networks, parameters, samples, settings, &gradient);
    Vector analytic, numeric;
    double largest = 0.0;
    for (const Mlp* mlp : {&networks.actor, &networks.critic}) {
      const std::vector<int> positions = mlp->positions();
      for (std::size_t i = 0; i < positions.size(); ++i) {
        const bool log_std = mlp->is_gaussian() && positions[i] >= mlp->network.log_std;
        if (i % 5 != 0 && !log_std) continue;
        const std::size_t p = at(positions[i]);
        const double kept = parameters[p];
        const auto along = [&](double x) {
          parameters[p] = x;
          return loss(networks, parameters, samples, settings);
        };
        analytic.push_back(gradient[p]);
        numeric.push_back(central_difference(along, kept, 1e-6));
        parameters[p] = kept;
        largest = std::max(largest, std::abs(gradient[p]));
      }
    }
    // The difference's own errors: rounding 1e-16 / 1e-6 and the third derivative times 1e-12.
    expect_close("derivative", analytic, numeric, {1e-6 * largest, 1e-6});
  }
}

INSTANTIATE_TEST_SUITE_P(
    Reference, ReferenceGradient,
    ::testing::Values(Case{Activation::kTanh, 1, 2, false, false}, Case{Activation::kTanh, 3, 1, true, false},
                      Case{Activation::kRelu, 2, 3, true, false}, Case{Activation::kRelu, 2, 2, false, false},
                      Case{Activation::kTanh, 2, 2, false, true}, Case{Activation::kRelu, 1, 2, true, true},
                      Case{Activation::kTanh, 2, 1, true, false, OutputActivation::kTanh},
                      Case{Activation::kRelu, 2, 2, false, false, OutputActivation::kRelu},
                      Case{Activation::kRelu, 1, 2, false, true, OutputActivation::kRelu},
                      Case{Activation::kTanh, 1, 1, true, true, OutputActivation::kTanh}));

TEST(Reference, AdvantageOfAConstantRewardIsTheGeometricSum) {
  const std::vector<Step> steps(5, Step{1.0, 0.0, false, false, 0.0});
  const auto result = advantages_of(steps, 0.0, 0.5, 1.0);
  EXPECT_DOUBLE_EQ(result[0].advantage, 1.9375);
  EXPECT_DOUBLE_EQ(result[0].discounted_return, 1.9375);
}

}  // namespace
}  // namespace perilune::test
