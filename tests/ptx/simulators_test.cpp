// Every simulator, for a thousand steps and more: the CPU machine's bits, from the PTX. And what uneven steps cost a
// warp.
#include "kernels/cpu_levels.hpp"
#include "kernels/machine/fiber_block.hpp"
#include "kernels/machine/thread_pool.hpp"
#include "kernels/rounds.hpp"
#include "tests/kernels/environments.hpp"
#include "tests/ptx/runtime.hpp"

namespace perilune::ptx {
namespace {

using test::Environments;
using test::Task;

struct Simulated {
  Task task;
  int count, num_steps;
  std::uint32_t most_steps;  // of an episode
};

class Simulators : public ::testing::TestWithParam<Simulated> {};

TEST_P(Simulators, StepAsOnTheCpu) {
  const auto& [task, count, num_steps, most_steps] = GetParam();
  const test::Subject& on = test::subjects().front();
  Environments here(on, task, count, {21, 0}, most_steps, task.parameters),
      there(on, task, count, {21, 0}, most_steps, task.parameters);
  const Kernels& kernels = test::kernels_of(on.machine(), task, std::max(task.min_width, 16), Precision::kFp32);
  const Kernels& cpu_kernels = test::kernels_of(cpu_machine(), task, std::max(task.min_width, 16), Precision::kFp32);
  ThreadPool pool(1, largest_block_storage(cpu_kernels, 1));
  Queue cpu_queue{&pool, nullptr};
  cpu_kernels.reset({there.batch}, cpu_queue);
  cpu_kernels.simulate({there.batch, there.sums, num_steps}, cpu_queue);
  kernels.reset({here.batch}, on.queue());
  kernels.simulate({here.batch, here.sums, num_steps}, on.queue());
  on.finish();
  test::expect_same_bits("state", here.fields.copy(), there.fields.copy());
  test::expect_same_bits("episode", here.episode.copy(), there.episode.copy());
  test::expect_same_bits("elapsed", here.elapsed.copy(), there.elapsed.copy());
  test::expect_same_bits("finished", here.finished.copy(), there.finished.copy());
  test::expect_same_bits("total return", here.total_return.copy(), there.total_return.copy());
  test::expect_same_bits("total length", here.total_length.copy(), there.total_length.copy());
  float finished = 0.0f;
  for (const float episodes : here.finished.copy()) finished += episodes;
  EXPECT_GE(finished, static_cast<float>(count)) << "episodes are to end, and begin again";
}

/// The fast solver's steps of 256 landers, some of whom are on the ground, by blocks of one warp.
struct Steps {
  std::vector<float> fields;
  std::uint64_t warp_instructions;
};
Steps steps_in(std::uint32_t blocks) {
  const test::Subject& on = test::subjects().front();
  Environments landers(on, test::kLunarLander, 256, {21, 0}, 1000, {-10, 0, 0, 0, 1});
  const Kernels& cpu_kernels = test::kernels_of(cpu_machine(), test::kLunarLander, 64, Precision::kFp32);
  ThreadPool pool(1, largest_block_storage(cpu_kernels, 1));
  Queue cpu_queue{&pool, nullptr};
  cpu_kernels.reset({landers.batch}, cpu_queue);
  cpu_kernels.simulate({landers.batch, landers.sums, 150}, cpu_queue);

  Launch launch;
  for (const std::string& name : registered_kernels()) {
    if (name.find("8SimulateINS0_15LunarLanderWithINS0_8DiscreteILi4E") == std::string::npos) continue;
    launch.kernel = &module_of(name).function(name);
  }
  launch.blocks = blocks;
  launch.shared_bytes = sizeof(float) * Rounds<FiberBlock<kLanes>>::storage_floats();
  const SimulateArgs args{landers.batch, landers.sums, 8};
  launch.arguments.resize(launch.kernel->parameter_bytes);
  std::memcpy(launch.arguments.data(), &args, sizeof args);
  std::uint64_t& count = runtime_machine().warp_instructions[launch.kernel->name];
  const std::uint64_t before = count;
  runtime_machine().run(launch);
  return {landers.fields.copy(), count - before};
}

/// What kernels/rounds.hpp and environment_blocks are for. Measured: 58% and 11%.
TEST(UnevenSteps, KeepFewLanesWaiting) {
  const Steps in_order = steps_in(8), in_rounds = steps_in(1), alone = steps_in(256);
  test::expect_same_bits("state in rounds", in_rounds.fields, in_order.fields);
  test::expect_same_bits("state alone", alone.fields, in_order.fields);
  EXPECT_LT(static_cast<double>(in_rounds.warp_instructions), 0.75 * static_cast<double>(in_order.warp_instructions));
  EXPECT_LT(static_cast<double>(alone.warp_instructions) / 256,
            0.25 * static_cast<double>(in_order.warp_instructions) / 8);
}

constexpr Task with_other_solver(Task task) {
  task.parameters[4] = task.parameters[4] == 0.0f ? 1.0f : 0.0f;
  return task;
}

// More than kMultiprocessors have room for at once are stepped in rounds.
static_assert(1600 > kMultiprocessors * 16 * kLanes);
INSTANTIATE_TEST_SUITE_P(OfLandersInRounds, Simulators,
                         ::testing::Values(Simulated{with_other_solver(test::kLunarLander), 1600, 6, 5}));

INSTANTIATE_TEST_SUITE_P(
    Of, Simulators,
    ::testing::Values(Simulated{test::kCartPole, 301, 2000, 500}, Simulated{test::kCartPole, 1 << 20, 2, 1},
                      Simulated{test::kLunarLander, 13, 1000, 1000},
                      Simulated{with_other_solver(test::kLunarLander), 31, 1000, 1000},
                      Simulated{test::kLunarLanderContinuous, 17, 1000, 300}, Simulated{test::kLander, 97, 1500, 1000},
                      Simulated{test::kLanderContinuous, 33, 1500, 200}, Simulated{test::kBipedalWalker, 7, 400, 200}));

}  // namespace
}  // namespace perilune::ptx
