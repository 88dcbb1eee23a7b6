// Act: the network's outputs against double, and the actions that follow from them.
#include "tests/kernels/environments.hpp"
#include "tests/kernels/network_errors.hpp"

namespace perilune::test {
namespace {

class ActTest : public EveryMachine {
 protected:
  struct Case {
    int count, width, depth;
    Activation activation;
    bool deterministic;
    std::uint32_t call;
    Task task = kCartPole;
    bool normalized = false;
    OutputActivation output_activation = OutputActivation::kNone;
  };

  // Both: false where rounding may choose otherwise.
  static bool likeliest(const Vector& logits, int& choice) {
    choice = static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    return std::none_of(logits.begin(), logits.end(),
                        [&](const double& x) { return &x != &logits[at(choice)] && logits[at(choice)] - x < 1e-4; });
  }
  static bool drawn(const Vector& logits, double u, int& choice) {
    const Vector log_probabilities = log_softmax(logits);
    double sum = 0.0;
    bool sure = true;
    for (std::size_t k = 0; k + 1 < logits.size(); ++k) {
      sum += std::exp(log_probabilities[k]);
      if (u >= sum) choice = static_cast<int>(k) + 1;
      sure = sure && std::abs(u - sum) > 1e-4;
    }
    return sure;
  }

  void check(const Case& c, std::uint32_t seed) {
    if (!tests(c.width, c.depth, c.task)) return;
    SCOPED_TRACE("rows " + std::to_string(c.count) + ", width " + std::to_string(c.width) + ", " + c.task.id);
    const int observed = c.task.observations, actions = c.task.actions;
    Networks networks = place_networks(observed, c.width, actions, c.depth, 1, c.activation);
    networks.actor.network.output_activation = c.output_activation;
    Draws draws(seed);
    Vector exact = networks.draw(draws);
    if (c.normalized) add_input_statistics(networks, exact, 1.25, draws);
    Buffer<float> parameters(subject(), exact);
    Buffer<float> observations(subject(), at(observed * c.count)), outputs(subject(), at(actions * c.count));
    Buffer<std::int64_t> choices(subject(), at(c.count));
    for (float& x : observations) x = draws.uniform(-1.0, 1.0);
    ActArgs args{};
    args.parameters = parameters.data();
    args.actor = networks.actor.network;
    args.count = c.count;
    args.call = c.call;
    args.deterministic = c.deterministic ? 1 : 0;
    args.key = {seed, kActStream};
    args.observations = observations.data();
    args.choices = choices.data();
    args.outputs = outputs.data();
    std::optional<Buffer<float>> workspace;
    const Kernels& kernels = kernels_for(c.width, c.task);
    add_workspace(subject(), kernels.act_workspace, 48, args, workspace);
    kernels.act(args, queue());
    finish();

    Vector reference;
    std::vector<Vector> rows;
    int certain = 0;
    for (int n = 0; n < c.count; ++n) {
      const float* row = observations.data() + observed * n;
      rows.push_back(networks.actor.given(exact, Vector(row, row + observed)));
      const Vector logits = networks.actor.forward(exact, rows.back()).back();
      reference.insert(reference.end(), logits.begin(), logits.end());
      CounterRandom<float> random({seed, kActStream}, static_cast<std::uint32_t>(n), c.call, 0, Purpose::kAction);
      int choice = 0;
      const bool sure = c.deterministic ? likeliest(logits, choice) : drawn(logits, double{random.uniform()}, choice);
      if (!sure) continue;
      ++certain;
      EXPECT_EQ(choices[at(n)], choice) << "row " << n;
    }
    EXPECT_GE(certain * 10, c.count * 9);
    expect_close("outputs", outputs.copy(), reference,
                 output_tolerance(weight_errors(subject(), c.activation), networks.actor, exact, rows));

    // Only what is asked for is written, and a row does not depend on the others.
    Buffer<std::int64_t> alone(subject(), 1);
    args.count = 1;
    args.choices = alone.data();
    args.outputs = nullptr;
    kernels.act(args, queue());
    finish();
    EXPECT_EQ(alone[0], choices[0]);
    args.choices = nullptr;
    kernels.act(args, queue());
    finish();
  }

  void numbers_are_means_or_draws(const Task& task, int width);
};

/// Means, and draws around them: from the outputs that the kernel itself says, so that only the
/// draws are compared.
void ActTest::numbers_are_means_or_draws(const Task& task, int width) {
  constexpr int kCount = 67;
  const Networks networks = place_networks(task.observations, width, task.actions, 2, 1, Activation::kRelu, true);
  Draws draws(3);
  const Vector exact = networks.draw(draws);
  Buffer<float> parameters(subject(), exact);
  Buffer<float> observations(subject(), at(task.observations * kCount)), numbers(subject(), at(task.actions * kCount)),
      outputs(subject(), at(task.actions * kCount));
  for (float& x : observations) x = draws.uniform(-1.0, 1.0);
  for (const bool deterministic : {true, false}) {
    ActArgs args{};
    args.parameters = parameters.data();
    args.actor = networks.actor.network;
    args.count = kCount;
    args.call = 6;
    args.deterministic = deterministic;
    args.key = {8, kActStream};
    args.observations = observations.data();
    args.numbers = numbers.data();
    args.outputs = outputs.data();
    const Kernels& kernels = kernels_for(width, task);
    std::optional<Buffer<float>> workspace;
    add_workspace(subject(), kernels.act_workspace, 48, args, workspace);
    kernels.act(args, queue());
    finish();
    Vector means;
    std::vector<Vector> rows;
    for (int n = 0; n < kCount; ++n) {
      const float* row = observations.data() + task.observations * n;
      rows.emplace_back(row, row + task.observations);
      const Vector mean = networks.actor.forward(exact, rows.back()).back();
      means.insert(means.end(), mean.begin(), mean.end());
      CounterRandom<float> random({8, kActStream}, static_cast<std::uint32_t>(n), 6, 0, Purpose::kAction);
      for (int k = 0; k < task.actions; ++k) {
        const float mean_k = outputs[at(task.actions * n + k)];
        const float std = math::exp(parameters[at(args.actor.log_std + k)]);
        const float drawn = mean_k + std * random.normal();
        EXPECT_EQ(numbers[at(task.actions * n + k)], deterministic ? mean_k : drawn) << n;
      }
    }
    expect_close("means", outputs.copy(), means,
                 output_tolerance(weight_errors(subject(), Activation::kRelu), networks.actor, exact, rows));
  }
}

TEST_P(ActTest, NumbersAreMeansOrDraws) {
  for (const Task& task : {kPointMass, kLunarLanderContinuous, kBipedalWalker}) {
    for (const int width : small_widths(task)) {
      SCOPED_TRACE(std::string(task.id) + ", width " + std::to_string(width));
      numbers_are_means_or_draws(task, width);
    }
  }
}

TEST_P(ActTest, Deterministic) {
  check({1, 16, 1, Activation::kTanh, true, 0}, 2);
  check({257, 32, 2, Activation::kTanh, true, 0}, 3);
  check({33, 64, 3, Activation::kRelu, true, 0}, 4);
  check({97, 128, 2, Activation::kTanh, true, 0}, 5);
  check({65, 0, 3, Activation::kTanh, true, 0}, 6);
  check({37, 64, 2, Activation::kTanh, true, 0, kCartPole, true}, 15);
  check({37, 0, 2, Activation::kTanh, true, 0, kCartPole, true}, 16);
  check({33, 128, 1, Activation::kTanh, true, 0, kLunarLander}, 11);
  check({33, 64, 2, Activation::kRelu, true, 0, kLander}, 12);
}

TEST_P(ActTest, Sampled) {
  check({7, 16, 2, Activation::kRelu, false, 0}, 7);
  check({65, 32, 1, Activation::kTanh, false, 9}, 8);
  check({31, 0, 8, Activation::kTanh, false, 3}, 9);
  check({131, 0, 2, Activation::kRelu, false, 4294967295u}, 10);
  check({65, 64, 2, Activation::kTanh, false, 5, kLunarLander}, 13);
  check({31, 0, 3, Activation::kTanh, false, 6, kLunarLander}, 14);
  check({65, 0, 2, Activation::kTanh, false, 7, kCartPole, false, OutputActivation::kTanh}, 15);
  check({65, 0, 2, Activation::kTanh, false, 8, kLunarLander, false, OutputActivation::kRelu}, 16);
}

PERILUNE_ON_EVERY_MACHINE(ActTest);

}  // namespace
}  // namespace perilune::test
