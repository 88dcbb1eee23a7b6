#include "host/runs/resume.hpp"

#include <algorithm>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/networks/networks.hpp"
#include "host/planning/precision.hpp"
#include "host/runs/policy.hpp"
#include "host/settings/environment_settings.hpp"

namespace perilune {

namespace {

std::filesystem::path initial_policy_path(const std::filesystem::path& run) {
  return run / "initial_policy.safetensors";
}

// The newest checkpoint that can be read, the one before it if the newest is damaged, none if there is none yet. A
// damaged one is set aside, so that the next save does not move it over the good one.
std::optional<Checkpoint> newest_checkpoint(const std::filesystem::path& run, const Config& config) {
  const std::vector<std::filesystem::path> files = existing_checkpoints(run);
  for (std::size_t i = 0; i < files.size(); ++i) {
    try {
      Checkpoint checkpoint = load_checkpoint(files[i], config);
      for (std::size_t bad = 0; bad < i; ++bad) {
        std::filesystem::rename(files[bad], std::filesystem::path(files[bad]) += ".damaged");
      }
      return checkpoint;
    } catch (const UsageError&) {
      throw;  // it is not damaged, but does not go with the configuration
    } catch (const Error&) {
      if (i + 1 == files.size()) throw;
    }
  }
  return std::nullopt;
}

void require_steps_left(const Config& config, const Checkpoint& checkpoint) {
  const TrainerState& state = checkpoint.state;
  const bool whole_episodes = has_whole_episodes(config);
  // The last batch of whole episodes has what it has.
  const bool is_lower = config.total_timesteps < checkpoint.config.total_timesteps;
  const auto done = static_cast<std::int64_t>(checkpoint.record.steps);
  if (whole_episodes ? !is_lower || done <= config.total_timesteps : state.iteration <= iteration_count(config)) return;
  throw UsageError(formatted("total_timesteps = {} are over: the run is at step {} - allowed: {} or more - raise it",
                             config.total_timesteps, done, done));
}

// A learning rate, a clip range or the weight of the entropy in an iteration, as kernels/statistics.hpp sets it; not of
// kKl, whose rates are data.
double annealed(double value, Anneal anneal, std::int64_t done, std::int64_t of) {
  if (anneal == Anneal::kNone) return value;
  return value * std::max(0.0, 1.0 - static_cast<double>(done) / static_cast<double>(of));
}

struct Schedule {
  std::string_view name;
  double (*value)(const Config&);
  Anneal Config::*anneal;
};

constexpr Schedule kSchedules[] = {
    {"learning_rate", [](const Config& config) { return config.learning_rate; }, &Config::anneal_lr},
    {"critic_learning_rate", critic_learning_rate, &Config::anneal_lr},
    {"clip_coef", [](const Config& config) { return config.clip_coef; }, &Config::anneal_clip_coef},
    {"clip_vloss_coef", clip_vloss_coef, &Config::anneal_clip_coef},
    {"ent_coef", [](const Config& config) { return config.ent_coef; }, &Config::anneal_ent_coef},
};

// Whether learning rates that follow the KL divergence go on where they were. Who sets another rate means it.
bool keeps_adapted_rates(const Config& before, const Config& after) {
  return before.anneal_lr == Anneal::kKl && after.anneal_lr == Anneal::kKl &&
         before.learning_rate == after.learning_rate && critic_learning_rate(before) == critic_learning_rate(after);
}

}  // namespace

Config resumed_config(const std::filesystem::path& run, std::span<const Setting> changes) {
  const Config before = read_run_config(run);
  Config config = before;
  for (const Setting& setting : changes) set_key(config, setting.key, setting.value);
  require_fixed_kept(before, config, config_path(run).string());
  return config;
}

std::vector<std::string> schedule_notes(const Config& before, const Config& after, std::uint32_t iteration,
                                        std::uint64_t steps) {
  std::vector<std::string> notes;
  // Of whole episodes values follow the steps; how many the last iteration had is not known any more.
  const bool whole_episodes = has_whole_episodes(after);
  const std::int64_t old_count = whole_episodes ? before.total_timesteps : iteration_count(before);
  const std::int64_t count = whole_episodes ? after.total_timesteps : iteration_count(after);
  const std::int64_t done = whole_episodes ? static_cast<std::int64_t>(steps) : iteration;
  const std::int64_t last = whole_episodes ? done : done - 1;
  if (iteration == 0 || done >= count) return notes;
  const bool one_rate = before.critic_learning_rate == 0.0 && after.critic_learning_rate == 0.0;
  const bool one_clip = before.clip_vloss_coef == 0.0 && after.clip_vloss_coef == 0.0;
  for (const Schedule& schedule : kSchedules) {
    if (one_rate && schedule.name == "critic_learning_rate") continue;
    if (one_clip && schedule.name == "clip_vloss_coef") continue;
    const Anneal old_anneal = before.*schedule.anneal, anneal = after.*schedule.anneal;
    if (anneal == Anneal::kKl) {
      if (keeps_adapted_rates(before, after)) continue;
      notes.push_back(formatted("{}: {:.3g} in the next iteration, then as the KL divergence asks", schedule.name,
                                schedule.value(after)));
      continue;
    }
    if (old_anneal == Anneal::kKl) {
      notes.push_back(formatted("{}: {:.3g} in the next iteration, no longer as the KL divergence asks", schedule.name,
                                annealed(schedule.value(after), anneal, done, count)));
      continue;
    }
    const double next = annealed(schedule.value(after), anneal, done, count);
    if (next == annealed(schedule.value(before), old_anneal, done, old_count)) continue;
    notes.push_back(formatted("{}: {:.3g} {}, {:.3g} in the next, then {}", schedule.name,
                              annealed(schedule.value(before), old_anneal, last, old_count),
                              whole_episodes ? "before" : "in the last iteration", next,
                              anneal == Anneal::kNone ? "constant"
                                                      : formatted("linearly to 0 at step {}",
                                                                  whole_episodes ? count : count * batch_size(after))));
  }
  return notes;
}

StartingPoint resume_run(const std::filesystem::path& run, std::span<const Setting> changes, const Device& device) {
  StartingPoint resumed{RunDirectory::resume(run), resumed_config(run, changes), false, {}, {}, {}};
  resumed.is_changed = !differing_keys(resumed.config, read_run_config(run)).empty();
  resumed.config = with_chosen_precision(resumed.config, device);
  validate(resumed.config, built_widths(device.machine(), resumed.config.env_id));
  if (std::optional<Checkpoint> checkpoint = newest_checkpoint(run, resumed.config)) {
    require_steps_left(resumed.config, *checkpoint);
    for (const std::string& key : differing_keys(resumed.config, checkpoint->config)) {
      resumed.notes.push_back(formatted("{} = {} from here on, {} before", key, value_text(resumed.config, key),
                                        value_text(checkpoint->config, key)));
    }
    for (std::string& note :
         schedule_notes(checkpoint->config, resumed.config, checkpoint->state.iteration, checkpoint->record.steps)) {
      resumed.notes.push_back(std::move(note));
    }
    resumed.state = std::move(checkpoint->state);
    if (!keeps_adapted_rates(checkpoint->config, resumed.config)) {
      std::erase_if(resumed.state->arrays, [](const KeptArray& array) { return array.name == kLearningRatesName; });
    }
    resumed.record = std::move(checkpoint->record);
    resumed.on_schedule = checkpoint->on_schedule;
  } else if (std::filesystem::exists(initial_policy_path(run))) {
    resumed.initial_parameters = first_parameters(load_policy(initial_policy_path(run)), resumed.config);
  }
  return resumed;
}

InitialPolicy initial_policy(const std::filesystem::path& run_or_file, Config& config,
                             std::span<const std::string> given) {
  const std::filesystem::path file = policy_file(run_or_file);
  InitialPolicy initial{std::filesystem::absolute(file).lexically_normal(), load_policy(file), {}};
  const Config& source = initial.policy.config;
  const std::string name = run_or_file.string();
  require_same_spaces(formatted("the policy {}", name), find_environment(source.env_id),
                      find_environment(config.env_id));
  const auto is_given = [&](std::string_view key) { return std::find(given.begin(), given.end(), key) != given.end(); };
  const auto refuse = [&](std::string_view key, const std::string& here, const std::string& there) {
    throw UsageError(formatted("{} = {}, but the policy {} has {} - allowed: {}, as its weights are - leave {} out",
                               key, here, name, there, there, key));
  };
  const std::string layers = joined(layer_sizes(source)), own_layers = joined(layer_sizes(config));
  if (layers != own_layers) {
    for (const char* key : {"hidden_sizes", "hidden_width", "hidden_layers"}) {
      if (is_given(key)) refuse(key, value_text(config, key), layers);
    }
    config.hidden_width = source.hidden_width;
    config.hidden_layers = source.hidden_layers;
    config.hidden_sizes = source.hidden_sizes;
  }
  const std::string activation = value_text(source, "activation"), own_activation = value_text(config, "activation");
  for (const char* key : {"activation", "output_activation"}) {
    const std::string there = value_text(source, key), here = value_text(config, key);
    if (there != here && is_given(key)) refuse(key, here, there);
  }
  const bool other_outputs = config.output_activation != source.output_activation;
  config.activation = source.activation;
  config.output_activation = source.output_activation;

  initial.notes.push_back(
      formatted("begins with the weights of {}, of step {} in {}", name, initial.policy.step, task_text(source)));
  if (layers != own_layers || activation != own_activation) {
    initial.notes.push_back(formatted("hidden layers of {} units, {}, as that policy has", layers, activation));
  }
  if (other_outputs) {
    initial.notes.push_back(
        formatted("output_activation = {}, as that policy has", value_text(source, "output_activation")));
  }
  if (is_given("init")) initial.notes.push_back("init has no effect: the weights are those of the policy");
  // Weights mean something for what they were trained on: observations as that policy's statistics leave them.
  for (const char* key : {"norm_obs", "clip_obs"}) {
    if (key == std::string_view("clip_obs") && !source.norm_obs) break;
    const std::string own = value_text(config, key), its = value_text(source, key);
    if (own == its) continue;
    if (is_given(key)) refuse(key, own, its);
    set_key(config, key, *value_of(source, key));
    initial.notes.push_back(formatted("{} = {}, as that policy has", key, its));
  }
  if (is_given("log_std_init")) {
    initial.notes.push_back("log_std_init has no effect: the policy has standard deviations of its own");
  }
  return initial;
}

std::vector<float> first_parameters(const SavedPolicy& policy, const Config& config) {
  return parameters_from(model_of(policy.config), policy.parameters, model_of(config));
}

void save_initial_policy(const std::filesystem::path& run, const InitialPolicy& initial) {
  SavedPolicy policy = initial.policy;
  policy.metadata = {{"from_path", initial.path.string()}};
  save_policy(initial_policy_path(run), policy);
}

}  // namespace perilune
