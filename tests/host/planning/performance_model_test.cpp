#include "host/planning/performance_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "host/base/error.hpp"

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

const PhasePrediction& phase_of(const std::vector<PhasePrediction>& phases, Phase phase) {
  return *std::find_if(phases.begin(), phases.end(),
                       [&](const PhasePrediction& row) { return row.work.phase == phase; });
}

double seconds_of(Phase phase, const Config& config, const Hardware& hardware, Precision precision) {
  return phase_of(predict_iteration(config, hardware, precision), phase).seconds;
}

constexpr Precision kEveryPrecision[] = {Precision::kFp32, Precision::kTf32, Precision::kBf16};
constexpr const char* kPrecisionNames[] = {"fp32", "tf32", "bf16"};

// The row of bench/results/sass.json; null where it has none.
nlohmann::json counted(std::string_view walk, Precision precision) {
  static const nlohmann::json table =
      nlohmann::json::parse(std::ifstream(std::string(PERILUNE_SOURCE_DIR) + "/bench/results/sass.json"));
  for (const nlohmann::json& row : table.at("walks")) {
    if (row.at("walk") == walk && row.at("precision") == kPrecisionNames[static_cast<int>(precision)]) return row;
  }
  return nullptr;
}

// Cycles that a scheduler needs for a pass at least.
double floor_of(std::string_view walk, Precision precision) {
  double most = 0.0;
  const nlohmann::json row = counted(walk, precision);
  for (const nlohmann::json& cycles : row.at("floor_cycles")) most = std::max(most, cycles.get<double>());
  return most;
}

Config lunar_lander(int envs, double fast_solver) {
  Config config = cartpole(envs);
  config.env_id = "LunarLander-v3";
  config.env_parameters["fast_solver"] = fast_solver;
  return config;
}

// Data sheets (dense, without sparsity). Their tensor rates are at a lower clock than their fp32 rates (8% on H100),
// and the consumer chips' boost clocks are rounded.
TEST(Hardware, AgreesWithTheDataSheets) {
  struct Sheet {
    const char* name;
    double fp32, tf32, bf16, memory;
  };
  for (const Sheet& sheet :
       {Sheet{"h200", 67e12, 495e12, 989e12, 4.8e12}, Sheet{"a100", 19.5e12, 156e12, 312e12, 2.0e12},
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
  config.update_mode = UpdateMode::kSeparate;
  config.policy_iterations = 3;
  config.value_iterations = 5;
  const double actor = 4610.0, critic = 4545.0;
  EXPECT_DOUBLE_EQ(flop_per_step(model_of(config), config),
                   2.0 * (actor + critic) + 6.0 * (3.0 * actor + 5.0 * critic));
  EXPECT_DOUBLE_EQ(iteration_work(config, find_hardware("h200"), Precision::kFp32)[2].launches, 8.0);
}

TEST(PerformanceModel, NeverBeatsTheCeilings) {
  for (const Hardware& gpu : known_hardware()) {
    for (const Precision precision : kEveryPrecision) {
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

// As bench/sass.py counts them now. A failure prints what host/planning/performance_model.cpp should have.
TEST(PerformanceModel, HasTheCountsOfTheMachineCode) {
  for (const KernelCycles& row : kernel_cycles()) {
    const nlohmann::json real = counted(row.walk, row.precision);
    ASSERT_FALSE(real.is_null()) << row.walk << " " << kPrecisionNames[static_cast<int>(row.precision)];
    EXPECT_EQ(row.alone, real.at("alone_cycles")) << real;
    if (real.at("of") != "a pass") continue;
    EXPECT_EQ(row.together, real.at("together_cycles")) << real;
    EXPECT_EQ(row.issued, real.at("counts").at("issue")) << real;
    EXPECT_EQ(row.before, real.at("issued_before")) << real;
  }
}

// Every unit of every scheduler has that much to do, however warps are arranged.
TEST(PerformanceModel, NeverBeatsTheFloorsOfTheMachineCode) {
  const Hardware& gpu = find_hardware("h200");
  for (const Precision precision : kEveryPrecision) {
    double rollout = floor_of("rollout", precision);
    if (precision != Precision::kFp32) rollout = std::min(rollout, 2.0 * floor_of("rollout, two teams", precision));
    const double gradient = 4.0 * (floor_of("update, actor", precision) + floor_of("update, critic", precision));
    for (int envs = 64; envs <= 262144; envs *= 2) {
      const double passes = envs * 128.0 / 32.0 / (4.0 * gpu.processors) / gpu.clock;
      EXPECT_GE(seconds_of(Phase::kRollout, cartpole(envs), gpu, precision), passes * rollout) << envs;
      EXPECT_GE(seconds_of(Phase::kGradient, cartpole(envs), gpu, precision), passes * gradient) << envs;
    }
  }
}

// Also where rollouts no longer have a team of warps for each network: those must not have been slower.
TEST(PerformanceModel, RolloutsOfMoreEnvironmentsTakeLonger) {
  const Hardware& gpu = find_hardware("h200");
  for (const Precision precision : kEveryPrecision) {
    double before = 0.0;
    for (int envs = 64; envs <= 131072; envs += 64) {
      const double seconds = seconds_of(Phase::kRollout, cartpole(envs), gpu, precision);
      EXPECT_GE(seconds, before) << envs;
      before = seconds;
    }
  }
}

// Kernels with teams exist at width 64 alone: elsewhere a step's chain is as long for few environments as for many.
TEST(PerformanceModel, OnlyNetworksOfWidth64HaveTeams) {
  const Hardware& gpu = find_hardware("h200");
  for (const int width : {16, 32, 64, 128}) {
    const auto chain = [&](int envs) {
      Config config = cartpole(envs);
      config.hidden_width = width;
      return iteration_work(config, gpu, Precision::kTf32)[0].chain;
    };
    EXPECT_EQ(chain(64) < chain(65536), width == 64) << width;
  }
}

TEST(PerformanceModel, MoreEnvironmentsNeverMakeFewerStepsPerSecond) {
  for (const Hardware& gpu : known_hardware()) {
    for (const Precision precision : kEveryPrecision) {
      double before[3] = {}, simulated[3] = {};
      for (int envs = 256; envs <= 262144; envs *= 2) {
        const Config configs[] = {cartpole(envs), lunar_lander(envs, 0.0), lunar_lander(envs, 1.0)};
        for (int i = 0; i < 3; ++i) {
          const double rate = steps_per_second(configs[i], gpu, precision), alone = predict_simulation(configs[i], gpu);
          EXPECT_GE(rate, before[i]) << gpu.name << " " << configs[i].env_id << " " << envs;
          EXPECT_GE(alone, simulated[i]) << gpu.name << " " << configs[i].env_id << " " << envs;
          EXPECT_LT(rate, alone) << gpu.name << " " << configs[i].env_id << " " << envs;
          before[i] = rate;
          simulated[i] = alone;
        }
      }
    }
  }
}

// A lander's step is most of the time, the exact solver's more than the fast one's.
TEST(PerformanceModel, LandersTakeLongerThanCartPole) {
  const Hardware& gpu = find_hardware("h200");
  for (int envs : {64, 4096, 65536}) {
    const double fast = seconds_of(Phase::kRollout, lunar_lander(envs, 1.0), gpu, Precision::kTf32);
    EXPECT_GT(fast, 2.0 * seconds_of(Phase::kRollout, cartpole(envs), gpu, Precision::kTf32)) << envs;
    EXPECT_GT(seconds_of(Phase::kRollout, lunar_lander(envs, 0.0), gpu, Precision::kTf32), 1.5 * fast) << envs;
  }
}

TEST(PerformanceModel, WiderNetworksTakeLonger) {
  const Hardware& gpu = find_hardware("h200");
  for (const Precision precision : kEveryPrecision) {
    for (const Phase phase : {Phase::kRollout, Phase::kGradient}) {
      for (const int envs : {64, 16384}) {
        double before = 0.0;
        for (const int width : {16, 32, 64, 128}) {
          Config config = cartpole(envs);
          config.hidden_width = width;
          const double seconds = seconds_of(phase, config, gpu, precision);
          EXPECT_GT(seconds, before) << kPrecisionNames[static_cast<int>(precision)] << " " << envs << " " << width;
          before = seconds;
        }
      }
    }
  }
}

TEST(PerformanceModel, WideBatchesFillAGpu) {
  const Hardware& gpu = find_hardware("h200");
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
