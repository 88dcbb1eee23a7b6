// Environments are found by what users call them, and what simulators say of themselves fits together.
#include "host/settings/environments.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "kernels/api.hpp"
#include "tests/support/usage_error.hpp"

namespace perilune {
namespace {

TEST(Environments, AreFoundByIdAndAliasInAnyCase) {
  EXPECT_STREQ(find_environment("LunarLander-v3").id, "LunarLander-v3");
  EXPECT_STREQ(find_environment("lunarlander-V3").id, "LunarLander-v3");
  EXPECT_STREQ(find_environment("Lander-Continuous").id, "LanderContinuous-v0");
  EXPECT_THROW(find_environment("LunarLander"), UsageError);
}

TEST(Environments, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const EnvironmentInfo& environment : environments()) {
    EXPECT_TRUE(names.insert(environment.id).second) << environment.id;
    for (const char* alias : environment.aliases) EXPECT_TRUE(names.insert(alias).second) << alias;
  }
}

TEST(Environments, NameEveryNumberOnce) {
  for (const EnvironmentInfo& environment : environments()) {
    std::set<std::string> numbers, fields(environment.field_names.begin(), environment.field_names.end());
    for (const ObservationNumber& number : environment.observation) {
      EXPECT_TRUE(numbers.insert(number.name).second) << environment.id << ": " << number.name;
      EXPECT_LT(number.low, number.high) << environment.id << ": " << number.name;
    }
    EXPECT_EQ(fields.size(), environment.field_names.size()) << environment.id;
  }
}

// A configuration has one key env.<name>, whichever environments have it.
TEST(Environments, MeanTheSameByAParameterOfOneName) {
  std::map<std::string, const EnvironmentParameter*> known;
  for (const EnvironmentInfo& environment : environments()) {
    ASSERT_LE(environment.parameters.size(), std::size_t{kMaxEnvParameters}) << environment.id;
    for (const EnvironmentParameter& parameter : environment.parameters) {
      EXPECT_TRUE(parameter.allowed.contains(parameter.default_value)) << parameter.name;
      EXPECT_TRUE(parameter.advised.contains(parameter.default_value)) << parameter.name;
      const EnvironmentParameter& first = *known.emplace(parameter.name, &parameter).first->second;
      EXPECT_EQ(parameter.type, first.type) << parameter.name;
      EXPECT_EQ(range_text(parameter.allowed), range_text(first.allowed)) << parameter.name;
      EXPECT_EQ(parameter.default_value, first.default_value) << parameter.name;
    }
  }
}

}  // namespace
}  // namespace perilune
