#include "host/planning/device_choice.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "host/base/format.hpp"
#include "host/planning/performance_model.hpp"
#include "host/settings/environments.hpp"

namespace perilune {
namespace {

Hardware two_cores() {
  Hardware processor;
  processor.processors = 2;
  processor.flops.fill(2e11);
  processor.memory = 2e10;
  return processor;
}

DeviceEstimate of(const Work& work, const char* gpu = "h100", int side_by_side = 1) {
  return estimate({&work, 1}, two_cores(), find_hardware(gpu), side_by_side);
}

Config cartpole(int envs, std::int64_t steps) {
  Config config;
  config.num_envs = envs;
  config.total_timesteps = steps;
  return config;
}

TEST(DeviceChoice, ShortRunsStayOnTheCpu) {
  for (const char* gpu : {"h200", "h100", "a100", "rtx-4090", "l4"}) {
    EXPECT_FALSE(of(training_work(preset("cartpole")), gpu).gpu_is_faster()) << gpu;
    EXPECT_FALSE(of(training_work(cartpole(4, 20'000)), gpu).gpu_is_faster()) << gpu;
    EXPECT_FALSE(of(evaluation_work(preset("cartpole"), 100), gpu).gpu_is_faster()) << gpu;
  }
}

TEST(DeviceChoice, LongLayerwiseRunsGoToTheGpu) {
  EXPECT_TRUE(of(training_work(cartpole(16384, 100'000'000))).gpu_is_faster());
  for (const char* name : {"cartpole-td", "lunar-lander-td"}) {
    const DeviceEstimate expected = of(training_work(preset(name)));
    EXPECT_LT(4.0 * expected.gpu, expected.cpu) << name;
  }
  Config layerwise = cartpole(1024, 10'000'000);
  layerwise.hidden_width = 1024;
  EXPECT_TRUE(of(training_work(layerwise)).gpu_is_faster());
  EXPECT_TRUE(of(evaluation_work(preset("lunar-lander"), 1'000'000)).gpu_is_faster());
}

// A thread of a GPU is slower than a core in the exact solver, and 16 environments have no others to fill the rest.
TEST(DeviceChoice, FewEnvironmentsOfASlowSimulatorStayOnTheCpuForHoweverLong) {
  Config lunar = preset("lunar-lander-cleanrl");
  lunar.total_timesteps = 1'000'000'000;
  lunar.update_epochs = 1;
  EXPECT_FALSE(of(training_work(lunar)).gpu_is_faster());
}

// Evaluations, which are a constant of a run, may be the GPU's where its training is the CPU's: with few steps they
// decide.
TEST(DeviceChoice, MoreStepsNeverBringTrainingBackToTheCpu) {
  for (const PresetInfo& info : presets()) {
    bool was_gpu = false;
    for (std::int64_t steps = 1000; steps < 100'000'000'000; steps *= 2) {
      Config config = preset(info.name);
      config.total_timesteps = steps;
      Work work = training_work(config);
      work.evaluations = 0.0;
      const DeviceEstimate expected = of(work);
      const bool gpu = expected.gpu_is_faster();
      EXPECT_TRUE(gpu || !was_gpu) << info.name << " at " << steps << ": " << expected.gpu << " s, on the CPU "
                                   << expected.cpu;
      was_gpu = gpu;
    }
  }
}

// Each is the sum of what there is to do, a GPU's with one start.
TEST(DeviceChoice, CountsRunsEvaluationsAndWhatGoesOnSideBySide) {
  Work one = training_work(preset("lander")), four = one;
  four.runs = 4.0;
  EXPECT_NEAR(of(four).cpu, 4.0 * of(one).cpu, 1e-9 * of(four).cpu);
  EXPECT_NEAR(of(four, "h100", 2).cpu, 2.0 * of(one).cpu, 1e-9 * of(four).cpu);
  EXPECT_NEAR(of(one, "h100", 8).cpu, of(one).cpu, 1e-9 * of(one).cpu);  // one run is never faster for it
  const double start = (4.0 * of(one).gpu - of(four).gpu) / 3.0;
  EXPECT_NEAR(start, of(Work{preset("lander")}).gpu, 1e-9);
  EXPECT_GT(start, 0.0);
  Work unevaluated = one;
  unevaluated.evaluations = 0.0;
  EXPECT_LT(of(unevaluated).cpu, of(one).cpu);
}

TEST(DeviceChoice, ARunThatMayStopCountsHalf) {
  Config config = preset("lander");
  const double stops = training_work(config).iterations;
  config.target_return.reset();
  EXPECT_DOUBLE_EQ(2.0 * stops, training_work(config).iterations);
}

// bench/results: within a factor of two, which is all that is asked of the model.
TEST(DeviceChoice, LandersTakeAboutWhatWasMeasured) {
  struct Row {
    const char* preset;
    double fast_solver, steps_per_second;
  };
  for (const Row& row :
       {Row{"lander", -1.0, 814e3}, Row{"lunar-lander", 1.0, 599e3}, Row{"lunar-lander", 0.0, 441e3}}) {
    Config config = preset(row.preset);
    config.num_envs = 1920;
    config.num_steps = 128;
    config.num_minibatches = 4;
    if (row.fast_solver >= 0.0) config.env_parameters["fast_solver"] = row.fast_solver;
    double seconds = 0.0;
    Hardware xeon = two_cores();
    xeon.flops.fill(357e9);
    for (const PhasePrediction& phase : predict_iteration(config, xeon, Precision::kFp32)) seconds += phase.seconds;
    const double ratio = static_cast<double>(batch_size(config)) / seconds / row.steps_per_second;
    EXPECT_GT(ratio, 0.67) << row.preset;
    EXPECT_LT(ratio, 1.5) << row.preset << " " << row.fast_solver;
  }
}

TEST(DeviceChoice, NominalProcessorIsWithinReachOfTheMeasuredOne) {
  const Hardware nominal = nominal_processor(2);
  EXPECT_EQ(nominal.processors, 2);
  EXPECT_DOUBLE_EQ(nominal.flops[0], nominal_processor(2).flops[0]);
  EXPECT_DOUBLE_EQ(nominal_processor(4).flops[0], 2.0 * nominal.flops[0]);
}

TEST(DeviceChoice, WhatIsAskedForIsTaken) {
  const Work work = training_work(cartpole(16384, 100'000'000'000));
  const SelectedDevice cpu = select_device(DeviceChoice::kCpu, 1, {&work, 1});
  EXPECT_FALSE(cpu.device->is_cuda());
  EXPECT_EQ(cpu.reason, "asked for");
}

// Where no GPU can be, `auto` says why there is none and nothing of the work.
TEST(DeviceChoice, WithoutAGpuTheReasonIsThat) {
  if (std::filesystem::exists("/dev/nvidiactl") || std::filesystem::exists("/dev/dxg"))
    GTEST_SKIP() << "may have a GPU";
  const Work work = training_work(preset("cartpole"));
  const SelectedDevice with = select_device(DeviceChoice::kAuto, 1, {&work, 1});
  EXPECT_FALSE(with.device->is_cuda());
  EXPECT_EQ(with.reason, select_device(DeviceChoice::kAuto, 1).reason);
}

}  // namespace
}  // namespace perilune
