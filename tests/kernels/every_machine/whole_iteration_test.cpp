// Whole iterations on every machine: the same bits run to run, and a value that is learned.
#include "tests/kernels/whole_iteration.hpp"

namespace perilune::test {
namespace {

class WholeIterationTest : public EveryMachine {};

TEST_P(WholeIterationTest, RepeatsBitForBit) {
  std::vector<std::uint32_t> first;
  for (int attempt = 0; attempt < 2; ++attempt) {
    WholeIteration training(subject(), machine(), 3);
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
