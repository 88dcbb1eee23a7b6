// Devices by name.
#include "host/device/device.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/usage_error.hpp"

namespace perilune {
namespace {

using test::usage_error;
using testing::HasSubstr;

TEST(Device, NamesAsPeopleWriteThem) {
  for (const char* name : {"cuda", "CUDA", "gpu", "GPU", "cuda:0", "gpu:0"}) {
    EXPECT_EQ(device_choice("--device", name), DeviceChoice::kCuda) << name;
  }
  EXPECT_EQ(device_choice("--device", "CPU"), DeviceChoice::kCpu);
  EXPECT_EQ(device_choice("--device", "auto"), DeviceChoice::kAuto);
  const auto error = [](const char* name) { return usage_error([&] { device_choice("--device", name); }); };
  EXPECT_THAT(error("cuda:12"), HasSubstr("--device 'cuda:12' is not possible - allowed: auto, cpu, cuda - cuda is the "
                                          "first GPU that this process sees: set the environment variable "
                                          "CUDA_VISIBLE_DEVICES=12"));
  EXPECT_THAT(error("cuda:x"), HasSubstr("did you mean cuda?"));
  EXPECT_THAT(error("cuda:"), HasSubstr("did you mean cuda?"));
  EXPECT_THAT(error("cpuu"), HasSubstr("'cpuu' is unknown - allowed: auto, cpu, cuda - did you mean cpu?"));
  EXPECT_THAT(error(""), HasSubstr("'' is unknown"));
}

}  // namespace
}  // namespace perilune
