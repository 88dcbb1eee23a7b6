// Every simulator, for a thousand steps and more: the CPU machine's bits, from the PTX.
#include "kernels/cpu_levels.hpp"
#include "kernels/machine/thread_pool.hpp"
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
  Environments here(on, task, count, {21, 0}, most_steps, task.parameters), there(on, task, count, {21, 0}, most_steps, task.parameters);
  const Instance& kernels = test::instance_of(on.machine(), task, std::max(task.min_width, 16), Precision::kFp32);
  const Instance& cpu_kernels = test::instance_of(cpu_machine(), task, std::max(task.min_width, 16), Precision::kFp32);
  ThreadPool pool(1, cpu_kernels.block_storage(1));
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

constexpr Task with_other_solver(Task task) {
  task.parameters[4] = task.parameters[4] == 0.0f ? 1.0f : 0.0f;
  return task;
}

INSTANTIATE_TEST_SUITE_P(Of, Simulators,
                         ::testing::Values(Simulated{test::kCartPole, 301, 2000, 500}, Simulated{test::kLunarLander, 31, 1000, 1000},
                                           Simulated{with_other_solver(test::kLunarLander), 31, 1000, 1000},
                                           Simulated{test::kLunarLanderContinuous, 17, 1000, 300},
                                           Simulated{test::kLander, 97, 1500, 1000}, Simulated{test::kLanderContinuous, 33, 1500, 200}));

}  // namespace
}  // namespace perilune::ptx
