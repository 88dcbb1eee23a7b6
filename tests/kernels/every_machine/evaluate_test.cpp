// Evaluate: one whole episode in each environment, against stepping by hand with the network in
// double.
#include "tests/kernels/environments.hpp"

namespace perilune::test {
namespace {

class EvaluateTest : public EveryMachine {
 protected:
  struct Case {
    int episodes, width, depth;
    Activation activation;
    bool deterministic;
    std::uint32_t first_episode, max_episode_steps;
  };

  void check(const Case& c, std::uint32_t seed) {
    if (!tests_width(c.width)) return;
    SCOPED_TRACE("episodes " + std::to_string(c.episodes));
    const Networks networks = place_networks(4, c.width, 2, c.depth, 1, c.activation);
    Draws draws(seed);
    const Vector exact = networks.draw(draws);
    Buffer<float> parameters(subject(), exact);
    Buffer<float> returns(subject(), at(c.episodes)), lengths(subject(), at(c.episodes));
    EvaluateArgs args{};
    args.parameters = parameters.data();
    args.actor = networks.actor.network;
    args.episodes = c.episodes;
    args.first_episode = c.first_episode;
    args.max_episode_steps = c.max_episode_steps;
    args.deterministic = c.deterministic ? 1 : 0;
    args.key = {seed, 1};
    args.returns = returns.data();
    args.lengths = lengths.data();
    std::optional<Buffer<float>> workspace;
    add_workspace(subject(), instance(c.width).evaluate_workspace, 48, args, workspace);
    instance(c.width).evaluate(args, queue());
    finish();

    EnvironmentBatch batch{};
    batch.key = args.key;
    batch.max_episode_steps = c.max_episode_steps;
    std::vector<float> got_returns, got_lengths, want_returns, want_lengths;
    for (int n = 0; n < c.episodes; ++n) {
      ByHand one(batch, n);
      one.episode = c.first_episode;
      one.reset();
      bool certain = true, over = false;
      while (!over) {
        const Vector logits = networks.actor.forward(exact, one.observation()).back();
        const double p0 = std::exp(log_softmax(logits)[0]);
        // Argmax is a draw of 0.5. Rounding may choose otherwise within 1e-4, and all that follows
        // differs.
        const double u = c.deterministic ? 0.5 : double{one.random(Purpose::kAction).uniform()};
        certain = certain && std::abs(u - p0) > 1e-4;
        over = one.step(u < p0 ? 0 : 1).terminated || one.out_of_time();
      }
      if (!certain) continue;
      got_returns.push_back(returns[at(n)]);
      got_lengths.push_back(lengths[at(n)]);
      want_returns.push_back(one.episode_return);
      want_lengths.push_back(static_cast<float>(one.elapsed));
    }
    EXPECT_GT(static_cast<int>(want_returns.size()) * 10, c.episodes * 8 - 10);
    expect_same_bits("return", got_returns, want_returns);
    expect_same_bits("length", got_lengths, want_lengths);
  }
};

TEST_P(EvaluateTest, Deterministic) {
  check({1, 16, 1, Activation::kTanh, true, 0, 500}, 2);
  check({97, 32, 2, Activation::kTanh, true, 3, 500}, 3);
  check({33, 16, 3, Activation::kRelu, true, 100, 20}, 4);
  check({65, 0, 3, Activation::kTanh, true, 9, 500}, 7);
}

TEST_P(EvaluateTest, Sampled) {
  check({7, 16, 2, Activation::kRelu, false, 0, 500}, 5);
  check({65, 32, 1, Activation::kTanh, false, 7, 25}, 6);
  check({7, 0, 8, Activation::kTanh, false, 3, 21}, 8);
}

PERILUNE_ON_EVERY_MACHINE(EvaluateTest);

}  // namespace
}  // namespace perilune::test
