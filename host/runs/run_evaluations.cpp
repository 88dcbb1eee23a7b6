#include "host/runs/run_evaluations.hpp"

#include <algorithm>

namespace perilune {

namespace {

// Sets of episodes, each used once: iterations are below 2^32.
std::uint64_t scheduled_set(std::uint64_t iteration, bool second) { return 2 * iteration + (second ? 1 : 0); }
std::uint64_t final_set(std::uint64_t iteration) { return (std::uint64_t{1} << 33) + iteration; }

}  // namespace

bool RunEvaluations::is_due(std::uint64_t iteration) const {
  const bool is_last = record_.steps >= static_cast<std::uint64_t>(config_.total_timesteps);
  return config_.eval_every > 0 && iteration > 0 && !is_last &&
         iteration % static_cast<std::uint64_t>(config_.eval_every) == 0 && record_.evaluated_iteration != iteration;
}

std::vector<EvaluationResult> RunEvaluations::evaluate_on_schedule(std::uint64_t iteration) {
  std::vector<EvaluationResult> results = {play(scheduled_set(iteration, false), config_.eval_episodes)};
  const auto is_reached = [&] { return config_.target_return && results.back().mean >= *config_.target_return; };
  if (is_reached()) results.push_back(play(scheduled_set(iteration, true), config_.eval_episodes));
  record_.evaluated_iteration = iteration;
  record_.evaluations = results.size();
  record_.reached_target = is_reached();
  keep_if_best(results.back().mean);
  return results;
}

EvaluationResult RunEvaluations::evaluate_at_end(std::uint64_t iteration) {
  const EvaluationResult result = play(final_set(iteration), std::max(kFinalEpisodes, config_.eval_episodes));
  keep_if_best(result.mean);
  return result;
}

EvaluationResult RunEvaluations::play(std::uint64_t set, int episodes) const {
  EvaluationOptions options;
  options.episodes = episodes;
  options.seed = config_.seed;
  options.set = set;
  return evaluate(config_, device_, trainer_.parameters(), options);
}

void RunEvaluations::keep_if_best(double mean) {
  if (record_.best && mean <= record_.best->mean) return;
  record_.best = {record_.steps, mean, trainer_.host_parameters()};
}

}  // namespace perilune
