// What every test of ptx_tests leaves behind: which kernels it ran, for coverage.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/ptx/runtime.hpp"

namespace perilune::ptx {

namespace {

class Recorder : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override {
    runtime_machine().instructions.clear();
    // As tests are, one by one and in any order: launches take turns, and a failure comes again when a test is run
    // alone.
    restart_orders();
  }
  void OnTestEnd(const ::testing::TestInfo& test) override {
    if (test.result()->Failed() || runtime_machine().instructions.empty()) return;
    std::string name = std::string(test.test_suite_name()) + "." + test.name();
    std::ranges::replace(name, '/', '_');
    std::filesystem::create_directories(PERILUNE_PTX_RAN);
    std::ofstream file(std::filesystem::path(PERILUNE_PTX_RAN) / (name + ".ran"));
    for (const auto& [kernel, count] : runtime_machine().instructions) file << kernel << " " << count << "\n";
  }
  void OnTestProgramEnd(const ::testing::UnitTest&) override {
    std::filesystem::create_directories(PERILUNE_PTX_RAN);
    std::ofstream file(std::filesystem::path(PERILUNE_PTX_RAN) / "registered");
    for (const std::string& kernel : registered_kernels()) file << kernel << "\n";
  }
};

[[maybe_unused]] const bool listens = [] {
  ::testing::UnitTest::GetInstance()->listeners().Append(new Recorder);
  return true;
}();

}  // namespace

}  // namespace perilune::ptx
