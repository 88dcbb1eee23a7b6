#include "host/evaluation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "host/arena.hpp"
#include "host/checkpoint.hpp"
#include "host/error.hpp"
#include "host/networks.hpp"
#include "host/run_directory.hpp"

namespace perilune {

namespace {

// Evaluation draws never coincide with training's stream 0.
constexpr std::uint32_t kEvaluationStream = 1;

EvaluationResult summarise(const std::vector<float>& returns, const std::vector<float>& lengths) {
  EvaluationResult result;
  result.episodes = static_cast<int>(returns.size());
  const double n = static_cast<double>(returns.size());
  double sum = 0.0, length = 0.0;
  for (float x : returns) sum += x;
  for (float x : lengths) length += x;
  result.mean = sum / n;
  result.mean_length = length / n;
  double squares = 0.0;
  for (float x : returns) squares += (x - result.mean) * (x - result.mean);
  result.std = std::sqrt(squares / n);
  result.min = *std::min_element(returns.begin(), returns.end());
  result.max = *std::max_element(returns.begin(), returns.end());
  return result;
}

// The newest policy of a run directory, or the file itself.
std::filesystem::path policy_file(const std::filesystem::path& run_or_file) {
  if (!std::filesystem::exists(run_or_file)) {
    throw UsageError(fmt::format("{} does not exist - give a run directory, a checkpoint or a policy file",
                                 run_or_file.string()));
  }
  if (!std::filesystem::is_directory(run_or_file)) return run_or_file;
  if (!is_run_directory(run_or_file)) {
    throw UsageError(fmt::format("{} is no run directory (it has no config.toml) - give one that perilune train made",
                                 run_or_file.string()));
  }
  const std::vector<std::filesystem::path> checkpoints = existing_checkpoints(run_or_file);
  if (checkpoints.empty()) {
    throw Error(fmt::format("{} has no checkpoint yet - train with --set checkpoint_every=N, or let the run finish",
                            run_or_file.string()));
  }
  return checkpoints.front();
}

}  // namespace

EvaluationResult evaluate(const Config& config, Device& device, const float* parameters,
                          const EvaluationOptions& options) {
  const EnvironmentInfo& info = find_environment(config.env_id);
  const Instance& instance = choose_instance(config, device, Precision::kFp32);
  const Model model = model_of(config);
  const auto episodes = static_cast<std::size_t>(options.episodes);
  Queue& queue = device.queue();
  EvaluateArgs args{};
  args.actor = model.actor;
  args.episodes = options.episodes;
  std::size_t workspace_floats = 0;
  if (is_wide(instance)) {
    queue.matrix = &device.matrix_library(Precision::kFp32);
    args.workspace.columns = workspace_columns(model, options.episodes);
    workspace_floats = instance.evaluate_workspace(args);
  }
  Arena arena;
  const Slot<float> returns = arena.add<float>("returns", {episodes}), lengths = arena.add<float>("lengths", {episodes});
  const Slot<float> workspace = arena.add<float>("workspace", {workspace_floats});
  arena.take(device);

  args.parameters = parameters;
  args.workspace.data = arena.at(workspace);
  args.first_episode = options.set;
  args.max_episode_steps = static_cast<std::uint32_t>(info.max_episode_steps);
  args.deterministic = options.deterministic;
  for (std::size_t i = 0; i < info.parameters.size(); ++i) {
    args.env_parameters[i] = static_cast<float>(env_parameter(config, info.parameters[i]));
  }
  args.key = {static_cast<std::uint32_t>(options.seed), kEvaluationStream};
  args.returns = arena.at(returns);
  args.lengths = arena.at(lengths);
  {
    const PhaseScope phase(device.phases(), Phase::kEvaluation);
    instance.evaluate(args, queue);
  }

  std::vector<float> host_returns(episodes), host_lengths(episodes);
  device.download(host_returns.data(), args.returns, episodes * sizeof(float));
  device.download(host_lengths.data(), args.lengths, episodes * sizeof(float));
  return summarise(host_returns, host_lengths);
}

EvaluationResult evaluate_saved(const std::filesystem::path& run_or_file, Device& device,
                                const EvaluationOptions& options) {
  const Policy policy = load_policy(policy_file(run_or_file));
  Arena arena;
  const Slot<float> parameters = arena.add<float>("parameters", {policy.parameters.size()});
  arena.take(device);
  device.upload(arena.at(parameters), policy.parameters.data(), policy.parameters.size() * sizeof(float));
  return evaluate(policy.config, device, arena.at(parameters), options);
}

Config saved_config(const std::filesystem::path& run_or_file) {
  if (is_run_directory(run_or_file)) return read_run_config(run_or_file);
  return load_policy(policy_file(run_or_file)).config;
}

}  // namespace perilune
