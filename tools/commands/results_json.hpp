// Results as JSON objects, a line of text each: what `--json` prints. NaN is null.
#pragma once

#include <string>
#include <string_view>

#include "host/runs/training.hpp"
#include "host/training/evaluation.hpp"

namespace perilune {

// env, preset, device, seed, steps, seconds (from the start of the process to the end of training), steps_per_second
// (of training), solved, eval {episodes, mean, std, min, max}, best {step, mean}, run_dir.
std::string training_json(const TrainingResult& result, std::string_view device, double seconds);

// env, max_episode_steps, parameters (of the environment, by name), episodes, mean, std, min, max. task: what was
// played.
std::string evaluation_json(const EvaluationResult& result, const Config& task);

}  // namespace perilune
