// Whole iterations of training: the same bits in whatever order warps and blocks run, and the policy that fibers train,
// which run the same bodies as g++ compiled them.
#include "tests/kernels/fiber_machine.hpp"
#include "tests/kernels/whole_iteration.hpp"
#include "tests/ptx/runtime.hpp"
#include "tests/support/naive_matrix.hpp"

namespace perilune::ptx {
namespace {

using test::Subject;
using test::WholeIteration;

class Orders : public ::testing::TestWithParam<const Subject*> {
 protected:
  void TearDown() override { restart_orders(); }
  const Subject& subject() const { return *GetParam(); }

  std::vector<std::uint32_t> bits_after(int iterations, const Options& options, const test::Task& task) {
    set_options(options);
    WholeIteration run(subject(), subject().machine(), 3, false, task);
    run.reset(subject().queue());
    for (int i = 0; i < iterations; ++i) run.launch(subject().queue());
    subject().finish();
    return run.bits();
  }
};

TEST_P(Orders, LeaveTheSameBits) {
  const Options reverse{.warps = Order::kReverse, .blocks = Order::kReverse};
  for (const test::Task& task : {test::kCartPole, test::kPointMass, test::kLunarLander}) {
    SCOPED_TRACE(task.id);
    const std::vector<std::uint32_t> forward = bits_after(1, {}, task);
    test::expect_same_bits("word", bits_after(1, reverse, task), forward);
    if (task.rigid_bodies) continue;  // seconds each
    for (const Options& options : {Options{.warps = Order::kReverse, .blocks = Order::kForward},
                                   Options{.warps = Order::kShuffled, .blocks = Order::kShuffled, .seed = 1}}) {
      test::expect_same_bits("word", bits_after(1, options, task), forward);
    }
  }
}

TEST_P(Orders, TenIterationsTrainThePolicyOfFibers) {
  set_options({});
  WholeIteration here(subject(), subject().machine(), 3), fibers(subject(), test::forward_fiber_machine(), 3);
  test::NaiveMatrixLibrary matrix;
  Queue none{.matrix = &matrix};
  here.reset(subject().queue());
  fibers.reset(none);
  test::expect_same_bits("first state", here.copy(here.plan.arrays.environment_fields),
                         fibers.copy(fibers.plan.arrays.environment_fields));
  const std::vector<float> start = here.copy(here.plan.arrays.parameters);
  for (int i = 0; i < 10; ++i) {
    here.launch(subject().queue());
    fibers.launch(none);
  }
  // Sums over a grid are in another order, so that the last bits of gradients differ: parameters of magnitude 1 move by
  // 0.07, and end as close as that. A weight whose last bits differ may be rounded to another operand, which is one of
  // 64 that an output is made of: that changes what others move by.
  const double rounded = 2.0 * 0.07 * subject().rounding / 64.0;
  test::expect_close("parameter", here.copy(here.plan.arrays.parameters), fibers.copy(fibers.plan.arrays.parameters),
                     {2e-6 + rounded, 0.0});
  test::expect_same_bits("state", here.copy(here.plan.arrays.environment_fields),
                         fibers.copy(fibers.plan.arrays.environment_fields));
  test::expect_same_bits("episode", here.copy(here.plan.arrays.episode), fibers.copy(fibers.plan.arrays.episode));
  double moved = 0.0;
  for (std::size_t k = 0; k < start.size(); ++k)
    moved = std::max(moved, std::abs(double{here.plan.arrays.parameters[k]} - double{start[k]}));
  EXPECT_GT(moved, 0.05);
}

INSTANTIATE_TEST_SUITE_P(On, Orders, ::testing::ValuesIn(test::all_subjects(true)), test::subject_name);

}  // namespace
}  // namespace perilune::ptx
