#include "host/performance_model.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "host/error.hpp"

namespace perilune {
namespace {

Config cartpole(int envs) {
  Config config;
  config.num_envs = envs;
  config.num_steps = 128;
  config.hidden_width = 64;
  return config;
}

double steps_per_second(const Config& config, const Hardware& hardware, Precision precision) {
  double seconds = 0.0;
  for (const PhasePrediction& phase : predict_iteration(config, hardware, precision)) seconds += phase.seconds;
  return config.num_envs * config.num_steps / seconds;
}

// Data sheets (dense, without sparsity). Their tensor rates are at a lower clock than their fp32 rates (8% on H100), and the
// consumer chips' boost clocks are rounded.
TEST(Hardware, AgreesWithTheDataSheets) {
  struct Sheet {
    const char* name;
    double fp32, tf32, bf16, memory;
  };
  for (const Sheet& sheet : {Sheet{"h200", 67e12, 495e12, 989e12, 4.8e12}, Sheet{"a100", 19.5e12, 156e12, 312e12, 2.0e12},
                             Sheet{"rtx-4090", 82.6e12, 82.6e12, 165.2e12, 1.008e12},
                             Sheet{"rtx-5090", 104.8e12, 104.8e12, 209.5e12, 1.792e12}}) {
    const Hardware& gpu = find_hardware(sheet.name);
    EXPECT_NEAR(gpu.flops[0], sheet.fp32, 0.03 * sheet.fp32) << sheet.name;
    EXPECT_NEAR(gpu.flops[1], sheet.tf32, 0.09 * sheet.tf32) << sheet.name;
    EXPECT_NEAR(gpu.flops[2], sheet.bf16, 0.09 * sheet.bf16) << sheet.name;
    EXPECT_NEAR(gpu.memory, sheet.memory, 0.03 * sheet.memory) << sheet.name;
  }
}

TEST(Hardware, UnknownNamesTheNearest) {
  try {
    find_hardware("rtx4090");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean rtx-4090?"), std::string::npos) << error.what();
  }
}

TEST(Hardware, MeasuresThisProcessor) {
  const Hardware one = measure_processor(1);
  EXPECT_GT(one.flops[0], 1e9);  // a 1 GHz scalar core with one multiply-add in two clocks
  EXPECT_GT(one.memory, 1e8);
  EXPECT_FALSE(one.is_gpu);
}

// 4-64-64-2 and 4-64-64-1: 9155 parameters, 2 FLOP each forward, 6 in each of four epochs.
TEST(PerformanceModel, CountsNominalFlop) {
  const Config config = cartpole(1024);
  EXPECT_DOUBLE_EQ(flop_per_step(model_of(config), config), 9155.0 * 26.0);
  const std::vector<PhaseWork> work = iteration_work(config, find_hardware("h200"), Precision::kFp32);
  ASSERT_EQ(work.size(), 5u);
  const double samples = 1024.0 * 128.0;
  EXPECT_DOUBLE_EQ(work[0].flop + work[2].flop, 9155.0 * 26.0 * samples);
  EXPECT_DOUBLE_EQ(work[0].tanh + work[2].tanh, 256.0 * 5.0 * samples);
  EXPECT_DOUBLE_EQ(work[1].bytes, 17.0 * samples);  // reward, value, end in; advantage, target out
  EXPECT_DOUBLE_EQ(work[2].launches, 16.0);
}

TEST(PerformanceModel, SeparateIterationsTrainOneNetworkEach) {
  Config config = cartpole(16);
  config.update_mode = Config::UpdateMode::kSeparate;
  config.policy_iterations = 3;
  config.value_iterations = 5;
  const double actor = 4610.0, critic = 4545.0;
  EXPECT_DOUBLE_EQ(flop_per_step(model_of(config), config), 2.0 * (actor + critic) + 6.0 * (3.0 * actor + 5.0 * critic));
  EXPECT_DOUBLE_EQ(iteration_work(config, find_hardware("h200"), Precision::kFp32)[2].launches, 8.0);
}

TEST(PerformanceModel, NeverBeatsTheCeilings) {
  for (const Hardware& gpu : known_hardware()) {
    for (const Precision precision : {Precision::kFp32, Precision::kTf32, Precision::kBf16}) {
      for (int envs : {1, 64, 4096, 262144}) {
        for (const PhasePrediction& phase : predict_iteration(cartpole(envs), gpu, precision)) {
          EXPECT_LE(phase.work.flop / phase.seconds, gpu.flops[static_cast<std::size_t>(precision)]) << gpu.name;
          EXPECT_LE(phase.work.bytes / phase.seconds, gpu.memory) << gpu.name;
          EXPECT_TRUE(std::isfinite(phase.seconds) && phase.seconds > 0.0) << gpu.name;
          EXPECT_FALSE(phase.bound.empty());
        }
      }
    }
  }
}

TEST(PerformanceModel, WideBatchesFillAGpu) {
  const Hardware& gpu = find_hardware("h200");
  for (const Precision precision : {Precision::kFp32, Precision::kTf32, Precision::kBf16}) {
    EXPECT_GT(steps_per_second(cartpole(65536), gpu, precision), steps_per_second(cartpole(1024), gpu, precision));
  }
  EXPECT_GT(steps_per_second(cartpole(65536), gpu, Precision::kTf32),
            2.0 * steps_per_second(cartpole(65536), gpu, Precision::kFp32));
  EXPECT_LE(steps_per_second(cartpole(65536), gpu, Precision::kFp32) * 9155.0 * 26.0, gpu.flops[0]);
}

// One environment keeps one of sixteen lanes of one of two threads busy.
TEST(PerformanceModel, FewEnvironmentsLeaveACpuIdle) {
  Hardware processor;
  processor.processors = 2;
  processor.flops = {2e11, 2e11, 2e11};
  processor.memory = 4e10;
  const double one = iteration_work(cartpole(1), processor, Precision::kFp32)[0].flop;
  EXPECT_DOUBLE_EQ(one * 32.0, iteration_work(cartpole(32), processor, Precision::kFp32)[0].flop);
  const auto seconds = [&](int envs) {
    return predict(iteration_work(cartpole(envs), processor, Precision::kFp32)[0], processor, Precision::kFp32).seconds;
  };
  EXPECT_NEAR(seconds(1), seconds(32), 1e-12);
  EXPECT_GT(seconds(33), 1.9 * seconds(32));
}

}  // namespace
}  // namespace perilune
