// `perilune sweep`: a preset trained with every combination of alternative settings and several seeds, as one table.
//
// Runs are independent, so several go on at a time, each on a device of its own; what a run gives does not depend on
// that. The table is written again after every run, so that an interrupted sweep loses only the runs that were going
// on.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <unistd.h>

#include "host/base/build_info.hpp"
#include "host/base/error.hpp"
#include "host/base/files.hpp"
#include "host/base/format.hpp"
#include "host/base/json.hpp"
#include "host/base/text.hpp"
#include "host/networks/networks.hpp"
#include "host/planning/device_choice.hpp"
#include "host/runs/training.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/interrupt.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHelp =
    "Trains every combination of the alternatives with every seed. Alternatives\n"
    "stand between commas, or between | where the values are lists. Runs go side by\n"
    "side on one thread each: their seconds compare with one another, not with\n"
    "those of `train`.\n"
    "\nExamples:\n"
    "  perilune sweep cartpole --set learning_rate=1e-3,3e-3 --set num_envs=8,16\n"
    "  perilune sweep cartpole --set 'hidden_sizes=64,64|128' --seeds 10\n"
    "  perilune sweep cartpole-zoo --seeds 3,5,8 --output sweep.json --keep runs/new";

// The settings' values may name alternatives.
struct SweepOptions : SettingsOptions {
  std::vector<std::int64_t> seeds = {1, 2, 3, 4, 5};
  DeviceOptions device;  // threads: of each run
  int jobs = 0;          // runs at a time; 0: as many as there are cores for
  std::optional<fs::path> output;
  std::optional<fs::path> keep;  // where run directories stay; else they are removed
  bool json = false;
};

// How many, or which ones.
std::vector<std::int64_t> parse_seeds(std::string_view option, const std::string& text) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::int64_t> seeds;
  if (text.find(',') == std::string::npos) {
    for (std::int64_t seed = 1; seed <= parse_whole(option, text, 1, 10000); ++seed) seeds.push_back(seed);
    return seeds;
  }
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    seeds.push_back(parse_whole(option, std::string_view(text).substr(begin, end - begin), 0, kMost));
    begin = end + 1;
  }
  return seeds;
}

TakeValue seeds_to(std::vector<std::int64_t>& to) {
  return [&to](std::string_view option, const std::string& value) { to = parse_seeds(option, value); };
}

struct Alternatives {
  std::string key;
  std::vector<std::string> values;
};

// One combination: the values of the keys that vary, and what each seed came to.
struct Combination {
  std::vector<std::string> values;  // one per varying key
  Config config;
  std::vector<std::optional<TrainingResult>> results;  // one per seed
  std::vector<std::string> failures;                   // messages of runs that failed
};

Alternatives alternatives_of(const Setting& setting) {
  const std::string text = value_text(setting.value);
  char separator = find_key(setting.key).type == KeyType::kList ? '|' : ',';
  if (text.find('|') != std::string::npos) separator = '|';
  Alternatives alternatives{setting.key, {}};
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    alternatives.values.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return alternatives;
}

// Every combination, the last key varying fastest; all are judged before the first run.
std::vector<Combination> combinations_of(const SweepOptions& options, std::vector<std::string>& varying) {
  Config base = preset(options.preset);
  if (options.config_file) apply_toml_file(base, *options.config_file);
  std::vector<Combination> combinations = {{{}, base, {}, {}}};
  for (const Setting& setting : options.settings) {
    if (setting.key == "seed")
      throw UsageError("seed is not for --set here - every combination is trained with every one of --seeds");
    const Alternatives alternatives = alternatives_of(setting);
    const bool varies = alternatives.values.size() > 1;
    if (varies) varying.push_back(setting.key);
    std::vector<Combination> next;
    for (const Combination& combination : combinations) {
      for (const std::string& value : alternatives.values) {
        next.push_back(combination);
        set_key(next.back().config, setting.key, value);
        if (varies) next.back().values.push_back(value);
      }
    }
    combinations = std::move(next);
    constexpr std::size_t kMost = 100000;
    if (combinations.size() > kMost) {
      throw UsageError(formatted("{} combinations are too many - allowed: at most {} - name fewer alternatives",
                                 combinations.size(), kMost));
    }
  }
  for (Combination& combination : combinations) {
    validate(combination.config, built_widths(cpu_machine(), combination.config.env_id));
    combination.results.resize(options.seeds.size());
  }
  return combinations;
}

// Where run directories go: a place that stays, or one that is removed at the end.
class RunsDirectory {
 public:
  explicit RunsDirectory(const std::optional<fs::path>& keep) : kept_(keep.has_value()) {
    if (kept_) {
      path_ = *keep;
      std::error_code error;
      if (fs::exists(path_) && !fs::is_empty(path_, error)) {
        throw UsageError(formatted("--keep {} exists and is not empty - give a new directory", path_.string()));
      }
      if (fs::create_directories(path_, error); error) fail_io("make directory", path_, error.value());
      return;
    }
    std::string name = (fs::temp_directory_path() / "perilune-sweep-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) fail_io("make directory", name, errno);
    path_ = name;
  }
  RunsDirectory(const RunsDirectory&) = delete;
  RunsDirectory& operator=(const RunsDirectory&) = delete;
  ~RunsDirectory() {
    std::error_code ignored;
    if (!kept_) fs::remove_all(path_, ignored);
  }
  fs::path run(std::size_t combination, std::int64_t seed) const {
    return path_ / formatted("{}__seed{}", combination + 1, seed);
  }
  bool kept() const { return kept_; }

 private:
  bool kept_;
  fs::path path_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

// Over the seeds that are done: mean of the final evaluations' means and its standard error, and medians.
struct Summary {
  std::size_t runs = 0, solved = 0;
  double mean = 0.0, standard_error = 0.0, worst = 0.0, median_steps = 0.0, median_seconds = 0.0;
};

Summary summary_of(const Combination& combination) {
  Summary summary;
  std::vector<double> means, steps, seconds;
  for (const std::optional<TrainingResult>& result : combination.results) {
    if (!result) continue;
    summary.solved += result->solved ? 1 : 0;
    means.push_back(result->evaluation.mean);
    steps.push_back(static_cast<double>(result->steps));
    seconds.push_back(result->seconds);
  }
  summary.runs = means.size();
  if (means.empty()) return summary;
  const double n = static_cast<double>(means.size());
  for (double x : means) summary.mean += x / n;
  double squares = 0.0;
  for (double x : means) squares += (x - summary.mean) * (x - summary.mean);
  if (means.size() > 1) summary.standard_error = std::sqrt(squares / (n - 1.0) / n);
  summary.worst = *std::min_element(means.begin(), means.end());
  summary.median_steps = median(steps);
  summary.median_seconds = median(seconds);
  return summary;
}

class Sweep {
 public:
  explicit Sweep(const SweepOptions& options)
      : options_(options), combinations_(combinations_of(options, varying_)), runs_(options.keep) {}

  ExitCode execute();

 private:
  std::size_t count() const { return combinations_.size() * options_.seeds.size(); }
  void work(Device& device);
  void finish(std::size_t combination, std::size_t seed, std::optional<TrainingResult> result,
              const std::string& failure);
  std::string label(const Combination& combination) const;
  Json json() const;
  std::string table(const Terminal& out) const;

  const SweepOptions& options_;
  std::vector<std::string> varying_;
  std::vector<Combination> combinations_;
  RunsDirectory runs_;
  std::string device_;
  const std::atomic<bool>* interrupt_ = nullptr;
  std::mutex mutex_;  // of what follows, and of results and failures
  std::size_t next_ = 0, done_ = 0;
  std::exception_ptr error_;  // ends the sweep: nothing of a run, but of the sweep itself
};

std::string Sweep::label(const Combination& combination) const {
  std::string text;
  for (std::size_t i = 0; i < varying_.size(); ++i) {
    text += (i > 0 ? " " : "") + varying_[i] + "=" + combination.values[i];
  }
  return text.empty() ? combination.config.name : text;
}

Json Sweep::json() const {
  Json rows = Json::array();
  for (const Combination& combination : combinations_) {
    const Summary summary = summary_of(combination);
    Json settings = Json::object();
    for (std::size_t i = 0; i < varying_.size(); ++i) settings[varying_[i]] = combination.values[i];
    Json seeds = Json::array();
    for (std::size_t i = 0; i < combination.results.size(); ++i) {
      const std::optional<TrainingResult>& result = combination.results[i];
      if (!result) continue;
      Json seed = {{"seed", options_.seeds[i]},    {"solved", result->solved},        {"steps", result->steps},
                   {"seconds", result->seconds},   {"mean", result->evaluation.mean}, {"std", result->evaluation.std},
                   {"min", result->evaluation.min}};
      if (runs_.kept()) seed["run_dir"] = result->run_directory.string();
      seeds.push_back(seed);
    }
    rows.push_back({{"settings", settings},
                    {"runs", summary.runs},
                    {"failed", combination.failures},
                    {"solved", summary.solved},
                    {"mean", summary.mean},
                    {"standard_error", summary.standard_error},
                    {"worst", summary.worst},
                    {"median_steps", summary.median_steps},
                    {"median_seconds", summary.median_seconds},
                    {"seeds", seeds}});
  }
  Json fixed = Json::object();
  for (const Setting& setting : options_.settings) {
    if (std::find(varying_.begin(), varying_.end(), setting.key) == varying_.end())
      fixed[setting.key] = value_text(setting.value);
  }
  return {{"benchmark", "sweep"},
          {"preset", options_.preset},
          {"version", build_info().commit},
          {"env", combinations_.front().config.env_id},
          {"device", device_},
          {"set", fixed},
          {"varied", varying_},
          {"rows", rows}};
}

std::string Sweep::table(const Terminal& out) const {
  const bool any_failed = std::any_of(combinations_.begin(), combinations_.end(),
                                      [](const Combination& row) { return !row.failures.empty(); });
  Table table;
  for (const std::string& key : varying_) table.columns.push_back({key});
  table.columns.push_back({"solved"});
  for (const char* heading : {"mean", "+-", "worst", "steps", "seconds"}) table.columns.push_back({heading, true});
  if (any_failed) table.columns.push_back({"failed"});
  for (const Combination& combination : combinations_) {
    const Summary summary = summary_of(combination);
    std::vector<std::string> cells = combination.values;
    cells.push_back(formatted("{} of {}", summary.solved, summary.runs));
    for (double x : {summary.mean, summary.standard_error, summary.worst}) {
      cells.push_back(summary.runs == 0 ? "-" : formatted("{:.1f}", x));
    }
    cells.push_back(summary.runs == 0 ? "-" : scaled(summary.median_steps));
    cells.push_back(summary.runs == 0 ? "-" : duration_text(summary.median_seconds));
    if (any_failed)
      cells.push_back(combination.failures.empty() ? "" : formatted("{} failed", combination.failures.size()));
    table.rows.push_back({std::move(cells)});
  }
  return table_text(out, table);
}

void Sweep::finish(std::size_t combination, std::size_t seed, std::optional<TrainingResult> result,
                   const std::string& failure) {
  Combination& row = combinations_[combination];
  const std::lock_guard lock(mutex_);
  ++done_;
  Terminal err = Terminal::standard_error();
  const std::string what = formatted("[{}/{}] {} seed {}: ", done_, count(), label(row), options_.seeds[seed]);
  if (result) {
    err.print(what + formatted("{:.1f} after {} steps, {}\n", result->evaluation.mean, grouped(result->steps),
                               duration_text(result->seconds)));
    row.results[seed] = std::move(result);
  } else {
    err.print(what + "failed: " + failure + "\n");
    row.failures.push_back(formatted("seed {}: {}", options_.seeds[seed], failure));
  }
  if (options_.output) replace_file(*options_.output, json().dump(1) + "\n");
}

void Sweep::work(Device& device) {
  for (;;) {
    std::size_t mine = 0;
    {
      const std::lock_guard lock(mutex_);
      if (next_ == count() || interrupt_->load() || error_) return;
      mine = next_++;
    }
    const std::size_t combination = mine / options_.seeds.size(), seed = mine % options_.seeds.size();
    TrainingOptions training;
    training.config = combinations_[combination].config;
    training.config.seed = options_.seeds[seed];
    training.run_directory = runs_.run(combination, options_.seeds[seed]);
    training.interrupt = interrupt_;
    try {
      std::optional<TrainingResult> result;
      std::string failure;
      try {
        result = train(training, device);
        if (result->interrupted) return;
      } catch (const Error& error) {
        failure = error.what();
      }
      finish(combination, seed, std::move(result), failure);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      return;
    }
  }
}

ExitCode Sweep::execute() {
  interrupt_ = &catch_interrupts();
  const int threads = std::max(1, options_.device.threads);
  std::vector<SelectedDevice> devices;
  const int cpu_jobs = options_.jobs > 0 ? options_.jobs : std::max(1, available_cores() / threads);
  std::vector<Work> all;
  for (const Combination& row : combinations_) {
    all.push_back(training_work(row.config));
    all.back().runs = static_cast<double>(options_.seeds.size());
  }
  devices.push_back(select_device(options_.device.choice, threads, all, cpu_jobs));
  const bool one_at_a_time = devices[0].device->is_cuda();
  if (one_at_a_time && options_.jobs > 1) {
    throw UsageError(formatted("--jobs {} is not possible on a GPU - allowed: 1 - leave it out, or add --device cpu",
                               options_.jobs));
  }
  const std::size_t wanted = one_at_a_time ? 1 : static_cast<std::size_t>(cpu_jobs);
  while (devices.size() < std::min(wanted, count())) devices.push_back(select_device(DeviceChoice::kCpu, threads));
  device_ = devices[0].device->description();
  Terminal err = Terminal::standard_error();
  std::set<std::string> warned;  // combinations share most settings
  const Config base = preset(options_.preset);
  for (const Combination& row : combinations_) {
    for (const std::string& warning : config_warnings(row.config, base)) {
      if (warned.insert(warning).second) err.print(formatted("perilune: warning: {}\n", warning));
    }
  }
  if (options_.output) replace_file(*options_.output, json().dump(1) + "\n");
  {
    std::vector<std::jthread> workers;
    for (const SelectedDevice& selected : devices) {
      workers.emplace_back([this, device = selected.device.get()] { work(*device); });
    }
  }
  if (error_) std::rethrow_exception(error_);
  Terminal out = Terminal::standard_output();
  out.print(options_.json ? json().dump() + "\n" : table(out));
  out.check();
  if (interrupt_->load()) return ExitCode::kInterrupted;
  const bool all_done = std::all_of(combinations_.begin(), combinations_.end(),
                                    [](const Combination& row) { return row.failures.empty(); });
  return all_done ? ExitCode::kOk : ExitCode::kFailed;
}

}  // namespace

Command sweep_command() {
  const auto options = std::make_shared<SweepOptions>();
  return {
      .name = "sweep",
      .summary = "train with combinations of settings, and compare",
      .options = options_of({
          settings_options(*options),
          {{.name = "seeds",
            .value = "N",
            .help = "how many seeds, from 1 on, or which ones: 3,5,8 (default 5)",
            .to = seeds_to(options->seeds)},
           {.name = "jobs",
            .value = "N",
            .help = "runs at a time (default: one per core; on a GPU one)",
            .to = whole_to(options->jobs, 1, 1024)}},
          device_options(options->device, "CPU threads of each run (default 1; results do not depend on it)"),
          {{.name = "output",
            .value = "FILE",
            .help = "write the table to this file as JSON, after every run",
            .to = path_to(options->output)},
           {.name = "keep",
            .value = "DIR",
            .help = "keep the run directories in this new directory",
            .to = path_to(options->keep)},
           json_option(options->json)},
      }),
      .help = kHelp,
      .run = [options](const Process&) { return Sweep(*options).execute(); },
  };
}

}  // namespace perilune
