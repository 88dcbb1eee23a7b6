// What there is to choose from: environments, presets, keys, devices; and values on their way to
// Python.

#include <algorithm>

#include "host/base/build_info.hpp"
#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/settings/environment_settings.hpp"
#include "host/settings/environments.hpp"
#include "tools/python/bindings/bindings.hpp"

namespace perilune::python {
namespace {

nb::str text(std::string_view view) { return nb::str(view.data(), view.size()); }

nb::list environments_list() {
  nb::list list;
  for (const EnvironmentInfo& environment : environments()) {
    nb::dict parameters;
    for (const EnvironmentParameter& parameter : environment.parameters) {
      nb::dict entry;
      const bool is_boolean = parameter.type == ParameterType::kBoolean;
      entry["type"] = text(type_name(is_boolean ? KeyType::kBoolean : KeyType::kNumber));
      entry["default"] =
          is_boolean ? nb::object(nb::bool_(parameter.default_value != 0.0)) : nb::float_(parameter.default_value);
      entry["min"] = parameter.allowed.min;
      entry["max"] = parameter.allowed.max;
      entry["allowed"] = is_boolean ? "true | false" : range_text(parameter.allowed);
      entry["help"] = text(parameter.help);
      parameters[text(parameter.name)] = entry;
    }
    nb::list aliases;
    for (const std::string_view alias : environment.aliases) aliases.append(text(alias));
    nb::dict entry;
    entry["id"] = text(environment.id);
    entry["aliases"] = aliases;
    entry["observation_dim"] = environment.observation_dim();
    entry["observation"] = observation_dict(environment);
    entry["num_actions"] = environment.action_space.size;
    entry["continuous"] = environment.action_space.continuous;
    entry["max_episode_steps"] = environment.max_episode_steps;
    entry["solved_return"] = environment.solved_return;
    entry["parameters"] = parameters;
    list.append(entry);
  }
  return list;
}

nb::list presets_list() {
  nb::list list;
  for (const PresetInfo& info : presets()) {
    nb::dict entry;
    entry["name"] = text(info.name);
    entry["env_id"] = text(info.env_id);
    entry["summary"] = text(info.summary);
    entry["toml"] = text(info.toml);
    list.append(entry);
  }
  return list;
}

nb::list keys_list() {
  nb::list list;
  for (const KeyInfo& key : config_keys()) {
    nb::dict entry;
    entry["name"] = key.name;
    entry["type"] = text(type_name(key.type));
    entry["default"] =
        key.name.starts_with("env.") ? nb::cast(value_text(key.default_value)) : nb::cast(key.default_value);
    entry["allowed"] = key.allowed;
    entry["may_change"] = key.may_change;
    entry["help"] = key.help;
    list.append(entry);
  }
  return list;
}

// "cpu_levels": those in this build, best first; "processor": the best one that this processor runs, built or not.
void add_cpu_levels(nb::dict& entry) {
  nb::list built;
  for (const CpuLevel& level : cpu_levels()) {
    if (level.machine != nullptr) built.append(level.name);
    if (level.supported && !entry.contains("processor")) entry["processor"] = level.name;
  }
  entry["cpu_levels"] = built;
}

nb::dict info_dict() {
  const BuildInfo& build = build_info();
  nb::dict entry;
  entry["version"] = text(build.version);
  entry["commit"] = text(build.commit);
  entry["compiler"] = text(build.compiler);
  entry["build_type"] = text(build.build_type);
  entry["cuda"] = text(build.cuda);
  entry["gpus"] = text(build.gpus);
  entry["no_cuda"] = text(build.no_cuda);
  entry["cuda_status"] = describe_cuda();
  add_cpu_levels(entry);
  entry["cpu_level"] = entry["device"] = nb::none();
  try {
    const SelectedDevice automatic = select_device(DeviceChoice::kAuto, 0);
    entry["device"] = automatic.device->description();
    entry["device_reason"] = automatic.reason;
    entry["cpu_level"] = cpu_machine().name;
  } catch (const NoCpuLevelError& error) {
    if (entry["device"].is_none()) entry["device_reason"] = error.what();
  }
  entry["threads"] = available_cores();
  return entry;
}

}  // namespace

SelectedDevice open_device(const std::string& device, std::optional<int> threads) {
  return select_device(device_choice("device", device), threads.value_or(0));
}

SelectedDevice open_device(const std::string& device, std::optional<int> threads, const Work& work) {
  return select_device(device_choice("device", device), threads.value_or(0), {&work, 1});
}

std::vector<Setting> settings_of(const PythonSettings& settings) {
  std::vector<Setting> result;
  for (const auto& [key, value] : settings) result.push_back({key, value});
  return result;
}

nb::dict observation_dict(const EnvironmentInfo& environment) {
  nb::dict entry;
  for (const ObservationNumber& number : environment.observation) {
    entry[number.name] = nb::make_tuple(number.low, number.high);
  }
  return entry;
}

nb::dict evaluation_dict(const EvaluationResult& result) {
  nb::dict entry;
  entry["episodes"] = result.episodes;
  entry["mean"] = result.mean;
  entry["std"] = result.std;
  entry["min"] = result.min;
  entry["max"] = result.max;
  entry["mean_length"] = result.mean_length;
  return entry;
}

nb::dict config_dict(const Config& config) {
  nb::dict entry;
  for (const std::string& key : keys_in_force(config)) entry[nb::cast(key)] = nb::cast(*value_of(config, key));
  return entry;
}

void bind_tables(nb::module_& module) {
  module.def("environments", environments_list, "The built-in environments, a dict each.");
  module.def("presets", presets_list, "The presets, a dict each.");
  module.def("keys", keys_list, "The keys of a configuration, a dict each.");
  module.def("info", info_dict, "The build and what it can run on here.");
  module.def(
      "environment_warnings",
      [](const std::string& env_id, const Parameters& parameters) {
        return environment_warnings(environment_config(env_id, parameters, 0));
      },
      "What of these parameters Gymnasium advises against, a sentence each.");
  module.def("version", [] { return text(build_info().version); });
}

}  // namespace perilune::python
