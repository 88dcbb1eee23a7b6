#include "host/training/profiling.hpp"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "host/base/error.hpp"
#include "host/planning/precision.hpp"
#include "host/training/trainer.hpp"

namespace perilune {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kWarmUp = 2;

// One iteration's seconds, and its phases'.
struct Sample {
  double seconds = 0.0;
  PhaseTotals phases{};
};

// The mean over the faster half of the iterations: what another process disturbed is left out, and parts still add up
// to the whole, which they would not as medians of each.
Sample typical(std::vector<Sample> samples) {
  std::sort(samples.begin(), samples.end(), [](const Sample& a, const Sample& b) { return a.seconds < b.seconds; });
  samples.resize((samples.size() + 1) / 2);
  Sample mean;
  const double share = 1.0 / static_cast<double>(samples.size());
  for (const Sample& sample : samples) {
    mean.seconds += sample.seconds * share;
    for (std::size_t p = 0; p < kPhases; ++p) mean.phases[p].seconds += sample.phases[p].seconds * share;
  }
  for (std::size_t p = 0; p < kPhases; ++p) mean.phases[p].count = samples.front().phases[p].count;
  return mean;
}

// A listener for as long as this lives.
class Listening {
 public:
  Listening(Device& device, PhaseListener& listener) : device_(device), listener_(listener) {
    device_.phases().add(listener_);
  }
  ~Listening() { device_.phases().remove(listener_); }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

 private:
  Device& device_;
  PhaseListener& listener_;
};

class Profiler {
 public:
  Profiler(Trainer& trainer, Device& device, int iterations)
      : trainer_(trainer), device_(device), iterations_(iterations) {}

  double time(int iterations) {
    std::vector<Sample> samples;
    for (int i = 0; i < iterations; ++i) samples.push_back({run(), {}});
    return typical(std::move(samples)).seconds;
  }

  void warm_up() {
    for (int i = 0; i < kWarmUp; ++i) run();
  }

  // Without timing and with it, in turns, so that a change of clocks meets both.
  void measure(Profile& profile) {
    const std::unique_ptr<PhaseTimer> timer = device_.make_phase_timer();
    std::vector<Sample> plain, marked;
    for (int i = 0; i < iterations_; ++i) {
      plain.push_back({run(), {}});
      const Listening listening(device_, *timer);
      const double seconds = run();
      marked.push_back({seconds, timer->take_totals()});
    }
    profile.plain = typical(std::move(plain)).seconds;
    const Sample sample = typical(std::move(marked));
    profile.marked = sample.seconds;
    profile.update = sample.phases[static_cast<std::size_t>(Phase::kUpdate)].seconds;
    for (ProfileRow& row : profile.rows) {
      const PhaseTotal& total = sample.phases[static_cast<std::size_t>(row.model.work.phase)];
      row.seconds = total.seconds;
      row.marks = static_cast<double>(total.count);
    }
  }

  void count(Profile& profile, CpuCounters& counters) {
    {
      const Listening listening(device_, counters);
      for (int i = 0; i < iterations_; ++i) run();
    }
    for (ProfileRow& row : profile.rows) {
      const CounterTotal& total = counters.totals()[static_cast<std::size_t>(row.model.work.phase)];
      const auto n = static_cast<std::uint64_t>(iterations_);
      row.counters = {total.cycles / n, total.instructions / n};
    }
  }

  std::uint64_t iterations_run() const { return iterations_run_; }

 private:
  double run() {
    ++iterations_run_;
    const Clock::time_point begin = Clock::now();
    trainer_.enqueue_iteration();
    device_.synchronize();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  Trainer& trainer_;
  Device& device_;
  int iterations_;
  std::uint64_t iterations_run_ = 0;
};

}  // namespace

Profile predict_training(const Config& config, const Hardware& hardware, Precision precision) {
  Profile profile;
  profile.config = config;
  profile.device = hardware.name;
  profile.precision = precision;
  profile.hardware = hardware;
  profile.steps_per_iteration = static_cast<double>(batch_size(config));
  for (const PhasePrediction& prediction : predict_iteration(config, hardware, precision)) {
    profile.rows.emplace_back().model = prediction;
    profile.predicted += prediction.seconds;
  }
  return profile;
}

Profile profile_training(const Config& config, Device& device, int iterations, CpuCounters* counters) {
  Config endless = config;
  // No annealing worth mentioning.
  endless.total_timesteps = (std::int64_t{1} << 24) * batch_size(config);
  Trainer trainer(endless, device);
  trainer.arena().require_room(device);
  Profile profile = predict_training(config, device.hardware(), choose_precision(config, device));
  profile.device = device.description();
  profile.iterations = iterations;
  trainer.start(std::nullopt, false);

  Profiler profiler(trainer, device, iterations);
  profiler.warm_up();
  device.start_profiler();
  profiler.measure(profile);
  if (device.is_cuda()) {
    trainer.record(true);
    profiler.warm_up();
    profile.graph = profiler.time(iterations);
  }
  device.stop_profiler();
  if (counters != nullptr && counters->obstacle().empty()) profiler.count(profile, *counters);
  // Kernels do nothing after a NaN, and their times would mean nothing.
  if (trainer.metrics(profiler.iterations_run() - 1).nonfinite != NonFinite::kNone) {
    throw Error("NaN or Inf while profiling - the times mean nothing - lower learning_rate, or set max_grad_norm");
  }
  return profile;
}

}  // namespace perilune
