// The configuration of a training run: every key, its default and range, and how it is read and
// written.
//
// Config is a plain struct; what kernels read of it is in kernels/hyperparameters.hpp. One table in config_table.cpp
// (name, field, range, help) is the only other place that knows the keys: parsing, printing, listing, range checks and
// suggestions follow from it. Precedence is the caller's: start with a preset or the defaults, then apply_toml_file,
// then set_key for each --set.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "host/settings/environments.hpp"
#include "kernels/hyperparameters.hpp"

namespace perilune {

struct Config : HyperparameterNumbers<double>, HyperparameterChoices {
  enum class Fused { kAuto, kTrue, kFalse };
  enum class BatchMode { kSteps, kEpisodes };
  enum class Init { kOrthogonal, kTorch, kGlorot };

  // What is run.
  std::string name = "custom";
  std::string env_id = "CartPole-v1";
  std::map<std::string, double, std::less<>> env_parameters;  // only those that were set; see env_parameter()
  std::int64_t seed = 1;                                      // 0 .. 2^32-1
  std::int64_t total_timesteps = 500000;
  int max_episode_steps = 0;  // 0: the environment's own limit
  bool truncate_at_rollout_end = false;

  // Batch.
  int num_envs = 4;
  int num_steps = 128;
  BatchMode batch_mode = BatchMode::kSteps;
  int num_minibatches = 4;
  int update_epochs = 4;
  UpdateMode update_mode = UpdateMode::kJoint;
  int policy_iterations = 80;
  int value_iterations = 80;

  // Normalisation by running statistics; clip_reward is among the hyper-parameters.
  bool norm_obs = false;
  bool norm_reward = false;
  double clip_obs = 10.0;  // 0: off

  // Networks.
  int hidden_width = 64;
  int hidden_layers = 2;
  std::vector<int> hidden_sizes;  // empty: hidden_layers times hidden_width
  Activation activation = Activation::kTanh;
  OutputActivation output_activation = OutputActivation::kNone;
  Init init = Init::kOrthogonal;       // of weights and biases
  double log_std_init = 0.0;           // with continuous actions only, as learn_std
  std::optional<Precision> precision;  // none: auto, see precision.hpp
  Fused fused = Fused::kAuto;

  // Evaluation and checkpoints.
  int eval_every = 0;  // iterations; 0: only at the end
  int eval_episodes = 100;
  std::optional<double> target_return;  // none: train for total_timesteps
  int checkpoint_every = 0;             // iterations; 0: only at the end
  bool log_episodes = false;

  bool operator==(const Config&) const = default;
};

// The value of an environment parameter: as set, or its default.
double env_parameter(const Config& config, const EnvironmentParameter& parameter);

// Steps after which an episode is cut: max_episode_steps, or the environment's own limit.
std::uint32_t episode_limit(const Config& config);

// Over what advantages are normalised: norm_adv, but nothing if that would be one sample, whose advantage less its mean
// is 0 and teaches nothing.
Normalization advantage_normalization(const Config& config);

// Where normalised numbers are clipped: infinity for a range of 0.
double clip_limit(double clip);

// The critic's own learning rate, or else the actor's.
double critic_learning_rate(const Config& config);

// The clip range of values: its own, or else the policy's.
double clip_vloss_coef(const Config& config);

// What kernels read of it.
Hyperparameters hyperparameters(const Config& config);

bool has_whole_episodes(const Config& config);

// Samples of an iteration: num_envs * num_steps. Of whole episodes the fewest, num_steps.
std::int64_t batch_size(const Config& config);

// Of whole episodes: the steps of each environment that a batch of them takes at most, and all of these together.
std::int64_t most_rows(const Config& config);
std::int64_t most_samples(const Config& config);

// total_timesteps in whole iterations, rounded up. Of whole episodes the most, as a batch may have more samples.
std::int64_t iteration_count(const Config& config);

// Units of each hidden layer, as hidden_sizes or hidden_width and hidden_layers say.
std::vector<int> layer_sizes(const Config& config);

// What a key takes. An integer may be written as 1e6, and a list of one number as that number.
enum class KeyType { kInteger, kNumber, kBoolean, kText, kChoice, kList };
// "integer", "number", ... as they are listed.
std::string_view type_name(KeyType type);

// A value of a key. std::monostate is "none", also where that is a choice; some choices are set by a bool as well.
using Value = std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<std::int64_t>>;
// As it is written on the command line.
std::string value_text(const Value& value);

// One line of `perilune list keys`.
struct KeyInfo {
  std::string name;
  KeyType type;
  Value default_value;
  std::string allowed;  // "1 .. 4096", "tanh | relu"
  std::string help;
  bool may_change;  // when a run goes on (train --resume); else it is fixed for a run
};
const std::vector<KeyInfo>& config_keys();
// Throws UsageError that names the nearest key if there is none of this name.
const KeyInfo& find_key(std::string_view name);

// The key that is probably meant by a name that is none: what other libraries call it ("lr",
// "n_epochs"), a parameter without "env.", or the one with the nearest letters.
std::string_view nearest_key(std::string_view name);

// Sets one key. A std::string is what `--set key=value` gives: whatever the key's type, it is read as that.
// hidden_sizes replaces hidden_width and hidden_layers, and they replace it. Throws UsageError that names key, value,
// what is allowed and, for an unknown key, the nearest known one. `config` is unchanged then.
void set_key(Config& config, std::string_view key, const Value& value);

struct Setting {
  std::string key;
  Value value;
};

// log_std_init and learn_std, which are in force where actions are continuous.
bool is_gaussian_key(std::string_view key);

// The value of a key; nothing for an environment parameter that config.env_id does not have.
std::optional<Value> value_of(const Config& config, std::string_view key);
// The same as text, "" for nothing.
std::string value_text(const Config& config, std::string_view key);

// The keys whose values in `a` and `b` are not the same, in the order of config_keys(). Environment parameters that
// either environment lacks count as they are in the other; hidden layers are compared as layer_sizes() has them.
std::vector<std::string> differing_keys(const Config& a, const Config& b);

// Throws UsageError if keys that replace each other stand in one file, where neither is the later.
void require_no_rivals(std::span<const std::string> keys);

// Applies a TOML document: keys at top level, environment parameters under [env]. Errors begin with
// source_name and line. `config` is unchanged when it throws. Returns the keys that were set.
std::vector<std::string> apply_toml(Config& config, std::string_view text, std::string_view source_name);
std::vector<std::string> apply_toml_file(Config& config, const std::filesystem::path& path);

// The keys that are in force, in the order of config_keys(), then the environment's parameters in its own.
std::vector<std::string> keys_in_force(const Config& config);

// Every key that is in force, as TOML that apply_toml reads back into an equal configuration
// (environment parameters at their resolved values).
std::string to_toml(const Config& config);

// What no single key can tell: combinations, totals that overflow, a target_return that no episode can reach, and with
// fused = true a hidden_width among those that were built. Throws UsageError.
void validate(const Config& config, std::span<const int> widths);

// Throws UsageError that names them if keys that are fixed for a run differ. source: what says `before`.
void require_fixed_kept(const Config& before, const Config& after, std::string_view source);

// What is allowed but hardly meant, a sentence each: settings that differ from `base` (a preset) and have no effect
// beside the others, terms of the loss that vanish, and parameters beyond what Gymnasium advises.
std::vector<std::string> config_warnings(const Config& config, const Config& base);

struct PresetInfo {
  std::string_view name;
  std::string_view env_id;
  std::string_view summary;  // the first comment line of the file
  std::string_view toml;
};
// The presets of tools/presets, embedded at build time, sorted by name; also those of environments that this build
// leaves out.
std::span<const PresetInfo> presets();

// The defaults with a preset applied, its name as the run's name. Throws UsageError that lists the
// known presets, or says that this build leaves out the preset's environment.
Config preset(std::string_view name);

// What a configuration is put together from, the later counts: a preset, a TOML file, settings in their order.
struct ConfigSource {
  std::optional<std::string> preset_name;  // none: the defaults
  std::optional<std::filesystem::path> file;
  std::vector<Setting> settings;
};
struct ResolvedConfig {
  Config config;
  Config base;                     // the preset alone
  std::vector<std::string> given;  // the keys that the file and the settings set
};
ResolvedConfig resolve(const ConfigSource& source);

}  // namespace perilune
