// Training for Python: without the interpreter lock, which is only taken to report.
#include <atomic>
#include <chrono>
#include <exception>
#include <string>
#include <vector>

#include "host/base/error.hpp"
#include "host/networks/networks.hpp"
#include "host/runs/policy.hpp"
#include "host/runs/resume.hpp"
#include "host/runs/run_directory.hpp"
#include "host/runs/training.hpp"
#include "tools/python/bindings/bindings.hpp"

namespace perilune::python {
namespace {

using Clock = std::chrono::steady_clock;

// How often Python looks after signals and its progress bar.
constexpr auto kTick = std::chrono::milliseconds(50);

nb::dict progress_dict(const TrainingProgress& progress) {
  nb::dict entry;
  entry["iteration"] = progress.iteration;
  entry["iterations"] = progress.iterations;
  entry["step"] = progress.step;
  entry["total_steps"] = progress.total_steps;
  entry["seconds"] = progress.seconds;
  entry["steps_per_second"] = progress.steps_per_second;
  entry["episodic_return"] = progress.episodic_return;
  entry["approx_kl"] = progress.approx_kl;
  entry["seconds_left"] = progress.seconds_left;
  return entry;
}

nb::dict plan_dict(const TrainingPlan& plan) {
  nb::dict entry;
  entry["run_dir"] = plan.run_directory.string();
  entry["device"] = plan.device;
  entry["networks"] = plan.networks;
  entry["device_bytes"] = plan.device_bytes;
  entry["iterations"] = plan.iterations;
  entry["total_steps"] = plan.total_steps;
  entry["first_step"] = plan.first_step;
  entry["notes"] = nb::cast(plan.notes);
  return entry;
}

// Hears of the run in the training thread, and says when to stop. What Python raises there is kept
// until the run is saved. `display` has the methods plan and progress, which get a dict.
class Listener {
 public:
  Listener(nb::object callback, nb::object display) : callback_(std::move(callback)), display_(std::move(display)) {}

  const std::atomic<bool>& stop() const { return stop_; }
  void raise_what_was_kept() {
    if (error_) std::rethrow_exception(error_);
  }

  void hear(const TrainingPlan& plan) {
    const nb::gil_scoped_acquire locked;
    display_.attr("plan")(plan_dict(plan));
  }

  void hear(const TrainingProgress& progress) {
    const bool is_due = Clock::now() - last_tick_ >= kTick;
    if (stop_ || (!is_due && callback_.is_none())) return;
    const nb::gil_scoped_acquire locked;
    try {
      if (is_due) {
        last_tick_ = Clock::now();
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
        display_.attr("progress")(progress_dict(progress));
      }
      // None goes on, as does anything but False itself.
      if (!callback_.is_none() && callback_(progress_dict(progress)).ptr() == Py_False) stop_ = true;
    } catch (...) {
      error_ = std::current_exception();
      stop_ = true;
    }
  }

 private:
  nb::object callback_, display_;
  Clock::time_point last_tick_ = Clock::now();
  std::atomic<bool> stop_{false};
  std::exception_ptr error_;
};

struct TrainArguments {
  std::string preset_name;
  std::optional<std::string> config_file;
  PythonSettings settings;
  std::optional<std::string> run_directory, resume, from_policy;
};

// Sets what `arguments` say of `options`. Returns what warnings are relative to.
Config apply(const TrainArguments& arguments, TrainingOptions& options) {
  const std::vector<Setting> settings = settings_of(arguments.settings);
  options.run_directory = arguments.run_directory;
  options.resume = arguments.resume;
  if (arguments.resume) {
    options.changes = settings;
    options.config = resumed_config(*arguments.resume, settings);
    return read_run_config(*arguments.resume);
  }
  ResolvedConfig resolved = resolve({arguments.preset_name, arguments.config_file, settings});
  if (arguments.from_policy) {
    options.initial_policy = initial_policy(*arguments.from_policy, resolved.config, resolved.given);
  }
  options.config = resolved.config;
  return resolved.base;
}

// As Python's warnings, which may raise.
void warn(const std::vector<std::string>& warnings) {
  const nb::gil_scoped_acquire locked;
  for (const std::string& warning : warnings) {
    if (PyErr_WarnEx(PyExc_UserWarning, warning.c_str(), 2) != 0) throw nb::python_error();
  }
}

nb::dict train_run(std::string preset_name, std::optional<std::string> config_file, PythonSettings settings,
                   std::optional<std::string> run_directory, std::optional<std::string> resume,
                   std::optional<std::string> from_policy, const std::string& device, std::optional<int> threads,
                   nb::object callback, nb::object display) {
  const TrainArguments arguments = {std::move(preset_name),   std::move(config_file), std::move(settings),
                                    std::move(run_directory), std::move(resume),      std::move(from_policy)};
  Listener listener(std::move(callback), std::move(display));
  TrainingOptions options;
  TrainingResult result;
  std::string device_text;
  const Config base = apply(arguments, options);
  {
    const nb::gil_scoped_release unlocked;
    options.interrupt = &listener.stop();
    options.on_plan = [&](const TrainingPlan& plan) { listener.hear(plan); };
    options.on_progress = [&](const TrainingProgress& progress) { listener.hear(progress); };
    const SelectedDevice selected = open_device(device, threads, training_work(options.config));
    device_text = selected.device->description();
    validate(options.config, built_widths(selected.device->machine(), options.config.env_id));
    std::vector<std::string> warnings = config_warnings(options.config, base);
    const std::string crowded = threads_warning(threads.value_or(0), available_cores());
    if (!crowded.empty() && !selected.device->is_cuda()) warnings.push_back(crowded);
    warn(warnings);
    result = train(options, *selected.device);
  }
  listener.raise_what_was_kept();

  nb::dict entry;
  entry["config"] = config_dict(result.config);
  entry["run_dir"] = result.run_directory.string();
  entry["device"] = device_text;
  entry["steps"] = result.steps;
  entry["new_steps"] = result.new_steps;
  entry["seconds"] = result.seconds;
  entry["steps_per_second"] = result.steps_per_second;
  entry["solved"] = result.solved;
  entry["solved_threshold"] = result.solved_threshold;
  entry["interrupted"] = result.interrupted;
  entry["best"] = nb::none();
  if (result.best) {
    nb::dict best;
    best["step"] = result.best->step;
    best["mean"] = result.best->mean;
    entry["best"] = best;
  }
  entry["evaluation"] = result.interrupted ? nb::object(nb::none()) : nb::object(evaluation_dict(result.evaluation));
  return entry;
}

nb::dict resolved_config(std::string preset_name, std::optional<std::string> config_file, PythonSettings settings) {
  return config_dict(resolve({std::move(preset_name), std::move(config_file), settings_of(settings)}).config);
}

}  // namespace

void bind_training(nb::module_& module) {
  using namespace nb::literals;
  module.def("train", train_run, "preset"_a, "config_file"_a.none(), "settings"_a, "run_dir"_a.none(),
             "resume"_a.none(), "from_policy"_a.none(), "device"_a, "threads"_a.none(), "callback"_a.none(),
             "display"_a);
  module.def("resolve_config", resolved_config, "preset"_a, "config_file"_a.none(), "settings"_a);
  module.def(
      "saved_config", [](const std::string& path) { return config_dict(saved_config(path)); }, "path"_a);
}

}  // namespace perilune::python
