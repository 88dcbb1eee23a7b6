#include "host/training.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>

#include "host/checkpoint.hpp"
#include "host/error.hpp"
#include "host/files.hpp"
#include "host/format.hpp"
#include "host/json.hpp"
#include "host/metrics_writer.hpp"
#include "host/networks.hpp"
#include "host/precision.hpp"
#include "host/run_directory.hpp"
#include "host/trainer.hpp"

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
    start.initial_parameters = options.initial_policy->policy.parameters;
    start.notes = options.initial_policy->notes;
  }
  return start;
}

// The mean return of the episodes that ended in the last iterations, at least a hundred where there are as many.
class RecentReturns {
 public:
  void add(const IterationMetrics& row) {
    if (row.episodes <= 0.0f) return;
    if (count_ >= 100.0) {  // forget slowly: an exponential average once there are enough
      const double keep = std::max(0.0, 1.0 - row.episodes / 100.0);
      count_ *= keep;
      sum_ *= keep;
    }
    count_ += row.episodes;
    sum_ += row.episode_return_sum;
  }
  double mean() const { return count_ > 0.0 ? sum_ / count_ : kNaN; }

 private:
  double count_ = 0.0, sum_ = 0.0;
};

class Run {
 public:
  Run(const TrainingOptions& options, Device& device, Clock::time_point begin)
      : options_(options), device_(device), begin_(begin), start_(open_run(options, device)), trainer_(start_.config, device) {
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
  std::uint64_t step_of(std::uint64_t iteration) const { return iteration * trainer_.steps_per_iteration(); }

  void plan();
  std::uint64_t next_stop(std::uint64_t done) const;
  void report(std::uint64_t from, std::uint64_t to);
  void write_row(MetricsWriter& writer, const IterationMetrics& row, std::uint64_t iteration);
  void save(std::uint64_t iteration);
  EvaluationResult evaluate_set(std::uint64_t iteration, std::uint32_t set);
  bool passes_twice(std::uint64_t iteration, double threshold);
  void write_evaluation(const TrainingResult& result) const;
  [[noreturn]] void fail_nonfinite(std::uint64_t iteration, NonFinite code);

  const TrainingOptions& options_;
  Device& device_;
  Clock::time_point begin_;
  StartingPoint start_;
  Trainer trainer_;
  std::optional<MetricsWriter> metrics_;
  RecentReturns returns_;
  std::uint64_t first_iteration_ = 0;
  std::uint64_t saved_iteration_ = std::numeric_limits<std::uint64_t>::max();
  double last_kl_ = kNaN;
  std::optional<EvaluationResult> evaluation_;        // the latest
  std::optional<EvaluationResult> pending_evaluation_;  // not yet in the metrics
};

void Run::plan() {
  if (start_.state) first_iteration_ = start_.state->iteration;
  if (!options_.on_plan) return;
  options_.on_plan({directory(), device_.description(), trainer_.precision(), trainer_.networks(), trainer_.arena().total_bytes(), trainer_.arena().table(),
                    trainer_.iterations(), step_of(trainer_.iterations()), step_of(first_iteration_), start_.notes});
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

void Run::write_row(MetricsWriter& writer, const IterationMetrics& row, std::uint64_t iteration) {
  const double episodes = row.episodes;
  std::vector<Metric> values = {
      {"charts/episodic_return", episodes > 0.0 ? row.episode_return_sum / episodes : kNaN},
      {"charts/episodic_length", episodes > 0.0 ? row.episode_length_sum / episodes : kNaN},
      {"charts/episodes", episodes},
      {"charts/learning_rate", row.actor_learning_rate},
      {"charts/SPS", static_cast<double>(step_of(iteration) - step_of(first_iteration_)) / seconds_since(begin_)},
      {"losses/value_loss", row.value_loss},
      {"losses/policy_loss", row.policy_loss},
      {"losses/entropy", row.entropy},
      {"losses/old_approx_kl", row.old_approx_kl},
      {"losses/approx_kl", row.approx_kl},
      {"losses/clipfrac", row.clip_fraction},
      {"losses/explained_variance", row.explained_variance},
      {"losses/gradient_norm", row.gradient_norm},
      {"losses/policy_updates", row.policy_steps},
  };
  if (pending_evaluation_) {
    values.push_back({"eval/mean_return", pending_evaluation_->mean});
    values.push_back({"eval/std_return", pending_evaluation_->std});
    values.push_back({"eval/mean_length", pending_evaluation_->mean_length});
    pending_evaluation_.reset();
  }
  writer.write({iteration, step_of(iteration), unix_time(), values});
}

// Iterations [from, to) are done: metrics, progress, and the check for NaN and Inf.
void Run::report(std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t i = from; i < to; ++i) {
    const IterationMetrics& row = trainer_.metrics(i);
    if (row.nonfinite != 0) fail_nonfinite(i + 1, static_cast<NonFinite>(row.nonfinite));
    returns_.add(row);
    last_kl_ = start_.config.kl_estimator == Config::KlEstimator::kK1 ? row.old_approx_kl : row.approx_kl;
    write_row(*metrics_, row, i + 1);
  }
  if (!options_.on_progress) return;
  const double seconds = seconds_since(begin_);
  const double done = static_cast<double>(to - first_iteration_);
  const double left = static_cast<double>(trainer_.iterations() - to);
  options_.on_progress({to, trainer_.iterations(), step_of(to), step_of(trainer_.iterations()), seconds,
                        static_cast<double>(step_of(to) - step_of(first_iteration_)) / seconds, returns_.mean(),
                        last_kl_, done > 0.0 ? seconds / done * left : kNaN});
}

void Run::fail_nonfinite(std::uint64_t iteration, NonFinite code) {
  const char* where = code == NonFinite::kPolicyLoss   ? "the policy loss"
                      : code == NonFinite::kValueLoss  ? "the value loss"
                      : code == NonFinite::kActorGradient ? "the actor's gradient"
                                                          : "the critic's gradient";
  metrics_->flush();
  throw Error(trainer_.explain_nonfinite(
      iteration, formatted("NaN or Inf in {} at iteration {}", where, iteration),
      "training stopped, " + (existing_checkpoints(directory()).empty()
                                  ? std::string("no checkpoint had been saved")
                                  : "the last good checkpoint is " + checkpoint_path(directory()).string())));
}

void Run::save(std::uint64_t iteration) {
  if (saved_iteration_ == iteration) return;
  const TrainerState state = trainer_.state();
  for (float x : state.parameters) {
    if (!std::isfinite(x)) {
      throw Error(trainer_.explain_nonfinite(iteration, formatted("NaN or Inf in a parameter after iteration {}", iteration),
                                             "it was not saved"));
    }
  }
  metrics_->flush();
  save_checkpoint(directory(), start_.config, trainer_.model(), state, step_of(iteration));
  saved_iteration_ = iteration;
}

// `set`: which of the two sets of episodes kept for this iteration.
EvaluationResult Run::evaluate_set(std::uint64_t iteration, std::uint32_t set) {
  EvaluationOptions options;
  options.episodes = start_.config.eval_episodes;
  options.seed = start_.config.seed;
  options.set = static_cast<std::uint32_t>(2 * iteration) + set;
  try {
    evaluation_ = evaluate(start_.config, device_, trainer_.parameters(), options);
  } catch (const OutOfMemoryError& error) {
    save(iteration);
    throw Error(formatted("out of memory in the evaluation after iteration {}: {} - nothing is lost, the run is saved in "
                          "{} - lower eval_episodes or free memory, and go on with train --resume; the run itself "
                          "holds {}:\n{}",
                          iteration, error.what(), directory().string(), format_bytes(trainer_.arena().total_bytes()),
                          trainer_.arena().table()));
  }
  pending_evaluation_ = evaluation_;
  return *evaluation_;
}

// Two greedy evaluations on different episodes: one crossing can be luck.
bool Run::passes_twice(std::uint64_t iteration, double threshold) {
  return evaluate_set(iteration, 0).mean >= threshold && evaluate_set(iteration, 1).mean >= threshold;
}

void Run::write_evaluation(const TrainingResult& result) const {
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
                       {"mean_length", e.mean_length}}}};
  replace_file(directory() / "evaluation.json", json.dump(2) + "\n");
}

TrainingResult Run::execute() {
  plan();
  trainer_.start(start_.state, options_.use_graph, start_.initial_parameters);
  if (options_.resume) {
    metrics_.emplace(directory(), first_iteration_, step_of(first_iteration_));
  } else {
    metrics_.emplace(directory());
  }
  const Config& config = start_.config;
  TrainingResult result;
  result.config = config;
  result.run_directory = directory();
  result.solved_threshold = find_environment(config.env_id).solved_return;

  // Iterations are launched in batches. A GPU always has one more enqueued than the host waits for, so that it never
  // stands still while the host reads metrics; the CPU runs what it is given at once.
  struct Batch {
    std::uint64_t end, mark;
  };
  std::deque<Batch> enqueued;
  const std::size_t ahead = device_.is_cuda() ? 2 : 1;
  bool reached = false;
  std::uint64_t done = first_iteration_, launched = done, batch = 1;
  Clock::time_point waited = Clock::now();
  while (done < trainer_.iterations() && !reached && !result.interrupted) {
    const std::uint64_t stop = next_stop(done);
    while (enqueued.size() < ahead && launched < stop) {
      const std::uint64_t end = std::min({stop, launched + batch, done + kMetricsRing});
      if (end == launched) break;
      for (std::uint64_t i = launched; i < end; ++i) trainer_.enqueue_iteration();
      launched = end;
      enqueued.push_back({end, device_.mark()});
    }
    const auto finish_oldest = [&] {
      device_.wait(enqueued.front().mark);
      report(done, enqueued.front().end);
      done = enqueued.front().end;
      enqueued.pop_front();
    };
    const bool whole_batch = enqueued.front().end == done + batch;
    finish_oldest();
    if (device_.is_cuda() && whole_batch && seconds_since(waited) < kBatchSeconds) batch *= 2;
    waited = Clock::now();
    result.interrupted = options_.interrupt != nullptr && options_.interrupt->load();
    while (result.interrupted && !enqueued.empty()) finish_oldest();
    if (done < stop) continue;
    const auto due = [&](int every) { return every > 0 && done % static_cast<std::uint64_t>(every) == 0; };
    if (due(config.eval_every) && config.target_return) {
      reached = passes_twice(done, *config.target_return);
    } else if (due(config.eval_every)) {
      evaluate_set(done, 0);
    }
    if (due(config.checkpoint_every)) save(done);
  }
  result.seconds = seconds_since(begin_);
  result.steps = step_of(done);
  result.new_steps = result.steps - step_of(first_iteration_);
  result.steps_per_second = static_cast<double>(result.new_steps) / result.seconds;
  save(done);
  if (result.interrupted) return result;

  result.solved = reached && *config.target_return >= result.solved_threshold
                      ? true
                      : passes_twice(done, result.solved_threshold);
  result.evaluation = *evaluation_;
  write_evaluation(result);
  return result;
}

}  // namespace

TrainingResult train(const TrainingOptions& options, Device& device) {
  const Clock::time_point begin = Clock::now();
  return Run(options, device, begin).execute();
}

}  // namespace perilune
