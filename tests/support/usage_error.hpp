// What is said of wrong usage.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "host/base/error.hpp"

namespace perilune::test {

// The message of the UsageError that `action` throws, or "no error".
inline std::string usage_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const UsageError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    return error.what();
  }
  return "no error";
}

}  // namespace perilune::test
