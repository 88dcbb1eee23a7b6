// Which kernels a configuration gets, and training with layer-by-layer ones on this machine's CPU.
#include "host/networks/networks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "host/base/error.hpp"
#include "host/device/matrix_library.hpp"
#include "host/training/trainer.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Config with(std::initializer_list<std::pair<const char*, const char*>> settings) {
  Config config;
  for (const auto& [key, value] : settings) set_key(config, key, value);
  return config;
}

std::unique_ptr<Device> cpu(int threads) { return select_device(DeviceChoice::kCpu, threads).device; }

TEST(Networks, FusedWhereThereAreKernelsElseLayerwise) {
  const auto device = cpu(1);
  const auto width_of = [&](const Config& config) { return choose_kernels(config, *device, Precision::kFp32).width; };
  EXPECT_EQ(width_of(with({})), 64);
  EXPECT_EQ(width_of(with({{"fused", "true"}})), 64);
  EXPECT_EQ(width_of(with({{"hidden_sizes", "32,32,32"}})), 32);
  EXPECT_EQ(width_of(with({{"fused", "false"}})), 0);
  EXPECT_EQ(width_of(with({{"hidden_width", "100"}})), 0);
  EXPECT_EQ(width_of(with({{"hidden_layers", "4"}})), 0);
  EXPECT_EQ(width_of(with({{"hidden_sizes", "64,32"}})), 0);
  EXPECT_EQ(width_of(with({{"output_activation", "relu"}})), 0);
  EXPECT_THAT(
      [&] {
        width_of(with({{"hidden_width", "100"}, {"fused", "true"}}));
      },
      testing::ThrowsMessage<UsageError>(AllOf(HasSubstr("100, 100"), HasSubstr("fused = auto"))));
}

TEST(Networks, WorkspaceIsBoundedAndNeverEmpty) {
  const auto columns = [](const char* sizes, int wanted) {
    return workspace_columns(model_of(with({{"hidden_sizes", sizes}})), wanted);
  };
  EXPECT_EQ(columns("64,64", 1000), 1000);
  EXPECT_EQ(columns("64,64", 1), 1);
  const int most = columns("16384,16384,16384", 1 << 20);
  EXPECT_GE(most, 64);
  EXPECT_LE(std::int64_t{most} * 4 * 16384 * 4, std::int64_t{256} << 20);
}

/// The whole state after some iterations.
TrainerState trained(const Config& config, int threads, int iterations) {
  const auto device = cpu(threads);
  Trainer trainer(config, *device);
  trainer.start(std::nullopt, true);
  for (int i = 0; i < iterations; ++i) trainer.enqueue_iteration();
  return trainer.state();
}

class LayerwiseTraining : public testing::Test {
 protected:
  void SetUp() override {
    try {
      open_cpu_matrices();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
};

TEST_F(LayerwiseTraining, ThreadsDoNotChangeTheBits) {
  const Config config = with({{"hidden_sizes", "300,257"},
                              {"num_envs", "37"},
                              {"num_steps", "9"},
                              {"num_minibatches", "1"},
                              {"target_kl", "0.5"}});
  const TrainerState one = trained(config, 1, 3);
  EXPECT_EQ(one.iteration, 3u);
  for (const int threads : {2, 3}) {
    const TrainerState other = trained(config, threads, 3);
    EXPECT_EQ(other, one) << threads;
  }
}

/// Through OpenBLAS or in one kernel: the same but for rounding, which Adam's epsilon of 1 keeps small.
TEST_F(LayerwiseTraining, IsCloseToFused) {
  const Config config = with({{"num_envs", "33"},
                              {"num_steps", "20"},
                              {"precision", "fp32"},
                              {"adam_epsilon", "1"},
                              {"learning_rate", "0.1"}});
  Config layerwise = config;
  set_key(layerwise, "fused", "false");
  const TrainerState a = trained(config, 1, 2), b = trained(layerwise, 1, 2);
  EXPECT_EQ(a.counts("environments.episode"), b.counts("environments.episode"));
  double moved = 0.0, apart = 0.0;
  const std::vector<float> start = initial_parameters(model_of(config), config);
  for (std::size_t i = 0; i < start.size(); ++i) {
    moved = std::max(moved, std::abs(static_cast<double>(a.parameters()[i]) - start[i]));
    apart = std::max(apart, std::abs(static_cast<double>(a.parameters()[i]) - b.parameters()[i]));
  }
  EXPECT_GT(moved, 1e-3);
  EXPECT_LT(apart, 1e-5 * moved + 2e-7);  // gradients to 1e-5, and the last bit of weights around 1
}

TEST_F(LayerwiseTraining, AnActivationOfOutputsIsSaid) {
  const auto device = cpu(1);
  EXPECT_THAT(Trainer(with({{"output_activation", "relu"}}), *device).networks(),
              AllOf(HasSubstr("hidden layers of 64, 64 and relu of the outputs, layer by layer with ")));
}

TEST_F(LayerwiseTraining, MemoryPlanNamesTheWorkspace) {
  const auto device = cpu(1);
  const Trainer trainer(with({{"hidden_sizes", "2048,1536"}}), *device);
  EXPECT_THAT(trainer.arena().table(), HasSubstr("workspace"));
  // 5120 + 512 units and gradients of 128 samples
  EXPECT_GT(trainer.arena().total_bytes(), std::size_t{(2048 + 1536 + 2048) * 128 * 4});
}

}  // namespace
}  // namespace perilune
