#include "host/runs/policy.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/exclusive.hpp"
#include "host/base/format.hpp"
#include "host/networks/networks.hpp"
#include "host/runs/checkpoint.hpp"
#include "host/runs/run_directory.hpp"
#include "host/settings/environment_settings.hpp"

namespace perilune {

std::filesystem::path policy_file(const std::filesystem::path& run_or_file) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(run_or_file, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    throw UsageError(
        formatted("{} does not exist - give a run directory, a checkpoint or a policy file", run_or_file.string()));
  }
  if (error) fail_io("open", run_or_file, error.value());
  if (!std::filesystem::is_directory(status)) return run_or_file;
  if (!is_run_directory(run_or_file)) {
    throw UsageError(formatted("{} is no run directory (it has no config.toml) - give one that perilune train made",
                               run_or_file.string()));
  }
  const std::vector<std::filesystem::path> checkpoints = existing_checkpoints(run_or_file);
  if (checkpoints.empty()) {
    throw Error(formatted("{} has no checkpoint yet - train with --set checkpoint_every=N, or let the run finish",
                          run_or_file.string()));
  }
  return checkpoints.front();
}

std::filesystem::path best_policy(const std::filesystem::path& run) {
  if (!is_run_directory(run)) {
    throw UsageError(
        formatted("{} is no run directory, and only a run has a best policy - give the directory that perilune "
                  "train made",
                  run.string()));
  }
  std::filesystem::path file = best_policy_path(run);
  if (!std::filesystem::exists(file)) {
    throw Error(
        formatted("{} has no best policy: it has not been evaluated yet - let the run finish, train with --set "
                  "eval_every=N, or take its newest policy",
                  run.string()));
  }
  return file;
}

Config saved_config(const std::filesystem::path& run_or_file) {
  if (is_run_directory(run_or_file)) return read_run_config(run_or_file);
  return load_policy(policy_file(run_or_file)).config;
}

Policy::Policy(const std::filesystem::path& run_or_file, Device& device)
    : Policy(load_policy(policy_file(run_or_file)), device) {}

Policy::Policy(std::string_view bytes, const std::string& source, Device& device)
    : Policy(parse_policy(bytes, source), device) {}

Policy::Policy(const SavedPolicy& saved, Device& device)
    : device_(device),
      config_(saved.config),
      step_(saved.step),
      metadata_(saved.metadata),
      kernels_(choose_kernels(config_, device, Precision::kFp32)),
      model_(model_of(config_)) {
  const Slot<float> parameters = arena_.add<float>("parameters", {saved.parameters.size()});
  arena_.take(device);
  parameters_ = arena_.at(parameters);
  device.upload(parameters_, saved.parameters.data(), saved.parameters.size() * sizeof(float));
}

std::string Policy::bytes() {
  const Exclusive use(in_use_, "this policy");
  SavedPolicy saved{config_, std::vector<float>(model_.floats), step_, metadata_};
  device_.download(saved.parameters.data(), parameters_, saved.parameters.size() * sizeof(float));
  return policy_bytes(saved);
}

// Layer-by-layer networks keep their layers in a workspace, which grows with the rows of a call up to
// workspace_columns.
void Policy::reserve_workspace(ActArgs& args) {
  if (!is_layerwise(kernels_)) return;
  device_.queue().matrix = &device_.matrix_library(Precision::kFp32);
  args.workspace.columns = workspace_columns(model_, args.count);
  if (args.workspace.columns > workspace_columns_) {
    auto arena = std::make_unique<Arena>();
    const Slot<float> data = arena->add<float>("workspace", {kernels_.act_workspace(args)});
    arena->take(device_);
    device_.synchronize();  // calls before this one may still use the old one
    workspace_ = std::move(arena);
    workspace_data_ = workspace_->at(data);
    workspace_columns_ = args.workspace.columns;
  }
  args.workspace = {workspace_data_, workspace_columns_};
}

void Policy::act(const float* observations, std::int64_t count, const ActOptions& options, const ActOutputs& outputs) {
  const Exclusive use(in_use_, "this policy");
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  if (count < 0 || count > kMost) {
    throw UsageError(formatted("{} rows of observations - allowed: 0 .. {} in one call", count, kMost));
  }
  const std::uint32_t seed = checked_seed(options.seed);
  if (count == 0) return;
  if (!device_.is_cuda()) require_numbers(observations, count);
  ActArgs args{};
  args.parameters = parameters_;
  args.actor = model_.actor;
  args.count = static_cast<std::int32_t>(count);
  args.call = options.call;
  args.deterministic = options.deterministic;
  args.key = {seed, kActStream};
  args.observations = observations;
  args.choices = outputs.choices;
  args.numbers = outputs.numbers;
  args.outputs = outputs.outputs;
  reserve_workspace(args);
  kernels_.act(args, device_.queue());
}

void Policy::require_numbers(const float* observations, std::int64_t count) const {
  const std::int64_t width = observation_dim();
  const float* end = observations + count * width;
  const float* bad = std::find_if(observations, end, [](float x) { return std::isnan(x); });
  if (bad == end) return;
  const std::int64_t place = bad - observations;
  throw UsageError(
      formatted("observations[{}, {}] = nan is no number - allowed: any number", place / width, place % width));
}

EvaluationResult Policy::evaluate(const EvaluationOptions& options, const Config& task) {
  const Exclusive use(in_use_, "this policy");
  Config scratch;
  set_key(scratch, "eval_episodes", options.episodes);
  checked_seed(options.seed);
  return perilune::evaluate(task, device_, parameters_, options);
}

}  // namespace perilune
