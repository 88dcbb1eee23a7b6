// Each kernel alone: checked against double, timed, and held against the machine's peak and the performance model, as
// one JSON object on standard output.
//
//   bench_kernels [--device cpu|cuda|auto] [--threads N] [--envs N] [--steps T] [--width W] [--precision P]
//                 [--seconds S] [--only KERNEL,...] [--states-only]
//
// Kernels: simulate rollout gae gradient reduce apply, of CartPole with separate 2xW tanh networks and a quarter of the
// samples as minibatch. A kernel is launched again and again on the same data, as a CUDA graph of many launches, so
// that a time is start to start and data may stay in caches; the check is of its first launch. "states" is a hash of
// the states of 1024 environments after a million random steps each: the same on every machine, or a simulator is
// wrong. Exit status 1 if a check fails.

#include <array>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bench/kernel_reference.hpp"
#include "bench/measure.hpp"
#include "bench/options.hpp"
#include "host/base/build_info.hpp"
#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/json.hpp"
#include "host/base/text.hpp"
#include "host/device/arena.hpp"
#include "host/planning/performance_model.hpp"
#include "host/planning/precision.hpp"
#include "kernels/iteration.hpp"

namespace perilune {
namespace {

using reference::Vector;

struct Options {
  DeviceChoice device = DeviceChoice::kAuto;
  int threads = 0;
  int envs = 0, steps = 128, width = 64;  // envs 0: what suits the device
  std::string precision = "auto";
  double seconds = 0.5;  // per kernel
  std::vector<std::string> only;
  bool states_only = false;
};

constexpr std::array<std::string_view, 6> kKernels = {"simulate", "rollout", "gae", "gradient", "reduce", "apply"};

// Relative distances in units of what the arithmetic allows. fp32: sums of up to 2^17 numbers in another order, tanh to
// 3e-7; tf32 and bf16: 11 and 8 bits of each factor, several layers deep, twice over.
double tolerance(Precision precision) {
  return precision == Precision::kBf16 ? 5e-2 : precision == Precision::kTf32 ? 5e-3 : 2e-4;
}

// An iteration (kernels/iteration.hpp) in memory of its own, and each of its kernels alone. Advantages do not replace
// rewards, so that every kernel can be launched again.
class Subject {
 public:
  Subject(Device& device, const Config& config)
      : device_(device), precision_(choose_precision(config, device)), config_(config), model_(model_of(config)) {
    plan_.machine = &device.machine();
    plan_.kernels = find_kernels(device.machine(), config.env_id.c_str(), config.hidden_width, precision_);
    // What is left out keeps the reference's formula short.
    plan_.hyper =
        rounded({.ent_coef = 0.0}, {.anneal_lr = Anneal::kNone, .norm_adv = Normalization::kNone, .clip_vloss = false},
                1u << 20);
    plan_.actor = model_.actor;
    plan_.critic = model_.critic;
    plan_.num_envs = config.num_envs;
    plan_.num_steps = config.num_steps;
    plan_.max_episode_steps = 500;
    plan_.key = {1, 0};
    plan_.num_minibatches = config.num_minibatches;
    plan_.partials = plan_.most_partials();
    take_arrays();
    start_ = initial_parameters(model_, config);
    // A policy that is not almost uniform, so that its gradient is no rounding error.
    for (const ModelTensor& tensor : model_.tensors) {
      if (tensor.name != "actor." + std::to_string(2 * model_.actor.depth) + ".weight") continue;
      for (std::size_t i = 0; i < tensor.size; ++i) start_[tensor.offset + i] *= 50.0f;
    }
    device.upload(plan_.arrays.parameters, start_.data(), start_.size() * sizeof(float));
    Control control{};
    control.clip_coef = control.clip_vloss_coef = 0.2f;
    control.actor_learning_rate = control.critic_learning_rate = 1e-3f;
    device.upload(plan_.arrays.control, &control, sizeof control);
    plan_.kernels->reset({plan_.environments()}, device.queue());
    device.synchronize();
  }

  Precision precision() const { return precision_; }
  const Model& model() const { return model_; }
  int partials() const { return plan_.partials; }

  void launch(const std::string& kernel, Queue& queue) const {
    const Machine& machine = *plan_.machine;
    const Kernels& kernels = *plan_.kernels;
    if (kernel == "simulate") kernels.simulate({plan_.environments(), plan_.episodes(), plan_.num_steps}, queue);
    if (kernel == "rollout") kernels.rollout(plan_.rollout_args(), queue);
    if (kernel == "gae") machine.gae(plan_.gae_args(), queue);
    if (kernel == "gradient") {
      UpdateArgs args = plan_.update_args({});
      args.sampling.shuffled = 0;  // so that the reference knows the minibatch
      kernels.update(args, queue);
    }
    if (kernel == "reduce") machine.reduce_gradients(plan_.reduce_args({.last_of_epoch = false}), queue);
    if (kernel == "apply") machine.apply_gradients(plan_.apply_args({}), queue);
  }

  // Launches each kernel once, in the order of training, and compares what it left: relative distance to the reference.
  double check(const std::string& kernel) {
    const std::vector<float> rewards = get(plan_.arrays.rewards), values = get(plan_.arrays.values);
    const std::vector<float> parameters = get(plan_.arrays.parameters);
    launch(kernel, device_.queue());
    device_.synchronize();
    if (kernel == "simulate") return check_episodes();
    if (kernel == "rollout") return check_records();
    if (kernel == "gae") {
      Vector advantage, target;
      reference::advantages(rewards, values, get(plan_.arrays.ends), plan_.sizes().envs, plan_.sizes().steps, 0.99,
                            0.95, advantage, target);
      return std::max(reference::relative_distance(get(plan_.arrays.advantages), advantage),
                      reference::relative_distance(get(plan_.arrays.values), target));
    }
    if (kernel == "gradient") return check_gradient();
    if (kernel == "reduce") {
      const std::vector<float> partials = get(plan_.arrays.partial_gradients);
      Vector sum(model_.floats, 0.0);
      for (std::size_t i = 0; i < partials.size(); ++i) sum[i % model_.floats] += partials[i];
      return reference::relative_distance(get(plan_.arrays.gradient), sum);
    }
    // Adam's first step moves every parameter by its learning rate times g / (|g| + epsilon).
    AdamStep step{};
    device_.download(&step, plan_.arrays.adam_step, sizeof step);
    const std::vector<float> gradient = get(plan_.arrays.gradient), now = get(plan_.arrays.parameters);
    Vector moved(now.size());
    std::vector<float> really(now.size());
    for (std::size_t i = 0; i < now.size(); ++i) {
      const double g = static_cast<double>(gradient[i]) * static_cast<double>(step.gradient_factor);
      moved[i] = -1e-3 * g / (std::abs(g) + 1e-5);
      really[i] = now[i] - parameters[i];
    }
    return reference::relative_distance(really, moved);
  }

  // The states, 64-bit FNV-1a.
  std::uint64_t state_hash() const {
    std::uint64_t hash = 14695981039346656037ull;
    const auto add = [&](const auto& values) {
      for (std::size_t i = 0; i < values.size() * sizeof(values[0]); ++i) {
        hash = (hash ^ reinterpret_cast<const unsigned char*>(values.data())[i]) * 1099511628211ull;
      }
    };
    add(get(plan_.arrays.environment_fields));
    add(get(plan_.arrays.episode));
    add(get(plan_.arrays.elapsed));
    return hash;
  }

 private:
  void take_arrays() {
    const IterationSizes sizes = plan_.sizes();
    std::vector<std::size_t> slots;
    for_each_array(sizes, plan_.arrays, [&]<class T>(const ArrayInfo& info, T*) {
      slots.push_back(arena_.add<T>(info.name, info.shape).index);
    });
    const Slot<float> advantages = arena_.add<float>("advantages", {sizes.steps, sizes.envs});
    arena_.require_room(device_);
    arena_.take(device_);
    const auto place = [&]<class T>(Slot<T> slot) {
      T* const array = arena_.at(slot);
      sizes_[array] = arena_.size(slot);
      return array;
    };
    auto slot = slots.begin();
    for_each_array(sizes, plan_.arrays, [&]<class T>(const ArrayInfo&, T*& array) { array = place(Slot<T>{*slot++}); });
    share_arrays(sizes, plan_.arrays);
    plan_.arrays.advantages = place(advantages);
  }

  template <class T>
  std::vector<T> get(const T* array) const {
    std::vector<T> values(sizes_.at(array));
    device_.download(values.data(), array, values.size() * sizeof(T));
    return values;
  }
  std::size_t samples() const { return static_cast<std::size_t>(plan_.batch_size()); }

  std::vector<int> sizes(int outputs) const {
    std::vector<int> all(static_cast<std::size_t>(model_.actor.depth) + 2, config_.hidden_width);
    all.front() = plan_.kernels->environment->observation_dim();
    all.back() = outputs;
    return all;
  }

  // Episodes of CartPole under random actions last 22.2 steps on average: relative distance to that.
  double check_episodes() {
    double episodes = 0.0, steps = 0.0;
    for (float x : get(plan_.arrays.ended_episodes)) episodes += x;
    for (float x : get(plan_.arrays.ended_lengths)) steps += x;
    return std::abs(steps / episodes / 22.2 - 1.0);
  }

  // Values and log-probabilities of up to 500 records all over the batch.
  double check_records() {
    const std::vector<float> records = get(plan_.arrays.records);
    const auto width = static_cast<std::size_t>(plan_.kernels->record_floats);
    const auto obs = static_cast<std::size_t>(plan_.kernels->environment->observation_dim());
    Vector wanted;
    std::vector<float> found;
    for (std::size_t i = 0; i < samples(); i += std::max<std::size_t>(1, samples() / 500)) {
      const float* record = &records[i * width];
      const Vector p = reference::softmax(
          reference::forward(start_.data(), model_.actor, sizes(plan_.kernels->policy_outputs), record).back());
      wanted.push_back(std::log(p[static_cast<std::size_t>(record[obs])]));
      found.push_back(record[obs + 1]);
      wanted.push_back(reference::forward(start_.data(), model_.critic, sizes(1), record).back()[0]);
      found.push_back(record[obs + 2]);
    }
    return reference::relative_distance(found, wanted);
  }

  // At the policy that took the records: ratio 1, nothing clipped.
  double check_gradient() {
    const std::vector<float> records = get(plan_.arrays.records), advantage = get(plan_.arrays.advantages),
                             target = get(plan_.arrays.values);
    const std::vector<float> partials = get(plan_.arrays.partial_gradients);
    const auto width = static_cast<std::size_t>(plan_.kernels->record_floats);
    const auto obs = static_cast<std::size_t>(plan_.kernels->environment->observation_dim());
    Vector gradient(model_.floats, 0.0), found(model_.floats, 0.0);
    for (std::size_t i = 0; i < static_cast<std::size_t>(plan_.minibatch_size()); ++i) {
      const float* record = &records[i * width];
      const auto actor = reference::forward(start_.data(), model_.actor, sizes(plan_.kernels->policy_outputs), record);
      Vector slope = reference::softmax(actor.back());
      slope[static_cast<std::size_t>(record[obs])] -= 1.0;
      for (double& x : slope) x *= advantage[i] / static_cast<double>(plan_.minibatch_size());
      reference::add_gradient(start_.data(), model_.actor, actor, slope, gradient);
      const auto critic = reference::forward(start_.data(), model_.critic, sizes(1), record);
      const double error = 0.5 * (critic.back()[0] - target[i]) / plan_.minibatch_size();
      reference::add_gradient(start_.data(), model_.critic, critic, {error}, gradient);
    }
    for (std::size_t i = 0; i < partials.size(); ++i) found[i % model_.floats] += partials[i];
    return reference::relative_distance(found, gradient);
  }

  Device& device_;
  Precision precision_;
  Config config_;
  Model model_;
  Iteration plan_{};
  std::vector<float> start_;
  Arena arena_;
  std::map<const void*, std::size_t> sizes_;  // of arrays, in elements
};

Config config_of(const Options& options, int envs, int steps) {
  Config config;
  set_key(config, "precision", options.precision);
  config.num_envs = envs;
  config.num_steps = steps;
  config.hidden_width = options.width;
  return config;
}

// The work of one launch.
PhaseWork work_of(const std::string& kernel, const Config& config, const Hardware& hardware, const Subject& subject) {
  for (PhaseWork work : iteration_work(config, hardware, subject.precision(), subject.partials())) {
    if (kernel != kPhaseNames[static_cast<std::size_t>(work.phase)]) continue;
    for (double* amount : {&work.flop, &work.tanh, &work.other, &work.bytes, &work.chain, &work.issue})
      *amount /= work.launches;
    work.launches = 1.0;
    return work;
  }
  return {};
}

Json measure(const std::string& kernel, Subject& subject, Device& device, const Hardware& hardware,
             const Config& config, double seconds, double distance) {
  const auto record = [&](int launches) {
    return device.record(
        [&, launches](Queue& queue) {
          for (int i = 0; i < launches; ++i) subject.launch(kernel, queue);
        },
        true);
  };
  const auto run = [&](Recording& recording) {
    const Clock::time_point begin = Clock::now();
    recording.launch();
    device.synchronize();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  const std::unique_ptr<Recording> one = record(1);
  run(*one);
  const int launches = std::clamp(static_cast<int>(2e-3 / run(*one)), 1, 500);
  const std::unique_ptr<Recording> many = record(launches);
  const Timing timing = time_repeatedly(seconds, [&] { run(*many); });
  const double time = timing.median / launches;
  Json row = {{"kernel", kernel},
              {"num_envs", config.num_envs},
              {"num_steps", config.num_steps},
              {"width", config.hidden_width},
              {"precision", precision_name(subject.precision())},
              {"relative_error", distance},
              {"seconds", time},
              {"relative_deviation", timing.deviation / timing.median},
              {"runs", timing.runs}};
  if (kernel == "simulate") {
    const double rate = static_cast<double>(config.num_envs) * config.num_steps / time;
    row["steps_per_second"] = rate;
    row["predicted_seconds"] = time * rate / predict_simulation(config, hardware);
    return row;
  }
  const PhaseWork work = work_of(kernel, config, hardware, subject);
  const PhasePrediction prediction = predict(work, hardware, subject.precision());
  row["flops"] = work.flop / time;
  row["share_of_peak_flops"] = work.flop / time / hardware.flops[static_cast<std::size_t>(subject.precision())];
  row["bytes_per_second"] = work.bytes / time;
  row["share_of_peak_bytes"] = work.bytes / time / hardware.memory;
  row["predicted_seconds"] = prediction.seconds;
  row["bound"] = prediction.bound;
  return row;
}

// CartPole under random actions for a million steps of each of 1024 environments.
struct States {
  std::string hash;
  double distance;  // of the mean length of the episodes of the first thousand steps
};

States run_states(const Options& options, Device& device) {
  Subject subject(device, config_of(options, 1024, 1000));
  const double distance = subject.check("simulate");
  for (int i = 1; i < 1000; ++i) subject.launch("simulate", device.queue());
  device.synchronize();
  return {formatted("{:016x}", subject.state_hash()), distance};
}

// What a kernel's first launch may differ by. simulate: 46000 episodes of 22 +- 12 steps, of which the last is cut: 2%.
double allowed_distance(const std::string& kernel, Precision precision) {
  if (kernel == "simulate") return 0.02;
  return kernel == "rollout" || kernel == "gradient" ? tolerance(precision) : tolerance(Precision::kFp32);
}

// Checks at a small size, because the reference takes its time, and rollouts and reductions also at the size that is
// timed.
bool run_kernels(const Options& options, Device& device, const Hardware& hardware, double simulate_distance,
                 Json& rows) {
  const Config large = config_of(options, options.envs, options.steps);
  Subject checked(device, config_of(options, 256, 32));
  Subject timed(device, large);
  bool good = true;
  for (const std::string_view name : kKernels) {
    const std::string kernel(name);
    double distance = kernel == "simulate" ? simulate_distance : checked.check(kernel);
    if (kernel == "rollout" || kernel == "reduce") distance = std::max(distance, timed.check(kernel));
    const double allowed = allowed_distance(kernel, checked.precision());
    if (!(distance <= allowed)) {
      good = false;
      std::fprintf(stderr, "bench_kernels: %s is wrong: relative distance %.3g to the reference, allowed %.3g\n",
                   kernel.c_str(), distance, allowed);
    }
    const bool wanted =
        options.only.empty() || std::find(options.only.begin(), options.only.end(), kernel) != options.only.end();
    if (wanted) rows.push_back(measure(kernel, timed, device, hardware, large, options.seconds, distance));
  }
  return good;
}

Options parse(int argc, char** argv) {
  Options options;
  const auto take_kernels = [&](const std::string& option, const std::string& value) {
    for (const std::string& name : bench::items_of(value)) {
      if (std::find(kKernels.begin(), kKernels.end(), name) == kKernels.end()) {
        throw UsageError(formatted("{} {} - allowed: {}", option, name, joined(kKernels)));
      }
      options.only.push_back(name);
    }
  };
  bench::parse_options(
      argc, argv,
      {{"--device", [&](const auto& option, const auto& value) { options.device = device_choice(option, value); }},
       bench::int_option("--threads", options.threads),
       bench::int_option("--envs", options.envs),
       bench::int_option("--steps", options.steps),
       bench::int_option("--width", options.width),
       {"--precision", [&](const auto&, const auto& value) { options.precision = value; }},
       bench::seconds_option("--seconds", options.seconds),
       {"--only", take_kernels},
       bench::flag("--states-only", options.states_only, true)});
  return options;
}

int run(int argc, char** argv) {
  Options options = parse(argc, argv);
  const SelectedDevice selected = select_device(options.device, options.threads);
  Device& device = *selected.device;
  if (options.envs == 0) options.envs = device.is_cuda() ? 16384 : 1024;
  const Hardware hardware = device.hardware();
  const States states = run_states(options, device);
  Json result = {{"benchmark", "kernels"},
                 {"device", device.description()},
                 {"version", std::string(build_info().version) + " " + std::string(build_info().commit)},
                 {"command", bench::command_text(argc, argv)},
                 {"peak",
                  {{"fp32", hardware.flops[0]},
                   {"tf32", hardware.flops[1]},
                   {"bf16", hardware.flops[2]},
                   {"bytes_per_second", hardware.memory}}},
                 {"states", states.hash}};
  Json rows = Json::array();
  const bool good = options.states_only || run_kernels(options, device, hardware, states.distance, rows);
  result["rows"] = rows;
  std::puts(result.dump(1).c_str());
  return good ? 0 : 1;
}

}  // namespace
}  // namespace perilune

int main(int argc, char** argv) { return perilune::bench::run_bench("bench_kernels", perilune::run, argc, argv); }
