#include "host/device/phases.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "host/device/device.hpp"
#include "host/training/trainer.hpp"
#if PERILUNE_HAS_CUDA
#include "host/device/phases_cuda.hpp"
#endif

namespace perilune {
namespace {

// Writes down what it is told: "rollout" at the beginning, "/rollout" at the end.
class Diary : public PhaseListener {
 public:
  explicit Diary(std::vector<std::string>& lines, std::string name = "") : lines_(lines), name_(std::move(name)) {}
  void begin(Phase phase) override { lines_.push_back(name_ + kPhaseNames[static_cast<std::size_t>(phase)]); }
  void end(Phase phase) override { lines_.push_back(name_ + "/" + kPhaseNames[static_cast<std::size_t>(phase)]); }

 private:
  std::vector<std::string>& lines_;
  std::string name_;
};

TEST(Phases, ListenersNestAndLeave) {
  std::vector<std::string> lines;
  Diary a(lines, "a:"), b(lines, "b:");
  PhaseMarks marks;
  marks.add(a);
  marks.add(b);
  { const PhaseScope scope(marks, Phase::kGae); }
  marks.remove(a);
  { const PhaseScope scope(marks, Phase::kUpdate); }
  EXPECT_EQ(lines, (std::vector<std::string>{"a:gae", "b:gae", "b:/gae", "a:/gae", "b:update", "b:/update"}));
}

TEST(Phases, AnIterationIsMarkedInOrder) {
  const SelectedDevice selected = select_device(DeviceChoice::kCpu, 1);
  Config config;
  config.hidden_width = 16;
  config.num_envs = 8;
  config.num_steps = 8;
  config.num_minibatches = 2;
  config.update_epochs = 1;
  Trainer trainer(config, *selected.device);
  trainer.start(std::nullopt, true);
  std::vector<std::string> lines;
  Diary diary(lines);
  selected.device->phases().add(diary);
  trainer.enqueue_iteration();
  selected.device->phases().remove(diary);
  const std::vector<std::string> minibatch = {"gradient", "/gradient", "reduce", "/reduce", "apply", "/apply"};
  std::vector<std::string> wanted = {"iteration", "rollout", "/rollout", "gae", "/gae", "update"};
  for (int i = 0; i < 2; ++i) wanted.insert(wanted.end(), minibatch.begin(), minibatch.end());
  wanted.insert(wanted.end(), {"/update", "/iteration"});
  EXPECT_EQ(lines, wanted);
}

TEST(Phases, TheTimerCountsAndForgets) {
  SteadyPhaseTimer timer;
  PhaseMarks marks;
  marks.add(timer);
  for (int i = 0; i < 3; ++i) {
    const PhaseScope outer(marks, Phase::kUpdate);
    for (int k = 0; k < 2; ++k) const PhaseScope inner(marks, Phase::kGradient);
  }
  const PhaseTotals totals = timer.take_totals();
  const PhaseTotal& update = totals[static_cast<std::size_t>(Phase::kUpdate)];
  const PhaseTotal& gradient = totals[static_cast<std::size_t>(Phase::kGradient)];
  EXPECT_EQ(update.count, 3u);
  EXPECT_EQ(gradient.count, 6u);
  EXPECT_GT(gradient.seconds, 0.0);
  EXPECT_LE(gradient.seconds, update.seconds);
  EXPECT_EQ(timer.take_totals()[static_cast<std::size_t>(Phase::kUpdate)].count, 0u);
}

#if PERILUNE_HAS_CUDA
// As under a profiler: ranges of our own domain with registered names, which its filters need. No GPU takes part.
TEST(Phases, NvtxShowsRangesOfTheDomain) {
  ASSERT_EQ(setenv("NVTX_INJECTION64_PATH", PERILUNE_NVTX_RECORDER, 1), 0);  // read at the first call of NVTX
  {
    const std::unique_ptr<PhaseListener> ranges = make_nvtx_ranges();
    PhaseMarks marks;
    marks.add(*ranges);
    const PhaseScope iteration(marks, Phase::kIteration);
    { const PhaseScope rollout(marks, Phase::kRollout); }
    { const PhaseScope update(marks, Phase::kUpdate); }
  }
  void* recorder = dlopen(PERILUNE_NVTX_RECORDER, RTLD_NOW);
  ASSERT_NE(recorder, nullptr) << dlerror();
  const auto record = reinterpret_cast<const char* (*)()>(dlsym(recorder, "nvtx_record"));
  ASSERT_NE(record, nullptr) << dlerror();
  EXPECT_EQ(std::string(record()), "domain perilune\npush iteration\npush rollout\npop\npush update\npop\npop\n");
}
#endif

}  // namespace
}  // namespace perilune
