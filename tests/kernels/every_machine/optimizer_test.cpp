// ReduceGradients and ApplyGradients: Adam with a global-norm clip against double,
// the KL stop, and the search for NaN and Inf.
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The optimiser's arrays, filled anew with random partial gradients and loss sums for each
/// minibatch.
class Problem {
 public:
  Problem(const Subject& on, int partial_count, std::uint64_t seed)
      : subject(on),
        networks(place_networks(4, 32, 2, 2, 2, Activation::kTanh)),
        partials(partial_count),
        count(at(networks.parameter_count)),
        gradients(on, at(partials) * count),
        gradient(on, count),
        square_sums(on, at(on.machine().reduce_blocks(networks.parameter_count))),
        sums(on, at(partials) * kLossSums),
        parameters(on, count),
        first_moment(on, count),
        second_moment(on, count),
        running(on, kMetrics),
        control(on, 1),
        adam(on, 1),
        draws(seed) {
    for (float& x : parameters) x = draws.uniform(-1.0, 1.0);
    first_moment.fill(0.0f);
    second_moment.fill(0.0f);
    running.fill(0.0f);
    control[0] = fresh_control();
    hyper.learning_rate = hyper.critic_learning_rate = 7.0f;  // what counts is Control's, which is annealed
  }

  void draw_minibatch(double scale = 1.0) {
    // The padding between tensors has gradient 0, as Update leaves it; here it is like any other
    // entry.
    for (float& x : gradients) x = static_cast<float>(scale * draws.normal());
    for (float& x : sums) x = draws.uniform(0.0, 0.01) * kMinibatch;
  }

  /// Reduces and applies one minibatch.
  void step(Losses losses, bool last_of_epoch = false, bool decay_after = false) {
    const Machine& machine = subject.machine();
    Queue& queue = subject.queue();
    begin = losses == Losses::kValue ? networks.critic.network.begin : 0;
    end = losses == Losses::kPolicy ? networks.actor.network.end : networks.parameter_count;
    const int actor_end = networks.actor.network.end;
    machine.reduce_gradients({hyper, control.data(), losses, kMinibatch, partials, networks.parameter_count, begin, end,
                              actor_end, last_of_epoch ? 1u : 0u, decay_after ? 1u : 0u, gradients.data(), sums.data(),
                              gradient.data(), square_sums.data(), adam.data(), running.data()},
                             queue);
    machine.apply_gradients({hyper, adam.data(), gradient.data(), begin, end, actor_end, parameters.data(),
                             first_moment.data(), second_moment.data()},
                            queue);
    subject.finish();
  }

  Vector total_gradient() const {
    Vector total(count, 0.0);
    for (std::size_t i = 0; i < gradients.size(); ++i) total[i % count] += gradients[i];
    return total;
  }
  double mean_of(LossSum which) const {
    double total = 0.0;
    for (int p = 0; p < partials; ++p) total += sums[at(which * partials + p)];
    return total / kMinibatch;
  }

  static constexpr int kMinibatch = 64;
  const Subject& subject;
  Networks networks;
  int partials, begin = 0, end = 0;
  std::size_t count;
  Hyperparameters hyper = plain_hyperparameters();
  Buffer<float> gradients, gradient, square_sums, sums, parameters, first_moment, second_moment, running;
  Buffer<Control> control;
  Buffer<AdamStep> adam;
  Draws draws;
};

class OptimizerTest : public EveryMachine {
 protected:
  /// Takes a step for each of `sequence` and compares all of the optimiser's state with double
  /// after each.
  void follow(const std::vector<Losses>& sequence, float max_grad_norm, double scale, int partials,
              std::uint64_t seed) {
    Problem p(subject(), partials, seed);
    p.hyper.max_grad_norm = max_grad_norm;
    const Control& control = p.control[0];
    Vector parameters, first(p.count, 0.0), second(p.count, 0.0);
    for (float x : p.parameters.copy()) parameters.push_back(x);
    Adam actor{0.9, 0.999, double{p.hyper.adam_epsilon}}, critic = actor;
    double clip_fractions = 0.0;
    int step = 0, policy_steps = 0;
    for (const Losses losses : sequence) {
      SCOPED_TRACE("step " + std::to_string(step++));
      p.draw_minibatch(scale);
      p.step(losses);
      Vector gradient = p.total_gradient();
      double squares = 0.0;
      for (std::size_t i = at(p.begin); i < at(p.end); ++i) squares += gradient[i] * gradient[i];
      const double norm = std::sqrt(squares), limit = max_grad_norm;
      if (limit > 0.0) {
        for (double& g : gradient) g *= std::min(1.0, limit / (norm + 1e-6));
      }
      const int boundary = p.networks.actor.network.end;
      if (losses != Losses::kValue) {
        actor.apply(gradient, double{control.actor_learning_rate}, 0, boundary, parameters, first, second);
        clip_fractions += p.mean_of(kClipped);
        ++policy_steps;
        expect_close("policy loss", p.running[Metric::kPolicyLoss], p.mean_of(kPolicyLoss), {0.0, 1e-6});
        expect_close("entropy", p.running[Metric::kEntropy], p.mean_of(kEntropy), {0.0, 1e-6});
        expect_close("kl1", p.running[Metric::kOldApproxKl], p.mean_of(kKl1), {0.0, 1e-6});
        expect_close("kl3", p.running[Metric::kApproxKl], p.mean_of(kKl3), {0.0, 1e-6});
      }
      if (losses != Losses::kPolicy) {
        critic.apply(gradient, double{control.critic_learning_rate}, boundary, p.networks.parameter_count, parameters,
                     first, second);
        expect_close("value loss", p.running[Metric::kValueLoss], p.mean_of(kValueLoss), {0.0, 1e-6});
      }
      expect_close("gradient norm", p.running[Metric::kGradientNorm], norm, {0.0, 1e-5});
      expect_close("clip fractions", p.running[Metric::kClipFraction], clip_fractions, {0.0, 1e-6});
      EXPECT_EQ(p.running[Metric::kPolicyUpdates], static_cast<float>(policy_steps));
      EXPECT_EQ(control.policy_steps, static_cast<std::uint32_t>(policy_steps));
      EXPECT_EQ(control.nonfinite, NonFinite::kNone);
      EXPECT_EQ(control.reduce_ticket, 0u) << "the next launch would miss its last block";
      // A parameter is rounded (6e-8) at each step, and its step of size lr has a relative error
      // around 1e-5 where sums of the gradient cancelled.
      expect_close("parameter", p.parameters.copy(), parameters, {2e-7 * step + 1e-5 * 2e-3 * step, 0.0});
      double largest = 0.0;
      for (double m : first) largest = std::max(largest, std::abs(m));
      expect_close("first moment", p.first_moment.copy(), first, {1e-6 * largest, 1e-5});
      expect_close("second moment", p.second_moment.copy(), second, {1e-6 * largest * largest, 1e-5});
      // c <- beta c + (1 - beta) with beta itself rounded to float, 3e-8.
      for (int k = 0; k < 2; ++k) {
        const double beta = k == 0 ? 0.9 : 0.999;
        expect_close("actor correction", control.actor_correction[k], 1.0 - std::pow(beta, actor.steps), {0.0, 3e-6});
        expect_close("critic correction", control.critic_correction[k], 1.0 - std::pow(beta, critic.steps),
                     {0.0, 3e-6});
      }
    }
  }
};

TEST_P(OptimizerTest, FollowsAdamInDouble) {
  const std::vector<Losses> both(6, Losses::kBoth);
  follow(both, 0.0f, 1.0, 3, 1);   // no clipping
  follow(both, 0.5f, 1.0, 1, 2);   // clipped a hundredfold
  follow(both, 0.5f, 1e-3, 2, 3);  // below the limit
  // 2560 sums of two normals: a norm of 71.6, within 2. Just above the limit, and just below.
  follow(both, 68.0f, 1.0, 2, 12);
  follow(both, 75.0f, 1.0, 2, 12);
  follow({Losses::kPolicy, Losses::kValue, Losses::kValue, Losses::kPolicy, Losses::kValue}, 0.5f, 1.0, 2, 4);
}

TEST_P(OptimizerTest, TouchesOnlyTheTrainedRange) {
  for (const Losses losses : {Losses::kPolicy, Losses::kValue}) {
    Problem p(subject(), 2, 5);
    const std::vector<float> before = p.parameters.copy();
    p.draw_minibatch();
    p.step(losses);
    for (int i = 0; i < p.networks.parameter_count; ++i) {
      const bool trained = (i < p.networks.actor.network.end) == (losses == Losses::kPolicy);
      ASSERT_EQ(p.parameters[at(i)] != before[at(i)], trained) << "parameter " << i;
      ASSERT_EQ(p.second_moment[at(i)] != 0.0f, trained) << "parameter " << i;
    }
  }
}

/// Where the approximate KL divergence passes the target: 0.02 against 0.01.
void set_kl(Problem& p, bool k1) {
  p.draw_minibatch();
  p.hyper.target_kl = 0.01f;
  p.hyper.kl_estimator = k1 ? KlEstimator::kK1 : KlEstimator::kK3;
  for (int i = 0; i < p.partials; ++i) {
    p.sums[at(kKl1 * p.partials + i)] = (k1 ? 0.02f : 0.001f) * Problem::kMinibatch / 2.0f;
    p.sums[at(kKl3 * p.partials + i)] = (k1 ? 0.001f : 0.02f) * Problem::kMinibatch / 2.0f;
  }
}

TEST_P(OptimizerTest, KlStopsBeforeTheStep) {
  for (const bool k1 : {false, true}) {
    Problem p(subject(), 2, 6);
    const std::vector<float> before = p.parameters.copy();
    set_kl(p, k1);
    p.hyper.kl_stop = KlStop::kIteration;
    p.step(Losses::kPolicy);
    EXPECT_EQ(p.control[0].stop_policy, 1u);
    EXPECT_EQ(p.control[0].policy_steps, 0u);
    EXPECT_EQ(p.control[0].actor_correction[0], 0.0f);
    expect_close("kl", p.running[k1 ? Metric::kOldApproxKl : Metric::kApproxKl], 0.02, {0.0, 1e-6});
    expect_same_bits("parameter", p.parameters.copy(), before);
    // The other measure is below the target: no stop.
    p.control[0] = fresh_control();
    p.hyper.kl_estimator = k1 ? KlEstimator::kK3 : KlEstimator::kK1;
    p.step(Losses::kPolicy);
    EXPECT_EQ(p.control[0].stop_policy, 0u);
    EXPECT_EQ(p.control[0].policy_steps, 1u);
  }
}

/// The critic's step with it, and what follows in the iteration.
TEST_P(OptimizerTest, KlStopsBeforeTheMinibatchsStep) {
  Problem p(subject(), 2, 6);
  const std::vector<float> before = p.parameters.copy();
  set_kl(p, false);
  p.hyper.kl_stop = KlStop::kMinibatch;
  p.hyper.epoch_lr_decay = 0.5f;
  p.step(Losses::kBoth, false, true);
  EXPECT_EQ(p.control[0].stop_policy, 1u);
  EXPECT_EQ(p.control[0].policy_steps, 0u);
  EXPECT_EQ(p.control[0].critic_correction[0], 0.0f);
  EXPECT_EQ(p.control[0].actor_learning_rate, 1e-3f) << "decayed without a step";
  expect_same_bits("parameter", p.parameters.copy(), before);
  p.draw_minibatch();
  p.step(Losses::kBoth);
  expect_same_bits("parameter", p.parameters.copy(), before);
}

TEST_P(OptimizerTest, KlStopsAfterTheEpoch) {
  for (const bool k1 : {false, true}) {
    Problem p(subject(), 2, 7);
    set_kl(p, k1);
    p.step(Losses::kBoth, false);
    EXPECT_EQ(p.control[0].stop_policy, 0u) << "stopped inside an epoch";
    p.step(Losses::kBoth, true);
    EXPECT_EQ(p.control[0].stop_policy, 1u);
    EXPECT_EQ(p.control[0].policy_steps, 2u) << "the epoch's last step must be applied";
    const std::vector<float> stopped = p.parameters.copy();
    p.step(Losses::kPolicy);
    expect_same_bits("parameter", p.parameters.copy(), stopped);
    EXPECT_EQ(p.control[0].policy_steps, 2u);
    p.step(Losses::kValue);  // the critic goes on
    EXPECT_NE(p.parameters[p.count - 1], stopped[p.count - 1]);
    EXPECT_EQ(p.parameters[0], stopped[0]);
  }
}

/// A divergence of exactly the target does not stop; the next number above it does.
TEST_P(OptimizerTest, TheKlTargetIsTheThreshold) {
  const float target = 0.01f;
  for (const float kl : {std::nextafter(target, 0.0f), target, std::nextafter(target, 1.0f)}) {
    for (const KlStop kl_stop : {KlStop::kEpoch, KlStop::kIteration, KlStop::kMinibatch}) {
      Problem p(subject(), 1, 13);
      p.draw_minibatch();
      p.hyper.target_kl = target;
      p.hyper.kl_stop = kl_stop;
      p.sums[at(kKl3)] = kl * Problem::kMinibatch;  // a power of two: exact
      p.step(Losses::kPolicy, true);
      EXPECT_EQ(p.control[0].stop_policy, kl > target ? 1u : 0u);
      EXPECT_EQ(p.control[0].policy_steps, kl > target && kl_stop != KlStop::kEpoch ? 0u : 1u);
    }
  }
}

/// Each step has the rate that its own divergence asks for, but for the first of an iteration.
TEST_P(OptimizerTest, LearningRatesFollowTheKl) {
  const float target = 0.01f;
  struct Step {
    float kl;
    double actor, critic;  // what is expected, times the first rate
  };
  // Twice and half the target are not beyond them; rates stay within [0.5, 4] times the actor's first, 1e-3.
  const Step steps[] = {
      {0.5f, 1.0, 2.0},
      {0.0f, 1.5, 3.0},
      {0.0201f, 1.0, 2.0},
      {2.0f * target, 1.0, 2.0},
      {target, 1.0, 2.0},
      {0.5f * target, 1.0, 2.0},
      {0.0049f, 1.5, 3.0},
      {0.0f, 2.25, 4.0},
      {0.0f, 3.375, 4.0},
      {0.0f, 4.0, 4.0},
      {0.03f, 8.0 / 3, 8.0 / 3},
      {0.03f, 16.0 / 9, 16.0 / 9},
      {0.03f, 32.0 / 27, 32.0 / 27},
      {0.03f, 64.0 / 81, 64.0 / 81},
      {0.03f, 128.0 / 243, 128.0 / 243},
      {0.03f, 0.5, 0.5},
  };
  Problem p(subject(), 1, 15);
  p.hyper.anneal_lr = Anneal::kKl;
  p.hyper.desired_kl = target;
  p.hyper.min_learning_rate = 0.5e-3f;
  p.hyper.max_learning_rate = 4e-3f;
  p.hyper.kl_estimator = KlEstimator::kK1;  // which is of target_kl alone
  for (const Step& step : steps) {
    SCOPED_TRACE("divergence " + std::to_string(step.kl));
    p.draw_minibatch();
    p.sums[at(kKl3)] = step.kl * Problem::kMinibatch;  // a power of two: exact
    p.step(Losses::kBoth);
    expect_close("actor's step", p.adam[0].actor_learning_rate, 1e-3 * step.actor, {0.0, 1e-6});
    expect_close("critic's step", p.adam[0].critic_learning_rate, 1e-3 * step.critic, {0.0, 1e-6});
  }
  // Nor does a value step or a NaN change them.
  const float before = p.control[0].actor_learning_rate;
  p.draw_minibatch();
  p.step(Losses::kValue);
  EXPECT_EQ(p.control[0].actor_learning_rate, before);
  p.draw_minibatch();
  p.sums[at(kPolicyLoss)] = std::nanf("");
  p.step(Losses::kBoth);
  EXPECT_EQ(p.control[0].actor_learning_rate, before);
}

/// A step that target_kl refuses still lowers the rate of those after it.
TEST_P(OptimizerTest, RefusedStepsLowerTheLearningRate) {
  Problem p(subject(), 2, 16);
  p.hyper.anneal_lr = Anneal::kKl;
  p.hyper.desired_kl = 0.005f;
  p.draw_minibatch();
  p.step(Losses::kBoth);
  set_kl(p, false);
  p.hyper.kl_stop = KlStop::kMinibatch;
  p.step(Losses::kBoth);
  EXPECT_EQ(p.control[0].policy_steps, 1u);
  expect_close("actor", p.control[0].actor_learning_rate, 1e-3 / 1.5, {0.0, 1e-6});
}

/// The step that ends an epoch still has the old learning rates, the next one the decayed.
TEST_P(OptimizerTest, LearningRatesDecayAfterTheStep) {
  Problem p(subject(), 2, 11);
  p.hyper.epoch_lr_decay = 0.5f;
  for (const double decay : {1.0, 0.5, 0.25}) {
    p.draw_minibatch();
    p.step(Losses::kBoth, true, true);
    expect_close("actor's step", p.adam[0].actor_learning_rate, 1e-3 * decay, {0.0, 1e-7});
    expect_close("critic's step", p.adam[0].critic_learning_rate, 2e-3 * decay, {0.0, 1e-7});
  }
  p.step(Losses::kBoth, true, false);
  expect_close("actor", p.control[0].actor_learning_rate, 1e-3 * 0.125, {0.0, 1e-7});
  expect_close("critic", p.control[0].critic_learning_rate, 2e-3 * 0.125, {0.0, 1e-7});
}

TEST_P(OptimizerTest, NoTargetNeverStops) {
  for (const KlStop kl_stop : {KlStop::kEpoch, KlStop::kIteration, KlStop::kMinibatch}) {
    Problem p(subject(), 2, 8);
    set_kl(p, false);
    p.hyper.target_kl = 0.0f;
    p.hyper.kl_stop = kl_stop;
    p.step(Losses::kBoth, true);
    EXPECT_EQ(p.control[0].stop_policy, 0u);
    EXPECT_EQ(p.control[0].policy_steps, 1u);
  }
}

TEST_P(OptimizerTest, NothingIsAppliedAfterNanOrInf) {
  struct Fault {
    NonFinite code;
    void (*inject)(Problem&, float);
  };
  const Fault faults[] = {
      {NonFinite::kPolicyLoss, [](Problem& p, float x) { p.sums[at(kPolicyLoss * p.partials)] = x; }},
      {NonFinite::kValueLoss, [](Problem& p, float x) { p.sums[at(kValueLoss * p.partials + 1)] = x; }},
      {NonFinite::kActorGradient, [](Problem& p, float x) { p.gradients[3] = x; }},
      {NonFinite::kActorGradient,
       [](Problem& p, float x) { p.gradients[p.count + at(p.networks.actor.network.end) - 1] = x; }},
      {NonFinite::kCriticGradient, [](Problem& p, float x) { p.gradients[p.count - 1] = x; }},
  };
  for (const Fault& fault : faults) {
    for (const float x : {std::nanf(""), kInfinity, -kInfinity}) {
      SCOPED_TRACE("code " + std::to_string(static_cast<int>(fault.code)));
      Problem p(subject(), 2, 9);
      p.hyper.max_grad_norm = 0.5f;
      const std::vector<float> before = p.parameters.copy();
      p.draw_minibatch();
      fault.inject(p, x);
      p.step(Losses::kBoth);
      EXPECT_EQ(p.control[0].nonfinite, fault.code);
      EXPECT_EQ(p.control[0].policy_steps, 0u);
      EXPECT_EQ(p.control[0].critic_correction[0], 0.0f);
      // Nor anything after it, however healthy.
      p.draw_minibatch();
      p.step(Losses::kBoth);
      p.step(Losses::kValue);
      EXPECT_EQ(p.control[0].nonfinite, fault.code);
      expect_same_bits("parameter", p.parameters.copy(), before);
      expect_same_bits("moment", p.first_moment.copy(), std::vector<float>(p.count, 0.0f));
    }
  }
}

/// A policy step leaves the sums of the untrained value loss alone, NaN or not.
TEST_P(OptimizerTest, IgnoresSumsOfWhatIsNotTrained) {
  for (const Losses losses : {Losses::kPolicy, Losses::kValue}) {
    Problem p(subject(), 2, 10);
    p.draw_minibatch();
    for (int i = 0; i < p.partials; ++i) {
      for (int k = 0; k < kLossSums; ++k) {
        if ((k == kValueLoss) == (losses == Losses::kPolicy)) {
          p.sums[at(k * p.partials + i)] = std::nanf("");
        }
      }
    }
    p.step(losses);
    EXPECT_EQ(p.control[0].nonfinite, NonFinite::kNone);
    EXPECT_EQ(p.control[0].policy_steps, losses == Losses::kPolicy ? 1u : 0u);
  }
}

PERILUNE_ON_EVERY_MACHINE(OptimizerTest);

}  // namespace
}  // namespace perilune::test
