#include "host/environments/vector_env.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "host/base/error.hpp"
#include "host/base/exclusive.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/settings/environment_settings.hpp"

namespace perilune {

namespace {

constexpr const char* kThis = "this VectorEnv";

Config config_of(const VectorEnvOptions& options) {
  Config config = environment_config(options.env_id, options.parameters, options.max_episode_steps);
  set_key(config, "num_envs", options.num_envs);
  return config;
}

// A step is the same whatever network the kernels are for.
const Kernels& stepping_kernels(const Config& config, const Device& device) {
  const Kernels* kernels = find_layerwise_kernels(device.machine(), config.env_id.c_str());
  if (kernels == nullptr) {
    throw UsageError(formatted("{} has no kernels for {} - see `perilune info` for what was built",
                               device.machine().name, config.env_id));
  }
  return *kernels;
}

void require_length(std::string_view what, std::size_t length, std::size_t wanted) {
  if (length == wanted) return;
  throw UsageError(formatted("{} has {} entries - allowed: {}, one for each environment", what, length, wanted));
}

template <class T>
void download(Device& device, std::vector<T>& to, const T* from) {
  device.download(to.data(), from, to.size() * sizeof(T));
}
template <class T>
void upload(Device& device, T* to, const std::vector<T>& from) {
  device.upload(to, from.data(), from.size() * sizeof(T));
}

// Calls f(name, array, numbers per environment) for every array.
template <class States, class F>
void for_arrays(States& states, std::size_t fields, F&& f) {
  f("fields", states.fields, fields);
  f("episode", states.episode, std::size_t{1});
  f("elapsed", states.elapsed, std::size_t{1});
  f("episode_return", states.episode_return, std::size_t{1});
  f("ended", states.ended, std::size_t{1});
  f("seed", states.seed, std::size_t{1});
  f("number", states.number, std::size_t{1});
}

// from[row i] -> to[row j], in every array.
void copy_row(const EnvironmentStates& from, std::size_t i, EnvironmentStates& to, std::size_t j, std::size_t fields) {
  const auto copy = [&](const auto& a, auto& b, std::size_t width) {
    std::copy_n(a.begin() + static_cast<std::ptrdiff_t>(i * width), width,
                b.begin() + static_cast<std::ptrdiff_t>(j * width));
  };
  copy(from.fields, to.fields, fields);
  copy(from.episode, to.episode, 1);
  copy(from.elapsed, to.elapsed, 1);
  copy(from.episode_return, to.episode_return, 1);
  copy(from.ended, to.ended, 1);
  copy(from.seed, to.seed, 1);
  copy(from.number, to.number, 1);
}

EnvironmentStates empty_states(std::size_t count, std::size_t fields) {
  EnvironmentStates states;
  for_arrays(states, fields, [&](const char*, auto& array, std::size_t width) { array.resize(count * width); });
  return states;
}

}  // namespace

VectorEnv::VectorEnv(const VectorEnvOptions& options, Device& device)
    : device_(device),
      config_(config_of(options)),
      environment_(find_environment(config_.env_id)),
      kernels_(stepping_kernels(config_, device)),
      autoreset_(options.autoreset) {
  const std::size_t n = count();
  const auto fields = arena_.add<float>("environment states", {field_names().size(), n});
  const auto episode = arena_.add<std::uint32_t>("episode", {n}), elapsed = arena_.add<std::uint32_t>("elapsed", {n});
  const auto episode_return = arena_.add<float>("episode return", {n});
  const auto seed = arena_.add<std::uint32_t>("seed", {n}), number = arena_.add<std::uint32_t>("number", {n});
  const auto ended = arena_.add<std::uint8_t>("ended", {n});
  restart_ = arena_.add<std::uint8_t>("restart", {n});
  flags_ = arena_.add<StepFlags>("flags", {1});
  arena_.take(device);
  batch_.fields = arena_.at(fields);
  batch_.episode = arena_.at(episode);
  batch_.elapsed = arena_.at(elapsed);
  batch_.episode_return = arena_.at(episode_return);
  batch_.count = config_.num_envs;
  batch_.max_episode_steps = max_episode_steps();
  copy_env_parameters(config_, batch_.parameters);
  batch_.key = {0, kTrainingStream};
  caller_ = {arena_.at(seed), arena_.at(number), arena_.at(ended)};
  const StepFlags none{kNoFault, 0};
  device.upload(arena_.at(flags_), &none, sizeof none);
  // Not std::random_device: linked statically, it would need the newest C library.
  std::uint32_t random;
  if (getentropy(&random, sizeof random) != 0) throw Error("the system has no random numbers (getentropy failed)");
  ResetOptions fresh;
  fresh.seed = random;
  reseed(fresh);
}

double VectorEnv::parameter(std::string_view name) const {
  const EnvironmentParameter* parameter = find_parameter(environment_, name);
  if (parameter != nullptr) return env_parameter(config_, *parameter);
  throw UsageError(formatted("{} is no parameter of {}", in_quotes(name), environment_.id));
}

void VectorEnv::reset(const ResetOptions& options, float* observations) {
  const Exclusive use(in_use_, kThis);
  if (options.seed && !options.seeds.empty()) {
    throw UsageError("seed and seeds are both given - give one seed for all environments, or a list");
  }
  if (!options.seeds.empty()) require_length("the list of seeds", options.seeds.size(), count());
  if (options.seed) checked_seed(*options.seed);
  for (const std::optional<std::int64_t>& seed : options.seeds) {
    if (seed) checked_seed(*seed);
  }
  if (!options.mask.empty()) {
    require_length("the mask", options.mask.size(), count());
    if (!was_reset_ && std::count(options.mask.begin(), options.mask.end(), 0) != 0) {
      throw UsageError("the first reset has a mask that leaves environments out - reset all of them first");
    }
  }
  throw_fault();

  if (options.seed || !options.seeds.empty()) reseed(options);
  std::vector<std::uint8_t> restart(options.mask.begin(), options.mask.end());
  restart.resize(count(), 1);
  upload(device_, arena_.at(restart_), restart);
  kernels_.restart({batch_, caller_, arena_.at(restart_), observations}, device_.queue());
  was_reset_ = true;
}

// Those that are to be restarted from a seed begin before its first episode.
void VectorEnv::reseed(const ResetOptions& options) {
  std::vector<std::uint32_t> seed(count()), number(count()), episode(count());
  download(device_, seed, caller_.seed);
  download(device_, number, caller_.number);
  download(device_, episode, batch_.episode);
  for (std::size_t i = 0; i < count(); ++i) {
    const std::optional<std::int64_t> mine = options.seed ? options.seed : options.seeds[i];
    if (!mine || (!options.mask.empty() && options.mask[i] == 0)) continue;
    seed[i] = static_cast<std::uint32_t>(*mine);
    number[i] = options.seed ? static_cast<std::uint32_t>(i) : 0;
    episode[i] = ~0u;
  }
  upload(device_, caller_.seed, seed);
  upload(device_, caller_.number, number);
  upload(device_, batch_.episode, episode);
}

bool VectorEnv::step(const void* actions, ActionType type, const StepOutputs& outputs) {
  const Exclusive use(in_use_, kThis);
  if (!was_reset_) throw UsageError("environments were stepped before their first reset - call reset first");
  const bool numbers = type == ActionType::kFloat32 || type == ActionType::kFloat64;
  if (numbers != action_space().continuous) {
    throw UsageError(formatted("actions of {} are {} - allowed: {}", environment_.id,
                               numbers ? "floating-point numbers" : "integers",
                               action_space().continuous ? "float32 or float64" : "int32 or int64"));
  }
  StepArgs args{};
  args.environments = batch_;
  args.caller = caller_;
  args.autoreset = autoreset_;
  args.action_type = type;
  args.actions = actions;
  if (type == ActionType::kFloat64) {
    if (device_.is_cuda()) throw UsageError("actions are float64 - allowed on CUDA: float32 - convert them");
    const double* wide = static_cast<const double*>(actions);
    narrowed_.assign(wide, wide + count() * static_cast<std::size_t>(action_space().size));
    args.actions = narrowed_.data();
    args.action_type = ActionType::kFloat32;
  }
  args.flags = arena_.at(flags_);
  args.observations = outputs.observations;
  args.rewards = outputs.rewards;
  args.terminated = outputs.terminated;
  args.truncated = outputs.truncated;
  args.final_observations = outputs.final_observations;
  args.episode_returns = outputs.episode_returns;
  args.episode_lengths = outputs.episode_lengths;

  kernels_.check_step(args, device_.queue());
  if (device_.is_cuda()) {
    kernels_.step(args, device_.queue());
    return true;
  }
  if (args.flags->fault != kNoFault) report(args.flags->fault, actions, type);
  args.flags->any_ended = 0;
  kernels_.step(args, device_.queue());
  return args.flags->any_ended != 0;
}

void VectorEnv::observe(float* observations) {
  const Exclusive use(in_use_, kThis);
  if (!was_reset_) throw UsageError("environments have no observations before their first reset - call reset first");
  kernels_.restart({batch_, caller_, nullptr, observations}, device_.queue());
}

void VectorEnv::check() {
  const Exclusive use(in_use_, kThis);
  throw_fault();
}

void VectorEnv::throw_fault() {
  StepFlags flags{};
  device_.download(&flags, arena_.at(flags_), sizeof flags);
  if (flags.fault != kNoFault) report(flags.fault, nullptr, ActionType::kFloat32);
}

void VectorEnv::report(std::uint64_t fault, const void* actions, ActionType type) {
  const StepFlags none{kNoFault, 0};
  device_.upload(arena_.at(flags_), &none, sizeof none);
  const auto place = static_cast<std::size_t>(fault >> 33);
  const auto value = static_cast<std::uint32_t>(fault);
  if (static_cast<FaultKind>(fault >> 32 & 1) == FaultKind::kEnded) {
    throw UsageError(
        formatted("environment {} was stepped after its episode had ended, with autoreset disabled - reset "
                  "it first (reset takes a mask) - nothing was stepped",
                  place));
  }
  if (action_space().continuous) {
    const std::size_t width = static_cast<std::size_t>(action_space().size);
    throw UsageError(
        formatted("actions[{}, {}] = nan is no number - allowed: any number, {} clips it - nothing was "
                  "stepped",
                  place / width, place % width, environment_.id));
  }
  std::int64_t action = std::bit_cast<std::int32_t>(value);
  if (actions != nullptr && type == ActionType::kInt64) action = static_cast<const std::int64_t*>(actions)[place];
  throw UsageError(formatted("actions[{}] = {} is no action of {} - allowed: 0 .. {} - nothing was stepped", place,
                             action, environment_.id, action_space().size - 1));
}

EnvironmentStates VectorEnv::read_all() {
  throw_fault();
  const std::size_t n = count(), fields = field_names().size();
  EnvironmentStates states = empty_states(n, fields);
  std::vector<float> rows(n * fields);
  download(device_, rows, batch_.fields);
  for (std::size_t f = 0; f < fields; ++f) {
    for (std::size_t i = 0; i < n; ++i) states.fields[i * fields + f] = rows[f * n + i];
  }
  download(device_, states.episode, batch_.episode);
  download(device_, states.elapsed, batch_.elapsed);
  download(device_, states.episode_return, batch_.episode_return);
  download(device_, states.ended, caller_.ended);
  download(device_, states.seed, caller_.seed);
  download(device_, states.number, caller_.number);
  return states;
}

void VectorEnv::write_all(const EnvironmentStates& states) {
  const std::size_t n = count(), fields = field_names().size();
  std::vector<float> rows(n * fields);
  for (std::size_t f = 0; f < fields; ++f) {
    for (std::size_t i = 0; i < n; ++i) rows[f * n + i] = states.fields[i * fields + f];
  }
  upload(device_, batch_.fields, rows);
  upload(device_, batch_.episode, states.episode);
  upload(device_, batch_.elapsed, states.elapsed);
  upload(device_, batch_.episode_return, states.episode_return);
  upload(device_, caller_.ended, states.ended);
  upload(device_, caller_.seed, states.seed);
  upload(device_, caller_.number, states.number);
}

void VectorEnv::require_indices(std::span<const std::int64_t> indices) const {
  std::vector<bool> seen(count());
  for (const std::int64_t index : indices) {
    if (index < 0 || index >= num_envs()) {
      throw UsageError(formatted("indices name environment {} - allowed: 0 .. {}", index, num_envs() - 1));
    }
    if (seen[static_cast<std::size_t>(index)]) {
      throw UsageError(formatted("indices name environment {} twice - name each once", index));
    }
    seen[static_cast<std::size_t>(index)] = true;
  }
}

void VectorEnv::require_valid(const EnvironmentStates& states, std::size_t count) const {
  const std::size_t fields = field_names().size();
  for_arrays(states, fields, [&](const char* name, const auto& array, std::size_t width) {
    if (array.size() == count * width) return;
    throw UsageError(formatted("{} has {} numbers - allowed: {}, {} for each of {} environments", name, array.size(),
                               count * width, width, count));
  });
  const auto bad = [](std::string_view name, std::size_t i, const auto& value, const std::string& allowed) {
    throw UsageError(formatted("{} of entry {} is {} - allowed: {}", name, i, value, allowed));
  };
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t f = 0; f < fields; ++f) {
      const float value = states.fields[i * fields + f];
      if (!std::isfinite(value)) bad(field_names()[f], i, value, "a finite number");
    }
    if (!std::isfinite(states.episode_return[i])) bad("episode_return", i, states.episode_return[i], "a finite number");
    if (states.ended[i] > 1) bad("ended", i, states.ended[i], "0 or 1");
    if (states.ended[i] == 1 && autoreset_ == Autoreset::kSameStep) {
      bad("ended", i, states.ended[i], "0, as environments are reset in the step that ends them");
    }
    const std::uint32_t last = max_episode_steps() - (states.ended[i] == 0 ? 1 : 0);
    if (states.elapsed[i] > last) {
      bad("elapsed", i, states.elapsed[i],
          formatted("0 .. {}, as episodes are cut after {} steps", last, max_episode_steps()));
    }
  }
}

EnvironmentStates VectorEnv::states() {
  const Exclusive use(in_use_, kThis);
  if (!was_reset_) throw UsageError("environments have no states before their first reset - call reset first");
  return read_all();
}

EnvironmentStates VectorEnv::states(std::span<const std::int64_t> indices) {
  const Exclusive use(in_use_, kThis);
  if (!was_reset_) throw UsageError("environments have no states before their first reset - call reset first");
  require_indices(indices);
  const EnvironmentStates all = read_all();
  const std::size_t fields = field_names().size();
  EnvironmentStates chosen = empty_states(indices.size(), fields);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    copy_row(all, static_cast<std::size_t>(indices[i]), chosen, i, fields);
  }
  return chosen;
}

void VectorEnv::set_states(const EnvironmentStates& states) {
  const Exclusive use(in_use_, kThis);
  require_valid(states, count());
  throw_fault();
  write_all(states);
  was_reset_ = true;
}

void VectorEnv::set_states(const EnvironmentStates& states, std::span<const std::int64_t> indices) {
  const Exclusive use(in_use_, kThis);
  if (!was_reset_) {
    throw UsageError(
        "some environments are given a state before the first reset - call reset first, or give all a state");
  }
  require_indices(indices);
  require_valid(states, indices.size());
  EnvironmentStates all = read_all();
  for (std::size_t i = 0; i < indices.size(); ++i) {
    copy_row(states, i, all, static_cast<std::size_t>(indices[i]), field_names().size());
  }
  write_all(all);
}

}  // namespace perilune
