// See results_json.hpp.
#include "tools/commands/results_json.hpp"

#include "host/base/json.hpp"

namespace perilune {
namespace {

void add_evaluation(Json& json, const EvaluationResult& result) {
  json["episodes"] = result.episodes;
  json["mean"] = result.mean;
  json["std"] = result.std;
  json["min"] = result.min;
  json["max"] = result.max;
}

}  // namespace

std::string training_json(const TrainingResult& result, std::string_view device, double seconds) {
  Json json = {{"env", result.config.env_id},
               {"preset", result.config.name},
               {"device", device},
               {"seed", result.config.seed},
               {"steps", result.steps},
               {"seconds", seconds},
               {"steps_per_second", result.steps_per_second},
               {"solved", result.solved}};
  add_evaluation(json["eval"], result.evaluation);
  if (result.best) json["best"] = {{"step", result.best->step}, {"mean", result.best->mean}};
  json["run_dir"] = result.run_directory.string();
  return json.dump() + "\n";
}

std::string evaluation_json(const EvaluationResult& result, const Config& task) {
  Json parameters = Json::object();
  for (const EnvironmentParameter& parameter : find_environment(task.env_id).parameters) {
    const double value = env_parameter(task, parameter);
    if (parameter.type == ParameterType::kBoolean) {
      parameters[std::string(parameter.name)] = value != 0.0;
    } else {
      parameters[std::string(parameter.name)] = value;
    }
  }
  Json json = {{"env", task.env_id}, {"max_episode_steps", episode_limit(task)}, {"parameters", parameters}};
  add_evaluation(json, result);
  return json.dump() + "\n";
}

}  // namespace perilune
