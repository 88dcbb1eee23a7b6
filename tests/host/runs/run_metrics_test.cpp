// What a run says of itself, metric by metric, against the trainer's and the evaluations' own numbers; and when its
// evaluations end it.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <set>

#include "host/runs/training.hpp"
#include "host/training/trainer.hpp"
#include "tests/support/forwarding_device.hpp"
#include "tests/support/run_files.hpp"

namespace perilune::test {
namespace {

/// One call of an evaluation kernel, and the episodes it played.
struct SeenEvaluation {
  std::uint32_t first_episode, deterministic, max_episode_steps;
  RngKey key;
  std::vector<double> returns, lengths;

  double mean_return() const { return sum(returns) / static_cast<double>(returns.size()); }
  double mean_length() const { return sum(lengths) / static_cast<double>(lengths.size()); }
  double std_return() const {
    double squares = 0.0;
    for (double x : returns) squares += (x - mean_return()) * (x - mean_return());
    return std::sqrt(squares / static_cast<double>(returns.size()));
  }
  static double sum(const std::vector<double>& x) {
    double total = 0.0;
    for (double value : x) total += value;
    return total;
  }
};

/// Remembers evaluations of CartPole's narrowest networks, and says what they return where a test has a script.
class SpyDevice : public ForwardingDevice {
 public:
  SpyDevice() : machine_(ForwardingDevice::machine()) {
    kernels_.assign(machine_.table.fused, machine_.table.fused + machine_.table.fused_count);
    const Kernels* spied = find_kernels(machine_, "CartPole-v1", 16);
    Kernels& mine = kernels_[static_cast<std::size_t>(spied - machine_.table.fused)];
    original = mine.evaluate;
    mine.evaluate = [](const EvaluateArgs& args, Queue& queue) {
      original(args, queue);
      if (script) std::fill(args.returns, args.returns + args.episodes, script(kind_of(args)));
      seen.push_back({args.first_episode,
                      args.deterministic,
                      args.max_episode_steps,
                      args.key,
                      {args.returns, args.returns + args.episodes},
                      {args.lengths, args.lengths + args.episodes}});
    };
    machine_.table.fused = kernels_.data();
    seen.clear();
    script = nullptr;
  }
  const Machine& machine() const override { return machine_; }

  static inline std::vector<SeenEvaluation> seen;
  /// A scheduled evaluation's first and second set, and the one at the end.
  enum Kind { kFirst, kSecond, kFinal };
  static inline std::function<float(Kind)> script;  ///< the return of every episode of a set

 private:
  static Kind kind_of(const EvaluateArgs& args) {
    return args.key.stream != kEvaluationStream ? kFinal : args.first_episode % 2 == 0 ? kFirst : kSecond;
  }
  static inline void (*original)(const EvaluateArgs&, Queue&) = nullptr;
  Machine machine_;
  std::vector<Kernels> kernels_;
};

/// Episodes of some 20 steps that return -1 each.
TrainingOptions small_run(const std::filesystem::path& directory) {
  TrainingOptions options;
  for (const auto& [key, value] :
       {std::pair("num_envs", "8"), std::pair("num_steps", "16"), std::pair("hidden_width", "16"),
        std::pair("total_timesteps", "1280"), std::pair("eval_every", "2"), std::pair("eval_episodes", "9"),
        std::pair("precision", "fp32"), std::pair("critic_learning_rate", "0.01"), std::pair("target_kl", "1e-3"),
        std::pair("norm_obs", "true"), std::pair("norm_reward", "true"),
        std::pair("env.sutton_barto_reward", "true")}) {
    set_key(options.config, key, value);
  }
  options.run_directory = directory;
  return options;
}

/// Those of iterations, or of evaluations.
std::vector<nlohmann::json> rows_with(const char* name, const std::filesystem::path& run) {
  std::vector<nlohmann::json> rows;
  for (const nlohmann::json& row : metrics_rows(run)) {
    if (row.contains(name)) rows.push_back(row);
  }
  return rows;
}

TEST(RunMetrics, AreTheTrainers) {
  const TemporaryDirectory scratch;
  SpyDevice device;
  const TrainingOptions options = small_run(scratch / "run");
  train(options, device);
  const auto rows = rows_with("charts/episodes", *options.run_directory);
  Trainer trainer(options.config, device);
  trainer.start(std::nullopt, false);
  ASSERT_EQ(rows.size(), trainer.iterations());
  double episodes = 0.0;
  for (std::uint32_t i = 0; i < trainer.iterations(); ++i) {
    SCOPED_TRACE("iteration " + std::to_string(i));
    trainer.enqueue_iteration();
    device.synchronize();
    const float(&m)[kMetrics] = trainer.metrics(i).values;
    const auto expect = [&](const char* name, double expected) {
      if (std::isnan(expected)) {
        EXPECT_TRUE(rows[i].at(name).is_null()) << name;
      } else {
        EXPECT_NEAR(rows[i].at(name).get<double>(), expected, 1e-6 * std::abs(expected)) << name;
      }
    };
    expect("iteration", i + 1.0);
    expect("step", (i + 1.0) * 8 * 16);
    expect("charts/episodes", m[Metric::kEpisodes]);
    expect("charts/episodic_return", double{m[Metric::kEpisodicReturn]} / double{m[Metric::kEpisodes]});
    expect("charts/episodic_length", double{m[Metric::kEpisodicLength]} / double{m[Metric::kEpisodes]});
    expect("charts/learning_rate", m[Metric::kLearningRate]);
    expect("losses/value_loss", m[Metric::kValueLoss]);
    expect("losses/policy_loss", m[Metric::kPolicyLoss]);
    expect("losses/entropy", m[Metric::kEntropy]);
    expect("losses/old_approx_kl", m[Metric::kOldApproxKl]);
    expect("losses/approx_kl", m[Metric::kApproxKl]);
    expect("losses/clipfrac", m[Metric::kClipFraction]);
    expect("losses/explained_variance", m[Metric::kExplainedVariance]);
    expect("losses/gradient_norm", m[Metric::kGradientNorm]);
    expect("losses/policy_updates", m[Metric::kPolicyUpdates]);
    expect("normalization/observation_std", m[Metric::kObservationStd]);
    expect("normalization/return_std", m[Metric::kReturnStd]);
    EXPECT_EQ(rows[i].size(), 17u) << "a metric that is not compared";
    episodes += m[Metric::kEpisodes];
  }
  EXPECT_GT(episodes, 20.0);
}

/// Each evaluation has a row of its own, and the last one is in evaluation.json.
TEST(RunMetrics, EvaluationsAreTheEpisodesThatWerePlayed) {
  const TemporaryDirectory scratch;
  SpyDevice device;
  const TrainingOptions options = small_run(scratch / "run");
  const TrainingResult result = train(options, device);
  const auto rows = rows_with("eval/mean_return", *options.run_directory);
  ASSERT_EQ(rows.size(), device.seen.size());
  ASSERT_EQ(rows.size(), 5u) << "after 2, 4, 6 and 8 iterations, and at the end";
  double best = -1e9;
  std::uint64_t best_step = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    SCOPED_TRACE("evaluation " + std::to_string(i));
    const SeenEvaluation& played = device.seen[i];
    EXPECT_EQ(played.deterministic, 1u);
    EXPECT_EQ(rows[i].at("iteration").get<std::size_t>(), 2 * (i + 1));
    EXPECT_EQ(rows[i].at("step").get<std::size_t>(), 2 * (i + 1) * 8 * 16);
    EXPECT_EQ(rows[i].at("eval/episodes").get<std::size_t>(), played.returns.size());
    EXPECT_EQ(played.returns.size(), i < 4 ? 9u : 100u);
    EXPECT_NEAR(rows[i].at("eval/mean_return").get<double>(), played.mean_return(), 1e-6);
    EXPECT_NEAR(rows[i].at("eval/std_return").get<double>(), played.std_return(), 1e-6);
    EXPECT_NEAR(rows[i].at("eval/mean_length").get<double>(), played.mean_length(), 1e-5);
    EXPECT_EQ(rows[i].size(), 6u) << "a metric that is not compared";
    if (played.mean_return() > best) best = played.mean_return(), best_step = 2 * (i + 1) * 8 * 16;
  }
  const SeenEvaluation& last = device.seen.back();
  const auto json = nlohmann::json::parse(read_text(*options.run_directory / "evaluation.json"));
  EXPECT_EQ(json.at("eval").at("episodes").get<int>(), 100);
  EXPECT_NEAR(json.at("best").at("mean").get<double>(), best, 1e-9);
  EXPECT_EQ(json.at("best").at("step").get<std::uint64_t>(), best_step);
  EXPECT_NEAR(json.at("eval").at("mean").get<double>(), last.mean_return(), 1e-9);
  EXPECT_NEAR(json.at("eval").at("std").get<double>(), last.std_return(), 1e-9);
  EXPECT_NEAR(json.at("eval").at("mean_length").get<double>(), last.mean_length(), 1e-9);
  EXPECT_EQ(json.at("eval").at("min").get<double>(), *std::min_element(last.returns.begin(), last.returns.end()));
  EXPECT_EQ(json.at("eval").at("max").get<double>(), *std::max_element(last.returns.begin(), last.returns.end()));
  EXPECT_EQ(json.at("steps").get<std::uint64_t>(), 1280u);
  EXPECT_EQ(json.at("solved").get<bool>(), result.solved);
  EXPECT_EQ(json.at("threshold").get<double>(), 475.0);
  EXPECT_EQ(result.evaluation.mean, json.at("eval").at("mean").get<double>());
}

/// No two evaluations of a run play the same episodes, though it was interrupted and resumed, and none those of
/// training.
TEST(RunMetrics, EvaluationSetsNeverRepeat) {
  const TemporaryDirectory scratch;
  SpyDevice device;
  // An evaluation's first set passes and its second does not: both are played, and the run goes on.
  SpyDevice::script = [](SpyDevice::Kind kind) { return kind == SpyDevice::kFirst ? 100.0f : 0.0f; };
  TrainingOptions options = small_run(scratch / "run");
  set_key(options.config, "eval_every", "1");
  options.config.env_parameters.clear();
  options.config.target_return = 100.0;
  options.config.seed = 77;
  std::atomic<bool> interrupt = false;
  options.interrupt = &interrupt;
  options.on_progress = [&](const TrainingProgress& progress) { interrupt = progress.iteration == 3; };
  train(options, device);
  TrainingOptions rest;
  rest.resume = options.run_directory;
  EXPECT_FALSE(train(rest, device).solved);
  std::set<std::pair<std::uint32_t, std::uint32_t>> sets;
  for (const SeenEvaluation& played : device.seen) {
    EXPECT_TRUE(sets.emplace(played.key.stream, played.first_episode).second)
        << "set " << played.first_episode << " of stream " << played.key.stream << " was played twice";
    EXPECT_EQ(played.key.seed, 77u);
    EXPECT_NE(played.key.stream, kTrainingStream);
    EXPECT_EQ(played.max_episode_steps, 500u);
  }
  EXPECT_EQ(sets.size(), 19u) << "two after each of nine iterations, and one at the end";
}

/// A target ends the run when both sets of an evaluation reach it; it is solved when those at the end reach the
/// environment's threshold, 475.
TEST(RunMetrics, TargetsAndThresholdsFromBothSides) {
  struct Case {
    std::optional<double> target;
    float first, second, final;  // returns of the sets
    std::uint64_t iterations;
    bool solved;
  };
  const float below = std::nextafter(475.0f, 0.0f), short_of_target = std::nextafter(100.0f, 0.0f);
  const std::vector<Case> cases = {
      {100.0, 100.0f, 100.0f, 100.0f, 2, false},
      {100.0, short_of_target, 100.0f, 100.0f, 10, false},
      {100.0, 100.0f, short_of_target, 100.0f, 10, false},
      {100.0, 100.0f, 100.0f, 475.0f, 2, true},
      {475.0, 475.0f, 475.0f, below, 2, false},
      {480.0, 475.0f, 475.0f, 475.0f, 10, true},
      {std::nullopt, 0.0f, 0.0f, 475.0f, 10, true},
      {std::nullopt, 500.0f, 500.0f, below, 10, false},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE("case " + std::to_string(i));
    const Case& c = cases[i];
    const TemporaryDirectory scratch;
    SpyDevice device;
    SpyDevice::script = [&](SpyDevice::Kind kind) {
      return kind == SpyDevice::kFirst ? c.first : kind == SpyDevice::kSecond ? c.second : c.final;
    };
    TrainingOptions options = small_run(scratch / "run");
    options.config.env_parameters.clear();
    options.config.target_return = c.target;
    const TrainingResult result = train(options, device);
    EXPECT_EQ(result.steps, c.iterations * 8 * 16);
    EXPECT_EQ(result.solved, c.solved);
    EXPECT_EQ(result.solved_threshold, 475.0);
    EXPECT_EQ(rows_with("charts/episodes", *options.run_directory).size(), c.iterations);
  }
}

/// What a front end shows: sums over the iterations so far, while fewer than a hundred episodes have ended.
TEST(RunMetrics, ProgressIsTheRunSoFar) {
  const TemporaryDirectory scratch;
  SpyDevice device;
  TrainingOptions options = small_run(scratch / "run");
  set_key(options.config, "kl_estimator", "k1");
  std::vector<TrainingProgress> seen;
  options.on_progress = [&](const TrainingProgress& progress) { seen.push_back(progress); };
  train(options, device);
  const auto rows = rows_with("charts/episodes", *options.run_directory);
  ASSERT_EQ(seen.size(), rows.size());
  double episodes = 0.0, total = 0.0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double here = rows[i].at("charts/episodes").get<double>();
    if (here > 0.0) total += here * rows[i].at("charts/episodic_return").get<double>();
    episodes += here;
    EXPECT_EQ(seen[i].iteration, i + 1);
    EXPECT_EQ(seen[i].iterations, rows.size());
    EXPECT_EQ(seen[i].step, (i + 1) * 8 * 16);
    EXPECT_EQ(seen[i].total_steps, rows.size() * 8 * 16);
    EXPECT_NEAR(seen[i].approx_kl, rows[i].at("losses/old_approx_kl").get<double>(), 1e-8);  // 8 digits are written
    if (episodes == 0.0) {
      EXPECT_TRUE(std::isnan(seen[i].episodic_return));
    } else if (episodes <= 100.0) {
      EXPECT_NEAR(seen[i].episodic_return, total / episodes, 1e-6);
    }
    EXPECT_GT(seen[i].seconds, i > 0 ? seen[i - 1].seconds : 0.0);
    EXPECT_NEAR(seen[i].steps_per_second, static_cast<double>(seen[i].step) / seen[i].seconds,
                1e-6 * seen[i].steps_per_second);
    const double left = static_cast<double>(rows.size() - i - 1);
    EXPECT_NEAR(seen[i].seconds_left, seen[i].seconds * left / static_cast<double>(i + 1), 1e-9);
  }
  EXPECT_GT(episodes, 20.0);
}

}  // namespace
}  // namespace perilune::test
