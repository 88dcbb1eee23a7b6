#include "host/runs/checkpoint.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/runs/run_directory.hpp"
#include "host/runs/safetensors.hpp"

namespace perilune {

namespace {

constexpr const char* kCheckpointFormat = "perilune checkpoint";
constexpr const char* kPolicyFormat = "perilune policy";
constexpr const char* kFormatVersion = "2";
// Of files with running statistics: a program that would leave them out must not take the networks alone.
constexpr const char* kVersionWithStatistics = "3";
constexpr const char* kVersionWithoutRecord = "1";
constexpr const char* kBestPrefix = "best.";
// What a policy's file says of it besides configuration and step: where in its run it was, how it did, whence it came.
constexpr std::array<const char*, 3> kPolicyFacts = {"iteration", "mean_return", "from_path"};

const char* format_version(const Config& config) {
  return config.norm_obs || config.norm_reward ? kVersionWithStatistics : kFormatVersion;
}

// The parameters with the statistics, or what the optimiser has of each parameter.
void add_parameters(std::vector<Tensor>& tensors, const Model& model, const std::string& prefix,
                    const std::vector<float>& values) {
  for (const ModelTensor& tensor : model.tensors) {
    if (tensor.offset >= values.size()) break;
    tensors.push_back(
        make_tensor<float>(prefix + tensor.name, tensor.shape, std::span(values).subspan(tensor.offset, tensor.size)));
  }
}

void copy_parameters(const SafetensorsFile& file, const Model& model, const std::string& prefix, std::size_t floats,
                     std::vector<float>& values) {
  values.assign(floats, 0.0f);
  for (const ModelTensor& tensor : model.tensors) {
    if (tensor.offset >= floats) break;
    file.copy(prefix + tensor.name, tensor.shape, std::span(values).subspan(tensor.offset, tensor.size));
  }
}

const std::string& metadata_of(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) {
    throw Error(
        formatted("{} is no Perilune checkpoint or policy (its metadata has no \"{}\") - give a file that "
                  "perilune train wrote",
                  file.source(), key));
  }
  return found->second;
}

// Throws unless the file is of one of our formats and this version; returns its configuration.
Config checked_config(const SafetensorsFile& file, bool checkpoint_only) {
  const std::string& format = metadata_of(file, "format");
  if (format != kCheckpointFormat && (checkpoint_only || format != kPolicyFormat)) {
    throw Error(formatted("{} has format \"{}\" - allowed: \"{}\"{}", file.source(), format, kCheckpointFormat,
                          checkpoint_only ? " - only a checkpoint can be resumed" : ", \"perilune policy\""));
  }
  const std::string& version = metadata_of(file, "format_version");
  if (version != kFormatVersion && version != kVersionWithoutRecord && version != kVersionWithStatistics) {
    throw Error(
        formatted("{} has format version {} - this program reads versions {} to {} - use the program that "
                  "wrote it",
                  file.source(), version, kVersionWithoutRecord, kVersionWithStatistics));
  }
  Config config;
  try {
    apply_toml(config, metadata_of(file, "config"), file.source());
  } catch (const UsageError& error) {
    throw Error(error.what());  // the file is wrong, not what was asked for
  }
  return config;
}

// A Gaussian policy for discrete actions, or the other way round, tells more than a tensor that is missing or too many.
void require_action_kind(const SafetensorsFile& file, const EnvironmentInfo& environment) {
  const bool gaussian = file.find(kLogStdName) != nullptr;
  if (gaussian == environment.action_space.continuous) return;
  throw Error(
      formatted("{} holds a policy of {} actions ({} tensor \"{}\"), but those of {} are {} - give one that was "
                "trained there",
                file.source(), gaussian ? "continuous" : "discrete", gaussian ? "it has a" : "it has no", kLogStdName,
                environment.id, environment.action_space.continuous ? "continuous" : "discrete"));
}

// Statistics that the configuration does not speak of would be left out, and the networks be given what they have never
// seen; those of the other kind, or none, are as wrong.
void require_statistics(const SafetensorsFile& file, const Config& config) {
  const auto require = [&](const char* key, bool is_set, const char* mean) {
    const bool has = file.find(mean) != nullptr;
    if (has == is_set) return;
    throw Error(formatted("{} has {} tensor \"{}\", but its configuration has {} = {} - the file is damaged",
                          file.source(), has ? "a" : "no", mean, key, is_set));
  };
  require("norm_obs", config.norm_obs, "obs_mean");
  require("norm_reward", config.norm_reward, "return_mean");
}

// The networks' parameters and the statistics, which are checked.
void copy_policy(const SafetensorsFile& file, const Model& model, const std::string& prefix,
                 std::vector<float>& values) {
  copy_parameters(file, model, prefix, model.floats, values);
  const std::string fault = statistics_fault(model, values);
  if (!fault.empty()) throw Error(formatted("{}: {} - the file is damaged", file.source(), fault));
}

template <class Number>
Number number_of(const SafetensorsFile& file, const char* key) {
  const std::string& text = metadata_of(file, key);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error(formatted("{} has {} \"{}\", which is no number - the file is damaged", file.source(), key, text));
  }
  return value;
}

void add_record(Metadata& metadata, const RunRecord& record) {
  metadata["recent_episodes"] = shortest_text(record.returns.episodes);
  metadata["recent_return_sum"] = shortest_text(record.returns.sum);
  metadata["evaluated_iteration"] = std::to_string(record.evaluated_iteration);
  metadata["evaluations"] = std::to_string(record.evaluations);
  metadata["reached_target"] = std::to_string(record.reached_target);
  if (record.episodes > 0) metadata["episodes"] = std::to_string(record.episodes);
  if (!record.best) return;
  metadata["best_step"] = std::to_string(record.best->step);
  metadata["best_mean_return"] = shortest_text(record.best->mean);
}

RunRecord record_of(const SafetensorsFile& file, const Model& model, const TrainerState& state) {
  RunRecord record;
  record.steps = number_of<std::uint64_t>(file, "step");
  if (file.metadata().contains("episodes")) record.episodes = number_of<std::uint64_t>(file, "episodes");
  if (metadata_of(file, "format_version") == kVersionWithoutRecord) return record;
  record.returns = {number_of<double>(file, "recent_episodes"), number_of<double>(file, "recent_return_sum")};
  record.evaluated_iteration = number_of<std::uint64_t>(file, "evaluated_iteration");
  record.evaluations = number_of<std::uint64_t>(file, "evaluations");
  record.reached_target = number_of<int>(file, "reached_target") != 0;
  if (!file.metadata().contains("best_step")) return record;
  record.best = {number_of<std::uint64_t>(file, "best_step"), number_of<double>(file, "best_mean_return"), {}};
  if (record.best->step == number_of<std::uint64_t>(file, "step")) {
    record.best->parameters = state.parameters();
  } else {
    copy_policy(file, model, kBestPrefix, record.best->parameters);
  }
  return record;
}

SavedPolicy policy_in(const SafetensorsFile& file) {
  SavedPolicy policy{checked_config(file, false), {}, 0, {}};
  if (file.metadata().contains("step")) policy.step = number_of<std::uint64_t>(file, "step");
  for (const char* key : kPolicyFacts) {
    if (const auto found = file.metadata().find(key); found != file.metadata().end()) policy.metadata.insert(*found);
  }
  require_action_kind(file, find_environment(policy.config.env_id));
  require_statistics(file, policy.config);
  copy_policy(file, model_of(policy.config), "", policy.parameters);
  return policy;
}

// As a policy file has them.
Metadata metadata_of(const SavedPolicy& policy) {
  Metadata metadata = {{"format", kPolicyFormat},
                       {"format_version", format_version(policy.config)},
                       {"config", to_toml(policy.config)},
                       {"step", std::to_string(policy.step)}};
  if (find_environment(policy.config.env_id).action_space.continuous)
    metadata.insert({{"action_low", "-1.0"}, {"action_high", "1.0"}});
  if (policy.config.norm_obs) {
    metadata["obs_normalization"] = "(obs - obs_mean) / sqrt(obs_var + 1e-8)";
    if (policy.config.clip_obs > 0.0) metadata["obs_clip"] = shortest_text(policy.config.clip_obs);
  }
  metadata.insert(policy.metadata.begin(), policy.metadata.end());
  return metadata;
}

std::vector<Tensor> weights_of(const SavedPolicy& policy) {
  std::vector<Tensor> weights;
  add_parameters(weights, model_of(policy.config), "", policy.parameters);
  return weights;
}

}  // namespace

void save_checkpoint(const std::filesystem::path& run, const Model& model, const Checkpoint& checkpoint,
                     std::uint64_t step, bool keep_previous) {
  const Config& config = checkpoint.config;
  const TrainerState& state = checkpoint.state;
  save_policy(policy_path(run), {config, state.parameters(), step, {{"iteration", std::to_string(state.iteration)}}});

  Metadata metadata = {{"format", kCheckpointFormat},  {"format_version", format_version(config)},
                       {"config", to_toml(config)},    {"iteration", std::to_string(state.iteration)},
                       {"step", std::to_string(step)}, {"on_schedule", std::to_string(checkpoint.on_schedule)}};
  add_record(metadata, checkpoint.record);
  std::vector<Tensor> tensors;
  for (const KeptArray& array : state.arrays) {
    if (array.by_layer) add_parameters(tensors, model, array.name, std::get<std::vector<float>>(array.values));
  }
  for (const KeptArray& array : state.arrays) {
    if (array.by_layer) continue;
    const auto add = [&]<class T>(const std::vector<T>& values) {
      tensors.push_back(make_tensor<T>(array.name, Shape(array.shape.begin(), array.shape.end()), std::span(values)));
    };
    std::visit(add, array.values);
  }
  const std::optional<BestPolicy>& best = checkpoint.record.best;
  if (best && best->step != step) add_parameters(tensors, model, kBestPrefix, best->parameters);
  write_safetensors(checkpoint_path(run), tensors, metadata,
                    keep_previous ? previous_checkpoint_path(run) : std::filesystem::path());
}

void save_policy(const std::filesystem::path& path, const SavedPolicy& policy) {
  write_safetensors(path, weights_of(policy), metadata_of(policy));
}

Checkpoint load_checkpoint(const std::filesystem::path& path, const Config& config) {
  const SafetensorsFile file = SafetensorsFile::load(path);
  Checkpoint checkpoint{checked_config(file, true), {}, {}};
  require_fixed_kept(checkpoint.config, config, file.source());
  require_action_kind(file, find_environment(config.env_id));
  require_statistics(file, config);
  const Model model = model_of(config);
  TrainerState& state = checkpoint.state;
  state = TrainerState::of_zeros(checkpoint.config, model);  // what the file has: some of it goes by the configuration
  state.iteration = number_of<std::uint32_t>(file, "iteration");
  if (has_whole_episodes(config)) state.steps = number_of<std::uint64_t>(file, "step");
  for (KeptArray& array : state.arrays) {
    if (array.by_layer) {
      std::vector<float>& values = std::get<std::vector<float>>(array.values);
      if (array.name.empty()) {
        copy_policy(file, model, array.name, values);
      } else {
        copy_parameters(file, model, array.name, values.size(), values);
      }
      continue;
    }
    const Shape shape(array.shape.begin(), array.shape.end());
    std::visit([&]<class T>(std::vector<T>& values) { file.copy<T>(array.name, shape, values); }, array.values);
    if (!array.name.starts_with("normalization.")) continue;
    for (const float x : std::get<std::vector<float>>(array.values)) {
      if (std::isfinite(x)) continue;
      throw Error(formatted("{}: tensor \"{}\" has a number that is not finite - the file is damaged", file.source(),
                            array.name));
    }
  }
  checkpoint.record = record_of(file, model, state);
  // Who sets another target, or more steps, wants the run to go on.
  checkpoint.record.reached_target &= checkpoint.config.target_return == config.target_return &&
                                      checkpoint.config.total_timesteps == config.total_timesteps;
  const auto on_schedule = file.metadata().find("on_schedule");
  checkpoint.on_schedule = on_schedule == file.metadata().end() || on_schedule->second == "1";
  return checkpoint;
}

SavedPolicy load_policy(const std::filesystem::path& path) { return policy_in(SafetensorsFile::load(path)); }

SavedPolicy parse_policy(std::string_view bytes, const std::string& source) {
  const auto data = std::as_bytes(std::span(bytes));
  return policy_in(SafetensorsFile::parse({data.begin(), data.end()}, source));
}

std::string policy_bytes(const SavedPolicy& policy) {
  const std::vector<Tensor> weights = weights_of(policy);
  std::string bytes = safetensors_header(weights, metadata_of(policy));
  for (const Tensor& tensor : weights) {
    bytes.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  }
  return bytes;
}

}  // namespace perilune
