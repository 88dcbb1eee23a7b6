#include "host/runs/training.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <vector>

#include "host/base/error.hpp"
#include "host/base/files.hpp"
#include "host/base/format.hpp"
#include "host/base/json.hpp"
#include "host/base/text.hpp"
#include "host/networks/networks.hpp"
#include "host/planning/precision.hpp"
#include "host/runs/checkpoint.hpp"
#include "host/runs/metrics_writer.hpp"
#include "host/runs/run_directory.hpp"
#include "host/runs/run_evaluations.hpp"
#include "host/training/trainer.hpp"

namespace perilune {

namespace {

using Clock = std::chrono::steady_clock;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A GPU is given about this much work before the host waits for it.
constexpr double kBatchSeconds = 0.005;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// A new run has no directory yet: it is made once its memory is known to fit.
StartingPoint open_run(const TrainingOptions& options, const Device& device) {
  if (options.resume) return resume_run(*options.resume, options.changes, device);
  validate(options.config, built_widths(device.machine(), options.config.env_id));
  StartingPoint start{std::nullopt, with_chosen_precision(options.config, device), false, {}, {}, {}};
  if (options.initial_policy) {
    start.initial_parameters = first_parameters(options.initial_policy->policy, start.config);
    start.notes = options.initial_policy->notes;
  }
  return start;
}

class Run {
 public:
  Run(const TrainingOptions& options, Device& device, Clock::time_point begin)
      : options_(options),
        device_(device),
        begin_(begin),
        start_(open_run(options, device)),
        trainer_(start_.config, device),
        record_(std::move(start_.record)),
        evaluations_(start_.config, device, trainer_, record_) {
    trainer_.arena().require_room(device);
    if (start_.is_changed) write_run_config(directory(), start_.config);
    if (start_.directory) return;
    start_.directory = RunDirectory::create(start_.config, options.run_directory, "runs", [&](const auto& run) {
      if (options.initial_policy) save_initial_policy(run, *options.initial_policy);
    });
  }

  TrainingResult execute();

 private:
  const std::filesystem::path& directory() const { return start_.directory->path(); }
  bool is_over() const { return record_.steps >= static_cast<std::uint64_t>(start_.config.total_timesteps); }
  // Of the whole run; of whole episodes at least.
  std::uint64_t total_steps() const {
    if (has_whole_episodes(start_.config)) return static_cast<std::uint64_t>(start_.config.total_timesteps);
    return trainer_.iterations() * trainer_.steps_per_iteration();
  }
  std::uint64_t new_steps() const { return record_.steps - first_step_; }

  bool is_interrupted() const { return options_.interrupt != nullptr && options_.interrupt->load(); }

  void plan();
  std::uint64_t next_stop(std::uint64_t done) const;
  std::uint64_t may_launch(std::uint64_t under_way) const;
  std::uint64_t run_until(std::uint64_t done, std::uint64_t stop);
  void report(std::uint64_t from, std::uint64_t to);
  void write_row(std::uint64_t iteration, std::span<const MetricValue> values);
  void write_row(std::uint64_t iteration, const IterationMetrics& row);
  void write_row(std::uint64_t iteration, const EvaluationResult& result);
  bool checkpoint_is_due(std::uint64_t iteration) const;
  void save(std::uint64_t iteration, bool on_schedule);
  void save_best_policy();
  void evaluate_on_schedule(std::uint64_t iteration);
  EvaluationResult evaluate_at_end(std::uint64_t iteration);
  [[noreturn]] void fail_evaluation(std::uint64_t iteration, const OutOfMemoryError& error);
  [[noreturn]] void fail_nonfinite(std::uint64_t iteration, NonFinite where);

  const TrainingOptions& options_;
  Device& device_;
  Clock::time_point begin_;
  StartingPoint start_;
  Trainer trainer_;
  RunRecord record_;
  RunEvaluations evaluations_;
  std::optional<MetricsWriter> metrics_;
  std::uint64_t first_iteration_ = 0, first_step_ = 0;
  std::uint64_t batch_ = 1;                       // iterations that are launched at a time
  std::optional<std::uint64_t> saved_iteration_;  // whose state the newest checkpoint has
  bool saved_on_schedule_ = true;                 // that checkpoint; else the next one replaces it
  std::optional<double> saved_best_mean_;         // of the policy in best.safetensors
};

void Run::plan() {
  if (start_.state) {
    first_iteration_ = start_.state->iteration;
    first_step_ = record_.steps;
    if (!start_.is_changed) saved_iteration_ = first_iteration_;
    saved_on_schedule_ = start_.on_schedule;
  }
  if (!options_.on_plan) return;
  options_.on_plan({directory(), device_.description(), trainer_.precision(), trainer_.networks(),
                    trainer_.arena().total_bytes(), trainer_.arena().table(), trainer_.iterations(), total_steps(),
                    first_step_, start_.notes});
}

// The iteration at which the host next has something to do: a checkpoint, an evaluation or the end.
std::uint64_t Run::next_stop(std::uint64_t done) const {
  std::uint64_t stop = trainer_.iterations();
  for (int every : {start_.config.checkpoint_every, start_.config.eval_every}) {
    if (every <= 0) continue;
    const auto period = static_cast<std::uint64_t>(every);
    stop = std::min(stop, (done / period + 1) * period);
  }
  return stop;
}

void Run::write_row(std::uint64_t iteration, std::span<const MetricValue> values) {
  metrics_->write({iteration, record_.steps, unix_time(), values});
}

void Run::write_row(std::uint64_t iteration, const IterationMetrics& row) {
  const double episodes = row.values[Metric::kEpisodes];
  std::vector<MetricValue> values;
  for (const MetricInfo& info : kMetricInfos) {
    double value = row.values[info.metric];
    if (info.is_per_episode) value = episodes > 0.0 ? value / episodes : kNaN;
    if (info.metric == Metric::kStepsPerSecond) {
      value = static_cast<double>(new_steps()) / seconds_since(begin_);
    }
    if (info.name != nullptr) values.push_back({info.name, value});
  }
  write_row(iteration, values);
}

void Run::write_row(std::uint64_t iteration, const EvaluationResult& result) {
  const MetricValue values[] = {
      {"eval/mean_return", result.mean},
      {"eval/std_return", result.std},
      {"eval/mean_length", result.mean_length},
      {"eval/episodes", static_cast<double>(result.episodes)},
  };
  write_row(iteration, values);
}

// Iterations [from, to) are done: metrics, progress, and the check for NaN and Inf.
void Run::report(std::uint64_t from, std::uint64_t to) {
  double approx_kl = kNaN;
  for (std::uint64_t i = from; i < to; ++i) {
    const IterationMetrics& row = trainer_.metrics(i);
    if (row.nonfinite != NonFinite::kNone) fail_nonfinite(i + 1, row.nonfinite);
    record_.returns.add(row);
    record_.steps += row.steps;
    if (start_.config.log_episodes) {
      const std::span<const float> returns = trainer_.returns(i);
      metrics_->write_episodes(record_.episodes, unix_time(), returns);
      record_.episodes += returns.size();
    }
    const bool k1 = start_.config.kl_estimator == KlEstimator::kK1;
    approx_kl = row.values[k1 ? Metric::kOldApproxKl : Metric::kApproxKl];
    write_row(i + 1, row);
  }
  if (!options_.on_progress) return;
  const double seconds = seconds_since(begin_);
  const auto done = static_cast<double>(new_steps());
  const double left = is_over() ? 0.0 : static_cast<double>(total_steps() - record_.steps);
  options_.on_progress({to, trainer_.iterations(), record_.steps, total_steps(), seconds, done / seconds,
                        record_.returns.mean(), approx_kl, done > 0.0 ? seconds / done * left : kNaN});
}

void Run::fail_nonfinite(std::uint64_t iteration, NonFinite where) {
  metrics_->flush();
  save_best_policy();
  throw Error(trainer_.explain_nonfinite(
      iteration,
      formatted("NaN or Inf in {} at iteration {}", kNonFiniteNames[static_cast<std::size_t>(where)], iteration),
      "training stopped, " + (existing_checkpoints(directory()).empty()
                                  ? std::string("no checkpoint had been saved")
                                  : "the last good checkpoint is " + checkpoint_path(directory()).string())));
}

bool Run::checkpoint_is_due(std::uint64_t iteration) const {
  const auto every = static_cast<std::uint64_t>(start_.config.checkpoint_every);
  return every > 0 && iteration > 0 && iteration % every == 0 && !(saved_iteration_ == iteration && saved_on_schedule_);
}

void Run::save(std::uint64_t iteration, bool on_schedule) {
  Checkpoint checkpoint{start_.config, trainer_.state(), record_, on_schedule};
  for (float x : checkpoint.state.parameters()) {
    if (!std::isfinite(x)) {
      throw Error(trainer_.explain_nonfinite(
          iteration, formatted("NaN or Inf in a parameter after iteration {}", iteration), "it was not saved"));
    }
  }
  metrics_->flush();
  save_best_policy();
  save_checkpoint(directory(), trainer_.model(), checkpoint, record_.steps, saved_on_schedule_);
  saved_iteration_ = iteration;
  saved_on_schedule_ = on_schedule;
}

void Run::save_best_policy() {
  if (!record_.best || saved_best_mean_ == record_.best->mean) return;
  const BestPolicy& best = *record_.best;
  save_policy(best_policy_path(directory()),
              {start_.config, best.parameters, best.step, {{"mean_return", shortest_text(best.mean)}}});
  saved_best_mean_ = record_.best->mean;
}

void Run::evaluate_on_schedule(std::uint64_t iteration) {
  try {
    for (const EvaluationResult& result : evaluations_.evaluate_on_schedule(iteration)) write_row(iteration, result);
    saved_iteration_.reset();  // the record has changed
  } catch (const OutOfMemoryError& error) {
    fail_evaluation(iteration, error);
  }
}

EvaluationResult Run::evaluate_at_end(std::uint64_t iteration) {
  try {
    const EvaluationResult result = evaluations_.evaluate_at_end(iteration);
    write_row(iteration, result);
    metrics_->flush();
    save_best_policy();
    return result;
  } catch (const OutOfMemoryError& error) {
    fail_evaluation(iteration, error);
  }
}

void Run::fail_evaluation(std::uint64_t iteration, const OutOfMemoryError& error) {
  if (saved_iteration_ != iteration) save(iteration, false);
  throw Error(
      formatted("out of memory in the evaluation after iteration {}: {} - nothing is lost, the run is saved in "
                "{} - lower eval_episodes or free memory, and go on with train --resume; the run itself "
                "holds {}:\n{}",
                iteration, error.what(), directory().string(), format_bytes(trainer_.arena().total_bytes()),
                trainer_.arena().table()));
}

// How many more iterations surely belong to the run while so many are under way: batches of whole episodes have as many
// steps as they have, and the one with which there are enough is the last.
std::uint64_t Run::may_launch(std::uint64_t under_way) const {
  if (!has_whole_episodes(start_.config)) return kMetricsRing;
  if (is_over()) return 0;
  const std::uint64_t left = static_cast<std::uint64_t>(start_.config.total_timesteps) - record_.steps;
  const std::uint64_t sure = (left - 1) / trainer_.steps_per_iteration() + 1;
  return std::min<std::uint64_t>(sure, kReturnsRing) - std::min<std::uint64_t>({sure, kReturnsRing, under_way});
}

// Iterations are launched in batches. A GPU always has one more enqueued than the host waits for, so that it never
// stands still while the host reads metrics; the CPU runs what it is given at once. Returns how many are done: `stop`,
// or fewer if the run is interrupted.
std::uint64_t Run::run_until(std::uint64_t done, std::uint64_t stop) {
  struct Batch {
    std::uint64_t begin, end, mark;
  };
  std::deque<Batch> enqueued;
  const std::size_t ahead = device_.is_cuda() ? 2 : 1;
  std::uint64_t launched = done;
  const auto launch = [&] {
    while (enqueued.size() < ahead && launched < stop) {
      const std::uint64_t end =
          std::min({stop, launched + batch_, done + kMetricsRing, launched + may_launch(launched - done)});
      if (end == launched) break;
      const std::uint64_t begin = launched;
      for (; launched < end; ++launched) trainer_.enqueue_iteration();
      enqueued.push_back({begin, end, device_.mark()});
    }
  };
  Clock::time_point waited = Clock::now();
  for (launch(); !enqueued.empty();) {
    const Batch oldest = enqueued.front();
    enqueued.pop_front();
    device_.wait(oldest.mark);
    report(oldest.begin, oldest.end);
    done = oldest.end;
    const bool whole_batch = oldest.end - oldest.begin == batch_;
    if (device_.is_cuda() && whole_batch && seconds_since(waited) < kBatchSeconds) batch_ *= 2;
    waited = Clock::now();
    if (!is_interrupted()) launch();
  }
  return done;
}

void write_evaluation(const TrainingResult& result) {
  const EvaluationResult& e = result.evaluation;
  const Json json = {{"env", result.config.env_id},
                     {"steps", result.steps},
                     {"solved", result.solved},
                     {"threshold", result.solved_threshold},
                     {"eval",
                      {{"episodes", e.episodes},
                       {"mean", e.mean},
                       {"std", e.std},
                       {"min", e.min},
                       {"max", e.max},
                       {"mean_length", e.mean_length}}},
                     {"best", {{"step", result.best->step}, {"mean", result.best->mean}}}};
  replace_file(result.run_directory / "evaluation.json", json.dump(2) + "\n");
}

TrainingResult Run::execute() {
  plan();
  trainer_.start(start_.state, options_.use_graph, start_.initial_parameters);
  const std::uint64_t evaluation_rows = record_.evaluated_iteration == first_iteration_ ? record_.evaluations : 0;
  metrics_.emplace(directory(), MetricsEnd{first_iteration_, first_step_, 1 + evaluation_rows, record_.episodes});
  TrainingResult result;
  result.config = start_.config;
  result.run_directory = directory();
  result.solved_threshold = find_environment(start_.config.env_id).solved_return;

  // What is due after an iteration depends on its number and the record alone, so that a run that is stopped anywhere
  // and goes on does the same.
  std::uint64_t done = first_iteration_;
  while (!(result.interrupted = is_interrupted())) {
    if (evaluations_.is_due(done)) {
      evaluate_on_schedule(done);
    } else if (checkpoint_is_due(done)) {
      save(done, true);
    } else if (record_.reached_target || is_over()) {
      break;
    } else {
      done = run_until(done, next_stop(done));
    }
  }
  result.seconds = seconds_since(begin_);
  result.steps = record_.steps;
  result.new_steps = new_steps();
  result.steps_per_second = static_cast<double>(result.new_steps) / result.seconds;
  if (saved_iteration_ != done) save(done, false);
  if (!result.interrupted) {
    result.evaluation = evaluate_at_end(done);
    result.solved = result.evaluation.mean >= result.solved_threshold;
  }
  if (record_.best) result.best = {record_.best->step, record_.best->mean};
  if (!result.interrupted) write_evaluation(result);
  return result;
}

}  // namespace

TrainingResult train(const TrainingOptions& options, Device& device) {
  const Clock::time_point begin = Clock::now();
  return Run(options, device, begin).execute();
}

}  // namespace perilune
