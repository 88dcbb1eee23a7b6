// Steady-state throughput of this machine, as one JSON object on standard output.
//
//   bench_throughput [--env ID] [--set KEY=VALUE]... [--device cpu|cuda|auto] [--threads N] [--envs N,N,...] [--width
//   W]
//                    [--precision P,P,...]
//                    [--seconds S] [--skip-sgemm] [--skip-sim] [--skip-train]
//
// Of CartPole-v1, or --env with parameters (--set env.fast_solver=true). Rows: "sim" (environment steps alone, random
// actions), "step" (the same one call at a time, as a caller with its own policy steps them: actions read, observations
// written; see host/environments/vector_env.hpp), "train" (whole PPO iterations: rollout, GAE, four epochs of four
// minibatches, Adam; separate tanh actor and critic with two layers of W, 64 if not given, 128 steps) in each
// precision given (none: what "auto" chooses), both over the numbers of environments given, and "sgemm" (2048^3, the
// machine's own fp32 rate: by OpenBLAS or oneDNN, the faster of what is installed). A row has the median and the median
// absolute deviation of repeated timings, and what the performance model predicts. FLOP per training step are nominal:
// 2 per parameter forward and 4 more backward in each epoch, 238 k at width 64; activations, loss, optimiser and
// simulator count nothing.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bench/measure.hpp"
#include "bench/options.hpp"
#include "host/base/build_info.hpp"
#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/device/arena.hpp"
#include "host/device/matrix_library.hpp"
#include "host/environments/vector_env.hpp"
#include "host/planning/performance_model.hpp"
#include "host/planning/precision.hpp"
#include "host/settings/environment_settings.hpp"
#include "host/training/trainer.hpp"

namespace perilune {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  Config environment;  // only what concerns it
  DeviceChoice device = DeviceChoice::kAuto;
  int threads = 0;
  std::vector<int> envs;  // none given: what suits the device
  int width = 64;
  std::vector<std::string> precisions = {"auto"};
  bool sim = true, train = true;
  double seconds = 3.0;  // per row
  bool sgemm = true;
};

Json rate_row(const char* what, int envs, const Timing& timing, double steps) {
  return {{"what", what},
          {"num_envs", envs},
          {"steps_per_second", std::round(steps / timing.median)},
          {"relative_deviation", timing.deviation / timing.median},
          {"runs", timing.runs}};
}

Config benchmark_config(const Config& environment, int envs, int width, const std::string& precision) {
  Config config = environment;
  set_key(config, "precision", precision);
  config.hidden_width = width;
  config.num_envs = envs;
  config.num_steps = 128;
  config.total_timesteps = 1LL << 40;
  config.anneal_lr = Anneal::kNone;
  return config;
}

Json measure_train(Device& device, const Hardware& hardware, const Config& config, double seconds) {
  Trainer trainer(config, device);
  trainer.start(std::nullopt, true);
  const auto steps = static_cast<double>(trainer.steps_per_iteration());
  int iterations = 1;
  const auto run = [&] {
    for (int i = 0; i < iterations; ++i) trainer.enqueue_iteration();
    device.synchronize();
  };
  run();
  const Clock::time_point begin = Clock::now();
  run();
  const double once = std::chrono::duration<double>(Clock::now() - begin).count();
  iterations = std::max(1, static_cast<int>(0.01 / once));
  const Timing timing = time_repeatedly(seconds, run);
  Json row = rate_row("train", config.num_envs, timing, steps * iterations);
  const double flop = flop_per_step(trainer.model(), config);
  row["hidden_width"] = config.hidden_width;
  row["precision"] = precision_name(trainer.precision());
  row["num_steps"] = config.num_steps;
  row["flop_per_step"] = flop;
  row["gflops"] = flop * steps * iterations / timing.median * 1e-9;
  double predicted = 0.0;
  for (const PhasePrediction& phase : predict_iteration(config, hardware, trainer.precision()))
    predicted += phase.seconds;
  row["predicted_steps_per_second"] = std::round(steps / predicted);
  row["bytes_per_sample"] = static_cast<double>(trainer.arena().total_bytes()) / steps;
  return row;
}

Json measure_sim(Device& device, const Hardware& hardware, const Config& environment, int envs, double seconds) {
  const Kernels& kernels = *find_kernels(device.machine(), environment.env_id.c_str(), 64);
  const auto n = static_cast<std::size_t>(envs);
  Arena arena;
  const auto fields = arena.add<float>("fields", {kernels.environment->field_names.size(), n});
  const auto episode = arena.add<std::uint32_t>("episode", {n}), elapsed = arena.add<std::uint32_t>("elapsed", {n});
  const auto returns = arena.add<float>("return", {n});
  const auto count = arena.add<float>("count", {n}), total = arena.add<float>("total", {n}),
             length = arena.add<float>("length", {n});
  arena.take(device);
  SimulateArgs args{};
  args.environments.fields = arena.at(fields);
  args.environments.episode = arena.at(episode);
  args.environments.elapsed = arena.at(elapsed);
  args.environments.episode_return = arena.at(returns);
  args.environments.count = envs;
  args.environments.max_episode_steps = episode_limit(environment);
  args.environments.key = {1, 0};
  copy_env_parameters(environment, args.environments.parameters);
  args.episodes = {arena.at(count), arena.at(total), arena.at(length)};
  args.num_steps = 1000;
  kernels.reset({args.environments}, device.queue());
  const Timing timing = time_repeatedly(seconds, [&] {
    kernels.simulate(args, device.queue());
    device.synchronize();
  });
  std::vector<float> counts(n), lengths(n);
  device.download(counts.data(), args.episodes.count, n * sizeof(float));
  device.download(lengths.data(), args.episodes.total_length, n * sizeof(float));
  double episodes = 0.0, steps = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    episodes += counts[i];
    steps += lengths[i];
  }
  Json row = rate_row("sim", envs, timing, static_cast<double>(envs) * args.num_steps);
  Config sized = environment;
  sized.num_envs = envs;
  row["predicted_steps_per_second"] = std::round(predict_simulation(sized, hardware));
  // The check that it simulates what it says: 22.2 with random actions for CartPole, 93.4 and 106.9 for LunarLander.
  row["mean_episode_length"] = steps / episodes;
  return row;
}

Json measure_step(Device& device, const Config& environment, int envs, double seconds) {
  VectorEnvOptions options;
  options.env_id = environment.env_id;
  for (const auto& [name, value] : environment.env_parameters) options.parameters[name] = value;
  options.num_envs = envs;
  VectorEnv env(options, device);
  const auto n = static_cast<std::size_t>(envs);
  constexpr std::size_t kCalls = 64;  // of a timing
  constexpr std::size_t kDrawn = 8;   // arrays of actions, in turns: as a caller's, they are still in the caches
  Arena arena;
  const EnvironmentInfo& info = find_environment(environment.env_id);
  const auto numbers = static_cast<std::size_t>(info.action_space.numbers());
  const auto choices = arena.add<std::int64_t>("choices", {kDrawn, n});
  const auto boxes = arena.add<float>("boxes", {kDrawn, n * numbers});
  const auto observations = arena.add<float>("observations", {n, static_cast<std::size_t>(env.observation_dim())});
  const auto rewards = arena.add<float>("rewards", {n});
  const auto terminated = arena.add<std::uint8_t>("terminated", {n}),
             truncated = arena.add<std::uint8_t>("truncated", {n});
  arena.take(device);
  std::vector<std::int64_t> chosen(kDrawn * n);
  std::vector<float> drawn(kDrawn * n * numbers);
  std::minstd_rand random(1);
  for (std::int64_t& action : chosen) action = static_cast<std::int64_t>(random() >> 8) % info.action_space.size;
  for (float& action : drawn) action = std::uniform_real_distribution(-1.0f, 1.0f)(random);
  device.upload(arena.at(choices), chosen.data(), chosen.size() * sizeof(std::int64_t));
  device.upload(arena.at(boxes), drawn.data(), drawn.size() * sizeof(float));
  ResetOptions reset;
  reset.seed = 1;
  env.reset(reset, arena.at(observations));
  const Timing timing = time_repeatedly(seconds, [&] {
    for (std::size_t call = 0; call < kCalls; ++call) {
      const std::size_t at = call % kDrawn * n;
      const void* actions = info.action_space.continuous ? static_cast<const void*>(arena.at(boxes) + at * numbers)
                                                         : static_cast<const void*>(arena.at(choices) + at);
      env.step(actions, info.action_space.continuous ? ActionType::kFloat32 : ActionType::kInt64,
               {arena.at(observations), arena.at(rewards), arena.at(terminated), arena.at(truncated), nullptr, nullptr,
                nullptr});
    }
    env.check();
  });
  Json row = rate_row("step", envs, timing, static_cast<double>(envs) * kCalls);
  row["microseconds_per_call"] = timing.median / kCalls * 1e6;
  return row;
}

constexpr int kSgemmSize = 2048;
struct Sgemm {
  std::string library;
  std::function<void(const float* a, const float* b, float* c)> multiply;
};

// A library's product of square matrices, with its own threads; the library is one that host/device/matrix_library.hpp
// has opened.
template <class Function, class... Arguments>
void add_sgemm(std::vector<Sgemm>& found, const char* name, std::span<const char* const> files, const char* set_threads,
               int threads, const char* function, Arguments... transposes) {
  void* library = nullptr;
  for (const char* file : files) library = library != nullptr ? library : dlopen(file, RTLD_NOW | RTLD_NOLOAD);
  const auto set = library == nullptr ? nullptr : reinterpret_cast<void (*)(int)>(dlsym(library, set_threads));
  const auto sgemm = library == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(library, function));
  if (set == nullptr || sgemm == nullptr) return;
  set(threads);
  found.push_back({name, [=](const float* a, const float* b, float* c) {
                     constexpr int n = kSgemmSize;
                     sgemm(transposes..., n, n, n, 1.0f, a, n, b, n, 0.0f, c, n);
                   }});
}

// The fastest fp32 matrix product of the libraries that are installed, or null where none is.
Json measure_sgemm(int threads, double seconds) {
  std::vector<Sgemm> found;
  try {
    const auto openblas = open_openblas();  // gives it the kernels that layer-by-layer networks get
    using Function =
        void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
    add_sgemm<Function>(found, openblas->name(), kOpenBlasFiles, "openblas_set_num_threads", threads, "cblas_sgemm",
                        101, 111, 111);
  } catch (const Error&) {
    // not installed
  }
  if (const auto onednn = open_onednn()) {
    using Size = std::int64_t;
    using Function =
        int (*)(char, char, Size, Size, Size, float, const float*, Size, const float*, Size, float, float*, Size);
    add_sgemm<Function>(found, onednn->name(), kOneDnnFiles, "omp_set_num_threads", threads, "dnnl_sgemm", 'N', 'N');
  }

  const std::vector<float> a(kSgemmSize * kSgemmSize, 0.5f), b(kSgemmSize * kSgemmSize, 0.25f);
  std::vector<float> c(kSgemmSize * kSgemmSize);
  Json fastest;
  for (const Sgemm& sgemm : found) {
    const Timing timing = time_repeatedly(seconds, [&] { sgemm.multiply(a.data(), b.data(), c.data()); });
    if (c[0] != 0.125f * kSgemmSize) throw Error(sgemm.library + " returned a wrong product");
    const double gflops = 2e-9 * kSgemmSize * kSgemmSize * kSgemmSize / timing.median;
    if (!fastest.is_null() && fastest["gflops"] > gflops) continue;
    fastest = {{"what", "sgemm"},
               {"library", sgemm.library},
               {"threads", threads},
               {"gflops", gflops},
               {"relative_deviation", timing.deviation / timing.median},
               {"runs", timing.runs}};
  }
  return fastest;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

Options parse(int argc, char** argv) {
  Options options;
  const auto take_parameter = [&](const std::string& option, const std::string& value) {
    const std::size_t equals = value.find('=');
    if (!value.starts_with("env.") || equals == std::string::npos) {
      throw UsageError(option + " takes parameters of the environment: env.NAME=VALUE");
    }
    set_key(options.environment, value.substr(0, equals), value.substr(equals + 1));
  };
  const auto take_envs = [&](const std::string& option, const std::string& value) {
    options.envs.clear();
    for (const std::string& item : bench::items_of(value)) options.envs.push_back(bench::count_option(option, item));
  };
  bench::parse_options(
      argc, argv,
      {{"--env", [&](const auto&, const auto& value) { set_key(options.environment, "env_id", value); }},
       {"--set", take_parameter},
       {"--device", [&](const auto& option, const auto& value) { options.device = device_choice(option, value); }},
       bench::int_option("--threads", options.threads),
       {"--envs", take_envs},
       bench::int_option("--width", options.width),
       {"--precision", [&](const auto&, const auto& value) { options.precisions = bench::items_of(value); }},
       bench::seconds_option("--seconds", options.seconds),
       bench::flag("--skip-sgemm", options.sgemm, false),
       bench::flag("--skip-sim", options.sim, false),
       bench::flag("--skip-train", options.train, false)});
  validate_environment(options.environment);
  return options;
}

int run(int argc, char** argv) {
  Options options = parse(argc, argv);
  const SelectedDevice selected = select_device(options.device, options.threads);
  Device& device = *selected.device;
  if (options.envs.empty()) {
    options.envs =
        device.is_cuda() ? std::vector<int>{4096, 16384, 65536, 262144} : std::vector<int>{64, 256, 1024, 4096};
  }
  const int threads = options.threads > 0 ? options.threads : available_cores();
  const Hardware hardware = device.hardware();
  Json rows = Json::array();
  double sgemm = 0.0;
  if (options.sgemm && !device.is_cuda()) {
    const Json row = measure_sgemm(threads, options.seconds);
    if (!row.is_null()) {
      sgemm = row["gflops"];
      rows.push_back(row);
    }
  }
  for (int envs : options.sim ? options.envs : std::vector<int>{})
    rows.push_back(measure_sim(device, hardware, options.environment, envs, options.seconds));
  for (int envs : options.sim ? options.envs : std::vector<int>{})
    rows.push_back(measure_step(device, options.environment, envs, options.seconds));
  for (int envs : options.train ? options.envs : std::vector<int>{}) {
    for (const std::string& precision : options.precisions) {
      Json row = measure_train(device, hardware, benchmark_config(options.environment, envs, options.width, precision),
                               options.seconds);
      if (sgemm > 0.0) row["share_of_sgemm"] = static_cast<double>(row["gflops"]) / sgemm;
      rows.push_back(row);
    }
  }
  std::string environment = options.environment.env_id;
  for (const EnvironmentParameter& parameter : find_environment(environment).parameters) {
    const double set = env_parameter(options.environment, parameter);
    if (set != parameter.default_value) environment += formatted(" {}={}", parameter.name, set);
  }
  const Json result = {{"benchmark", "throughput"},
                       {"environment", environment},
                       {"device", device.description()},
                       {"processor", cpu_model()},
                       {"cores", available_cores()},
                       {"threads", threads},
                       {"version", std::string(build_info().version) + " " + std::string(build_info().commit)},
                       {"command", bench::command_text(argc, argv)},
                       {"rows", rows}};
  std::puts(result.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace perilune

int main(int argc, char** argv) { return perilune::bench::run_bench("bench_throughput", perilune::run, argc, argv); }
