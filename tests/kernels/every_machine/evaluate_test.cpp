// Evaluate: one whole episode in each environment, against stepping by hand with the network in
// double.
#include "tests/kernels/environments.hpp"
#include "tests/kernels/tasks.hpp"

namespace perilune::test {
namespace {

class EvaluateTest : public EveryMachine {
 protected:
  struct Case {
    int episodes, width, depth;
    Activation activation;
    bool deterministic;
    std::uint32_t first_episode, max_episode_steps;
    Task task = kCartPole;
    bool normalized = false;
    OutputActivation output_activation = OutputActivation::kNone;
  };

  /// What is played of these outputs, by draws as kernels make them. certain becomes false where rounding may choose
  /// otherwise: within 1e-4 of another choice.
  template <class E>
  static typename ByHandOf<E>::Action action_of(const Case& c, const ByHandOf<E>& one, const Mlp& actor,
                                                const Vector& parameters, const Vector& outputs, bool& certain) {
    CounterRandom<float> draws = one.random(Purpose::kAction);
    if constexpr (E::Action::kContinuous) {
      const Vector log_std = actor.log_std(parameters);
      typename ByHandOf<E>::Action action;
      for (int k = 0; k < E::Action::kNumbers; ++k) {
        const double noise = c.deterministic ? 0.0 : std::exp(log_std[at(k)]) * double{draws.normal()};
        action.at[k] = static_cast<float>(outputs[at(k)] + noise);
      }
      return action;
    } else {
      const double u = draws.uniform();
      std::uint32_t action = 0;
      double sum = 0.0;
      for (int k = 0; k < E::Action::kChoices; ++k) {
        if (c.deterministic) {
          if (outputs[at(k)] > outputs[action]) action = static_cast<std::uint32_t>(k);
          continue;
        }
        sum += std::exp(log_softmax(outputs)[at(k)]);
        if (k + 1 == E::Action::kChoices) continue;
        if (u >= sum) action = static_cast<std::uint32_t>(k + 1);
        certain = certain && std::abs(u - sum) > 1e-4;
      }
      for (int k = 0; c.deterministic && k < E::Action::kChoices; ++k) {
        certain = certain && (static_cast<std::uint32_t>(k) == action || outputs[action] - outputs[at(k)] > 1e-4);
      }
      return action;
    }
  }

  void check(const Case& c, std::uint32_t seed) {
    if (!tests(c.width, c.depth, c.task)) return;
    SCOPED_TRACE("episodes " + std::to_string(c.episodes) + ", " + c.task.id);
    with_environment(c.task, [&]<class E>(E) { check_as<E>(c, seed); });
  }

  template <class E>
  void check_as(const Case& c, std::uint32_t seed) {
    Networks networks =
        place_networks(c.task.observations, c.width, c.task.actions, c.depth, 1, c.activation, c.task.continuous);
    networks.actor.network.output_activation = c.output_activation;
    Draws draws(seed);
    Vector exact = networks.draw(draws);
    if (c.normalized) add_input_statistics(networks, exact, 1.25, draws);
    Buffer<float> parameters(subject(), exact);
    Buffer<float> returns(subject(), at(c.episodes)), lengths(subject(), at(c.episodes));
    EvaluateArgs args{};
    args.parameters = parameters.data();
    args.actor = networks.actor.network;
    args.episodes = c.episodes;
    args.first_episode = c.first_episode;
    args.max_episode_steps = c.max_episode_steps;
    args.deterministic = c.deterministic ? 1 : 0;
    std::copy(c.task.parameters.begin(), c.task.parameters.end(), args.env_parameters);
    args.key = {seed, 1};
    args.returns = returns.data();
    args.lengths = lengths.data();
    std::optional<Buffer<float>> workspace;
    add_workspace(subject(), kernels_for(c.width, c.task).evaluate_workspace, 48, args, workspace);
    kernels_for(c.width, c.task).evaluate(args, queue());
    finish();

    EnvironmentBatch batch{};
    batch.key = args.key;
    batch.max_episode_steps = c.max_episode_steps;
    std::copy(c.task.parameters.begin(), c.task.parameters.end(), batch.parameters);
    std::vector<float> got_returns, got_lengths, want_returns, want_lengths;
    for (int n = 0; n < c.episodes; ++n) {
      ByHandOf<E> one(batch, n);
      one.episode = c.first_episode;
      one.reset();
      bool certain = true, over = false;
      while (!over) {
        const Vector given = networks.actor.given(exact, one.observation());
        const Vector outputs = networks.actor.forward(exact, given).back();
        const auto action = action_of(c, one, networks.actor, exact, outputs, certain);
        over = one.step(action).terminated || one.out_of_time();
      }
      if (!certain) continue;
      got_returns.push_back(returns[at(n)]);
      got_lengths.push_back(lengths[at(n)]);
      want_returns.push_back(one.episode_return);
      want_lengths.push_back(static_cast<float>(one.elapsed));
    }
    EXPECT_GT(static_cast<int>(want_returns.size()) * 10, c.episodes * 8 - 10);
    if (c.task.continuous) {
      // A mean's error of 1e-5 changes a point mass's offset by a quarter of it, and each of 30 rewards by 4 times
      // that.
      expect_close("return", got_returns, want_returns, {1e-3, 1e-5});
    } else {
      expect_same_bits("return", got_returns, want_returns);
    }
    expect_same_bits("length", got_lengths, want_lengths);
  }
};

TEST_P(EvaluateTest, Deterministic) {
  check({1, 16, 1, Activation::kTanh, true, 0, 500}, 2);
  check({97, 32, 2, Activation::kTanh, true, 3, 500}, 3);
  check({33, 16, 3, Activation::kRelu, true, 100, 20}, 4);
  check({65, 0, 3, Activation::kTanh, true, 9, 500}, 7);
  check({33, 64, 2, Activation::kTanh, true, 2, 20}, 17);
  check({17, 128, 1, Activation::kRelu, true, 4, 20}, 18);
  check({97, 32, 2, Activation::kTanh, true, 3, 30, kPointMass}, 9);
  check({33, 0, 1, Activation::kRelu, true, 0, 20, kPointMass}, 10);
  check({33, 0, 2, Activation::kTanh, true, 0, 20, kCartPole, false, OutputActivation::kTanh}, 24);
  check({31, 0, 2, Activation::kRelu, true, 0, 20, kPointMass, false, OutputActivation::kRelu}, 25);
  check({97, 32, 2, Activation::kTanh, true, 3, 60, kCartPole, true}, 24);
  check({33, 0, 2, Activation::kTanh, true, 3, 60, kCartPole, true}, 25);
  check({33, 32, 2, Activation::kTanh, true, 3, 20, kPointMass, true}, 26);
}

TEST_P(EvaluateTest, Sampled) {
  check({7, 16, 2, Activation::kRelu, false, 0, 500}, 5);
  check({65, 32, 1, Activation::kTanh, false, 7, 25}, 6);
  check({7, 0, 8, Activation::kTanh, false, 3, 21}, 8);
  check({65, 32, 1, Activation::kRelu, false, 5, 30, kPointMass}, 11);
  check({33, 0, 2, Activation::kTanh, false, 0, 20, kPointMass}, 12);
}

/// Of short flights, and walks: what a different last bit of an action becomes in a continuous one grows with every
/// contact.
TEST_P(EvaluateTest, Landers) {
  check({33, 64, 2, Activation::kTanh, true, 3, 14, kLunarLander}, 13);
  check({33, 64, 1, Activation::kTanh, false, 0, 12, kLander}, 14);
  check({17, 64, 2, Activation::kRelu, true, 5, 12, kLunarLanderContinuous}, 15);
  check({33, 64, 3, Activation::kTanh, false, 1, 12, kLanderContinuous}, 16);
  check({17, 128, 1, Activation::kTanh, false, 2, 12, kLunarLander}, 19);
  check({7, 0, 2, Activation::kTanh, true, 3, 12, kLunarLander}, 20);
  check({7, 0, 1, Activation::kTanh, true, 3, 12, kLunarLanderContinuous}, 21);
  check({7, 0, 3, Activation::kRelu, false, 3, 12, kLander}, 22);
  check({7, 0, 2, Activation::kTanh, true, 3, 12, kLanderContinuous}, 23);
}

TEST_P(EvaluateTest, Walkers) {
  check({33, 64, 2, Activation::kTanh, true, 3, 9, kBipedalWalker}, 27);
  check({17, 64, 3, Activation::kRelu, false, 0, 7, kBipedalWalker}, 28);
  check({7, 0, 2, Activation::kTanh, true, 3, 7, kBipedalWalker}, 29);
}

PERILUNE_ON_EVERY_MACHINE(EvaluateTest);

}  // namespace
}  // namespace perilune::test
