// What the messages are made of.
#include "host/base/text.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

namespace perilune {
namespace {

TEST(Text, NearestPrefersFewerEditsThenTheLongerCommonBeginning) {
  constexpr std::array<std::string_view, 3> kNames = {"name", "env_id", "gamma"};
  EXPECT_EQ(nearest("gama", kNames), "gamma");
  EXPECT_EQ(nearest("GAMMA", kNames), "gamma");
  EXPECT_EQ(nearest("env", kNames), "env_id");
  EXPECT_EQ(in_quotes("a\nb"), "'a\\x0ab'");
  EXPECT_EQ(in_quotes(std::string(100, 'x')), "'" + std::string(60, 'x') + "...'");
}

}  // namespace
}  // namespace perilune
