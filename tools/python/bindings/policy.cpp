// Trained policies, evaluation and replay for Python.

#include "host/runs/policy.hpp"
#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/environments/replay.hpp"
#include "host/runs/state_dictionary.hpp"
#include "host/settings/environment_settings.hpp"
#include "host/settings/environments.hpp"
#include "tools/python/bindings/arrays.hpp"

namespace perilune::python {
namespace {

// Ranges were checked by _arguments.py.
EvaluationOptions evaluation_options(std::int64_t episodes, bool deterministic, std::int64_t seed) {
  EvaluationOptions options;
  options.episodes = static_cast<int>(episodes);
  options.deterministic = deterministic;
  options.seed = seed;
  return options;
}

class PythonPolicy {
 public:
  PythonPolicy(const std::string& path, const std::string& device, std::optional<int> threads)
      : device_(std::make_shared<SharedDevice>(open_device(device, threads).device)), policy_(path, *device_->device) {}
  PythonPolicy(const nb::bytes& file, const std::string& source, const std::string& device, std::optional<int> threads)
      : device_(std::make_shared<SharedDevice>(open_device(device, threads).device)),
        policy_({file.c_str(), file.size()}, source, *device_->device) {}

  // Actions and outputs for observations [n, D] in float32, both [n] or [n, K].
  nb::tuple act(nb::handle observations, bool deterministic, std::int64_t seed, std::uint32_t call);
  nb::dict evaluate(std::int64_t episodes, bool deterministic, std::int64_t seed, const PythonSettings& settings) {
    const EvaluationOptions options = evaluation_options(episodes, deterministic, seed);
    EvaluationResult result;
    {
      const nb::gil_scoped_release unlocked;
      result = policy_.evaluate(options, evaluation_task(policy_.config(), settings_of(settings)));
    }
    return evaluation_dict(result);
  }
  nb::bytes file() {
    std::string bytes;
    {
      const nb::gil_scoped_release unlocked;
      bytes = policy_.bytes();
    }
    return nb::bytes(bytes.data(), bytes.size());
  }
  void export_state(bool by_layer, const std::string& to) {
    const nb::gil_scoped_release unlocked;
    perilune::export_state(parse_policy(policy_.bytes(), to),
                           by_layer ? StateLayout::kLayers : StateLayout::kSequential, to);
  }
  nb::dict config() const { return config_dict(policy_.config()); }
  int observation_dim() const { return policy_.observation_dim(); }
  int num_actions() const { return policy_.num_actions(); }
  bool is_continuous() const { return policy_.is_continuous(); }
  std::string device_text() const { return device_->device->description(); }

 private:
  nb::tuple act_on_host(const InputArray& observations, const ActOptions& options);
  nb::tuple act_on_gpu(const InputArray& observations, const ActOptions& options);

  std::shared_ptr<SharedDevice> device_;
  Policy policy_;
};

nb::tuple PythonPolicy::act(nb::handle given, bool deterministic, std::int64_t seed, std::uint32_t call) {
  const InputArray observations = read_array(given, *device_, "observations");
  const auto dim = static_cast<std::size_t>(policy_.observation_dim());
  if (observations.shape.size() != 2 || observations.shape[1] != dim) {
    throw UsageError(formatted("observations have shape {} - allowed: ({},) or (any number, {})",
                               shape_text(observations.shape), dim, dim));
  }
  if (observations.kind != 'f' || observations.item != 4)
    throw nb::type_error("observations must have the type float32");
  const ActOptions options = {deterministic, seed, call};
  return observations.on_cuda ? act_on_gpu(observations, options) : act_on_host(observations, options);
}

// Observations of the host, for a policy on any device.
nb::tuple PythonPolicy::act_on_host(const InputArray& observations, const ActOptions& options) {
  const std::size_t rows = observations.shape[0];
  const auto width = static_cast<std::size_t>(policy_.num_actions());
  const bool numbers = policy_.is_continuous();
  NumpyPool action_pool(numbers ? std::vector<std::size_t>{rows, width} : std::vector<std::size_t>{rows},
                        numbers ? ArrayType::kFloat32 : ArrayType::kInt64);
  NumpyPool output_pool({rows, static_cast<std::size_t>(policy_.num_outputs())}, ArrayType::kFloat32);
  NumpyPool::Taken actions = action_pool.take(), outputs = output_pool.take();
  if (rows == 0) return nb::make_tuple(actions.array, outputs.array);

  Device& device = *device_->device;
  const std::size_t observation_bytes = rows * observations.shape[1] * sizeof(float);
  const std::size_t action_bytes = rows * (numbers ? width * sizeof(float) : sizeof(std::int64_t));
  const std::size_t output_bytes = rows * static_cast<std::size_t>(policy_.num_outputs()) * sizeof(float);
  {
    const nb::gil_scoped_release unlocked;
    const auto run = [&](const void* in, void* out, void* head) {
      policy_.act(static_cast<const float*>(in), static_cast<std::int64_t>(rows), options,
                  {numbers ? nullptr : static_cast<std::int64_t*>(out), numbers ? static_cast<float*>(out) : nullptr,
                   static_cast<float*>(head)});
    };
    if (device.is_cuda()) {
      const DeviceMemory in(device_, observation_bytes), out(device_, action_bytes), head(device_, output_bytes);
      device.upload(in.data, observations.data, observation_bytes);
      run(in.data, out.data, head.data);
      device.download(actions.data, out.data, action_bytes);
      device.download(outputs.data, head.data, output_bytes);
    } else {
      run(observations.data, actions.data, outputs.data);
    }
  }
  return nb::make_tuple(actions.array, outputs.array);
}

nb::tuple PythonPolicy::act_on_gpu(const InputArray& observations, const ActOptions& options) {
  const std::size_t rows = observations.shape[0];
  const auto width = static_cast<std::size_t>(policy_.num_actions());
  const bool numbers = policy_.is_continuous();
  DevicePool action_pool(device_, numbers ? std::vector<std::size_t>{rows, width} : std::vector<std::size_t>{rows},
                         numbers ? ArrayType::kFloat32 : ArrayType::kInt64);
  DevicePool output_pool(device_, {rows, static_cast<std::size_t>(policy_.num_outputs())}, ArrayType::kFloat32);
  const DevicePool::Taken actions = action_pool.take(), outputs = output_pool.take();
  if (rows > 0) {
    policy_.act(static_cast<const float*>(observations.data), static_cast<std::int64_t>(rows), options,
                {numbers ? nullptr : static_cast<std::int64_t*>(actions.data),
                 numbers ? static_cast<float*>(actions.data) : nullptr, static_cast<float*>(outputs.data)});
    finish_reading(observations, *device_);
  }
  return nb::make_tuple(actions.array, outputs.array);
}

nb::dict evaluate_path(const std::string& path, std::int64_t episodes, bool deterministic, std::int64_t seed,
                       const PythonSettings& settings, const std::string& device, std::optional<int> threads) {
  const EvaluationOptions options = evaluation_options(episodes, deterministic, seed);
  EvaluationResult result;
  {
    const nb::gil_scoped_release unlocked;
    const Work work = evaluation_work(saved_config(path), options.episodes);  // its errors come before the device's
    const SelectedDevice selected = open_device(device, threads, work);
    Policy policy(path, *selected.device);
    result = policy.evaluate(options, evaluation_task(policy.config(), settings_of(settings)));
  }
  return evaluation_dict(result);
}

// Returns what became of the numbers, a sentence each.
std::vector<std::string> import_policy(const std::string& file, const std::optional<std::string>& critic,
                                       std::optional<std::string> preset_name, std::optional<std::string> config_file,
                                       const PythonSettings& settings, const std::string& to) {
  const nb::gil_scoped_release unlocked;
  const ConfigSource source = {std::move(preset_name), std::move(config_file), settings_of(settings)};
  return import_state({file, critic}, source, to).notes;
}

using Numbers = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;

template <class T>
nb::object owned(std::vector<T> values, std::vector<std::size_t> shape) {
  auto* keep = new std::vector<T>(std::move(values));
  const nb::capsule owner(keep, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  return nb::cast(nb::ndarray<nb::numpy, T>(keep->data(), shape.size(), shape.data(), owner), nb::rv_policy::reference);
}

// The arrays of perilune.replay in float64, its flags as bytes.
nb::tuple replay_arrays(const std::string& env_id, Numbers draws, Numbers actions, Parameters parameters,
                        std::int64_t max_episode_steps, bool in_double) {
  const EnvironmentInfo& environment = find_environment(env_id);
  const bool fits = environment.action_space.continuous
                        ? actions.ndim() == 2 && static_cast<int>(actions.shape(1)) == environment.action_space.size
                        : actions.ndim() == 1;
  if (!fits && actions.size() > 0) {
    std::vector<std::size_t> shape;
    for (std::size_t i = 0; i < actions.ndim(); ++i) shape.push_back(actions.shape(i));
    throw UsageError(
        formatted("actions have shape {} - allowed for {}: (any number{})", shape_text(shape), environment.id,
                  environment.action_space.continuous ? formatted(", {}", environment.action_space.size) : ","));
  }
  ReplayedEpisode episode;
  {
    const nb::gil_scoped_release unlocked;
    episode = replay({env_id, std::move(parameters), max_episode_steps, in_double}, {draws.data(), draws.size()},
                     {actions.data(), actions.size()});
  }
  const std::size_t steps = episode.rewards.size();
  const auto dim = static_cast<std::size_t>(episode.observation_dim), bodies = static_cast<std::size_t>(episode.bodies);
  return nb::make_tuple(
      owned(std::move(episode.observations), {steps + 1, dim}), owned(std::move(episode.rewards), {steps}),
      owned(std::move(episode.terminated), {steps}), owned(std::move(episode.truncated), {steps}),
      bodies == 0 ? nb::object(nb::none()) : owned(std::move(episode.body_states), {steps + 1, bodies, 6}));
}

}  // namespace

void bind_policy(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<PythonPolicy>(module, "Policy", "What perilune.Policy is written on.")
      .def(nb::init<const std::string&, const std::string&, std::optional<int>>(), "path"_a, "device"_a,
           "threads"_a.none())
      .def(nb::init<const nb::bytes&, const std::string&, const std::string&, std::optional<int>>(), "file"_a,
           "source"_a, "device"_a, "threads"_a.none())
      .def("file", &PythonPolicy::file)
      .def("act", &PythonPolicy::act, "observations"_a, "deterministic"_a, "seed"_a, "call"_a,
           nb::sig("def act(self, observations: typing.Any, deterministic: bool, seed: int, call: "
                   "int) -> tuple[typing.Any, typing.Any]"))
      .def("evaluate", &PythonPolicy::evaluate, "episodes"_a, "deterministic"_a, "seed"_a, "settings"_a)
      .def("export_state", &PythonPolicy::export_state, "by_layer"_a, "to"_a)
      .def("config", &PythonPolicy::config)
      .def_prop_ro("observation_dim", &PythonPolicy::observation_dim)
      .def_prop_ro("num_actions", &PythonPolicy::num_actions)
      .def_prop_ro("is_continuous", &PythonPolicy::is_continuous)
      .def_prop_ro("device", &PythonPolicy::device_text);
  module.def(
      "best_policy", [](const std::string& run) { return best_policy(run).string(); }, "run"_a);
  module.def("evaluate", evaluate_path, "path"_a, "episodes"_a, "deterministic"_a, "seed"_a, "settings"_a, "device"_a,
             "threads"_a.none());
  module.def("import_policy", import_policy, "file"_a, "critic"_a.none(), "preset"_a.none(), "config_file"_a.none(),
             "settings"_a, "to"_a);
  module.def("replay", replay_arrays, "env_id"_a, "draws"_a, "actions"_a, "parameters"_a, "max_episode_steps"_a,
             "in_double"_a,
             nb::sig("def replay(env_id: str, draws: numpy.ndarray, actions: numpy.ndarray, parameters: "
                     "collections.abc.Mapping[str, float], max_episode_steps: int, in_double: bool) -> "
                     "tuple[typing.Any, ...]"));
}

}  // namespace perilune::python
