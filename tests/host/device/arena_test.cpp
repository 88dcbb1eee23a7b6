// The memory plan: sizes, alignment, and the refusal of a plan that does not fit, on a device of any size we like.
#include "host/device/arena.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "host/base/error.hpp"

namespace perilune {
namespace {

using testing::HasSubstr;

// Has `free` bytes, counts what is taken and given back, and runs nothing.
class SmallDevice : public Device {
 public:
  explicit SmallDevice(std::size_t free) : free_(free) {}
  const Machine& machine() const override { throw std::logic_error("runs nothing"); }
  std::string description() const override { return "a small device"; }
  bool is_cuda() const override { return false; }
  bool supports(Precision) const override { return true; }
  Queue& queue() override { return queue_; }
  MatrixLibrary& matrix_library(Precision) override { throw std::logic_error("multiplies nothing"); }
  std::size_t free_memory() const override { return free_; }
  std::size_t max_block_storage() const override { return 0; }
  void* allocate(std::size_t bytes) override {
    taken += 1;
    void* memory = std::aligned_alloc(256, bytes);
    std::memset(memory, 0, bytes);
    return memory;
  }
  void release(void* memory) override {
    released += 1;
    std::free(memory);
  }
  void* allocate_shared(std::size_t) override { return nullptr; }
  void release_shared(void*) override {}
  void upload(void*, const void*, std::size_t) override {}
  void download(void*, const void*, std::size_t) override {}
  void synchronize() override {}
  std::unique_ptr<Recording> record(std::function<void(Queue&)>, bool) override { return nullptr; }

  int taken = 0, released = 0;

 private:
  std::size_t free_;
  Queue queue_;
};

TEST(Arena, ArraysAreAlignedZeroedAndApart) {
  SmallDevice device(1 << 20);
  {
    Arena arena;
    const Slot<float> a = arena.add<float>("a", {3, 5});
    const Slot<std::uint8_t> b = arena.add<std::uint8_t>("b", {1});
    const Slot<double> c = arena.add<double>("c", {7});
    EXPECT_EQ(device.taken, 0);
    arena.take(device);
    EXPECT_EQ(device.taken, 1);
    EXPECT_EQ(arena.size(a), 15u);
    const auto address = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p); };
    EXPECT_EQ(address(arena.at(a)) % 256, 0u);
    EXPECT_EQ(address(arena.at(b)) % 256, 0u);
    EXPECT_EQ(address(arena.at(c)) % 256, 0u);
    EXPECT_GE(address(arena.at(b)), address(arena.at(a) + 15 + kTailPadding));
    EXPECT_GE(address(arena.at(c)), address(arena.at(b) + 1 + kTailPadding));
    EXPECT_LE(address(arena.at(c) + 7 + kTailPadding), address(arena.at(a)) + arena.total_bytes());
    for (int i = 0; i < 15; ++i) EXPECT_EQ(arena.at(a)[i], 0.0f);
    EXPECT_THAT(arena.table(), HasSubstr("[3, 5]"));
  }
  EXPECT_EQ(device.released, 1);
}

TEST(Arena, RefusesWhatDoesNotFitAndTakesNothing) {
  SmallDevice device(10'000);
  Arena arena;
  arena.add<float>("rewards", {100, 100});
  try {
    arena.take(device);
    FAIL() << "took more than there is";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    EXPECT_THAT(error.what(), HasSubstr("39.8 KiB"));  // 40000 bytes, 512 of padding, rounded up to 256
    EXPECT_THAT(error.what(), HasSubstr("a small device has 9.8 KiB free"));
    EXPECT_THAT(error.what(), HasSubstr("lower num_envs"));
    EXPECT_THAT(error.what(), HasSubstr("rewards"));
  }
  EXPECT_EQ(device.taken, 0);
}

TEST(Arena, CountsThatOverflowAreRefused) {
  Arena arena;
  EXPECT_THROW(arena.add<float>("huge", {std::size_t{1} << 40, std::size_t{1} << 40}), UsageError);
}

}  // namespace
}  // namespace perilune
