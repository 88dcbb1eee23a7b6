// What follows from a configuration, and how one is put together. See config.hpp.
#include "host/settings/config.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <variant>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/settings/config_table.hpp"
#include "kernels/iteration.hpp"

namespace perilune {
namespace {

std::string toml_text(const Value& value) {
  const std::string text = value_text(value);
  if (std::holds_alternative<std::string>(value) || std::holds_alternative<std::monostate>(value)) {
    return formatted("\"{}\"", text);
  }
  if (std::holds_alternative<std::vector<std::int64_t>>(value)) return formatted("[{}]", text);
  // A TOML float needs a point or an exponent to be one.
  const bool is_whole = text.find_first_of(".e") == std::string::npos;
  return std::holds_alternative<double>(value) && is_whole ? text + ".0" : text;
}

void require_built(const PresetInfo& preset) {
  std::vector<std::string_view> ids;
  for (const EnvironmentInfo& environment : environments()) ids.push_back(environment.id);
  if (std::find(ids.begin(), ids.end(), preset.env_id) != ids.end()) return;
  throw UsageError(
      formatted("preset {} is for {}, which this build leaves out - built: {} - configure with "
                "-DPERILUNE_ENVIRONMENTS= for all environments",
                preset.name, preset.env_id, joined(ids)));
}

}  // namespace

double env_parameter(const Config& config, const EnvironmentParameter& parameter) {
  const auto found = config.env_parameters.find(parameter.name);
  return found == config.env_parameters.end() ? parameter.default_value : found->second;
}

std::uint32_t episode_limit(const Config& config) {
  const int own = find_environment(config.env_id).max_episode_steps;
  return static_cast<std::uint32_t>(config.max_episode_steps > 0 ? config.max_episode_steps : own);
}

Normalization advantage_normalization(const Config& config) {
  const bool by_minibatch = config.norm_adv == Normalization::kMinibatch && config.update_mode == UpdateMode::kJoint;
  const std::int64_t batch = batch_size(config);
  // The one minibatch of whole episodes is the batch, whose size only the device knows.
  if (has_whole_episodes(config) && config.norm_adv != Normalization::kNone) return Normalization::kBatch;
  return (by_minibatch ? batch / config.num_minibatches : batch) > 1 ? config.norm_adv : Normalization::kNone;
}

double clip_limit(double clip) { return clip > 0.0 ? clip : std::numeric_limits<double>::infinity(); }

double critic_learning_rate(const Config& config) {
  return config.critic_learning_rate > 0.0 ? config.critic_learning_rate : config.learning_rate;
}

double clip_vloss_coef(const Config& config) {
  return config.clip_vloss_coef > 0.0 ? config.clip_vloss_coef : config.clip_coef;
}

Hyperparameters hyperparameters(const Config& config) {
  HyperparameterNumbers<double> numbers = config;
  numbers.critic_learning_rate = critic_learning_rate(config);
  numbers.clip_vloss_coef = clip_vloss_coef(config);
  numbers.clip_reward = clip_limit(config.clip_reward);
  HyperparameterChoices choices = config;
  choices.norm_adv = advantage_normalization(config);
  return rounded(numbers, choices, static_cast<std::uint32_t>(iteration_count(config)));
}

bool has_whole_episodes(const Config& config) { return config.batch_mode == Config::BatchMode::kEpisodes; }

std::int64_t batch_size(const Config& config) {
  return has_whole_episodes(config) ? config.num_steps : std::int64_t{config.num_envs} * config.num_steps;
}

std::int64_t most_rows(const Config& config) {
  return episode_rows(config.num_steps, config.num_envs, episode_limit(config));
}
std::int64_t most_samples(const Config& config) { return most_rows(config) * config.num_envs; }

std::int64_t iteration_count(const Config& config) {
  const std::int64_t batch = batch_size(config);
  return (config.total_timesteps + batch - 1) / batch;
}

std::vector<int> layer_sizes(const Config& config) {
  if (!config.hidden_sizes.empty()) return config.hidden_sizes;
  return std::vector<int>(static_cast<std::size_t>(config.hidden_layers), config.hidden_width);
}

bool is_gaussian_key(std::string_view key) { return key == "log_std_init" || key == "learn_std"; }

std::vector<std::string> differing_keys(const Config& a, const Config& b) {
  std::vector<std::string> names;
  const bool by_sizes = !a.hidden_sizes.empty() || !b.hidden_sizes.empty();
  for (const KeyInfo& info : config_keys()) {
    const bool is_uniform = is_uniform_key(info.name);
    bool differs = false;
    if (is_uniform || info.name == kSizesKey) {
      differs =
          by_sizes ? !is_uniform && layer_sizes(a) != layer_sizes(b) : value_of(a, info.name) != value_of(b, info.name);
    } else {
      const std::optional<Value> here = value_of(a, info.name), there = value_of(b, info.name);
      differs = here && there && *here != *there;
    }
    if (differs) names.push_back(info.name);
  }
  return names;
}

void require_no_rivals(std::span<const std::string> keys) {
  const auto given = [&](std::string_view key) { return std::find(keys.begin(), keys.end(), key) != keys.end(); };
  for (std::string_view key : kUniformKeys) {
    if (given(key) && given(kSizesKey)) {
      throw UsageError(formatted("{} and {} are both given - {} says what every hidden layer has - leave one out", key,
                                 kSizesKey, kSizesKey));
    }
  }
}

std::vector<std::string> keys_in_force(const Config& config) {
  std::vector<std::string> names;
  const EnvironmentInfo& environment = find_environment(config.env_id);
  const bool has_sizes = !config.hidden_sizes.empty();
  for (const Key& key : keys()) {
    if (has_sizes ? is_uniform_key(key.name) : key.name == kSizesKey) continue;
    if (!environment.action_space.continuous && is_gaussian_key(key.name)) continue;
    names.emplace_back(key.name);
  }
  for (const EnvironmentParameter& parameter : environment.parameters) {
    names.push_back(formatted("{}{}", kParameterPrefix, parameter.name));
  }
  return names;
}

std::string to_toml(const Config& config) {
  std::string out;
  bool in_table = false;
  for (const std::string& key : keys_in_force(config)) {
    const bool is_parameter = key.starts_with(kParameterPrefix);
    if (is_parameter && !std::exchange(in_table, true)) out += "\n[env]\n";
    const std::string_view name = std::string_view(key).substr(is_parameter ? kParameterPrefix.size() : 0);
    out += formatted("{} = {}\n", name, toml_text(*value_of(config, key)));
  }
  return out;
}

Config preset(std::string_view name) {
  std::vector<std::string_view> names;
  for (const PresetInfo& info : presets()) {
    names.push_back(info.name);
    if (info.name != name) continue;
    require_built(info);
    Config config;
    config.name = name;
    apply_toml(config, info.toml, formatted("preset {}", name));
    return config;
  }
  throw UsageError(formatted("unknown preset {} - known: {} - did you mean {}?", in_quotes(name), joined(names),
                             nearest(name, names)));
}

ResolvedConfig resolve(const ConfigSource& source) {
  ResolvedConfig resolved;
  if (source.preset_name) resolved.base = resolved.config = preset(*source.preset_name);
  if (source.file) resolved.given = apply_toml_file(resolved.config, *source.file);
  for (const Setting& setting : source.settings) {
    set_key(resolved.config, setting.key, setting.value);
    resolved.given.push_back(setting.key);
  }
  return resolved;
}

}  // namespace perilune
