// The small kernels around an iteration: annealing, and the row of metrics.
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {
namespace {

class IterationTest : public EveryMachine {};

TEST_P(IterationTest, BeginAnneals) {
  for (std::uint32_t bits = 0; bits < 8; ++bits) {
    Buffer<Control> control(subject(), 1);
    Buffer<float> running(subject(), kMetrics);
    control[0] = fresh_control();
    control[0].stop_policy = control[0].policy_steps = 7;
    control[0].iteration = 3;
    control[0].nonfinite = NonFinite::kValueLoss;
    control[0].actor_correction[0] = 0.25f;
    BeginIterationArgs args{plain_hyperparameters(), control.data(), running.data()};
    args.hyper.clip_vloss_coef = 0.5f;
    args.hyper.anneal_lr = Anneal{bits & 1u};
    args.hyper.anneal_clip_coef = Anneal{bits >> 1 & 1u};
    args.hyper.anneal_ent_coef = Anneal{bits >> 2};
    machine().begin_iteration(args, queue());
    finish();
    const double left = 1.0 - 3.0 / 10.0;
    const double lr = (bits & 1u) != 0 ? left : 1.0, clip = (bits >> 1 & 1u) != 0 ? left : 1.0;
    const Tolerance rounding{0.0, 3e-7};
    expect_close("actor learning rate", control[0].actor_learning_rate, 1e-3 * lr, rounding);
    expect_close("critic learning rate", control[0].critic_learning_rate, 2e-3 * lr, rounding);
    expect_close("clip coefficient", control[0].clip_coef, 0.2 * clip, rounding);
    expect_close("clip coefficient of values", control[0].clip_vloss_coef, 0.5 * clip, rounding);
    expect_close("entropy coefficient", control[0].ent_coef, 0.01 * (bits >> 2 != 0 ? left : 1.0), rounding);
    EXPECT_EQ(control[0].stop_policy, 0u);
    EXPECT_EQ(control[0].policy_steps, 0u);
    EXPECT_EQ(control[0].iteration, 3u);
    EXPECT_EQ(control[0].nonfinite, NonFinite::kValueLoss) << "a NaN must not be forgotten";
    EXPECT_EQ(control[0].actor_correction[0], 0.25f);
    expect_same_bits("running", running.copy(), std::vector<float>(kMetrics, 0.0f));
  }
}

TEST_P(IterationTest, BeginKeepsRatesThatFollowTheKl) {
  for (const bool fresh : {true, false}) {
    Buffer<Control> control(subject(), 1);
    Buffer<float> running(subject(), kMetrics);
    control[0] = fresh ? fresh_control(0.0f, 0.0f) : fresh_control(3e-4f, 5e-4f);
    control[0].iteration = 3;
    BeginIterationArgs args{plain_hyperparameters(), control.data(), running.data()};
    args.hyper.anneal_lr = Anneal::kKl;
    machine().begin_iteration(args, queue());
    finish();
    EXPECT_EQ(control[0].actor_learning_rate, fresh ? 1e-3f : 3e-4f);
    EXPECT_EQ(control[0].critic_learning_rate, fresh ? 2e-3f : 5e-4f);
  }
}

TEST_P(IterationTest, EndTellsTheHostAndMovesOn) {
  for (const int count : {1, 7, 31, 33, 65, 257, 3001}) {
    Draws draws(static_cast<std::uint64_t>(count));
    Vector finished, total_return, total_length;
    for (int n = 0; n < count; ++n) {
      finished.push_back(draws.below(4));
      total_return.push_back(draws.normal());
      total_length.push_back(draws.below(500));
    }
    Buffer<float> counts(subject(), finished), returns(subject(), total_return), lengths(subject(), total_length),
        running(subject(), kMetrics);
    Buffer<IterationMetrics> ring(subject(), kMetricsRing);
    Buffer<Control> control(subject(), 1);
    for (int k = 0; k < kMetrics; ++k) running[at(k)] = static_cast<float>(k + 1) * 0.5f;
    control[0] = fresh_control();
    control[0].target_variance = 4.0f;
    control[0].residual_variance = 1.0f;
    control[0].policy_steps = 9;
    const std::uint32_t iteration = kMetricsRing + 5;
    control[0].iteration = iteration;
    machine().end_iteration(
        {control.data(), {counts.data(), returns.data(), lengths.data()}, running.data(), ring.data(), count}, queue());
    finish();
    EXPECT_EQ(control[0].iteration, iteration + 1);
    const IterationMetrics& row = ring[5];
    EXPECT_EQ(row.iteration, iteration + 1);
    EXPECT_EQ(row.nonfinite, NonFinite::kNone);
    std::vector<float> expected = running.copy();
    expected[Metric::kClipFraction] /= running[Metric::kPolicyUpdates];
    expected[Metric::kEpisodes] = static_cast<float>(mean(finished) * count);  // whole numbers: exact
    expected[Metric::kEpisodicLength] = static_cast<float>(mean(total_length) * count);
    expected[Metric::kEpisodicReturn] = row.values[Metric::kEpisodicReturn];
    expected[Metric::kLearningRate] = control[0].actor_learning_rate;
    expected[Metric::kCriticLearningRate] = control[0].critic_learning_rate;
    expected[Metric::kClipCoefficient] = control[0].clip_coef;
    expected[Metric::kExplainedVariance] = 0.75f;
    expected[Metric::kPolicyUpdates] = 9.0f;
    expect_same_bits("metric", std::vector<float>(row.values, row.values + kMetrics), expected);
    expect_close("return", row.values[Metric::kEpisodicReturn], mean(total_return) * count,
                 {1e-7 * count + 1e-6, 1e-6});
  }
}

TEST_P(IterationTest, NoPolicyStepHasNoClipFraction) {
  Buffer<float> sums(subject(), std::vector<float>(33, 0.0f));
  Buffer<float> running(subject(), std::vector<float>(kMetrics, 0.0f));
  Buffer<IterationMetrics> ring(subject(), kMetricsRing);
  Buffer<Control> control(subject(), 1);
  control[0] = fresh_control();
  control[0].nonfinite = NonFinite::kActorGradient;
  machine().end_iteration({control.data(), {sums.data(), sums.data(), sums.data()}, running.data(), ring.data(), 33},
                          queue());
  finish();
  EXPECT_EQ(ring[0].values[Metric::kClipFraction], 0.0f);
  EXPECT_EQ(ring[0].nonfinite, NonFinite::kActorGradient);
}

PERILUNE_ON_EVERY_MACHINE(IterationTest);

}  // namespace
}  // namespace perilune::test
