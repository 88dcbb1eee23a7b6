// A whole run on a CPU device whose memory runs out in the middle.
#include "host/training.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "host/error.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using testing::HasSubstr;

/// The CPU with two threads, but only so many allocations.
class ScarceDevice : public Device {
 public:
  explicit ScarceDevice(int allocations)
      : inner_(select_device(DeviceChoice::kCpu, 2).device), left_(allocations) {}
  const Machine& machine() const override { return inner_->machine(); }
  std::string description() const override { return inner_->description(); }
  bool is_cuda() const override { return false; }
  bool supports(Precision precision) const override { return inner_->supports(precision); }
  Queue& queue() override { return inner_->queue(); }
  MatrixLibrary& matrix_library(Precision precision) override { return inner_->matrix_library(precision); }
  std::size_t free_memory() const override { return inner_->free_memory(); }
  std::size_t max_block_storage() const override { return inner_->max_block_storage(); }
  void* allocate(std::size_t bytes) override {
    if (left_-- == 0) throw OutOfMemoryError("no bytes are left");
    return inner_->allocate(bytes);
  }
  void release(void* memory) override { inner_->release(memory); }
  void* allocate_shared(std::size_t bytes) override { return inner_->allocate_shared(bytes); }
  void release_shared(void* memory) override { inner_->release_shared(memory); }
  void upload(void* to, const void* from, std::size_t bytes) override {
    inner_->upload(to, from, bytes);
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    inner_->download(to, from, bytes);
  }
  void synchronize() override { inner_->synchronize(); }
  std::unique_ptr<Recording> record(std::function<void(Queue&)> enqueue, bool graph) override {
    return inner_->record(std::move(enqueue), graph);
  }

 private:
  std::unique_ptr<Device> inner_;
  int left_;
};

TrainingOptions small_run(const std::filesystem::path& directory) {
  TrainingOptions options;
  options.config.num_envs = 8;
  options.config.num_steps = 16;
  options.config.total_timesteps = 10 * 8 * 16;
  options.config.hidden_width = 16;
  options.config.eval_every = 3;
  options.config.eval_episodes = 5;
  options.run_directory = directory;
  return options;
}

TEST(Training, OutOfMemoryInAnEvaluationLosesNothing) {
  const test::TemporaryDirectory scratch;
  ScarceDevice enough(-1);
  train(small_run(scratch / "whole"), enough);

  // The first allocation is the run's own, the second the evaluation after iteration 3; the third after iteration 6.
  const TrainingOptions options = small_run(scratch / "short");
  ScarceDevice scarce(2);
  try {
    train(options, scarce);
    FAIL() << "trained without memory";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    EXPECT_THAT(error.what(), HasSubstr("evaluation after iteration 6"));
    EXPECT_THAT(error.what(), HasSubstr("partial gradients")) << "the plan is not named";
  }
  TrainingOptions rest;
  rest.resume = options.run_directory;
  EXPECT_EQ(train(rest, enough).new_steps, 4u * 8u * 16u);
  EXPECT_EQ(test::read_text(*options.run_directory / "checkpoint.safetensors"),
            test::read_text(scratch / "whole" / "checkpoint.safetensors"));
}

TEST(Training, OutOfMemoryAtTheStartNamesThePlan) {
  const test::TemporaryDirectory scratch;
  ScarceDevice none(0);
  EXPECT_THAT([&] { train(small_run(scratch / "run"), none); },
              testing::ThrowsMessage<OutOfMemoryError>(HasSubstr("partial gradients")));
}

}  // namespace
}  // namespace perilune
