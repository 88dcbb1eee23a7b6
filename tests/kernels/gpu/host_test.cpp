// The host's classes on the CUDA device: environments have the CPU's bits, networks its results but for rounding, and a
// queue always knows whether a kernel was enqueued last.
//
// The comparisons are also made with the portable CPU level in the place of the GPU, so that they are tried out
// wherever they are built.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "host/base/error.hpp"
#include "host/device/device_array.hpp"
#include "host/device/device_cuda.hpp"
#include "host/environments/vector_env.hpp"
#include "host/runs/checkpoint.hpp"
#include "host/runs/policy.hpp"
#include "host/settings/environments.hpp"
#include "host/training/trainer.hpp"
#include "tests/kernels/network_errors.hpp"
#include "tests/support/forwarding_device.hpp"

namespace perilune::test {
namespace {

/// Opens the CUDA device, or skips the test, or fails it where a GPU is expected.
std::unique_ptr<Device> open_gpu() {
  std::string why_not;
  std::unique_ptr<Device> device = open_cuda_device(why_not);
  if (device != nullptr) return device;
  [&] {
    if (gpu_required()) FAIL() << why_not << ", and PERILUNE_REQUIRE_GPU is set";
    GTEST_SKIP() << why_not;
  }();
  return nullptr;
}

/// The portable level of the CPU, whose networks round otherwise than those of better ones.
class PortableCpu : public ForwardingDevice {
 public:
  explicit PortableCpu(const Machine& machine) : machine_(machine) {}
  const Machine& machine() const override { return machine_; }
  bool supports(Precision precision) const override { return precision == Precision::kFp32; }

 private:
  const Machine& machine_;
};

std::unique_ptr<Device> open_portable_cpu() {
  for (const CpuLevel& level : cpu_levels()) {
    if (std::string(level.name) == "portable" && level.machine != nullptr) {
      return std::make_unique<PortableCpu>(level.machine());
    }
  }
  [] { GTEST_SKIP() << "this build has no portable level"; }();
  return nullptr;
}

/// A device of interest, and one CPU thread to compare it with.
class OnDevice : public testing::TestWithParam<std::unique_ptr<Device> (*)()> {
 protected:
  void SetUp() override { device_ = GetParam()(); }

  Device& device() { return *device_; }
  Device& cpu() { return *cpu_; }

 private:
  std::unique_ptr<Device> device_, cpu_ = select_device(DeviceChoice::kCpu, 1).device;
};

INSTANTIATE_TEST_SUITE_P(, OnDevice, testing::Values(open_gpu, open_portable_cpu),
                         [](const auto& test) { return test.param == open_gpu ? "Cuda" : "CpuPortable"; });

/// Every built-in environment, those that have it with wind.
std::vector<Config> every_environment() {
  std::vector<Config> result;
  for (const EnvironmentInfo& environment : environments()) {
    result.emplace_back().env_id = environment.id;
    if (find_parameter(environment, "enable_wind") != nullptr) result.back().env_parameters = {{"enable_wind", 1.0}};
  }
  return result;
}

/// What a step writes, one array after the other.
struct Steps {
  VectorEnv env;
  std::size_t count, width;
  DeviceArray<float> observations, rewards, final_observations, episode_returns;
  DeviceArray<std::uint8_t> terminated, truncated;
  DeviceArray<std::uint32_t> episode_lengths;

  Steps(const VectorEnvOptions& options, Device& device)
      : env(options, device),
        count(at(env.num_envs())),
        width(at(env.observation_dim())),
        observations(device, count * width),
        rewards(device, count),
        final_observations(device, count * width),
        episode_returns(device, count),
        terminated(device, count),
        truncated(device, count),
        episode_lengths(device, count) {}

  void reset() {
    ResetOptions options;
    options.seed = 5;
    env.reset(options, observations.data());
  }
  template <class T>
  void step(const std::vector<T>& actions, ActionType type) {
    const DeviceArray<T> given(env.device(), actions);
    env.step(given.data(), type,
             {observations.data(), rewards.data(), terminated.data(), truncated.data(),
              env.autoreset() == Autoreset::kSameStep ? final_observations.data() : nullptr, episode_returns.data(),
              episode_lengths.data()});
    env.device().synchronize();  // before the actions are gone
  }
  void expect_same_bits_as(const Steps& other) const {
    expect_same_bits("observation", observations.copy(), other.observations.copy());
    expect_same_bits("reward", rewards.copy(), other.rewards.copy());
    expect_same_bits("final observation", final_observations.copy(), other.final_observations.copy());
    expect_same_bits("episode return", episode_returns.copy(), other.episode_returns.copy());
    expect_same_bits("terminated", terminated.copy(), other.terminated.copy());
    expect_same_bits("truncated", truncated.copy(), other.truncated.copy());
    expect_same_bits("episode length", episode_lengths.copy(), other.episode_lengths.copy());
  }
};

TEST_P(OnDevice, EnvironmentsHaveTheBitsOfTheCpu) {
  Autoreset autoreset = Autoreset::kNextStep;
  for (const Config& config : every_environment()) {
    SCOPED_TRACE(config.env_id);
    autoreset = autoreset == Autoreset::kNextStep ? Autoreset::kSameStep : Autoreset::kNextStep;
    const VectorEnvOptions options{config.env_id, 133, config.env_parameters, 9, autoreset};
    Steps steps(options, device()), expected(options, cpu());
    for (Steps* each : {&steps, &expected}) each->reset();
    steps.expect_same_bits_as(expected);
    Draws draws(3);
    for (int t = 0; t < 21; ++t) {
      std::vector<std::int64_t> choices;
      std::vector<float> numbers;
      for (int i = 0; i < 133 * steps.env.action_space().size; ++i) numbers.push_back(draws.uniform(-1.3, 1.3));
      for (int i = 0; i < 133; ++i) choices.push_back(draws.below(steps.env.action_space().size));
      for (Steps* each : {&steps, &expected}) {
        steps.env.action_space().continuous ? each->step(numbers, ActionType::kFloat32)
                                            : each->step(choices, ActionType::kInt64);
      }
      steps.expect_same_bits_as(expected);
    }
    const EnvironmentStates states = steps.env.states(), expected_states = expected.env.states();
    expect_same_bits("state", states.fields, expected_states.fields);
    expect_same_bits("episode", states.episode, expected_states.episode);
    expect_same_bits("elapsed", states.elapsed, expected_states.elapsed);
    expect_same_bits("ended", states.ended, expected_states.ended);
  }
}

/// On CUDA the device finds it, and says so when it is next waited for.
TEST_P(OnDevice, AnUnknownActionIsAnErrorAndStepsNothing) {
  const VectorEnvOptions options{"CartPole-v1", 133, {}, 0, Autoreset::kNextStep};
  Steps steps(options, device());
  steps.reset();
  const std::vector<float> before = steps.env.states().fields;
  std::vector<std::int64_t> actions(133, 1);
  actions[77] = 2;
  EXPECT_THAT(
      [&] {
        steps.step(actions, ActionType::kInt64);
        steps.env.check();
      },
      testing::ThrowsMessage<UsageError>(testing::HasSubstr("actions[77] = 2")));
  expect_same_bits("state", steps.env.states().fields, before);
  actions[77] = 0;
  steps.step(actions, ActionType::kInt64);
  EXPECT_NE(steps.env.states().fields, before);
}

class PolicyOnDevice : public OnDevice {
 protected:
  void acts_as_in_double(const Config& config) {
    SCOPED_TRACE(config.env_id);
    constexpr std::size_t kCount = 131;
    const Model model = model_of(config);
    std::vector<float> parameters = initial_parameters(model, config);
    for (float& x : parameters) x *= 1.5f;
    const std::string bytes = policy_bytes({config, parameters, 0, {}});
    Policy policy(bytes, "the test", device()), on_cpu(bytes, "the test", cpu());
    const std::size_t inputs = at(policy.observation_dim());
    Draws draws(4);
    std::vector<float> observations;
    for (std::size_t i = 0; i < kCount * inputs; ++i) observations.push_back(draws.uniform(-1.0, 1.0));
    const Mlp actor{model.actor, policy.observation_dim(), policy.num_outputs()};
    const Vector exact(parameters.begin(), parameters.end());
    std::vector<Vector> rows;
    Vector expected;
    for (std::size_t n = 0; n < kCount; ++n) {
      rows.emplace_back(observations.begin() + static_cast<std::ptrdiff_t>(n * inputs),
                        observations.begin() + static_cast<std::ptrdiff_t>((n + 1) * inputs));
      const Vector row = actor.forward(exact, rows.back()).back();
      expected.insert(expected.end(), row.begin(), row.end());
    }
    const Tolerance tolerance =
        output_tolerance({4e-6, 0.0}, actor, exact, rows);  // the CPU's tanh, which is the worse one
    for (const bool deterministic : {true, false}) {
      Acted acted(policy, observations, kCount, deterministic), cpu_acted(on_cpu, observations, kCount, deterministic);
      expect_close("outputs", acted.outputs, expected, tolerance);
      // Draws are the CPU's; one of them may lie between two probabilities that differ in the last bits.
      int others = 0;
      for (std::size_t n = 0; n < kCount; ++n) others += acted.choices[n] != cpu_acted.choices[n];
      EXPECT_LE(others, 1) << "different choices";
      expect_close("numbers", acted.numbers, cpu_acted.numbers, {2.0 * tolerance.absolute + 1e-6, 0.0});
    }
    EXPECT_EQ(policy.bytes(), on_cpu.bytes());
  }

 private:
  struct Acted {
    std::vector<std::int64_t> choices;
    std::vector<float> numbers, outputs;

    Acted(Policy& policy, const std::vector<float>& rows, std::size_t count, bool deterministic) {
      Device& device = policy.device();
      const DeviceArray<float> given(device, rows), number(device, count * at(policy.num_actions())),
          output(device, count * at(policy.num_outputs()));
      const DeviceArray<std::int64_t> choice(device, count);
      const bool continuous = policy.is_continuous();
      policy.act(given.data(), static_cast<std::int64_t>(count), {deterministic, 11, 3},
                 {continuous ? nullptr : choice.data(), continuous ? number.data() : nullptr, output.data()});
      choices = choice.copy(), numbers = number.copy(), outputs = output.copy();
    }
  };
};

INSTANTIATE_TEST_SUITE_P(, PolicyOnDevice, testing::Values(open_gpu, open_portable_cpu),
                         [](const auto& test) { return test.param == open_gpu ? "Cuda" : "CpuPortable"; });

TEST_P(PolicyOnDevice, ActsAsInDouble) {
  for (const Config& config : every_environment()) acts_as_in_double(config);
}

TEST_P(PolicyOnDevice, WithoutFusedKernelsActsAsInDouble) {
  try {
    device().matrix_library(Precision::kFp32);
    cpu().matrix_library(Precision::kFp32);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  Config config;
  config.hidden_sizes = {24, 40};
  acts_as_in_double(config);
}

class TrainerOnDevice : public OnDevice {
 protected:
  static constexpr std::uint32_t kIterations = 2;

  /// Some iterations with gradients but nearly without steps: Adam's epsilon of 1 keeps it from turning the rounding of
  /// a gradient near 0 into a whole step.
  static Config small(Config config) {
    config.num_envs = 96;
    config.num_steps = 8;
    config.num_minibatches = 2;
    config.update_epochs = 1;
    config.total_timesteps = 96 * 8 * kIterations;
    config.max_episode_steps = 5;
    config.precision = Precision::kFp32;
    config.adam_epsilon = 1.0;
    return config;
  }
  static std::vector<IterationMetrics> train(Trainer& trainer, Device& on, bool as_graph) {
    trainer.start(std::nullopt, as_graph);
    std::vector<IterationMetrics> rows;
    for (std::uint32_t i = 0; i < trainer.iterations(); ++i) trainer.enqueue_iteration();
    on.synchronize();
    for (std::uint32_t i = 0; i < trainer.iterations(); ++i) rows.push_back(trainer.metrics(i));
    return rows;
  }
};

INSTANTIATE_TEST_SUITE_P(, TrainerOnDevice, testing::Values(open_gpu, open_portable_cpu),
                         [](const auto& test) { return test.param == open_gpu ? "Cuda" : "CpuPortable"; });

TEST_P(TrainerOnDevice, IterationsAreThoseOfTheCpu) {
  for (const Config& environment : every_environment()) {
    SCOPED_TRACE(environment.env_id);
    const Config config = small(environment);
    Trainer trainer(config, device()), on_cpu(config, cpu());
    const std::vector<IterationMetrics> rows = train(trainer, device(), true), expected = train(on_cpu, cpu(), false);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].nonfinite, NonFinite::kNone);
      EXPECT_EQ(rows[i].values[Metric::kEpisodes], expected[i].values[Metric::kEpisodes]);
      EXPECT_GT(rows[i].values[Metric::kEpisodes], 0.0f);
      EXPECT_EQ(rows[i].values[Metric::kEpisodicLength], expected[i].values[Metric::kEpisodicLength]);
      // The CPU's tanh is 4e-6 off, and so are an actor's and a critic's outputs by some of it, and a continuous action
      // and what follows from it.
      expect_close("return", rows[i].values[Metric::kEpisodicReturn], expected[i].values[Metric::kEpisodicReturn],
                   {1e-3, 1e-4});
      expect_close("value loss", rows[i].values[Metric::kValueLoss], expected[i].values[Metric::kValueLoss],
                   {0.0, 1e-4});
      expect_close("policy loss", rows[i].values[Metric::kPolicyLoss], expected[i].values[Metric::kPolicyLoss],
                   {2e-5, 0.0});
      expect_close("entropy", rows[i].values[Metric::kEntropy], expected[i].values[Metric::kEntropy], {0.0, 1e-5});
      expect_close("gradient norm", rows[i].values[Metric::kGradientNorm], expected[i].values[Metric::kGradientNorm],
                   {0.0, 1e-4});
    }
    const TrainerState state = trainer.state(), expected_state = on_cpu.state();
    EXPECT_EQ(state.iteration, expected_state.iteration);
    expect_close("parameter", state.parameters(), expected_state.parameters(), {1e-6, 1e-5});
    const auto floats = [](const TrainerState& of) { return of.floats("optimizer.exp_avg."); };
    expect_close("first moment", floats(state), floats(expected_state), {1e-5, 1e-4});
    for (const char* name : {"environments.episode", "environments.elapsed"}) {
      expect_same_bits(name, state.counts(name), expected_state.counts(name));
    }
  }
}

/// In every precision that the device has, and also where a KL stop ends the updates, which in a graph is a conditional
/// node.
TEST_P(TrainerOnDevice, AGraphLeavesTheBitsOfEagerLaunches) {
  for (Config config : every_environment()) {
    // Fewer of those whose steps take long.
    config.num_envs = config.env_id.starts_with("Bipedal") ? 16 : config.env_id.starts_with("LunarLander") ? 32 : 96;
    config.num_steps = 8;
    config.num_minibatches = 2;
    config.update_epochs = 2;
    config.learning_rate = 0.02;
    config.target_kl = 0.01;
    config.total_timesteps = config.num_envs * 8 * 3;
    for (const Precision precision : {Precision::kFp32, Precision::kTf32, Precision::kBf16}) {
      const bool built =
          find_kernels(device().machine(), config.env_id.c_str(), config.hidden_width, precision) != nullptr;
      if (!built || !device().supports(precision)) continue;
      SCOPED_TRACE(config.env_id + ", precision " + std::to_string(static_cast<int>(precision)));
      config.precision = precision;
      Trainer graph(config, device()), eager(config, device());
      const std::vector<IterationMetrics> rows = train(graph, device(), true), expected = train(eager, device(), false);
      EXPECT_TRUE(std::ranges::any_of(rows, [](const auto& row) { return row.values[Metric::kPolicyUpdates] < 4.0f; }))
          << "nothing was stopped";
      for (std::size_t i = 0; i < rows.size(); ++i) {
        EXPECT_EQ(rows[i].nonfinite, NonFinite::kNone);
        EXPECT_EQ(std::memcmp(&rows[i], &expected[i], sizeof rows[i]), 0) << "iteration " << i;
      }
      const TrainerState state = graph.state(), expected_state = eager.state();
      expect_same_bits("parameter", state.parameters(), expected_state.parameters());
      for (const char* name : {"optimizer.exp_avg.", "optimizer.exp_avg_sq.", "environments.fields"}) {
        expect_same_bits(name, state.floats(name), expected_state.floats(name));
      }
    }
  }
}

/// A kernel may begin before the one that was enqueued before it has ended, but not beside anything else.
TEST(CudaQueue, KnowsWhetherAKernelWasEnqueuedLast) {
  const std::unique_ptr<Device> device = open_gpu();
  if (device == nullptr) return;
  Queue& queue = device->queue();
  const DeviceArray<Control> control(*device, std::vector<Control>{fresh_control()});
  const DeviceArray<float> running(*device, kMetrics);
  const auto kernel = [&](Queue& on) {
    device->machine().begin_iteration({plain_hyperparameters(), control.data(), running.data()}, on);
  };
  std::unique_ptr<Device> other = open_gpu();
  std::unique_ptr<Recording> graph;
  const std::unique_ptr<PhaseTimer> timer = device->make_phase_timer();
  std::vector<float> numbers(kMetrics);
  void* memory = nullptr;
  std::uint64_t mark = 0;
  const std::pair<const char*, std::function<void()>> operations[] = {
      {"allocate", [&] { memory = device->allocate(1000); }},
      {"upload", [&] { device->upload(running.data(), numbers.data(), sizeof(float)); }},
      {"download", [&] { device->download(numbers.data(), running.data(), sizeof(float)); }},
      {"mark", [&] { mark = device->mark(); }},
      {"wait for a stream", [&] { device->wait_for_stream(other->queue().stream); }},
      {"signal a stream", [&] { device->signal_stream(other->queue().stream); }},
      {"record", [&] { graph = device->record(kernel, true); }},
      {"launch a graph", [&] { graph->launch(); }},
      {"begin a phase", [&] { timer->begin(Phase::kRollout); }},
      {"end a phase", [&] { timer->end(Phase::kRollout); }},
      {"record what throws",
       [&] { EXPECT_THROW(device->record([&](Queue& on) { kernel(on), throw UsageError("no"); }, true), UsageError); }},
  };
  for (const auto& [name, operation] : operations) {
    kernel(queue);
    EXPECT_TRUE(queue.after_kernel) << name;
    operation();
    EXPECT_FALSE(queue.after_kernel) << name;
  }
  kernel(queue);
  device->wait(mark);
  device->synchronize();
  device->release(memory);
}

/// In a graph, a conditional body stands between two kernels.
TEST(CudaQueue, KnowsConditionalBodies) {
  const std::unique_ptr<Device> device = open_gpu();
  if (device == nullptr) return;
  const DeviceArray<Control> control(*device, std::vector<Control>{fresh_control()});
  const DeviceArray<float> running(*device, kMetrics);
  const auto kernel = [&](Queue& on) {
    device->machine().begin_iteration({plain_hyperparameters(), control.data(), running.data()}, on);
  };
  const auto graph = device->record(
      [&](Queue& on) {
        kernel(on);
        device->unless_stopped(on, control.data(), kernel);
        EXPECT_FALSE(on.after_kernel);
        kernel(on);
        EXPECT_TRUE(on.after_kernel);
      },
      true);
  graph->launch();
  device->synchronize();
}

}  // namespace
}  // namespace perilune::test
