// The key table and what follows from it; TOML reading is in config_toml.cpp. See config.hpp.
#include "host/settings/config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <variant>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/settings/environment_settings.hpp"
#include "kernels/api.hpp"

namespace perilune {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

// A field of an enum type whose values are 0, 1, ... in the order of `names`.
struct ChoiceField {
  std::vector<std::string_view> names;
  int (*get)(const Config&);
  void (*set)(Config&, int);
  std::string_view when_true;   // what "true" means; empty: not accepted
  std::string_view when_false;  // what "false" means
};

template <auto member>
ChoiceField choice(std::vector<std::string_view> names, std::string_view when_true = {},
                   std::string_view when_false = {}) {
  using Enum = std::remove_cvref_t<decltype(std::declval<Config>().*member)>;
  return {std::move(names), [](const Config& config) { return static_cast<int>(config.*member); },
          [](Config& config, int index) { config.*member = static_cast<Enum>(index); }, when_true, when_false};
}

using Field = std::variant<std::string Config::*, bool Config::*, int Config::*, std::int64_t Config::*,
                           double Config::*, std::optional<double> Config::*, std::vector<int> Config::*, ChoiceField>;

// What a checkpoint's arrays and the episodes that go on depend on is fixed: shapes, networks, their arithmetic, random
// numbers, and the task (episodes are under way in it, and a run's curve and evaluations are of one task). What says
// how the next iterations learn, the discount included, or when the host looks, may change: nothing kept depends on it.
enum class OnResume { kMayChange, kFixed };

struct Key {
  std::string_view name;
  Field field;
  double min;  // min and max apply to numbers
  double max;
  std::string_view help;
  OnResume on_resume = OnResume::kMayChange;
};

constexpr double kMaxInt = std::numeric_limits<int>::max();
constexpr double kMaxLayerSize = 16384;

// In the order in which they are listed and printed.
const std::vector<Key>& keys() {
  constexpr OnResume kFixed = OnResume::kFixed;
  static const std::vector<Key> table = {
      {"name", &Config::name, 0, 0, "name of the run, part of its directory's name"},
      {"env_id", &Config::env_id, 0, 0, "environment", kFixed},
      {"seed", &Config::seed, 0, 4294967295.0, "every random number follows from it", kFixed},
      {"total_timesteps", &Config::total_timesteps, 1, 1e15, "environment steps to train for"},
      {"max_episode_steps", &Config::max_episode_steps, 0, kMaxInt,
       "time limit of an episode; 0: the environment's own", kFixed},
      {"truncate_at_rollout_end", &Config::truncate_at_rollout_end, 0, 0,
       "cut every episode (bootstrapped) where a rollout ends", kFixed},
      {"num_envs", &Config::num_envs, 1, 4194304, "environments side by side", kFixed},
      {"num_steps", &Config::num_steps, 1, 1048576, "steps of each environment per iteration", kFixed},
      {"num_minibatches", &Config::num_minibatches, 1, kMaxInt,
       "minibatches per epoch (joint mode); divides num_envs * num_steps"},
      {"update_epochs", &Config::update_epochs, 1, 10000, "epochs per iteration (joint mode)"},
      {"update_mode", choice<&Config::update_mode>({"joint", "separate"}), 0, 0,
       "one loss in minibatches, or policy then value iterations over the full batch"},
      {"policy_iterations", &Config::policy_iterations, 1, 100000, "policy updates per iteration (separate mode)"},
      {"value_iterations", &Config::value_iterations, 1, 100000, "value updates per iteration (separate mode)"},
      {"learning_rate", &Config::learning_rate, 0, 1, "of the actor, and of the critic unless it has its own"},
      {"critic_learning_rate", &Config::critic_learning_rate, 0, 1, "of the critic; 0: learning_rate"},
      {"anneal_lr", choice<&Config::anneal_lr>({"none", "linear"}, "linear", "none"), 0, 0,
       "learning rates over the run: constant, or linearly to 0"},
      {"epoch_lr_decay", &Config::epoch_lr_decay, 0, 1,
       "the learning rates decay by it after each epoch of an iteration (joint mode)"},
      {"adam_beta1", &Config::adam_beta1, 0, 0.99999, "decay of Adam's first moment"},
      {"adam_beta2", &Config::adam_beta2, 0, 0.99999, "decay of Adam's second moment"},
      {"adam_epsilon", &Config::adam_epsilon, 1e-20, 1, "added to the root of Adam's second moment"},
      {"max_grad_norm", &Config::max_grad_norm, 0, 1e6, "clip of the global gradient norm; 0: off"},
      {"gamma", &Config::gamma, 0, 1, "discount"},
      {"gae_lambda", &Config::gae_lambda, 0, 1, "lambda of generalised advantage estimation"},
      {"value_target", choice<&Config::value_target>({"lambda", "discounted"}), 0, 0,
       "what values learn: lambda-returns or discounted returns"},
      {"norm_adv", choice<&Config::norm_adv>({"minibatch", "batch", "none"}, "minibatch", "none"), 0, 0,
       "where advantages are normalised"},
      {"clip_coef", &Config::clip_coef, 0, 10, "clip range of the probability ratio"},
      {"anneal_clip_coef", choice<&Config::anneal_clip_coef>({"none", "linear"}, "linear", "none"), 0, 0,
       "clip range over the run: constant, or linearly to 0"},
      {"clip_vloss", &Config::clip_vloss, 0, 0, "clip the value loss as the policy loss is"},
      {"ent_coef", &Config::ent_coef, 0, 100, "weight of the entropy bonus"},
      {"vf_coef", &Config::vf_coef, 0, 100, "weight of the value loss, 0.5 * mean((value - target)^2)"},
      {"target_kl", &Config::target_kl, 0, 100, "stop an iteration's policy updates above this KL; 0: off"},
      {"kl_stop", choice<&Config::kl_stop>({"epoch", "iteration"}), 0, 0,
       "when target_kl is looked at: after an epoch (joint) or each policy iteration (separate)"},
      {"kl_estimator", choice<&Config::kl_estimator>({"k1", "k3"}), 0, 0,
       "of target_kl: k1 = mean(old - new log-probability), k3 = mean(ratio - 1 - log ratio)"},
      {"hidden_width", &Config::hidden_width, 1, kMaxLayerSize, "units per hidden layer", kFixed},
      {"hidden_layers", &Config::hidden_layers, 1, kMaxHiddenLayers, "hidden layers of the actor and of the critic",
       kFixed},
      {"hidden_sizes", &Config::hidden_sizes, 1, kMaxLayerSize,
       "units of each hidden layer, instead of hidden_width and hidden_layers", kFixed},
      {"activation", choice<&Config::activation>({"tanh", "relu"}), 0, 0, "of the hidden layers", kFixed},
      {"log_std_init", &Config::log_std_init, -10, 5,
       "logarithm of the standard deviation of continuous actions, at first", kFixed},
      {"learn_std", &Config::learn_std, 0, 0,
       "train the standard deviation of continuous actions; false: as log_std_init says"},
      {"precision", choice<&Config::precision>({"auto", "fp32", "tf32", "bf16"}), 0, 0,
       "of matrix products in training; auto: the fastest that the device has", kFixed},
      {"fused", choice<&Config::fused>({"auto", "true", "false"}), 0, 0,
       "fused kernels (see `perilune info`) or a matrix library; auto: fused where there are any", kFixed},
      {"eval_every", &Config::eval_every, 0, kMaxInt, "iterations between evaluations; 0: only at the end"},
      {"eval_episodes", &Config::eval_episodes, 1, 1000000, "episodes per evaluation"},
      {"target_return", &Config::target_return, -1e9, 1e9,
       "stop when an evaluation reaches this mean return (needs eval_every)"},
      {"checkpoint_every", &Config::checkpoint_every, 0, kMaxInt, "iterations between checkpoints; 0: only at the end"},
  };
  return table;
}

constexpr std::string_view kParameterPrefix = "env.";

// Hidden layers of one size; hidden_sizes is the other way to say it.
constexpr std::array<std::string_view, 2> kUniformKeys = {"hidden_width", "hidden_layers"};
constexpr std::string_view kSizesKey = "hidden_sizes";

bool is_one_of(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

[[noreturn]] void fail_value(std::string_view key, std::string_view value, std::string_view problem,
                             std::string_view allowed) {
  throw UsageError(formatted("{} = {} {} - allowed: {}", key, in_quotes(value), problem, allowed));
}

// Limits as people write them: 4294967295, 1e-20, 0.99999.
std::string limit_text(double value) {
  const bool is_plain_integer = value == std::floor(value) && std::abs(value) < 1e10;
  return is_plain_integer ? formatted("{:.0f}", value) : shortest_text(value);
}

std::string range_text(double min, double max) { return limit_text(min) + " .. " + limit_text(max); }

std::string choices_text(const ChoiceField& field) { return joined(field.names, " | "); }

bool parse_boolean(std::string_view key, std::string_view value) {
  if (value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  fail_value(key, value, "is not a boolean", "true | false");
}

double parse_number(std::string_view key, std::string_view value, const Range& range, std::string_view allowed) {
  const std::optional<double> number = read_number(value);
  if (!number || !std::isfinite(*number)) fail_value(key, value, "is not a number", allowed);
  if (!range.contains(*number)) fail_value(key, value, "is out of range", allowed);
  return *number;
}

double parse_number(std::string_view key, std::string_view value, double min, double max) {
  return parse_number(key, value, {min, max}, range_text(min, max));
}

// Also takes integral values in scientific notation (1e6), as people write step counts.
std::int64_t parse_integer(std::string_view key, std::string_view value, double min, double max) {
  const std::string allowed = "a whole number, " + range_text(min, max);
  const std::optional<std::int64_t> integer = read_integer(value);
  const std::optional<double> number = integer ? static_cast<double>(*integer) : read_number(value);
  if (!number || !std::isfinite(*number) || *number != std::floor(*number)) {
    fail_value(key, value, "is not an integer", allowed);
  }
  if (*number < min || *number > max) fail_value(key, value, "is out of range", allowed);
  return integer ? *integer : static_cast<std::int64_t>(*number);
}

// Run names become part of a directory's name.
std::string parse_name(std::string_view key, std::string_view value) {
  const auto is_allowed = [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           letter == '.' || letter == '_' || letter == '-';
  };
  if (value.empty() || value.size() > 64 || value[0] == '.' || !std::all_of(value.begin(), value.end(), is_allowed)) {
    fail_value(key, value, "cannot be part of a directory name",
               "1 to 64 letters, digits and . _ - (not . at the start)");
  }
  return std::string(value);
}

// "2048,1536", with or without blanks and brackets.
std::vector<int> parse_list(std::string_view key, std::string_view value, double min, double max) {
  const std::string allowed =
      formatted("1 to {} whole numbers separated by commas, each {}", kMaxHiddenLayers, range_text(min, max));
  std::string_view rest = value;
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  std::vector<int> list;
  for (bool more = true; more;) {
    const std::size_t comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    const std::optional<std::int64_t> number = read_integer(item);
    if (!number) fail_value(key, value, "is not a list of whole numbers", allowed);
    const auto size = static_cast<double>(*number);
    if (size < min || size > max) fail_value(key, value, "is out of range", allowed);
    list.push_back(static_cast<int>(*number));
    more = comma != std::string_view::npos;
    if (more) rest.remove_prefix(comma + 1);
  }
  if (list.size() > kMaxHiddenLayers) fail_value(key, value, "has too many layers", allowed);
  return list;
}

int parse_choice(std::string_view key, std::string_view value, const ChoiceField& field) {
  std::string_view name = value;
  if (value == "true" && !field.when_true.empty()) name = field.when_true;
  if (value == "false" && !field.when_false.empty()) name = field.when_false;
  const auto found = std::find(field.names.begin(), field.names.end(), name);
  if (found == field.names.end()) fail_value(key, value, "is unknown", choices_text(field));
  return static_cast<int>(found - field.names.begin());
}

void set_field(Config& config, const Key& key, std::string_view value) {
  std::visit(Overloaded{
                 [&](std::string Config::*field) {
                   config.*field =
                       field == &Config::env_id ? std::string(find_environment(value).id) : parse_name(key.name, value);
                 },
                 [&](bool Config::*field) { config.*field = parse_boolean(key.name, value); },
                 [&](int Config::*field) {
                   config.*field = static_cast<int>(parse_integer(key.name, value, key.min, key.max));
                   if (is_one_of(key.name, kUniformKeys)) config.hidden_sizes.clear();
                 },
                 [&](std::int64_t Config::*field) { config.*field = parse_integer(key.name, value, key.min, key.max); },
                 [&](double Config::*field) { config.*field = parse_number(key.name, value, key.min, key.max); },
                 [&](std::optional<double> Config::*field) {
                   config.*field =
                       value == "none" ? std::nullopt : std::optional(parse_number(key.name, value, key.min, key.max));
                 },
                 [&](std::vector<int> Config::*field) {
                   if (value == "none") return (config.*field).clear();
                   config.*field = parse_list(key.name, value, key.min, key.max);
                   config.hidden_width = Config().hidden_width;
                   config.hidden_layers = Config().hidden_layers;
                 },
                 [&](const ChoiceField& field) { field.set(config, parse_choice(key.name, value, field)); },
             },
             key.field);
}

void set_parameter(Config& config, std::string_view key, std::string_view value) {
  const std::string_view name = key.substr(kParameterPrefix.size());
  for (const EnvironmentInfo& environment : environments()) {
    if (const EnvironmentParameter* parameter = find_parameter(environment, name)) {
      config.env_parameters[std::string(name)] =
          parameter->type == ParameterType::kBoolean
              ? (parse_boolean(key, value) ? 1.0 : 0.0)
              : parse_number(key, value, parameter->allowed, range_text(parameter->allowed));
      return;
    }
  }
  find_key(key);  // throws
}

// The value as it is written in a file, without the quotes of a string.
std::string value_text(const Config& config, const Field& field) {
  return std::visit(Overloaded{
                        [&](std::string Config::*member) { return config.*member; },
                        [&](bool Config::*member) { return std::string(config.*member ? "true" : "false"); },
                        [&](int Config::*member) { return std::to_string(config.*member); },
                        [&](std::int64_t Config::*member) { return std::to_string(config.*member); },
                        [&](double Config::*member) { return shortest_text(config.*member); },
                        [&](std::optional<double> Config::*member) {
                          return config.*member ? shortest_text(*(config.*member)) : std::string("none");
                        },
                        [&](std::vector<int> Config::*member) {
                          const std::vector<int>& list = config.*member;
                          return list.empty() ? "none" : joined(list);
                        },
                        [&](const ChoiceField& member) {
                          return std::string(member.names[static_cast<std::size_t>(member.get(config))]);
                        },
                    },
                    field);
}

std::string parameter_text(const EnvironmentParameter& parameter, double value) {
  if (parameter.type == ParameterType::kBoolean) return value != 0.0 ? "true" : "false";
  return shortest_text(value);
}

std::string type_text(const Field& field) {
  return std::visit(Overloaded{
                        [](std::string Config::*) { return "text"; },
                        [](bool Config::*) { return "boolean"; },
                        [](int Config::*) { return "integer"; },
                        [](std::int64_t Config::*) { return "integer"; },
                        [](double Config::*) { return "number"; },
                        [](std::optional<double> Config::*) { return "number"; },
                        [](std::vector<int> Config::*) { return "list"; },
                        [](const ChoiceField&) { return "choice"; },
                    },
                    field);
}

std::string allowed_text(const Key& key) {
  return std::visit(Overloaded{
                        [&](std::string Config::*field) {
                          return std::string(field == &Config::name ? "letters, digits and . _ -"
                                                                    : "see `perilune list environments`");
                        },
                        [](bool Config::*) { return std::string("true | false"); },
                        [&](std::optional<double> Config::*) { return "none | " + range_text(key.min, key.max); },
                        [&](std::vector<int> Config::*) {
                          return formatted("none | 1 to {} of {}", kMaxHiddenLayers, range_text(key.min, key.max));
                        },
                        [](const ChoiceField& field) { return choices_text(field); },
                        [&](auto) { return range_text(key.min, key.max); },
                    },
                    key.field);
}

// Environments may share a parameter, which is then listed once.
bool is_listed(const std::vector<KeyInfo>& list, const EnvironmentParameter& parameter) {
  return std::any_of(list.begin(), list.end(), [&](const KeyInfo& info) {
    return info.name == formatted("{}{}", kParameterPrefix, parameter.name);
  });
}

// Whose parameter it is: "LunarLander-v3 and 3 others".
std::string owners_text(const EnvironmentParameter& parameter) {
  std::vector<std::string_view> ids;
  for (const EnvironmentInfo& environment : environments()) {
    if (find_parameter(environment, parameter.name) != nullptr) ids.push_back(environment.id);
  }
  if (ids.size() == 1) return std::string(ids[0]);
  return formatted("{} and {} other{}", ids[0], ids.size() - 1, ids.size() == 2 ? "" : "s");
}

void require_built(const PresetInfo& preset) {
  std::vector<std::string_view> ids;
  for (const EnvironmentInfo& environment : environments()) ids.push_back(environment.id);
  if (is_one_of(preset.env_id, ids)) return;
  throw UsageError(
      formatted("preset {} is for {}, which this build leaves out - built: {} - configure with "
                "PERILUNE_ENVIRONMENTS= for all environments",
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

Config::Normalization advantage_normalization(const Config& config) {
  const bool by_minibatch =
      config.norm_adv == Config::Normalization::kMinibatch && config.update_mode == Config::UpdateMode::kJoint;
  const std::int64_t batch = batch_size(config);
  return (by_minibatch ? batch / config.num_minibatches : batch) > 1 ? config.norm_adv : Config::Normalization::kNone;
}

std::int64_t batch_size(const Config& config) { return std::int64_t{config.num_envs} * config.num_steps; }

std::int64_t iteration_count(const Config& config) {
  const std::int64_t batch = batch_size(config);
  return (config.total_timesteps + batch - 1) / batch;
}

std::vector<int> layer_sizes(const Config& config) {
  if (!config.hidden_sizes.empty()) return config.hidden_sizes;
  return std::vector<int>(static_cast<std::size_t>(config.hidden_layers), config.hidden_width);
}

const std::vector<KeyInfo>& config_keys() {
  static const std::vector<KeyInfo> infos = [] {
    std::vector<KeyInfo> list;
    const Config defaults;
    for (const Key& key : keys()) {
      list.push_back({std::string(key.name), type_text(key.field), value_text(defaults, key.field), allowed_text(key),
                      std::string(key.help), key.on_resume == OnResume::kMayChange});
    }
    for (const EnvironmentInfo& environment : environments()) {
      for (const EnvironmentParameter& parameter : environment.parameters) {
        if (is_listed(list, parameter)) continue;
        const bool is_boolean = parameter.type == ParameterType::kBoolean;
        list.push_back({formatted("{}{}", kParameterPrefix, parameter.name), is_boolean ? "boolean" : "number",
                        parameter_text(parameter, parameter.default_value),
                        is_boolean ? "true | false" : range_text(parameter.allowed),
                        formatted("{}: {}", owners_text(parameter), parameter.help), false});
      }
    }
    return list;
  }();
  return infos;
}

const KeyInfo& find_key(std::string_view name) {
  for (const KeyInfo& info : config_keys()) {
    if (info.name == name) return info;
  }
  throw UsageError(formatted("unknown key {} - the nearest known key is {} - `perilune list keys` shows all",
                             in_quotes(name), nearest_key(name)));
}

void set_key(Config& config, std::string_view key, std::string_view value) {
  if (key.starts_with(kParameterPrefix)) return set_parameter(config, key, value);
  for (const Key& known : keys()) {
    if (known.name == key) return set_field(config, known, value);
  }
  find_key(key);  // throws
}

bool is_gaussian_key(std::string_view key) { return key == "log_std_init" || key == "learn_std"; }

std::string value_text(const Config& config, std::string_view key) {
  if (key.starts_with(kParameterPrefix)) {
    const EnvironmentParameter* parameter =
        find_parameter(find_environment(config.env_id), key.substr(kParameterPrefix.size()));
    return parameter == nullptr ? "" : parameter_text(*parameter, env_parameter(config, *parameter));
  }
  for (const Key& known : keys()) {
    if (known.name == key) return value_text(config, known.field);
  }
  find_key(key);  // throws
  return "";
}

std::vector<std::string> differing_keys(const Config& a, const Config& b) {
  std::vector<std::string> names;
  const bool by_sizes = !a.hidden_sizes.empty() || !b.hidden_sizes.empty();
  for (const KeyInfo& info : config_keys()) {
    const bool is_uniform = is_one_of(info.name, kUniformKeys);
    bool differs = false;
    if (is_uniform || info.name == kSizesKey) {
      differs = by_sizes ? !is_uniform && layer_sizes(a) != layer_sizes(b)
                         : value_text(a, info.name) != value_text(b, info.name);
    } else {
      const std::string here = value_text(a, info.name), there = value_text(b, info.name);
      differs = here != there && !here.empty() && !there.empty();
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

std::string to_toml(const Config& config) {
  std::string out;
  const auto append = [&](std::string_view name, std::string_view type, std::string value) {
    const bool is_quoted = type == "text" || type == "choice" || value == "none";
    // A TOML float needs a point or an exponent to be one.
    if (type == "number" && !is_quoted && value.find_first_of(".e") == std::string::npos) value += ".0";
    out += is_quoted        ? formatted("{} = \"{}\"\n", name, value)
           : type == "list" ? formatted("{} = [{}]\n", name, value)
                            : formatted("{} = {}\n", name, value);
  };
  const EnvironmentInfo& environment = find_environment(config.env_id);
  const bool has_sizes = !config.hidden_sizes.empty();
  for (const Key& key : keys()) {
    if (has_sizes ? is_one_of(key.name, kUniformKeys) : key.name == kSizesKey) continue;
    if (!environment.action_space.continuous && is_gaussian_key(key.name)) continue;
    append(key.name, type_text(key.field), value_text(config, key.field));
  }
  if (!environment.parameters.empty()) out += "\n[env]\n";
  for (const EnvironmentParameter& parameter : environment.parameters) {
    const bool is_boolean = parameter.type == ParameterType::kBoolean;
    append(parameter.name, is_boolean ? "boolean" : "number",
           parameter_text(parameter, env_parameter(config, parameter)));
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
  resolved.base = resolved.config = preset(source.preset_name);
  if (source.file) resolved.given = apply_toml_file(resolved.config, *source.file);
  for (const Setting& setting : source.settings) {
    set_key(resolved.config, setting.key, setting.value);
    resolved.given.push_back(setting.key);
  }
  return resolved;
}

}  // namespace perilune
