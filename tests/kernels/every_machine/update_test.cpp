// Update and AdvantageMoments: losses and gradients of a minibatch against the double reference,
// analytic and by central differences of its loss.
#include "kernels/shuffle.hpp"

#include <algorithm>
#include <optional>

#include "tests/kernels/network_errors.hpp"
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

using enum Normalization;

struct Case {
  int minibatch_size, num_minibatches, minibatch;
  int width, actor_depth, critic_depth;
  Activation activation;
  bool clip_vloss;
  Normalization norm_adv;
  std::uint32_t shuffled;
  int partials;
  Task task = kCartPole;
  OutputActivation output_activation = OutputActivation::kNone;  ///< layer by layer alone
  std::optional<float> value_clip = {};                          ///< none: the policy's
};

/// A batch of samples, the kernels' arrays of it, and the launch of one minibatch.
class Problem {
 public:
  /// no_weights: all outputs of the networks are their biases, which no format rounds.
  Problem(const Subject& on, const Case& c, std::uint32_t seed, bool no_weights = false)
      : networks(place_networks(c.task.observations, c.width, c.task.actions, c.actor_depth, c.critic_depth,
                                c.activation, c.task.continuous)),
        gradients(on, at(c.partials) * at(networks.parameter_count)),
        sums(on, at(c.partials) * kLossSums),
        moments(on, at(c.num_minibatches * on.machine().moment_chunks(c.minibatch_size) * kChunkMoments)),
        scales(on, at(c.num_minibatches) * 2),
        control(on, 1) {
    networks.actor.network.output_activation = networks.critic.network.output_activation = c.output_activation;
    Draws draws(seed, on.input_bits());
    exact_parameters = networks.draw(draws);
    for (const Mlp* mlp : {&networks.actor, &networks.critic}) {
      for (const int i : no_weights ? mlp->positions() : std::vector<int>()) {
        if (i < mlp->network.bias[mlp->network.depth]) exact_parameters[at(i)] = 0.0;
      }
    }
    const int batch_size = c.minibatch_size * c.num_minibatches;
    if (c.value_clip) settings.own_value_clip = double{*c.value_clip};
    batch = draw_samples(networks, exact_parameters, batch_size, settings.clip, draws,
                         std::max(1e-3, 10.0 * (on.rounding + on.tanh_error)), on.rounding, settings.own_value_clip);
    settings.clip_vloss = c.clip_vloss;
    Vector records_of, advantages_of, targets_of;
    for (const Sample& sample : batch) {
      const auto append = [&](const Vector& x) { records_of.insert(records_of.end(), x.begin(), x.end()); };
      append(sample.observation);
      append(c.task.continuous ? sample.numbers : Vector{static_cast<double>(sample.action)});
      append({sample.old_log_probability, sample.old_value});
      records_of.resize((records_of.size() + 7) / 8 * 8, 0.0);
      advantages_of.push_back(sample.advantage);
      targets_of.push_back(sample.target);
    }
    parameters.emplace(on, exact_parameters);
    records.emplace(on, records_of);
    advantages.emplace(on, advantages_of);
    targets.emplace(on, targets_of);
    control[0] = fresh_control();
    control[0].iteration = seed % 5;
    if (c.value_clip) control[0].clip_vloss_coef = *c.value_clip;
    control[0].advantage_mean = 0.125f;
    control[0].advantage_std = 1.75f;

    args.sampling = {batch_size, c.minibatch_size, c.shuffled, seed % 3, {seed, 0}};
    args.hyper = plain_hyperparameters();
    args.hyper.clip_coef = args.hyper.ent_coef = 7.0f;  // what counts is Control's, which is annealed
    args.hyper.clip_vloss = c.clip_vloss;
    args.hyper.norm_adv = c.norm_adv;
    args.control = control.data();
    args.losses = Losses::kBoth;
    args.minibatch = c.minibatch;
    args.partials = c.partials;
    args.parameters = parameters->data();
    args.actor = networks.actor.network;
    args.critic = networks.critic.network;
    args.records = records->data();
    args.advantages = advantages->data();
    args.targets = targets->data();
    args.scales = scales.data();
    args.gradients = gradients.data();
    args.sums = sums.data();
  }

  /// The minibatch's samples as the reference sees them, advantages normalised.
  std::vector<Sample> minibatch() const {
    const Sampling& s = args.sampling;
    const Shuffle shuffle(static_cast<std::uint32_t>(s.batch_size), s.key, control[0].iteration, s.epoch);
    std::vector<Sample> result;
    for (int p = 0; p < s.minibatch_size; ++p) {
      const auto position = static_cast<std::uint32_t>(args.minibatch * s.minibatch_size + p);
      result.push_back(batch[s.shuffled != 0 ? shuffle(position) : position]);
    }
    Vector x;
    for (const Sample& sample : result) x.push_back(sample.advantage);
    double center = 0.0, deviation = 1.0;
    if (args.hyper.norm_adv == kMinibatch) {
      center = mean(x);
      deviation = std::sqrt(sample_variance_of(x)) + epsilon;
    } else if (args.hyper.norm_adv == kBatch) {
      center = control[0].advantage_mean;
      deviation = control[0].advantage_std + epsilon;
    }
    for (Sample& sample : result) sample.advantage = (sample.advantage - center) / deviation;
    return result;
  }

  /// Sum of the partial gradients.
  Vector gradient() const {
    Vector total(at(networks.parameter_count), 0.0);
    for (std::size_t i = 0; i < gradients.size(); ++i) total[i % total.size()] += gradients[i];
    return total;
  }
  double sum(LossSum which) const {
    double total = 0.0;
    for (int p = 0; p < args.partials; ++p) total += sums[at(which * args.partials + p)];
    return total;
  }

  Networks networks;
  LossSettings settings{double{0.2f}, double{0.01f}, 0.5, false};
  double epsilon = 1e-8;  ///< norm_adv_epsilon
  Vector exact_parameters;
  std::vector<Sample> batch;
  Buffer<float> gradients, sums, moments, scales;
  Buffer<Control> control;
  std::optional<Buffer<float>> parameters, records, advantages, targets, workspace;
  UpdateArgs args{};
};

Vector part(const Vector& x, const std::vector<int>& positions) {
  Vector result;
  for (const int i : positions) result.push_back(x[at(i)]);
  return result;
}
double largest(const Vector& x) {
  double result = 0.0;
  for (double value : x) result = std::max(result, std::abs(value));
  return result;
}

class UpdateTest : public EveryMachine {
 protected:
  void run(const Case& c, Problem& p) {
    if (c.norm_adv == kMinibatch) {
      machine().advantage_moments({p.args.sampling, p.control.data(), p.args.advantages, p.moments.data(),
                                   p.scales.data(), c.num_minibatches, 1, static_cast<float>(p.epsilon)},
                                  queue());
    }
    const Kernels& kernels = kernels_for(c.width, c.task);
    // Fewer columns than most cases have samples, so that they come in chunks.
    add_workspace(subject(), kernels.update_workspace, 48, p.args, p.workspace);
    kernels.update(p.args, queue());
    finish();
  }

  void equals_the_reference(const Case& c, std::uint32_t seed);

  void trains_only_what_it_is_asked_to(const Case& c) {
    Problem both(subject(), c, 2);
    run(c, both);
    for (const Losses losses : {Losses::kPolicy, Losses::kValue}) {
      Problem p(subject(), c, 2);
      p.args.losses = losses;
      run(c, p);
      const bool policy = losses == Losses::kPolicy;
      for (std::size_t i = 0; i < p.gradients.size(); ++i) {
        const auto parameter = static_cast<int>(i % at(p.networks.parameter_count));
        if ((parameter < p.args.critic.begin) == policy) {
          ASSERT_EQ(p.gradients[i], both.gradients[i]) << "parameter " << parameter;
        } else {
          ASSERT_TRUE(std::isnan(p.gradients[i])) << "written: parameter " << parameter;
        }
      }
      for (int k = 0; k < kLossSums; ++k) {
        EXPECT_EQ(std::isnan(p.sums[at(k * p.args.partials)]), (k == kValueLoss) == policy) << "sum " << k;
      }
    }
  }
};

/// The sums of a minibatch that rounding changes, and its gradient.
Vector results_of(const LossTotals& sums, const Vector& gradient) {
  Vector results = {sums.policy, sums.entropy, sums.kl1, sums.kl3, sums.value};
  results.insert(results.end(), gradient.begin(), gradient.end());
  return results;
}

/// How far each of them may move.
Vector deviations_of(const Subject& on, const Problem& p, const Case& c, const std::vector<Sample>& samples) {
  const auto results = [&](Perturbed& perturbed) {
    LossTotals sums{};
    Vector gradient(p.exact_parameters.size(), 0.0);
    for (const Sample& sample : samples) {
      Vector own(gradient.size(), 0.0);
      const LossTotals one = loss_totals(p.networks, perturbed.next(), {sample}, p.settings, &own);
      sums.policy += one.policy, sums.entropy += one.entropy, sums.kl1 += one.kl1, sums.kl3 += one.kl3;
      sums.value += one.value;
      const double factor = perturbed.factor() / static_cast<double>(samples.size());
      for (std::size_t i = 0; i < own.size(); ++i) gradient[i] += factor * own[i];
    }
    return results_of(sums, gradient);
  };
  return deviations({&p.networks.actor, &p.networks.critic}, p.exact_parameters, weight_errors(on, c.activation),
                    results);
}

void UpdateTest::equals_the_reference(const Case& c, std::uint32_t seed) {
  Problem p(subject(), c, seed);
  run(c, p);
  const std::vector<Sample> samples = p.minibatch();
  Vector expected_gradient(p.exact_parameters.size(), 0.0);
  const LossTotals expected = loss_totals(p.networks, p.exact_parameters, samples, p.settings, &expected_gradient);
  const Vector deviation = deviations_of(subject(), p, c, samples), gradient = p.gradient();
  const Vector gradient_deviation(deviation.end() - p.networks.parameter_count, deviation.end());
  // 2e-7 and 3e-6: what float rounds in each sample's loss, and in sums of some hundred.
  const auto expect_sum = [&](const char* what, LossSum which, double reference, std::size_t k) {
    expect_close(what, p.sum(which), reference, {kDeviations * deviation[k] + 2e-7 * c.minibatch_size, 3e-6});
  };
  expect_sum("policy loss", kPolicyLoss, expected.policy, 0);
  expect_sum("entropy", kEntropy, expected.entropy, 1);
  expect_sum("kl1", kKl1, expected.kl1, 2);
  expect_sum("kl3", kKl3, expected.kl3, 3);
  expect_sum("value loss", kValueLoss, expected.value, 4);
  expect_close("clipped", p.sum(kClipped), expected.clipped, {0.0, 0.0});
  const auto expect_gradient = [&](const std::string& what, const std::vector<int>& positions) {
    const Vector reference = part(expected_gradient, positions);
    // Twice, because some units of a layer move so much more than others.
    const double allowed = 2.0 * kDeviations * root_mean_square(part(gradient_deviation, positions));
    expect_close(what, part(gradient, positions), reference, {allowed + 2e-7 * largest(reference), 1e-6});
  };
  for (const Mlp* mlp : {&p.networks.actor, &p.networks.critic}) {
    const std::string name = mlp == &p.networks.actor ? "actor" : "critic";
    for (int l = 0; l <= mlp->network.depth; ++l) {
      const std::vector<int> layer = mlp->positions(l);
      const auto biases = layer.end() - mlp->out(l);
      expect_gradient(name + "'s gradient by weights of layer " + std::to_string(l), {layer.begin(), biases});
      expect_gradient(name + "'s gradient by biases of layer " + std::to_string(l), {biases, layer.end()});
    }
  }
  std::vector<int> log_std;
  for (int i = 0; i < (c.task.continuous ? c.task.actions : 0); ++i) log_std.push_back(p.args.actor.log_std + i);
  expect_gradient("gradient of the log standard deviations", log_std);
}

TEST_P(UpdateTest, EqualsTheReference) {
  const Case cases[] = {
      {1, 1, 0, 16, 2, 2, Activation::kTanh, false, kMinibatch, 1, 1},
      {7, 3, 1, 16, 1, 3, Activation::kTanh, true, kMinibatch, 1, 2},
      {31, 2, 1, 32, 2, 1, Activation::kRelu, false, kBatch, 1, 1},
      {33, 1, 0, 16, 3, 2, Activation::kTanh, true, kNone, 0, 3},
      {65, 2, 0, 32, 2, 2, Activation::kTanh, false, kMinibatch, 1, 2},
      {97, 2, 1, 64, 2, 2, Activation::kTanh, true, kMinibatch, 1, 2},
      {257, 2, 1, 64, 3, 1, Activation::kRelu, true, kMinibatch, 0, 3},
      {129, 3, 2, 128, 2, 3, Activation::kTanh, false, kBatch, 1, 2},
      {65, 2, 1, 128, 2, 1, Activation::kTanh, true, kMinibatch, 1, 1},
      {33, 1, 0, 128, 1, 1, Activation::kRelu, false, kNone, 0, 1},
      {257, 1, 0, 16, 2, 2, Activation::kRelu, true, kNone, 1, 4},
      {401, 2, 1, 16, 1, 2, Activation::kTanh, false, kMinibatch, 1, 1},  // one block takes tile after tile
      {1, 1, 0, 0, 1, 1, Activation::kTanh, false, kMinibatch, 1, 1},
      {33, 3, 1, 0, 3, 3, Activation::kTanh, true, kMinibatch, 1, 1},
      {97, 2, 1, 0, 8, 1, Activation::kTanh, false, kBatch, 1, 1},
      {145, 1, 0, 0, 4, 8, Activation::kRelu, true, kNone, 0, 1},
      {1, 1, 0, 32, 2, 2, Activation::kTanh, false, kMinibatch, 1, 1, kPointMass},
      {31, 2, 1, 32, 1, 3, Activation::kRelu, true, kBatch, 1, 1, kPointMass},
      {65, 2, 0, 32, 3, 2, Activation::kTanh, false, kMinibatch, 1, 2, kPointMass},
      {257, 1, 0, 32, 2, 1, Activation::kTanh, true, kNone, 0, 3, kPointMass},
      {7, 3, 1, 0, 1, 1, Activation::kTanh, false, kMinibatch, 1, 1, kPointMass},
      {145, 2, 1, 0, 4, 2, Activation::kRelu, true, kMinibatch, 1, 1, kPointMass},
      {65, 2, 1, 64, 2, 2, Activation::kTanh, true, kMinibatch, 1, 2, kLunarLander},
      {33, 1, 0, 64, 3, 2, Activation::kTanh, false, kMinibatch, 1, 1, kLunarLander},
      {97, 1, 0, 64, 1, 3, Activation::kTanh, false, kBatch, 0, 1, kLanderContinuous},
      {33, 2, 1, 128, 2, 1, Activation::kTanh, true, kMinibatch, 1, 1, kLunarLander},
      {33, 2, 1, 0, 3, 2, Activation::kTanh, true, kMinibatch, 1, 1, kLunarLander},
      {31, 1, 0, 0, 1, 2, Activation::kRelu, false, kMinibatch, 1, 1, kLanderContinuous},
      {65, 2, 1, 64, 2, 2, Activation::kRelu, true, kMinibatch, 1, 2, kBipedalWalker},
      {33, 1, 0, 64, 3, 1, Activation::kTanh, false, kBatch, 0, 1, kBipedalWalker},
      {31, 1, 0, 0, 2, 2, Activation::kRelu, false, kMinibatch, 1, 1, kBipedalWalker},
      {97, 2, 1, 0, 2, 2, Activation::kRelu, true, kMinibatch, 1, 1, kCartPole, OutputActivation::kRelu},
      {33, 1, 0, 0, 1, 3, Activation::kTanh, false, kNone, 0, 1, kCartPole, OutputActivation::kTanh},
      {145, 2, 1, 0, 2, 2, Activation::kRelu, false, kBatch, 1, 1, kPointMass, OutputActivation::kRelu},
      {7, 3, 1, 0, 3, 1, Activation::kTanh, true, kMinibatch, 1, 1, kPointMass, OutputActivation::kTanh},
      {97, 2, 1, 16, 2, 2, Activation::kTanh, true, kMinibatch, 1, 2, kCartPole, OutputActivation::kNone, 0.05f},
      {65, 1, 0, 64, 2, 1, Activation::kTanh, true, kNone, 0, 2, kCartPole, OutputActivation::kNone, 0.5f},
      {33, 2, 1, 0, 2, 2, Activation::kTanh, true, kNone, 1, 1, kPointMass, OutputActivation::kNone, 0.05f},
  };
  for (const Case& c : cases) {
    if (!tests(c.width, std::max(c.actor_depth, c.critic_depth), c.task)) continue;
    for (std::uint32_t seed = 1; seed <= (c.width <= 32 ? 3u : 1u); ++seed) {
      SCOPED_TRACE("minibatch " + std::to_string(c.minibatch_size) + ", width " + std::to_string(c.width) + ", seed " +
                   std::to_string(seed) + ", " + c.task.id);
      equals_the_reference(c, seed);
    }
  }
}

/// Advantages whose mean is ten thousand times their deviation are normalised as any others.
TEST_P(UpdateTest, NormalisesAdvantagesFarFromZero) {
  for (const int size : {7, 97, 257}) {
    Problem p(subject(), {size, 2, 1, small_width(), 2, 2, Activation::kTanh, false, kMinibatch, 1, 2}, 9, true);
    for (std::size_t i = 0; i < p.batch.size(); ++i) {
      (*p.advantages)[i] = static_cast<float>(100.0 + 0.01 * p.batch[i].advantage);
      p.batch[i].advantage = (*p.advantages)[i];
    }
    run({size, 2, 1, small_width(), 2, 2, Activation::kTanh, false, kMinibatch, 1, 2}, p);
    const LossTotals expected = loss_totals(p.networks, p.exact_parameters, p.minibatch(), p.settings);
    // A mean that is rounded to float32 is 4e-6 of a deviation of 0.01 off.
    expect_close("policy loss", p.sum(kPolicyLoss), expected.policy, {5e-4 * size, 1e-6});
  }
}

/// An epsilon that is no rounding error, in both normalisations.
TEST_P(UpdateTest, AnEpsilonOfAdvantages) {
  for (const Normalization norm_adv : {kMinibatch, kBatch}) {
    for (const int width : small_widths()) {
      const Case c{97, 2, 1, width, 2, 2, Activation::kTanh, false, norm_adv, 1, width == 0 ? 1 : 2};
      Problem p(subject(), c, 9, true);
      p.args.hyper.norm_adv_epsilon = 0.75f;
      p.epsilon = 0.75;
      run(c, p);
      const LossTotals expected = loss_totals(p.networks, p.exact_parameters, p.minibatch(), p.settings);
      // Float sums of 97 terms around 1; without the epsilon the loss would be 1.4 times or more of it.
      expect_close("policy loss", p.sum(kPolicyLoss), expected.policy, {2e-7 * 97, 3e-6});
    }
  }
}

/// Does not trust the reference's backward: differences of its loss.
TEST_P(UpdateTest, EqualsCentralDifferences) {
  if (subject().rounding > 0.0) GTEST_SKIP() << "finer than this precision";
  for (const auto& [activation, task] :
       {std::pair(Activation::kTanh, kCartPole), std::pair(Activation::kRelu, kCartPole),
        std::pair(Activation::kTanh, kPointMass)}) {
    const Case c{65, 1, 0, small_width(task), 2, 3, activation, activation == Activation::kTanh, kNone, 0, 2, task};
    Problem p(subject(), c, 8);
    run(c, p);
    const std::vector<Sample> samples = p.minibatch();
    const Vector gradient = p.gradient();
    Vector parameters = p.exact_parameters;
    for (const Mlp* mlp : {&p.networks.actor, &p.networks.critic}) {
      const std::vector<int> positions = mlp->positions();
      Vector actual, numeric;
      for (std::size_t i = 0; i < positions.size(); ++i) {
        const bool log_std = mlp->is_gaussian() && positions[i] >= mlp->network.log_std;
        if (i % 11 != 0 && !log_std) continue;
        const std::size_t position = at(positions[i]);
        actual.push_back(gradient[position]);
        const double kept = parameters[position];
        numeric.push_back(central_difference(
            [&](double x) {
              parameters[position] = x;
              return loss(p.networks, parameters, samples, p.settings);
            },
            kept, 1e-6));
        parameters[position] = kept;
      }
      // 1e-3 of the largest entry: what any mistake in a derivative exceeds.
      expect_close("gradient", actual, numeric, {1e-4 * largest(numeric), 1e-3});
    }
  }
}

TEST_P(UpdateTest, TrainsOnlyWhatItIsAskedTo) {
  for (const Task& task : {kCartPole, kPointMass}) {
    trains_only_what_it_is_asked_to({65, 1, 0, small_width(task), 2, 2, Activation::kTanh, false, kNone, 0, 2, task});
  }
}

/// Nothing else changes, and every entry is written.
TEST_P(UpdateTest, AFixedStandardDeviationHasNoGradient) {
  for (const int width : small_widths(kPointMass)) {
    const Case c{65, 1, 0, width, 2, 2, Activation::kTanh, false, kNone, 0, width == 0 ? 1 : 2, kPointMass};
    Problem learnt(subject(), c, 6), fixed(subject(), c, 6);
    fixed.args.hyper.learn_std = false;
    run(c, learnt);
    run(c, fixed);
    const int begin = learnt.args.actor.log_std;
    for (std::size_t i = 0; i < fixed.gradients.size(); ++i) {
      const int parameter = static_cast<int>(i % at(fixed.networks.parameter_count));
      const bool log_std = parameter >= begin && parameter < begin + kPointMass.actions;
      ASSERT_EQ(fixed.gradients[i], log_std ? 0.0f : learnt.gradients[i]) << "parameter " << parameter;
    }
    for (int i = begin; i < begin + kPointMass.actions; ++i) EXPECT_NE(learnt.gradient()[at(i)], 0.0);
  }
}

TEST_P(UpdateTest, ObservationsThatAreNotFiniteAreSeen) {
  for (const Activation activation : {Activation::kTanh, Activation::kRelu}) {
    for (const float bad : {as_float(0x7FFFFFFFu), as_float(0x7FC00000u), std::numeric_limits<float>::infinity()}) {
      const Case c{65, 1, 0, small_width(), 2, 2, activation, false, kNone, 0, 1};
      Problem p(subject(), c, 7);
      (*p.records)[8 * 40 + 2] = bad;  // one number of one sample
      run(c, p);
      EXPECT_TRUE(std::isnan(p.sum(kPolicyLoss)));
      EXPECT_TRUE(std::isnan(p.sum(kValueLoss)));
    }
  }
}

TEST_P(UpdateTest, DoesNothingOnceStopped) {
  const Case c{33, 1, 0, small_width(), 1, 1, Activation::kTanh, false, kNone, 0, 1};
  for (const bool nonfinite : {false, true}) {
    Problem p(subject(), c, 3);
    p.control[0].stop_policy = nonfinite ? 0 : 1;
    p.control[0].nonfinite = nonfinite ? NonFinite::kPolicyLoss : NonFinite::kNone;
    run(c, p);
    for (float x : p.gradients.copy()) ASSERT_TRUE(std::isnan(x));
    p.args.losses = Losses::kValue;  // a policy stop does not stop the critic
    run(c, p);
    EXPECT_EQ(std::isnan(p.sums[at(kValueLoss * p.args.partials)]), nonfinite);
  }
}

/// An epoch's minibatches visit every sample once: their value losses add up to the batch's.
TEST_P(UpdateTest, AnEpochVisitsEverySample) {
  const Case c{37, 5, 0, small_width(), 1, 1, Activation::kTanh, false, kNone, 1, 1};
  Problem p(subject(), c, 4, true);
  double total = 0.0;
  for (int minibatch = 0; minibatch < c.num_minibatches; ++minibatch) {
    p.args.minibatch = minibatch;
    run(c, p);
    total += p.sum(kValueLoss);
  }
  const LossTotals expected = loss_totals(p.networks, p.exact_parameters, p.batch, p.settings);
  // Of float sums; a missing sample is 1 / 185.
  expect_close("value loss", total, expected.value, {0.0, 1e-6});
}

/// Against moments in double of the samples that each chunk and each minibatch has.
void expect_advantage_moments(const Subject& on, int size, int minibatches, int epochs) {
  SCOPED_TRACE(std::to_string(size) + " samples in each of " + std::to_string(minibatches) + " x " +
               std::to_string(epochs));
  const int groups = epochs * minibatches, chunks = on.machine().moment_chunks(size);
  const double offset = size % 4 == 1 ? 1000.0 : 0.0;
  Draws draws(static_cast<std::uint64_t>(size));
  Vector x;
  for (int i = 0; i < size * minibatches; ++i) x.push_back(draws.normal() + offset);
  Buffer<float> advantages(on, x), moments(on, at(chunks * kChunkMoments * groups)), scales(on, at(2 * groups));
  Buffer<Control> control(on, 1);
  control[0] = fresh_control();
  control[0].iteration = 3;
  for (std::uint32_t shuffled = 0; shuffled < 2; ++shuffled) {
    const Sampling sampling{size * minibatches, size, shuffled, 2, {5, 0}};
    on.machine().advantage_moments(
        {sampling, control.data(), advantages.data(), moments.data(), scales.data(), minibatches, epochs, 1e-8f},
        on.queue());
    on.finish();
    EXPECT_EQ(control[0].moments_ticket, 0u) << "the next launch would miss its last block";
    for (int group = 0; group < groups; ++group) {
      const Shuffle shuffle(static_cast<std::uint32_t>(x.size()), sampling.key, 3,
                            static_cast<std::uint32_t>(2 + group / minibatches));
      Vector numbers;
      for (int i = 0; i < size; ++i) {
        const auto position = static_cast<std::uint32_t>(group % minibatches * size + i);
        numbers.push_back(advantages[shuffled != 0 ? shuffle(position) : position]);
      }
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const auto place = [&](int c) { return numbers.begin() + std::int64_t{size} * c / chunks; };
        const Vector part(place(chunk), place(chunk + 1));
        const auto number = [&](int k) { return moments[at((chunk * kChunkMoments + k) * groups + group)]; };
        const double n = static_cast<double>(part.size());
        // Float sums of n differences around 1.
        expect_close("count", number(0), n, {0.0, 0.0});
        expect_close("mean", number(1), part.empty() ? 0.0 : mean(part), {3e-7, 1e-7});
        expect_close("squares", number(2), sample_variance_of(part) * (n - 1.0), {1e-7 * n, 1e-5});
      }
      expect_close("mean of all", scales[at(2 * group)], mean(numbers), {3e-7, 1e-7});
      // Half the relative error of the squares' sum; of deviations around 1 from chunks' means, which at 1000 float32
      // rounds by up to 3e-5.
      const double deviation = size > 1 ? std::sqrt(sample_variance_of(numbers)) : 0.0;
      expect_close("1 / deviation", scales[at(2 * group + 1)], 1.0 / (deviation + 1e-8),
                   {0.0, offset > 0.0 ? 3e-5 : 5e-6});
    }
  }
}

TEST_P(UpdateTest, AdvantageMomentsOfEachMinibatchOfEachEpoch) {
  for (const int size : {1, 7, 33, 65, 257, 1001}) expect_advantage_moments(subject(), size, 3, 2);
  // More minibatches than a block has columns, and more samples than a GPU's lanes take at a time.
  expect_advantage_moments(subject(), 5, 31, 3);
  expect_advantage_moments(subject(), 4100, 1, 1);
  if (subject().speed == Speed::kNative) expect_advantage_moments(subject(), 70003, 2, 1);
}

PERILUNE_IN_EVERY_PRECISION(UpdateTest);

}  // namespace
}  // namespace perilune::test
