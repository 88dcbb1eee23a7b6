// See results_json.hpp.
#include "tools/commands/results_json.hpp"

#include <nlohmann/json.hpp>

namespace perilune {
namespace {

using Json = nlohmann::ordered_json;

void add_evaluation(Json& json, const EvaluationResult& result) {
  json["episodes"] = result.episodes;
  json["mean"] = result.mean;
  json["std"] = result.std;
  json["min"] = result.min;
  json["max"] = result.max;
}

// A path may hold bytes that are not UTF-8; they are replaced.
std::string line_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

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
  json["run_dir"] = result.run_directory.string();
  return line_of(json);
}

std::string evaluation_json(const EvaluationResult& result, std::string_view environment) {
  Json json = {{"env", environment}};
  add_evaluation(json, result);
  return line_of(json);
}

}  // namespace perilune
