// Kernels beside those of NVIDIA's libraries that do the same work, on a GPU, as one JSON object on standard output.
//
//   bench_libraries [--samples N] [--seconds S]
//
// "moments": mean and deviation of a batch, beside cub::DeviceReduce. "gae": advantages, targets and their moments of
// 128 steps of N / 128 environments, beside cub::DeviceScan by key, over steps that were prepared in its order.
// "reduce": the sum of 264 partial gradients, with its norm, beside cuBLAS's product with a row of ones. Both sides are
// launched back to back; a time is of one launch, the median of several series. Exit status 1 if the two disagree, 3
// without a GPU.
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "bench/libraries.hpp"
#include "bench/measure.hpp"
#include "bench/options.hpp"
#include "host/base/build_info.hpp"
#include "host/base/json.hpp"
#include "host/device/device_array.hpp"

namespace perilune {
namespace {

using bench::BatchMoments;
using bench::Step;

constexpr int kSteps = 128, kPartials = 264, kParameters = 9091;
constexpr float kGamma = 0.99f, kLambda = 0.95f;
constexpr int kLaunches = 20;  // of a series

/// seconds 0: only to see that it runs.
double seconds_of(Device& device, double seconds, const std::function<void()>& launch) {
  const int launches = seconds > 0.0 ? kLaunches : 1;
  const Timing timing = time_repeatedly(seconds, [&] {
    for (int i = 0; i < launches; ++i) launch();
    device.synchronize();
  });
  return timing.median / launches;
}

struct Comparison {
  Json row;
  double distance;  // of the results, relative
};

Comparison compare(Device& device, double seconds, const char* what, const char* library, double distance,
                   const std::function<void()>& ours, const std::function<void()>& theirs) {
  const double mine = seconds_of(device, seconds, ours), other = seconds_of(device, seconds, theirs);
  return {{{"what", what},
           {"library", library},
           {"seconds", mine},
           {"library_seconds", other},
           {"ratio", other / mine},
           {"relative_distance", distance}},
          distance};
}

// Root mean square of the differences, in that of the reference.
double distance(const std::vector<float>& actual, const std::vector<float>& reference) {
  double differences = 0.0, squares = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    differences += std::pow(double{actual[i]} - double{reference[i]}, 2);
    squares += std::pow(double{reference[i]}, 2);
  }
  return std::sqrt(differences / squares);
}

struct Batch {
  int count;                           // environments
  std::vector<float> rewards, values;  // [T][N], [T+1][N]
  std::vector<std::uint8_t> ends;
};

Batch make_batch(int samples) {
  Batch batch{samples / kSteps, {}, {}, {}};
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  const std::size_t size = static_cast<std::size_t>(batch.count) * kSteps;
  for (std::size_t i = 0; i < size; ++i) {
    batch.rewards.push_back(1.0f);
    batch.ends.push_back(engine() % 50 == 0 ? 1 : 0);
  }
  for (std::size_t i = 0; i < size + static_cast<std::size_t>(batch.count); ++i)
    batch.values.push_back(10.0f + normal(engine));
  return batch;
}

Comparison compare_moments(Device& device, const Batch& batch, double seconds) {
  const int count = batch.count * kSteps;
  const Machine& machine = device.machine();
  const DeviceArray<float> samples(device, std::vector<float>(batch.values.begin(), batch.values.begin() + count));
  const DeviceArray<float> moments(device, kChunkMoments * static_cast<std::size_t>(machine.moment_chunks(count)));
  const DeviceArray<float> scale(device, 2);
  const DeviceArray<BatchMoments> theirs(device, 1);
  const DeviceArray<Control> control(device, 1);
  void* const stream = device.queue().stream;
  std::size_t bytes = 0;
  bench::cub_moments(nullptr, bytes, samples.data(), count, theirs.data(), stream);
  const DeviceArray<char> temporary(device, bytes);
  const AdvantageMomentsArgs args{
      {count, count, 0, 0, {1, 0}}, control.data(), samples.data(), moments.data(), scale.data(), 1, 1, 1e-8f};
  const auto launch = [&] { machine.advantage_moments(args, device.queue()); };
  const auto library = [&] {
    bench::cub_moments(temporary.data(), bytes, samples.data(), count, theirs.data(), stream);
    device.queue().after_kernel = false;
  };
  launch();
  library();
  const std::vector<float> mine = scale.copy();
  const BatchMoments other = theirs.copy()[0];
  const double far = distance({mine[0], 1.0f / mine[1]}, {other.mean, std::sqrt(other.squares / (other.count - 1.0f))});
  return compare(device, seconds, "moments", "CUB", far, launch, library);
}

Comparison compare_gae(Device& device, const Batch& batch, double seconds) {
  const Machine& machine = device.machine();
  const auto envs = static_cast<std::size_t>(batch.count), size = envs * kSteps;
  const DeviceArray<float> rewards(device, batch.rewards), values(device, batch.values), advantages(device, size);
  const DeviceArray<float> moments(device, static_cast<std::size_t>(machine.gae_blocks(batch.count)) * kBatchMoments);
  const DeviceArray<std::uint8_t> ends(device, batch.ends);
  const DeviceArray<Control> control(device, 1);
  std::vector<int> keys;
  std::vector<Step> steps;
  for (std::size_t n = 0; n < envs; ++n) {
    for (int t = kSteps - 1; t >= 0; --t) {  // last first, as the recursion runs
      const std::size_t i = static_cast<std::size_t>(t) * envs + n;
      const float goes_on = batch.ends[i] != 0 ? 0.0f : 1.0f;
      keys.push_back(static_cast<int>(n));
      steps.push_back(
          {goes_on * kGamma * kLambda, batch.rewards[i] + goes_on * kGamma * batch.values[i + envs] - batch.values[i]});
    }
  }
  const DeviceArray<int> device_keys(device, keys);
  const DeviceArray<Step> device_steps(device, steps), composed(device, size);
  void* const stream = device.queue().stream;
  std::size_t bytes = 0;
  const int count = static_cast<int>(size);
  bench::cub_scan(nullptr, bytes, device_keys.data(), device_steps.data(), composed.data(), count, stream);
  const DeviceArray<char> temporary(device, bytes);
  const GaeArgs args{rounded({.gamma = kGamma, .gae_lambda = kLambda}, {}, 1),
                     control.data(),
                     rewards.data(),
                     values.data(),
                     ends.data(),
                     advantages.data(),
                     moments.data(),
                     batch.count,
                     kSteps};
  // Targets replace values, which only the first launch finds as they were: times do not hang on them.
  const auto launch = [&] { machine.gae(args, device.queue()); };
  const auto library = [&] {
    bench::cub_scan(temporary.data(), bytes, device_keys.data(), device_steps.data(), composed.data(), count, stream);
    device.queue().after_kernel = false;
  };
  launch();
  library();
  const std::vector<Step> scanned = composed.copy();
  std::vector<float> expected(size);
  for (std::size_t i = 0; i < size; ++i) {
    expected[(kSteps - 1 - i % kSteps) * envs + i / kSteps] = scanned[i].sum;
  }
  const double far = distance(advantages.copy(), expected);
  return compare(device, seconds, "gae", "CUB", far, launch, library);
}

Comparison compare_reduce(Device& device, double seconds) {
  const Machine& machine = device.machine();
  std::mt19937 engine(2);
  std::normal_distribution<float> normal;
  std::vector<float> drawn(static_cast<std::size_t>(kPartials) * kParameters);
  for (float& x : drawn) x = normal(engine);
  const DeviceArray<float> partials(device, drawn), ones(device, std::vector<float>(kPartials, 1.0f));
  const DeviceArray<float> gradient(device, kParameters), theirs(device, kParameters),
      sums(device, kPartials * kLossSums);
  const DeviceArray<float> squares(device, static_cast<std::size_t>(machine.reduce_blocks(kParameters))),
      running(device, kMetrics);
  const DeviceArray<Control> control(device, 1);
  const DeviceArray<AdamStep> step(device, 1);
  const ReduceGradientsArgs args{.hyper = {},
                                 .control = control.data(),
                                 .losses = Losses::kBoth,
                                 .minibatch_size = 1,
                                 .partials = kPartials,
                                 .parameter_count = kParameters,
                                 .begin = 0,
                                 .end = kParameters,
                                 .actor_end = kParameters / 2,
                                 .last_of_epoch = 0,
                                 .decay_after = 0,
                                 .gradients = partials.data(),
                                 .sums = sums.data(),
                                 .gradient = gradient.data(),
                                 .square_sums = squares.data(),
                                 .step = step.data(),
                                 .running = running.data()};
  MatrixLibrary& cublas = device.matrix_library(Precision::kFp32);
  const MatrixProduct product{.rows = 1,
                              .columns = kParameters,
                              .inner = kPartials,
                              .a = ones.data(),
                              .a_stride = kPartials,
                              .b = partials.data(),
                              .b_stride = kParameters,
                              .c = theirs.data(),
                              .c_stride = kParameters};
  const auto launch = [&] { machine.reduce_gradients(args, device.queue()); };
  const auto library = [&] { cublas.multiply(product, device.queue()); };
  launch();
  library();
  const double far = distance(gradient.copy(), theirs.copy());
  return compare(device, seconds, "reduce", cublas.name(), far, launch, library);
}

int run(int argc, char** argv) {
  int samples = 1 << 21;
  double seconds = 0.5;
  bench::parse_options(argc, argv,
                       {bench::int_option("--samples", samples), bench::seconds_option("--seconds", seconds)});
  if (samples < kSteps) throw UsageError(formatted("--samples {} is too few - allowed: {} or more", samples, kSteps));
  const SelectedDevice selected = select_device(DeviceChoice::kCuda, 0);
  Device& device = *selected.device;
  const Batch batch = make_batch(samples);
  double farthest = 0.0;
  Json rows = Json::array();
  const auto add = [&](const Comparison& found) {
    farthest = std::isnan(found.distance) ? 1.0 : std::max(farthest, found.distance);
    rows.push_back(found.row);
  };
  add(compare_moments(device, batch, seconds));
  add(compare_gae(device, batch, seconds));
  std::string left_out;
  try {
    add(compare_reduce(device, seconds));
  } catch (const Error& error) {  // cuBLAS may be missing
    left_out = error.what();
  }
  Json result = {{"benchmark", "libraries"},
                 {"device", device.description()},
                 {"version", std::string(build_info().version) + " " + std::string(build_info().commit)},
                 {"rows", rows}};
  if (!left_out.empty()) result["left_out"] = left_out;
  std::puts(result.dump(1).c_str());
  return farthest < 1e-4 ? 0 : 1;
}

}  // namespace
}  // namespace perilune

int main(int argc, char** argv) { return perilune::bench::run_bench("bench_libraries", perilune::run, argc, argv); }
