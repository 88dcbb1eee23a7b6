// Settings that do not go together are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "host/settings/config.hpp"
#include "tests/support/usage_error.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Of setting these keys in turn, or else of all of them together.
std::string validation_error(const std::vector<std::pair<std::string, std::string>>& settings) {
  constexpr std::array kWidths = {64};
  return test::usage_error([&] {
    Config config;
    for (const auto& [key, value] : settings) set_key(config, key, value);
    validate(config, kWidths);
  });
}

TEST(ConfigChecks, RatesThatFollowTheKl) {
  EXPECT_EQ(validation_error({{"anneal_lr", "kl"}}), "no error");
  EXPECT_THAT(validation_error({{"anneal_lr", "kl"}, {"learning_rate", "0.02"}}),
              AllOf(HasSubstr("learning_rate = 0.02 is beyond"), HasSubstr("1e-05 .. 0.01, from min_learning_rate")));
  EXPECT_THAT(validation_error({{"anneal_lr", "kl"}, {"critic_learning_rate", "1e-6"}}),
              HasSubstr("critic_learning_rate = 1e-06 is beyond"));
  EXPECT_THAT(validation_error({{"anneal_lr", "kl"}, {"min_learning_rate", "0.1"}}),
              HasSubstr("min_learning_rate = 0.1 is above max_learning_rate = 0.01"));
  EXPECT_THAT(validation_error({{"anneal_lr", "kl"}, {"epoch_lr_decay", "0.5"}}),
              HasSubstr("epoch_lr_decay = 0.5 does not go with anneal_lr = kl"));
  EXPECT_EQ(validation_error({{"learning_rate", "0.02"}}), "no error");
  EXPECT_THAT(validation_error({{"anneal_clip_coef", "kl"}}), HasSubstr("allowed: none | linear"));
}

TEST(ConfigChecks, OutputActivationsHaveNoFusedKernels) {
  EXPECT_EQ(validation_error({{"output_activation", "relu"}}), "no error");
  EXPECT_THAT(validation_error({{"output_activation", "relu"}, {"fused", "true"}}),
              AllOf(HasSubstr("output_activation = relu has no fused kernels"), HasSubstr("fused = auto")));
  EXPECT_THAT(validation_error({{"output_activation", "gelu"}}), HasSubstr("allowed: none | relu | tanh"));
}

TEST(ConfigChecks, AKlStopFitsTheMode) {
  for (const std::string mode : {"joint", "separate"}) {
    for (const std::string stop : {"epoch", "minibatch", "iteration"}) {
      const std::string error = validation_error({{"update_mode", mode}, {"kl_stop", stop}, {"target_kl", "0.01"}});
      if ((stop == "iteration") == (mode == "separate")) {
        EXPECT_EQ(error, "no error");
      } else {
        EXPECT_THAT(error, AllOf(HasSubstr("kl_stop = " + stop + " does not fit update_mode = " + mode),
                                 HasSubstr("allowed: joint with epoch or minibatch, separate with iteration")));
      }
      EXPECT_EQ(validation_error({{"update_mode", mode}, {"kl_stop", stop}}), "no error");
    }
  }
}

}  // namespace
}  // namespace perilune
