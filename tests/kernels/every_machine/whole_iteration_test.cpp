// Whole iterations on every machine: the same bits run to run, and a value that is learned.
#include "tests/kernels/whole_iteration.hpp"

namespace perilune::test {
namespace {

class WholeIterationTest : public EveryMachine {};

TEST_P(WholeIterationTest, RepeatsBitForBit) {
  for (const bool wide : {false, true}) {
    if (wide && !tests_width(0)) continue;
    std::vector<std::uint32_t> first;
    for (int attempt = 0; attempt < 2; ++attempt) {
      WholeIteration training(subject(), machine(), wide ? 1 : 3, wide);
      training.reset(queue());
      for (int i = 0; i < 3; ++i) training.launch(queue());
      finish();
      EXPECT_EQ(training.control[0].iteration, 3u);
      EXPECT_EQ(training.control[0].nonfinite, 0u);
      if (attempt == 0) {
        first = training.bits();
      } else {
        expect_same_bits("word", training.bits(), first);
      }
    }
  }
}

/// Layer by layer is the same training as in one kernel, but for rounding. Adam's epsilon of 1 keeps it from turning
/// the rounding of a gradient near 0 into a whole step.
TEST_P(WholeIterationTest, WideIsCloseToFused) {
  if (!tests_width(0)) GTEST_SKIP() << "a matter of the matrix library's precision";
  WholeIteration fused(subject(), machine(), 3), wide(subject(), machine(), 1, true);
  for (WholeIteration* training : {&fused, &wide}) {
    training->hyper.adam_epsilon = 1.0f;
    training->reset(queue());
    training->launch(queue());
    training->launch(queue());
  }
  finish();
  // 1e-6: float sums of some ten products around 1, through three layers. Everything after follows from these.
  expect_close("record", wide.records.copy(), fused.records.copy(), {1e-6, 2e-6});
  expect_close("reward or advantage", wide.rewards.copy(), fused.rewards.copy(), {1e-5, 1e-5});
  expect_close("parameter", wide.parameters.copy(), fused.parameters.copy(), {1e-7, 1e-6});
  expect_close("first moment", wide.first_moment.copy(), fused.first_moment.copy(), {1e-6, 1e-5});
  for (const std::size_t i : {0, 1}) {
    expect_close("value loss", wide.ring[i].value_loss, fused.ring[i].value_loss, {0.0, 1e-5});
    expect_close("entropy", wide.ring[i].entropy, fused.ring[i].entropy, {0.0, 1e-5});
    expect_close("gradient norm", wide.ring[i].gradient_norm, fused.ring[i].gradient_norm, {0.0, 1e-5});
    EXPECT_EQ(wide.ring[i].episodes, fused.ring[i].episodes);
  }
}

TEST_P(WholeIterationTest, TheValueLossFalls) {
  WholeIteration training(subject(), machine(), 3);
  training.hyper.anneal_lr = 0;
  training.hyper.gamma = 0.5f;  // values are soon known: 2
  training.hyper.actor_learning_rate = training.hyper.critic_learning_rate = 3e-3f;
  training.reset(queue());
  for (int i = 0; i < 15; ++i) training.launch(queue());
  finish();
  EXPECT_LT(training.ring[14].value_loss, 0.5f * training.ring[0].value_loss);
}

PERILUNE_IN_EVERY_PRECISION(WholeIterationTest);

}  // namespace
}  // namespace perilune::test
