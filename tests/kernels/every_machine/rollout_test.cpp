// Rollout: replays the recorded actions with environments stepped by hand and networks in double,
// and checks every record, reward, value, end, bootstrap and carried number.
#include <algorithm>
#include <optional>

#include "tests/kernels/environments.hpp"
#include "tests/kernels/network_errors.hpp"
#include "tests/kernels/tasks.hpp"

namespace perilune::test {
namespace {

struct Case {
  int count, num_steps, width, actor_depth, critic_depth;
  Activation activation;
  std::uint32_t max_episode_steps;
  bool truncate_at_end;
  Task task = kCartPole;
  bool normalized = false;  ///< the networks' inputs; and rewards are kept apart from bootstraps
  bool bootstrap = true;
  OutputActivation output_activation = OutputActivation::kNone;  ///< layer by layer alone
};

/// A policy, environments and the arrays of one rollout.
class Problem {
 public:
  Problem(const Subject& on, const Case& c, std::uint32_t seed)
      : record(c.task.record_floats()),
        networks(place_networks(c.task.observations, c.width, c.task.actions, c.actor_depth, c.critic_depth,
                                c.activation, c.task.continuous)),
        environments(on, c.task, c.count, {seed, 0}, c.max_episode_steps, c.task.parameters),
        records(on, at(c.num_steps) * at(c.count) * at(record)),
        rewards(on, at(c.num_steps) * at(c.count)),
        values(on, at(c.num_steps + 1) * at(c.count)),
        ends(on, at(c.num_steps) * at(c.count)),
        truncations(on, at(c.num_steps) * at(c.count)) {
    networks.actor.network.output_activation = networks.critic.network.output_activation = c.output_activation;
    Draws draws(seed);
    exact_parameters = networks.draw(draws);
    if (c.normalized) {
      add_input_statistics(networks, exact_parameters, 1.25, draws);
      bootstraps.emplace(on, at(c.num_steps) * at(c.count));
      args.bootstraps = bootstraps->data();
    }
    parameters.emplace(on, exact_parameters);
    args.environments = environments.batch;
    args.episodes = environments.sums;
    args.parameters = parameters->data();
    args.actor = networks.actor.network;
    args.critic = networks.critic.network;
    args.num_steps = c.num_steps;
    args.hyper.gamma = 0.9f;
    args.hyper.bootstrap_truncated = c.bootstrap;
    args.truncate_at_end = c.truncate_at_end ? 1 : 0;
    args.records = records.data();
    args.rewards = rewards.data();
    args.values = values.data();
    args.ends = ends.data();
    args.truncations = truncations.data();
  }

  int record;  // floats
  Networks networks;
  Vector exact_parameters;
  std::optional<Buffer<float>> parameters;
  Environments environments;
  Buffer<float> records, rewards, values;
  Buffer<std::uint8_t> ends, truncations;
  std::optional<Buffer<float>> bootstraps, workspace;
  RolloutArgs args{};
};

class RolloutTest : public EveryMachine {
 protected:
  static constexpr int kColumns =
      48;  // of a layer-by-layer network's workspace: fewer than some cases have environments

  void run(const Case& c, Problem& problem) {
    const Kernels& kernels = kernels_for(c.width, c.task);
    EXPECT_EQ(kernels.record_floats, problem.record);
    add_workspace(subject(), kernels.rollout_workspace, kColumns, problem.args, problem.workspace);
    kernels.reset({problem.environments.batch}, queue());
    kernels.rollout(problem.args, queue());
    finish();
  }

  void check(const Case& c, Problem& p) {
    with_environment(c.task, [&]<class E>(E) { check_as<E>(c, p); });
  }

  void replay_by_hand(const std::vector<Case>& cases) {
    std::uint32_t seed = 1;
    for (const Case& c : cases) {
      ++seed;
      if (!tests(c.width, std::max(c.actor_depth, c.critic_depth), c.task)) continue;
      SCOPED_TRACE("environments " + std::to_string(c.count) + ", width " + std::to_string(c.width) + ", " + c.task.id);
      Problem problem(subject(), c, seed);
      run(c, problem);
      check(c, problem);
    }
  }

  /// What records say of actions, and what follows from the draws of environments stepped by hand.
  struct Actions {
    Vector numbers, drawn_numbers;  // continuous
    Vector misses;  // discrete: how far the draw lies beyond the probabilities that give the recorded choice
    Vector log_probabilities, expected_log_probabilities;
  };

  /// The recorded action, as environments take it; with it goes what outputs of the actor say of it.
  template <class E>
  static typename ByHandOf<E>::Action recorded_action(const float* record, const ByHandOf<E>& one, const Mlp& actor,
                                                      const Vector& parameters, const Vector& outputs,
                                                      Actions& actions) {
    CounterRandom<float> draws = one.random(Purpose::kAction);
    if constexpr (E::Action::kContinuous) {
      typename ByHandOf<E>::Action action;
      const Vector log_std = actor.log_std(parameters);
      Vector numbers;
      for (int k = 0; k < E::Action::kNumbers; ++k) {
        action.at[k] = record[k];
        numbers.push_back(record[k]);
        actions.drawn_numbers.push_back(outputs[at(k)] + std::exp(log_std[at(k)]) * double{draws.normal()});
      }
      actions.numbers.insert(actions.numbers.end(), numbers.begin(), numbers.end());
      actions.expected_log_probabilities.push_back(log_density(outputs, log_std, numbers));
      return action;
    } else {
      const bool valid =
          record[0] >= 0.0f && record[0] < float{E::Action::kChoices} && record[0] == std::floor(record[0]);
      EXPECT_TRUE(valid) << "an action of " << record[0];
      const int choice = valid ? static_cast<int>(record[0]) : 0;
      const Vector log_p = log_softmax(outputs);
      double before = 0.0;
      for (int k = 0; k < choice; ++k) before += std::exp(log_p[at(k)]);
      const double u = draws.uniform(), after = before + std::exp(log_p[at(choice)]);
      actions.misses.push_back(std::max({0.0, before - u, u - after}));
      actions.expected_log_probabilities.push_back(log_p[at(choice)]);
      return static_cast<std::uint32_t>(choice);
    }
  }

  template <class E>
  void check_as(const Case& c, Problem& p) {
    const Networks& nets = p.networks;
    const std::size_t observed = at(E::kObsDim), log_p_at = observed + at(c.task.continuous ? c.task.actions : 1);
    std::vector<ByHandOf<E>> expected;
    for (int n = 0; n < c.count; ++n) expected.emplace_back(p.environments.batch, n);
    std::vector<float> observations, padding, expected_observations;
    std::vector<std::uint8_t> ends, truncations;
    std::vector<Vector> seen;
    Vector recorded_values, rewards, bootstraps, values;
    Actions actions;
    for (int t = 0; t < c.num_steps; ++t) {
      for (int n = 0; n < c.count; ++n) {
        ByHandOf<E>& one = expected[at(n)];
        const float* record = &p.records[at((t * c.count + n) * p.record)];
        const Vector observation = one.observation(), given = nets.actor.given(p.exact_parameters, observation);
        seen.push_back(given);
        for (std::size_t i = 0; i < observed; ++i) {
          observations.push_back(record[i]);
          expected_observations.push_back(static_cast<float>(observation[i]));
        }
        padding.insert(padding.end(), record + log_p_at + 2, record + p.record);
        recorded_values.push_back(record[log_p_at + 1]);
        values.push_back(nets.critic.forward(p.exact_parameters, given).back()[0]);
        actions.log_probabilities.push_back(record[log_p_at]);
        const auto action = recorded_action(record + observed, one, nets.actor, p.exact_parameters,
                                            nets.actor.forward(p.exact_parameters, given).back(), actions);

        const Outcome<float> outcome = one.step(action);
        const bool last = c.truncate_at_end && t + 1 == c.num_steps;
        const bool truncated = !outcome.terminated && (one.out_of_time() || last);
        double bootstrap = 0.0;
        if (truncated && c.bootstrap) {
          const Vector last_given = nets.critic.given(p.exact_parameters, one.observation());
          bootstrap = double{p.args.hyper.gamma} * nets.critic.forward(p.exact_parameters, last_given).back()[0];
        }
        rewards.push_back(outcome.reward + (c.normalized ? 0.0 : bootstrap));
        bootstraps.push_back(bootstrap);
        ends.push_back(outcome.terminated || truncated);
        truncations.push_back(truncated);
        if (outcome.terminated || truncated) one.end_episode();
      }
    }
    for (const ByHandOf<E>& one : expected) {
      seen.push_back(nets.critic.given(p.exact_parameters, one.observation()));
      values.push_back(nets.critic.forward(p.exact_parameters, seen.back()).back()[0]);
    }
    expect_same_bits("observation", observations, expected_observations);
    expect_same_bits("padding", padding, std::vector<float>(padding.size(), 0.0f));
    expect_same_bits("ends", p.ends.copy(), ends);
    expect_same_bits("truncations", p.truncations.copy(), truncations);
    const WeightErrors errors = weight_errors(subject(), c.activation);
    const double actor = output_tolerance(errors, nets.actor, p.exact_parameters, seen).absolute;
    const double critic = output_tolerance(errors, nets.critic, p.exact_parameters, seen).absolute;
    // 1e-6: float sums of a few probabilities, or of a mean and a draw.
    expect_close("action", actions.numbers, actions.drawn_numbers, {actor, 1e-6});
    // A sum of probabilities moves by at most half as much as the logits.
    expect_close("draw beyond its choice", actions.misses, Vector(actions.misses.size(), 0.0),
                 {1e-6 + 0.5 * actor, 0.0});
    // A log-probability moves with its logit and with the mean of all of them. A density's slope by the mean is its
    // distance, of which one in many is 4, divided by as little as 0.6.
    const double steepest = c.task.continuous ? 4.0 / 0.6 : 2.0;
    expect_close("log-probability", actions.log_probabilities, actions.expected_log_probabilities,
                 {1e-6 + steepest * actor, 2e-6});
    // 1e-7: a float sum of two, where an episode was truncated.
    expect_close("value", p.values.copy(), values, {critic, 0.0});
    expect_close("reward", p.rewards.copy(), rewards, {critic, 1e-7});
    if (c.normalized) expect_close("bootstrap", p.bootstraps->copy(), bootstraps, {critic, 1e-7});
    const std::vector<float> kept = p.values.copy();
    values.assign(kept.begin(), kept.begin() + c.num_steps * c.count);
    expect_close("recorded value", recorded_values, values, {0.0, 0.0});
    expect_environments(p.environments, expected);
  }
};

TEST_P(RolloutTest, ReplaysByHand) {
  replay_by_hand({
      {1, 40, 16, 1, 2, Activation::kTanh, 9, false},
      {7, 33, 16, 2, 1, Activation::kRelu, 500, false},
      {31, 20, 32, 2, 2, Activation::kTanh, 12, true},
      {33, 5, 32, 3, 3, Activation::kTanh, 500, true},
      {65, 30, 16, 3, 2, Activation::kRelu, 11, false},
      {97, 12, 64, 2, 2, Activation::kTanh, 500, false},
      {257, 3, 128, 1, 3, Activation::kTanh, 2, false},
      {97, 5, 128, 2, 1, Activation::kTanh, 3, true},
      {33, 4, 128, 1, 1, Activation::kRelu, 2, false},
      // So many that networks have no threads of their own (kTeamBlocks), where there are few multiprocessors.
      {641, 2, 16, 2, 2, Activation::kTanh, 500, false},
      {641, 2, 32, 2, 1, Activation::kRelu, 1, false},
      {641, 3, 64, 2, 2, Activation::kTanh, 2, false},
      {641, 2, 128, 1, 2, Activation::kTanh, 500, true},
      {1, 40, 0, 1, 2, Activation::kTanh, 9, false},
      {33, 9, 0, 3, 8, Activation::kTanh, 4, true},
      {97, 12, 0, 4, 1, Activation::kRelu, 500, true},
      {65, 7, 0, 2, 3, Activation::kTanh, 1, false},
      {1, 40, 32, 1, 2, Activation::kTanh, 9, false, kPointMass},
      {33, 20, 32, 2, 2, Activation::kTanh, 12, true, kPointMass},
      {97, 12, 32, 3, 1, Activation::kRelu, 30, false, kPointMass},
      {641, 2, 32, 2, 2, Activation::kTanh, 500, false, kPointMass},
      {65, 9, 0, 2, 3, Activation::kTanh, 4, true, kPointMass},
      {37, 23, 16, 2, 1, Activation::kTanh, 9, false, kCartPole, true},
      {37, 13, 64, 2, 2, Activation::kRelu, 5, true, kCartPole, true},
      {65, 9, 128, 1, 2, Activation::kTanh, 4, true, kCartPole, true},
      {641, 3, 64, 2, 2, Activation::kTanh, 2, false, kCartPole, true},
      {37, 13, 0, 2, 3, Activation::kTanh, 5, true, kCartPole, true},
      {37, 13, 32, 2, 2, Activation::kTanh, 5, true, kPointMass, true},
      {37, 13, 0, 1, 2, Activation::kTanh, 5, true, kPointMass, true},
  });
}

TEST_P(RolloutTest, ReplaysLandersByHand) {
  replay_by_hand({
      {33, 12, 64, 2, 2, Activation::kTanh, 10, true, kLunarLander},
      {17, 12, 64, 1, 2, Activation::kRelu, 500, false, kLunarLanderContinuous},
      {65, 8, 64, 2, 1, Activation::kTanh, 7, false, kLander},
      {33, 12, 64, 3, 2, Activation::kTanh, 500, true, kLanderContinuous},
      {17, 6, 128, 1, 1, Activation::kTanh, 5, false, kLunarLander},
      {17, 3, 128, 2, 1, Activation::kTanh, 5, false, kLander},
      {17, 3, 128, 2, 1, Activation::kTanh, 5, true, kLanderContinuous},
      {641, 2, 64, 2, 1, Activation::kTanh, 1, false, kLander},
      {641, 2, 64, 1, 2, Activation::kTanh, 500, true, kLanderContinuous},
      {641, 2, 128, 1, 1, Activation::kTanh, 1, false, kLander},
      {641, 2, 128, 1, 1, Activation::kTanh, 500, true, kLanderContinuous},
      {7, 5, 0, 2, 3, Activation::kTanh, 4, true, kLunarLander},
      {7, 5, 0, 1, 2, Activation::kTanh, 4, true, kLunarLanderContinuous},
      {7, 5, 0, 2, 1, Activation::kRelu, 4, false, kLander},
      {7, 5, 0, 1, 1, Activation::kTanh, 4, true, kLanderContinuous},
  });
}

TEST_P(RolloutTest, ReplaysWalkersByHand) {
  replay_by_hand({
      {33, 8, 64, 2, 2, Activation::kRelu, 5, true, kBipedalWalker},
      {17, 4, 64, 3, 1, Activation::kTanh, 500, false, kBipedalWalker},
      {641, 2, 64, 1, 2, Activation::kTanh, 500, true, kBipedalWalker},
      {7, 5, 0, 2, 1, Activation::kTanh, 3, true, kBipedalWalker},
  });
}

/// Actions are drawn of them, and values are them, also where an episode is truncated.
TEST_P(RolloutTest, ActivationsOfOutputs) {
  replay_by_hand({
      {33, 9, 0, 2, 2, Activation::kRelu, 4, true, kCartPole, false, true, OutputActivation::kRelu},
      {65, 7, 0, 1, 3, Activation::kTanh, 5, false, kCartPole, false, true, OutputActivation::kTanh},
      {31, 9, 0, 2, 1, Activation::kRelu, 3, false, kPointMass, false, true, OutputActivation::kRelu},
      {7, 12, 0, 2, 2, Activation::kTanh, 30, true, kPointMass, false, true, OutputActivation::kTanh},
  });
}

/// Truncated episodes end as others do, but nothing is added to their last reward.
TEST_P(RolloutTest, WithoutBootstrap) {
  replay_by_hand({
      {33, 20, 16, 2, 2, Activation::kTanh, 7, true, kCartPole, false, false},
      {97, 12, 64, 2, 1, Activation::kTanh, 5, false, kCartPole, false, false},
      {65, 9, 0, 2, 3, Activation::kTanh, 4, true, kCartPole, false, false},
      {33, 20, 32, 2, 2, Activation::kTanh, 12, true, kPointMass, false, false},
      {31, 9, 0, 1, 2, Activation::kRelu, 3, false, kPointMass, false, false},
      {33, 9, 16, 1, 2, Activation::kTanh, 3, true, kCartPole, true, false},
      {33, 9, 0, 1, 2, Activation::kTanh, 3, true, kCartPole, true, false},
  });
}

TEST_P(RolloutTest, NoStepsValueTheObservation) {
  for (const int width : small_widths()) {
    const Case c{33, 0, width, 2, 2, Activation::kTanh, 500, false};
    Problem problem(subject(), c, 5);
    run(c, problem);
    check(c, problem);
  }
}

/// Environments are carried from launch to launch: 8 + 13 steps are 21 steps.
TEST_P(RolloutTest, TwoLaunchesAreOneLongLaunch) {
  for (const int width : small_widths()) {
    const Case c{65, 21, width, 2, 2, Activation::kTanh, 15, false};
    const Kernels& kernels = kernels_for(width);
    const int first_steps = 8;
    Problem whole(subject(), c, 3), parts(subject(), c, 3);
    run(c, whole);
    const std::size_t done = at(first_steps * c.count);
    add_workspace(subject(), kernels.rollout_workspace, kColumns, parts.args, parts.workspace);
    RolloutArgs args = parts.args;
    args.num_steps = first_steps;
    kernels.reset({parts.environments.batch}, queue());
    kernels.rollout(args, queue());
    finish();
    Vector finished;
    for (float count : parts.environments.finished.copy()) finished.push_back(count);
    args.num_steps = c.num_steps - first_steps;
    args.records += done * at(parts.record);
    args.rewards += done;
    args.values += done;
    args.ends += done;
    args.truncations = nullptr;
    kernels.rollout(args, queue());
    finish();
    expect_same_bits("record", parts.records.copy(), whole.records.copy());
    expect_same_bits("reward", parts.rewards.copy(), whole.rewards.copy());
    expect_same_bits("value", parts.values.copy(), whole.values.copy());
    expect_same_bits("ends", parts.ends.copy(), whole.ends.copy());
    expect_same_bits("state", parts.environments.fields.copy(), whole.environments.fields.copy());
    expect_same_bits("elapsed", parts.environments.elapsed.copy(), whole.environments.elapsed.copy());
    for (std::size_t n = 0; n < finished.size(); ++n) {
      finished[n] += parts.environments.finished[n];
    }
    expect_close("finished episodes", whole.environments.finished.copy(), finished, {0.0, 0.0});
  }
}

/// An environment's numbers do not depend on which others run beside it.
TEST_P(RolloutTest, EnvironmentsAreIndependent) {
  const Case many{641, 12, small_width(), 2, 2, Activation::kTanh, 10, false};
  Case few = many;
  few.count = 33;
  Problem all(subject(), many, 4), some(subject(), few, 4);
  run(many, all);
  run(few, some);
  for (int t = 0; t < few.num_steps; ++t) {
    for (int i = 0; i < few.count * all.record; ++i) {
      ASSERT_EQ(some.records[at(t * few.count * all.record + i)], all.records[at(t * many.count * all.record + i)])
          << "step " << t << ", float " << i;
    }
  }
}

/// The network's tanh over its whole range: a critic that outputs tanh(its first input).
TEST_P(RolloutTest, NetworkTanhStaysWithinItsErrorBound) {
  const Case c{4001, 0, small_width(), 1, 1, Activation::kTanh, 500, false};
  Problem problem(subject(), c, 6);
  for (int i = problem.networks.critic.network.begin; i < problem.networks.critic.network.end; ++i) {
    (*problem.parameters)[at(i)] = 0.0f;
  }
  (*problem.parameters)[at(problem.networks.critic.network.weight[0])] = 1.0f;
  (*problem.parameters)[at(problem.networks.critic.network.weight[1])] = 1.0f;
  kernels_for(c.width).reset({problem.environments.batch}, queue());
  finish();
  Vector expected;
  for (int n = 0; n < c.count; ++n) {
    const double x = (n - 2000) * 0.005;  // [-10, 10]
    problem.environments.fields[at(n)] = static_cast<float>(x);
    expected.push_back(std::tanh(static_cast<float>(x)));
  }
  kernels_for(c.width).rollout(problem.args, queue());
  finish();
  // Of a rounded input x and a rounded result tanh x the errors are at most (|x| / cosh^2 x + |tanh x|) of a rounding,
  // which is 1.2 of it at x = 1.2.
  expect_close("tanh", problem.values.copy(), expected, {subject().tanh_error + 1.2 * subject().rounding, 0.0});
}

PERILUNE_IN_EVERY_PRECISION(RolloutTest);

}  // namespace
}  // namespace perilune::test
