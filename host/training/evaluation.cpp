#include "host/training/evaluation.hpp"

#include <algorithm>
#include <cmath>

#include "host/device/arena.hpp"
#include "host/networks/networks.hpp"
#include "host/settings/environment_settings.hpp"

namespace perilune {

namespace {

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

}  // namespace

EvaluationResult evaluate(const Config& config, Device& device, const float* parameters,
                          const EvaluationOptions& options) {
  const Kernels& kernels = choose_kernels(config, device, Precision::kFp32);
  const Model model = model_of(config);
  const auto episodes = static_cast<std::size_t>(options.episodes);
  Queue& queue = device.queue();
  EvaluateArgs args{};
  args.actor = model.actor;
  args.episodes = options.episodes;
  std::size_t workspace_floats = 0;
  if (is_layerwise(kernels)) {
    queue.matrix = &device.matrix_library(Precision::kFp32);
    args.workspace.columns = workspace_columns(model, options.episodes);
    workspace_floats = kernels.evaluate_workspace(args);
  }
  Arena arena;
  const Slot<float> returns = arena.add<float>("returns", {episodes}),
                    lengths = arena.add<float>("lengths", {episodes});
  const Slot<float> workspace = arena.add<float>("workspace", {workspace_floats});
  arena.take(device);

  args.parameters = parameters;
  args.workspace.data = arena.at(workspace);
  args.first_episode = static_cast<std::uint32_t>(options.set);
  args.max_episode_steps = episode_limit(config);
  args.deterministic = options.deterministic;
  copy_env_parameters(config, args.env_parameters);
  // Episodes are counted in 32 bits; the rest of the set's number chooses a stream, beyond those that have a name.
  const auto stream = static_cast<std::uint32_t>(options.set >> 32) << 8 | kEvaluationStream;
  args.key = {static_cast<std::uint32_t>(options.seed), stream};
  args.returns = arena.at(returns);
  args.lengths = arena.at(lengths);
  {
    const PhaseScope phase(device.phases(), Phase::kEvaluation);
    kernels.evaluate(args, queue);
  }

  std::vector<float> host_returns(episodes), host_lengths(episodes);
  device.download(host_returns.data(), args.returns, episodes * sizeof(float));
  device.download(host_lengths.data(), args.lengths, episodes * sizeof(float));
  return summarise(host_returns, host_lengths);
}

}  // namespace perilune
