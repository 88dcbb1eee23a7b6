// The choice of a precision, on devices with any set of kernels.
#include "host/precision.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "host/error.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

/// Has the instances it is given, and tensor cores or not.
class TableDevice : public Device {
 public:
  TableDevice(bool cuda, bool tensor_cores, std::vector<Instance> instances)
      : cuda_(cuda), tensor_cores_(tensor_cores), instances_(std::move(instances)) {
    machine_.name = "table";
    machine_.instances = instances_.data();
    machine_.instance_count = static_cast<int>(instances_.size());
  }
  const Machine& machine() const override { return machine_; }
  std::string description() const override { return "a table of kernels"; }
  bool is_cuda() const override { return cuda_; }
  bool supports(Precision precision) const override { return tensor_cores_ || precision == Precision::kFp32; }
  Queue& queue() override { throw std::logic_error("runs nothing"); }
  MatrixLibrary& matrix_library(Precision) override { throw std::logic_error("multiplies nothing"); }
  std::size_t free_memory() const override { return 0; }
  std::size_t max_block_storage() const override { return 100; }
  void* allocate(std::size_t) override { return nullptr; }
  void release(void*) override {}
  void* allocate_shared(std::size_t) override { return nullptr; }
  void release_shared(void*) override {}
  void upload(void*, const void*, std::size_t) override {}
  void download(void*, const void*, std::size_t) override {}
  void synchronize() override {}
  std::unique_ptr<Recording> record(std::function<void(Queue&)>, bool) override { return nullptr; }

 private:
  bool cuda_, tensor_cores_;
  std::vector<Instance> instances_;
  Machine machine_{};
};

Instance instance(int width, Precision precision, const char* environment = "CartPole-v1") {
  Instance result{};
  result.environment = environment;
  result.width = width;
  result.precision = precision;
  result.block_storage = [](int depth) -> std::size_t { return depth < 3 ? 100 : 101; };
  return result;
}

const std::vector<Instance> kAll = {
    instance(64, Precision::kFp32),  instance(64, Precision::kTf32), instance(64, Precision::kBf16),
    instance(16, Precision::kFp32),  instance(16, Precision::kBf16), instance(32, Precision::kTf32, "Other"),
};

Config asks_for(const char* precision, int width = 64) {
  Config config;
  config.hidden_width = width;
  set_key(config, "precision", precision);
  return config;
}

TEST(Precision, AutoTakesTheFasterWhereTheDeviceHasIt) {
  const Config config = asks_for("auto");
  EXPECT_EQ(choose_precision(config, TableDevice(true, true, kAll)), Precision::kTf32);
  EXPECT_EQ(choose_precision(config, TableDevice(true, false, kAll)), Precision::kFp32);
  EXPECT_EQ(choose_precision(config, TableDevice(false, true, kAll)), Precision::kBf16);
  EXPECT_EQ(choose_precision(config, TableDevice(false, false, kAll)), Precision::kFp32);
  EXPECT_EQ(choose_precision(asks_for("auto", 16), TableDevice(true, true, kAll)), Precision::kFp32);
}

TEST(Precision, AutoTakesWhatFitsIntoABlock) {
  Config config = asks_for("auto");
  set_key(config, "hidden_layers", "3");
  Instance small = instance(64, Precision::kFp32);
  small.block_storage = [](int) -> std::size_t { return 50; };
  EXPECT_EQ(choose_precision(config, TableDevice(true, true, {small, instance(64, Precision::kTf32)})), Precision::kFp32);
}

TEST(Precision, AskedForIsWhatOneGets) {
  const TableDevice device(true, true, kAll);
  EXPECT_EQ(choose_precision(asks_for("fp32"), device), Precision::kFp32);
  EXPECT_EQ(choose_precision(asks_for("tf32"), device), Precision::kTf32);
  EXPECT_EQ(choose_precision(asks_for("bf16"), device), Precision::kBf16);
  EXPECT_EQ(choose_precision(asks_for("bf16", 16), device), Precision::kBf16);
}

TEST(Precision, WhatTheDeviceLacksIsAnErrorThatNamesWhatItHas) {
  EXPECT_THAT([] { choose_precision(asks_for("tf32"), TableDevice(true, false, kAll)); },
              ThrowsMessage<UsageError>(
                  AllOf(HasSubstr("precision tf32: a table of kernels has fp32 "), Not(HasSubstr("has fp32, ")))));
  EXPECT_THAT([] { choose_precision(asks_for("tf32", 16), TableDevice(true, true, kAll)); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("has fp32, bf16 for CartPole-v1 with hidden layers of 16, 16 units"))));
}

/// Networks without fused kernels go through a matrix library, which multiplies in fp32, and on a GPU in tf32.
TEST(Precision, WideNetworksHaveThoseOfTheMatrixLibrary) {
  const TableDevice gpu(true, true, kAll), cpu(false, true, kAll);
  Config config = asks_for("auto");
  const auto expect_wide = [&] {
    EXPECT_EQ(choose_precision(config, gpu), Precision::kTf32);
    EXPECT_EQ(choose_precision(config, TableDevice(true, false, kAll)), Precision::kFp32);
    EXPECT_EQ(choose_precision(config, cpu), Precision::kFp32);
    Config bf16 = config;
    set_key(bf16, "precision", "bf16");
    EXPECT_THAT([&] { choose_precision(bf16, gpu); }, ThrowsMessage<UsageError>(HasSubstr("has fp32, tf32 for")));
  };
  set_key(config, "hidden_sizes", "2048,1536");
  expect_wide();
  config = asks_for("auto", 48);  // was not built
  expect_wide();
  config = asks_for("auto");
  set_key(config, "hidden_layers", "3");  // needs more storage than the device's blocks have
  expect_wide();
  config = asks_for("auto");
  set_key(config, "fused", "false");
  expect_wide();
}

TEST(Precision, AvailableAreThoseBuiltThatTheDeviceRuns) {
  const TableDevice device(true, true, kAll);
  EXPECT_THAT(available_precisions(device, "CartPole-v1", 16), ElementsAre(Precision::kFp32, Precision::kBf16));
  EXPECT_THAT(available_precisions(device, "CartPole-v1"),
              ElementsAre(Precision::kFp32, Precision::kTf32, Precision::kBf16));
  EXPECT_THAT(available_precisions(TableDevice(true, false, kAll), "CartPole-v1"), ElementsAre(Precision::kFp32));
}

TEST(Precision, AChosenOneStaysChosen) {
  const Config chosen = with_chosen_precision(asks_for("auto"), TableDevice(true, true, kAll));
  EXPECT_EQ(chosen.precision, Config::Precision::kTf32);
  EXPECT_THAT(to_toml(chosen), HasSubstr("precision = \"tf32\"\n"));
  EXPECT_THROW(choose_precision(chosen, TableDevice(false, false, kAll)), UsageError);
}

}  // namespace
}  // namespace perilune
