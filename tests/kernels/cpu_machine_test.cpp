// The CPU machine: results do not depend on the number of threads, and the level can be chosen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/cpu_levels.hpp"
#include "kernels/machine/thread_pool.hpp"
#include "tests/kernels/whole_iteration.hpp"
#include "tests/support/naive_matrix.hpp"

namespace perilune::test {
namespace {

class CpuLevel : public EveryMachine {
 protected:
  void threads_do_not_change_the_bits(const Task& task, bool layerwise) {
    NaiveMatrixLibrary matrix;
    std::vector<std::uint32_t> one_thread;
    for (const int threads : {1, 2, 3, 5, 8}) {
      if (!tests(layerwise ? 0 : small_width(task), 2, task) || (layerwise && threads > 3))
        continue;  // naive products take seconds
      ThreadPool pool(threads, largest_block_storage(kernels_for(small_width(task), task), kMaxFusedLayers));
      Queue queue{.pool = &pool, .matrix = &matrix};
      WholeIteration training(subject(), machine(), layerwise ? 1 : 5, layerwise, task);
      training.reset(queue);
      for (int i = 0; i < 2; ++i) training.launch(queue);
      if (threads == 1) {
        one_thread = training.bits();
      } else {
        SCOPED_TRACE(std::string(task.id) + ", threads " + std::to_string(threads) + (layerwise ? ", layerwise" : ""));
        expect_same_bits("word", training.bits(), one_thread);
      }
    }
  }
};

TEST_P(CpuLevel, ThreadsDoNotChangeTheBits) {
  for (const Task& task : {kCartPole, kPointMass}) {
    for (const bool layerwise : {false, true}) threads_do_not_change_the_bits(task, layerwise);
  }
}

TEST_P(CpuLevel, OnlyLevelV4HasBf16) {
  const bool v4 = std::string(subject().name).rfind("CpuV4", 0) == 0;
  for (const int width : {16, 32, 64, 128}) {
    const Kernels* found = find_kernels(machine(), "CartPole-v1", width, Precision::kBf16);
    EXPECT_EQ(found != nullptr, v4 && width >= 32) << "width " << width;
  }
}

std::vector<const Subject*> cpu_levels() {
  std::vector<const Subject*> result;
  for (const Subject& subject : subjects()) {
    if (std::string(subject.name).rfind("Cpu", 0) == 0) result.push_back(&subject);
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(On, CpuLevel, ::testing::ValuesIn(cpu_levels()), subject_name);

/// The last of the levels that are built here, which any processor that runs the tests has.
const perilune::CpuLevel& last_level() {
  const perilune::CpuLevel* last = nullptr;
  for (const perilune::CpuLevel& level : perilune::cpu_levels()) {
    if (level.machine != nullptr) last = &level;
  }
  return *last;
}

TEST(CpuMachine, LevelIsChosenByName) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  setenv("PERILUNE_CPU_LEVEL", "sse9", 1);
  EXPECT_THAT([] { cpu_machine(); }, ::testing::ThrowsMessage<std::invalid_argument>(AllOf(
                                         HasSubstr("PERILUNE_CPU_LEVEL"), HasSubstr("sse9"), HasSubstr("portable"))));
  setenv("PERILUNE_CPU_LEVEL", last_level().name, 1);
  EXPECT_EQ(cpu_machine().name, "cpu " + std::string(last_level().name));
  unsetenv("PERILUNE_CPU_LEVEL");
}

TEST(CpuMachine, ProgramsForOtherProcessorsSaySo) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  const auto none = +[]() -> const Machine& { throw std::logic_error("is not to be run"); };
  const perilune::CpuLevel native[] = {{"v4", false, none}, {"v3", true, nullptr}, {"portable", true, nullptr}};
  EXPECT_THAT([&] { best_level(native, nullptr); }, ::testing::ThrowsMessage<NoCpuLevelError>(AllOf(
                                                        HasSubstr("level v4"), HasSubstr("PERILUNE_CPU_LEVELS=all"))));
  const perilune::CpuLevel several[] = {{"v4", false, none}, {"v3", true, none}, {"portable", true, none}};
  EXPECT_STREQ(best_level(several, nullptr).name, "v3");
  EXPECT_STREQ(best_level(several, "").name, "v3");
  EXPECT_STREQ(best_level(several, "portable").name, "portable");
  EXPECT_THAT([&] { best_level(several, "v4"); },
              ::testing::ThrowsMessage<std::invalid_argument>(AllOf(HasSubstr("\"v4\""), HasSubstr("v3, portable"))));
}

TEST(CpuMachine, InstancesAreFoundByEnvironmentAndWidth) {
  const Machine& machine = subjects().back().machine();
  EXPECT_NE(find_kernels(machine, "CartPole-v1", 16), nullptr);
  EXPECT_EQ(find_kernels(machine, "CartPole-v1", 16)->precision, Precision::kFp32);
  EXPECT_EQ(find_kernels(machine, "CartPole-v1", 16, Precision::kTf32)->precision, Precision::kTf32);
  EXPECT_NE(find_kernels(machine, "CartPole-v1", 64, Precision::kTf32), nullptr);
  EXPECT_EQ(find_kernels(machine, "CartPole-v1", 64), nullptr);
  EXPECT_EQ(find_kernels(machine, "CartPole-v1", 17), nullptr);
  EXPECT_EQ(find_kernels(machine, "CartPole-v2", 16), nullptr);
  EXPECT_EQ(find_kernels(machine, "CartPole-v1", 0), nullptr);
  EXPECT_NE(find_layerwise_kernels(machine, "CartPole-v1"), nullptr);
  EXPECT_EQ(find_layerwise_kernels(machine, "CartPole-v2"), nullptr);
}

}  // namespace
}  // namespace perilune::test
