// The choice of a precision, on devices with any set of kernels.
#include "host/planning/precision.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <stdexcept>
#include <string>

#include "host/base/error.hpp"
#include "host/device/processor.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

/// Has the kernels it is given, and tensor cores or not.
class TableDevice : public Device {
 public:
  TableDevice(bool cuda, bool tensor_cores, std::vector<Kernels> instances)
      : fastest(cuda && tensor_cores ? Precision::kTf32
                : cuda               ? Precision::kFp32
                                     : Precision::kBf16),
        cuda_(cuda),
        tensor_cores_(tensor_cores),
        kernels_(std::move(instances)) {
    machine_.name = "table";
    machine_.table.fused = kernels_.data();
    machine_.table.fused_count = static_cast<int>(kernels_.size());
  }
  const Machine& machine() const override { return machine_; }
  std::string description() const override { return "a table of kernels"; }
  bool is_cuda() const override { return cuda_; }
  bool supports(Precision precision) const override { return tensor_cores_ || precision == Precision::kFp32; }
  Fastest fastest_precision() const override { return {fastest, "the test says so"}; }
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

  Precision fastest;

 private:
  bool cuda_, tensor_cores_;
  std::vector<Kernels> kernels_;
  Machine machine_{};
};

constexpr EnvironmentInfo kOther = [] {
  EnvironmentInfo info{};
  info.id = "Other";
  return info;
}();

Kernels kernels(int width, Precision precision, const char* environment = "CartPole-v1") {
  Kernels result{};
  result.environment = std::string_view(environment) == "Other" ? &kOther : &find_environment(environment);
  result.width = width;
  result.precision = precision;
  result.kernel_storage = [](int depth) -> KernelStorage { return {.update = depth < 3 ? 100u : 101u}; };
  return result;
}

const std::vector<Kernels> kAll = {
    kernels(64, Precision::kFp32), kernels(64, Precision::kTf32), kernels(64, Precision::kBf16),
    kernels(16, Precision::kFp32), kernels(16, Precision::kBf16), kernels(32, Precision::kTf32, "Other"),
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

/// bf16 exists on both; a processor whose dot products win nothing trains in fp32, and a run's configuration says so.
TEST(Precision, AutoIsWhatIsFasterOnTheProcessor) {
  TableDevice device(false, true, kAll);
  device.fastest = Precision::kFp32;
  EXPECT_EQ(choose_precision(asks_for("auto"), device), Precision::kFp32);
  EXPECT_EQ(choose_precision(asks_for("bf16"), device), Precision::kBf16);
  EXPECT_EQ(with_chosen_precision(asks_for("auto"), device).precision, Precision::kFp32);

  EXPECT_TRUE(bf16_is_faster({"AuthenticAMD", 25, 17}));   // Genoa, Zen 4
  EXPECT_TRUE(bf16_is_faster({"AuthenticAMD", 25, 97}));   // Raphael
  EXPECT_FALSE(bf16_is_faster({"GenuineIntel", 6, 143}));  // Sapphire Rapids: not measured
  EXPECT_FALSE(bf16_is_faster({"GenuineIntel", 6, 207}));  // Emerald Rapids
  EXPECT_FALSE(bf16_is_faster({"GenuineIntel", 25, 17}));  // a number of another vendor
  EXPECT_FALSE(bf16_is_faster({"AuthenticAMD", 26, 2}));   // Zen 5: not measured
  EXPECT_FALSE(bf16_is_faster({"", 0, 0}));
}

TEST(Precision, ThisProcessorIsTheOneTheSystemNames) {
  std::ifstream file("/proc/cpuinfo");
  const auto value = [&](const std::string& key) {
    for (std::string line; std::getline(file, line);) {
      if (line.rfind(key + "\t", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return std::string();
  };
  const std::string vendor = value("vendor_id");
  if (vendor.empty()) GTEST_SKIP() << "/proc/cpuinfo names no vendor";
  const Processor processor = this_processor();
  EXPECT_EQ(processor.vendor, vendor);
  EXPECT_EQ(std::to_string(processor.family), value("cpu family"));
  EXPECT_EQ(std::to_string(processor.model), value("model"));
  EXPECT_EQ(processor_name({"GenuineIntel", 6, 207}), "GenuineIntel family 6 model 207");
}

TEST(Precision, AutoTakesWhatFitsIntoABlock) {
  Config config = asks_for("auto");
  set_key(config, "hidden_layers", "3");
  Kernels small = kernels(64, Precision::kFp32);
  small.kernel_storage = [](int) -> KernelStorage { return {.update = 50}; };
  EXPECT_EQ(choose_precision(config, TableDevice(true, true, {small, kernels(64, Precision::kTf32)})),
            Precision::kFp32);
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
  EXPECT_THAT(
      [] { choose_precision(asks_for("tf32", 16), TableDevice(true, true, kAll)); },
      ThrowsMessage<UsageError>(AllOf(HasSubstr("has fp32, bf16 for CartPole-v1 with hidden layers of 16, 16 units"))));
}

/// Networks without fused kernels go through a matrix library, which multiplies in fp32, and on a GPU in tf32.
TEST(Precision, LayerwiseNetworksHaveThoseOfTheMatrixLibrary) {
  const TableDevice gpu(true, true, kAll), cpu(false, true, kAll);
  Config config = asks_for("auto");
  const auto expect_layerwise = [&] {
    EXPECT_EQ(choose_precision(config, gpu), Precision::kTf32);
    EXPECT_EQ(choose_precision(config, TableDevice(true, false, kAll)), Precision::kFp32);
    EXPECT_EQ(choose_precision(config, cpu), Precision::kFp32);
    Config bf16 = config;
    set_key(bf16, "precision", "bf16");
    EXPECT_THAT([&] { choose_precision(bf16, gpu); }, ThrowsMessage<UsageError>(HasSubstr("has fp32, tf32 for")));
  };
  set_key(config, "hidden_sizes", "2048,1536");
  expect_layerwise();
  config = asks_for("auto", 48);  // was not built
  expect_layerwise();
  config = asks_for("auto");
  set_key(config, "hidden_layers", "3");  // needs more storage than the device's blocks have
  expect_layerwise();
  config = asks_for("auto");
  set_key(config, "fused", "false");
  expect_layerwise();
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
  EXPECT_EQ(chosen.precision, Precision::kTf32);
  EXPECT_THAT(to_toml(chosen), HasSubstr("precision = \"tf32\"\n"));
  EXPECT_THROW(choose_precision(chosen, TableDevice(false, false, kAll)), UsageError);
}

}  // namespace
}  // namespace perilune
