// The only file that includes CLI11. See command_line.hpp.
#include "tools/commands/command_line.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include <CLI/CLI.hpp>

#include "host/base/build_info.hpp"
#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {
namespace {

constexpr std::string_view kExitCodes =
    "\n\nExit codes:\n"
    "  0 done  1 failed  2 wrong usage  3 no usable device  130 interrupted and saved";

constexpr std::string_view kMainExamples =
    "Examples:\n"
    "  perilune train                      train CartPole-v1 until it is solved\n"
    "  perilune eval runs/RUN              evaluate what a run has learned\n"
    "  perilune profile                    see where the time goes\n"
    "  perilune list keys                  what --set can change";

constexpr std::string_view kTrainExamples =
    "Settings come from the preset, then --config, --set and --seed; the later wins.\n"
    "Ctrl-C saves and stops; a second one stops at once.\n"
    "\nExamples:\n"
    "  perilune train cartpole-zoo --seed 3\n"
    "  perilune train --set num_envs=1024 --set learning_rate=3e-3 --threads 4\n"
    "  perilune train --print-config > mine.toml; perilune train --config mine.toml\n"
    "  perilune train --resume runs/RUN\n"
    "  perilune train --resume runs/RUN --set total_timesteps=2e6\n"
    "  perilune train lunar-lander --from runs/RUN\n"
    "  perilune train --json | jq .eval.mean";

constexpr std::string_view kEvalExamples =
    "Plays the task that was trained: the run's environment, its parameters and its\n"
    "time limit.\n"
    "\nExamples:\n"
    "  perilune eval runs/RUN\n"
    "  perilune eval runs/RUN --best\n"
    "  perilune eval runs/RUN --set max_episode_steps=600\n"
    "  perilune eval runs/RUN/policy.safetensors --episodes 1000 --seed 7\n"
    "  perilune eval runs/RUN --sampled --json";

constexpr std::string_view kSweepExamples =
    "Trains every combination of the alternatives with every seed. Alternatives\n"
    "stand between commas, or between | where the values are lists. Runs go side by\n"
    "side on one thread each: their seconds compare with one another, not with\n"
    "those of `train`.\n"
    "\nExamples:\n"
    "  perilune sweep cartpole --set learning_rate=1e-3,3e-3 --set num_envs=8,16\n"
    "  perilune sweep cartpole --set 'hidden_sizes=64,64|128' --seeds 10\n"
    "  perilune sweep cartpole-zoo --seeds 3,5,8 --output sweep.json --keep runs/new";

constexpr std::string_view kProfileExamples =
    "Trains for a moment, writes nothing, and shows for each phase its time, the\n"
    "rates reached with their share of the device's peak, and the time that a model\n"
    "of the work predicts. Nominal FLOP: 2 per parameter forward, 4 more backward.\n"
    "\nExamples:\n"
    "  perilune profile cartpole-zoo\n"
    "  perilune profile --set num_envs=4096 --set num_steps=128 --iterations 50\n"
    "  perilune profile cartpole --predict h200 --set num_envs=65536\n"
    "  perilune profile --json | jq '.phases[] | {phase, seconds, bound}'";

constexpr std::string_view kInfoExamples = "Examples:\n  perilune info\n  perilune info --json | jq .devices";

constexpr std::string_view kListExamples = "Examples:\n  perilune list keys\n  perilune list presets --json";

// CLI11's layout in 80 columns, with descriptions wrapped.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { label("Positionals", "Arguments"); }

  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    const std::string name =
        is_positional ? option->get_type_name() : make_option_name(option, false) + make_option_opts(option);
    return entry("  " + name, option->get_description());
  }
  std::string make_subcommand(const CLI::App* command) const override {
    return entry("  " + command->get_name(), command->get_description());
  }
  // Only the type: whether an option can be repeated is in its description.
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_size() == 0 ? "" : " " + option->get_type_name();
  }
  std::string make_option_name(const CLI::Option* option, bool) const override {
    const std::string long_name = "--" + option->get_lnames().front();
    return option->get_snames().empty() ? "    " + long_name : "-" + option->get_snames().front() + ", " + long_name;
  }
  std::string make_usage(const CLI::App* app, std::string) const override {
    const std::string command = app->get_parent() == nullptr ? "" : " " + app->get_name();
    std::string usage = "\nUsage:\n  perilune" + command;
    if (app->get_parent() == nullptr) return usage + " COMMAND [OPTIONS]\n";
    for (const CLI::Option* option : app->get_options()) {
      if (!option->get_positional()) continue;
      usage += option->get_required() ? " " + option->get_type_name() : " [" + option->get_type_name() + "]";
    }
    return usage + " [OPTIONS]\n";
  }

 private:
  static constexpr std::size_t kNameWidth = 26;
  static constexpr std::size_t kWidth = 80;

  static std::string entry(std::string name, std::string_view description) {
    std::string out = std::move(name);
    std::size_t column = out.size();
    const auto indent = [&] {
      if (column > kNameWidth - 2) {
        out += '\n';
        column = 0;
      }
      out.append(kNameWidth - column, ' ');
      column = kNameWidth;
    };
    indent();
    while (!description.empty()) {
      const std::size_t space = std::min(description.find(' '), description.size());
      if (column > kNameWidth && column + 1 + space > kWidth) {
        indent();
      } else if (column > kNameWidth) {
        out += ' ';
        ++column;
      }
      out += description.substr(0, space);
      column += space;
      description.remove_prefix(std::min(space + 1, description.size()));
    }
    return out + '\n';
  }
};

// A whole number within limits, as the value of an option.
std::int64_t parse_whole(std::string_view option, std::string_view text, std::int64_t min, std::int64_t max) {
  const std::optional<std::int64_t> value = read_integer(text);
  if (!value || *value < min || *value > max) {
    throw UsageError(
        formatted("{} {} is not possible - allowed: a whole number, {} .. {}", option, in_quotes(text), min, max));
  }
  return *value;
}

// The index of `text` among `words`.
std::size_t parse_word(std::string_view option, std::string_view text, std::span<const std::string_view> words) {
  const auto found = std::find(words.begin(), words.end(), text);
  if (found == words.end()) {
    throw UsageError(formatted("{} {} is unknown - allowed: {} - did you mean {}?", option, in_quotes(text),
                               joined(words), nearest(text, words)));
  }
  return static_cast<std::size_t>(found - words.begin());
}

// A value that must not be empty: an empty path is almost always an unset shell variable.
std::filesystem::path parse_path(std::string_view option, const std::string& text) {
  if (text.empty()) throw UsageError(formatted("{} is empty - give a path", option));
  return text;
}

Setting parse_setting(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError(
        formatted("--set {} is not KEY=VALUE - for example --set learning_rate=3e-4 - `perilune list "
                  "keys` shows all keys",
                  in_quotes(text)));
  }
  return {text.substr(0, equals), text.substr(equals + 1)};
}

constexpr std::array<std::string_view, 2> kSwitch = {"off", "on"};
constexpr std::array<std::string_view, 4> kTopics = {"all", "environments", "presets", "keys"};

// The option values as text; what is not given stays empty.
struct Texts {
  std::optional<std::string> preset, config, seed, run_directory, resume, from, graph, device, threads, episodes;
  std::optional<std::string> target, topic, iterations, predict, seeds, jobs, output, keep;
  std::vector<std::string> settings;
  bool print_config = false, quiet = false, verbose = false, json = false, sampled = false, best = false;
};

void add_device_options(CLI::App& command, Texts& texts) {
  command
      .add_option("--device", texts.device, "where to run: auto, cpu or cuda (default auto: where it is done sooner)")
      ->type_name("NAME");
  command.add_option("--threads", texts.threads, "CPU threads (default: one per core; results do not depend on it)")
      ->type_name("N");
}

void add_json_option(CLI::App& command, Texts& texts) {
  command.add_flag("--json", texts.json, "print one JSON object to standard output, and nothing else there");
}

void add_settings_options(CLI::App& command, Texts& texts) {
  command.add_option("preset", texts.preset, "settings to start from (default cartpole; see `perilune list presets`)")
      ->type_name("PRESET");
  command.add_option("--set", texts.settings, "set one key; may be repeated (see `perilune list keys`)")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  command.add_option("--config", texts.config, "read keys from a TOML file")->type_name("FILE");
}

void add_train(CLI::App& app, Texts& texts) {
  CLI::App& train = *app.add_subcommand("train", "train a policy");
  add_settings_options(train, texts);
  train.add_option("--seed", texts.seed, "seed of every random number")->type_name("N");
  add_device_options(train, texts);
  train.add_option("--run-dir", texts.run_directory, "directory of this run (default: a fresh one in runs/)")
      ->type_name("DIR");
  train
      .add_option("--resume", texts.resume,
                  "go on with a run, with its own settings; --set changes those that are not fixed for a run")
      ->type_name("DIR");
  train
      .add_option("--from", texts.from,
                  "begin with the weights of a policy file, checkpoint or run, also of another environment with the "
                  "same observations and actions")
      ->type_name("POLICY");
  train
      .add_option("--graph", texts.graph,
                  "on: replay each iteration as one CUDA graph; off: launch its kernels one by one (default on; "
                  "same results)")
      ->type_name("on|off");
  train.add_flag("--print-config", texts.print_config, "print the resolved settings as TOML and stop");
  train.add_flag("-q,--quiet", texts.quiet, "print nothing but errors");
  train.add_flag("-v,--verbose", texts.verbose, "also print the table of memory");
  add_json_option(train, texts);
  train.footer(std::string(kTrainExamples) + std::string(kExitCodes));
}

void add_eval(CLI::App& app, Texts& texts) {
  CLI::App& eval = *app.add_subcommand("eval", "evaluate a trained policy");
  eval.add_option("run", texts.target, "a run directory, a checkpoint or a policy file")
      ->type_name("RUN_OR_FILE")
      ->required();
  eval.add_flag("--best", texts.best, "of a run: the policy of its best evaluation (default: the newest)");
  eval.add_option("--set", texts.settings,
                  "play another task than the trained one: env_id, max_episode_steps or env.*; may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  eval.add_option("--episodes", texts.episodes, "episodes to play (default 100)")->type_name("N");
  eval.add_flag("--sampled", texts.sampled, "sample actions (default: always the likeliest)");
  eval.add_option("--seed", texts.seed, "which episodes (default 1)")->type_name("N");
  add_device_options(eval, texts);
  add_json_option(eval, texts);
  eval.footer(std::string(kEvalExamples) + std::string(kExitCodes));
}

void add_sweep(CLI::App& app, Texts& texts) {
  CLI::App& sweep = *app.add_subcommand("sweep", "train with combinations of settings, and compare");
  add_settings_options(sweep, texts);
  sweep.add_option("--seeds", texts.seeds, "how many seeds, from 1 on, or which ones: 3,5,8 (default 5)")
      ->type_name("N");
  sweep.add_option("--jobs", texts.jobs, "runs at a time (default: one per core; on a GPU one)")->type_name("N");
  add_device_options(sweep, texts);
  sweep.get_option("--threads")->description("CPU threads of each run (default 1; results do not depend on it)");
  sweep.add_option("--output", texts.output, "write the table to this file as JSON, after every run")
      ->type_name("FILE");
  sweep.add_option("--keep", texts.keep, "keep the run directories in this new directory")->type_name("DIR");
  add_json_option(sweep, texts);
  sweep.footer(std::string(kSweepExamples) + std::string(kExitCodes));
}

void add_profile(CLI::App& app, Texts& texts) {
  CLI::App& profile = *app.add_subcommand("profile", "show where an iteration's time goes, phase by phase");
  add_settings_options(profile, texts);
  profile.add_option("--iterations", texts.iterations, "iterations to measure (default 20)")->type_name("N");
  add_device_options(profile, texts);
  profile.add_option("--graph", texts.graph, "off: phases are timed between launches, which a CUDA graph hides")
      ->type_name("off");
  profile
      .add_option("--predict", texts.predict, "run nothing: what the model says of this GPU (h200, a100, rtx-4090 ...)")
      ->type_name("GPU");
  add_json_option(profile, texts);
  profile.footer(std::string(kProfileExamples) + std::string(kExitCodes));
}

void add_info_and_list(CLI::App& app, Texts& texts) {
  CLI::App& info = *app.add_subcommand("info", "show the build, the devices and the network widths built in");
  add_json_option(info, texts);
  info.footer(std::string(kInfoExamples) + std::string(kExitCodes));
  CLI::App& list = *app.add_subcommand("list", "list environments, presets and configuration keys");
  list.add_option("topic", texts.topic, "environments, presets or keys (default: all)")->type_name("TOPIC");
  add_json_option(list, texts);
  list.footer(std::string(kListExamples) + std::string(kExitCodes));
}

// What no option or command took, without the "--" that ends options.
std::vector<std::string> unexpected_arguments(const CLI::App& command) {
  std::vector<std::string> extra = command.remaining();
  std::erase(extra, "--");
  return extra;
}

// The error of such an argument, with the nearest known name.
[[noreturn]] void fail_unexpected(const CLI::App& command, std::string_view argument) {
  const bool is_main = command.get_parent() == nullptr;
  const std::string help = is_main ? "perilune --help" : "perilune " + command.get_name() + " --help";
  std::vector<std::string> names;
  const bool is_option = argument.starts_with('-');
  if (is_option) {
    argument = argument.substr(0, argument.find('='));
    for (const CLI::Option* option : command.get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  } else if (is_main) {
    for (const CLI::App* known : command.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(known->get_name());
    }
  } else {
    throw UsageError(formatted("unexpected argument {} - `{}` shows what there is", in_quotes(argument), help));
  }
  const std::vector<std::string_view> known(names.begin(), names.end());
  throw UsageError(formatted("unknown {} {} - did you mean {}? - `{}` shows all", is_option ? "option" : "command",
                             in_quotes(argument), nearest(argument, known), help));
}

DeviceOptions device_options(const Texts& texts) {
  DeviceOptions options;
  if (texts.device) options.choice = device_choice("--device", *texts.device);
  if (texts.threads) options.threads = static_cast<int>(parse_whole("--threads", *texts.threads, 1, 1024));
  return options;
}

TrainCommand train_command(const Texts& texts) {
  TrainCommand command;
  if (texts.resume) {
    if (texts.from) {
      throw UsageError(
          "--resume goes on with a run, --from begins another with a policy's weights - leave one of "
          "them out");
    }
    if (texts.preset || texts.config || texts.seed || texts.run_directory) {
      throw UsageError(
          "--resume goes on with the settings of the run itself, in its directory - leave out PRESET, "
          "--config, --seed and --run-dir (--set changes what may change)");
    }
    command.resume = parse_path("--resume", *texts.resume);
  }
  if (texts.from) command.from = parse_path("--from", *texts.from);
  if (texts.preset) command.preset = *texts.preset;
  if (texts.config) command.config_file = parse_path("--config", *texts.config);
  for (const std::string& text : texts.settings) command.settings.push_back(parse_setting(text));
  if (texts.seed) command.settings.push_back({"seed", *texts.seed});
  if (texts.run_directory) command.run_directory = parse_path("--run-dir", *texts.run_directory);
  if (texts.graph) command.use_graph = parse_word("--graph", *texts.graph, kSwitch) == 1;
  command.device = device_options(texts);
  command.print_config = texts.print_config;
  command.quiet = texts.quiet;
  command.verbose = texts.verbose;
  command.json = texts.json;
  return command;
}

EvalCommand eval_command(const Texts& texts) {
  EvalCommand command;
  command.run_or_file = parse_path("RUN_OR_FILE", texts.target.value_or(""));
  command.best = texts.best;
  for (const std::string& text : texts.settings) command.settings.push_back(parse_setting(text));
  if (texts.episodes) command.episodes = static_cast<int>(parse_whole("--episodes", *texts.episodes, 1, 1000000));
  if (texts.seed) command.seed = parse_whole("--seed", *texts.seed, 0, std::numeric_limits<std::uint32_t>::max());
  command.deterministic = !texts.sampled;
  command.device = device_options(texts);
  command.json = texts.json;
  return command;
}

std::vector<std::int64_t> parse_seeds(const std::string& text) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::int64_t> seeds;
  if (text.find(',') == std::string::npos) {
    for (std::int64_t seed = 1; seed <= parse_whole("--seeds", text, 1, 10000); ++seed) seeds.push_back(seed);
    return seeds;
  }
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    seeds.push_back(parse_whole("--seeds", std::string_view(text).substr(begin, end - begin), 0, kMost));
    begin = end + 1;
  }
  return seeds;
}

SweepCommand sweep_command(const Texts& texts) {
  SweepCommand command;
  if (texts.preset) command.preset = *texts.preset;
  if (texts.config) command.config_file = parse_path("--config", *texts.config);
  for (const std::string& text : texts.settings) command.settings.push_back(parse_setting(text));
  if (texts.seeds) command.seeds = parse_seeds(*texts.seeds);
  if (texts.jobs) command.jobs = static_cast<int>(parse_whole("--jobs", *texts.jobs, 1, 1024));
  if (texts.output) command.output = parse_path("--output", *texts.output);
  if (texts.keep) command.keep = parse_path("--keep", *texts.keep);
  command.device = device_options(texts);
  command.json = texts.json;
  return command;
}

ProfileCommand profile_command(const Texts& texts) {
  ProfileCommand command;
  if (texts.graph && parse_word("--graph", *texts.graph, kSwitch) == 1) {
    throw UsageError(
        "--graph on: a graph is one launch, in which no phase can be timed - allowed: off - leave it out "
        "(the iteration as a graph is timed beside the phases)");
  }
  if (texts.predict && (texts.iterations || texts.device || texts.threads)) {
    throw UsageError("--predict runs nothing - leave out --iterations, --device and --threads");
  }
  if (texts.preset) command.preset = *texts.preset;
  if (texts.config) command.config_file = parse_path("--config", *texts.config);
  for (const std::string& text : texts.settings) command.settings.push_back(parse_setting(text));
  if (texts.iterations)
    command.iterations = static_cast<int>(parse_whole("--iterations", *texts.iterations, 1, 100000));
  command.device = device_options(texts);
  command.predict = texts.predict;
  command.json = texts.json;
  return command;
}

ListCommand list_command(const Texts& texts) {
  ListCommand command;
  if (texts.topic) command.topic = static_cast<ListCommand::Topic>(parse_word("TOPIC", *texts.topic, kTopics));
  command.json = texts.json;
  return command;
}

std::string version_text() { return formatted("perilune {} ({})\n", build_info().version, build_info().commit); }

}  // namespace

Command parse_command_line(std::span<const std::string> arguments) {
  Texts texts;
  bool version = false;
  CLI::App app("Perilune trains reinforcement-learning policies, on a GPU or on CPU cores.", "perilune");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_help_flag("-h,--help", "show this help");
  app.option_defaults()->take_last();
  app.add_flag("--version", version, "show the version");
  app.footer(std::string(kMainExamples) + "\n\n`perilune COMMAND --help` explains a command." +
             std::string(kExitCodes));
  app.allow_extras();  // collected, so that the nearest known name can be given
  add_train(app, texts);
  add_eval(app, texts);
  add_sweep(app, texts);
  add_profile(app, texts);
  add_info_and_list(app, texts);
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    command->allow_extras();
    command->group("Commands");
  }

  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    return ShowText{app.help()};
  } catch (const CLI::RequiredError&) {
    throw UsageError(
        "RUN_OR_FILE is missing - give a run directory, a checkpoint or a policy file - `perilune eval "
        "--help` explains");
  } catch (const CLI::Error& error) {
    throw UsageError(formatted("{} - `perilune --help` explains", error.what()));
  }
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  for (const CLI::App* command : chosen) {
    const std::vector<std::string> extra = unexpected_arguments(*command);
    if (!extra.empty()) fail_unexpected(*command, extra.front());
  }
  const std::vector<std::string> extra = unexpected_arguments(app);
  if (!extra.empty()) fail_unexpected(app, extra.front());
  if (version) return ShowText{version_text()};
  if (chosen.empty())
    throw UsageError("no command - allowed: train, eval, sweep, profile, info, list - `perilune --help` explains");
  if (chosen.size() > 1) fail_unexpected(*chosen.front(), chosen.back()->get_name());

  const std::string name = chosen.front()->get_name();
  if (name == "train") return train_command(texts);
  if (name == "eval") return eval_command(texts);
  if (name == "sweep") return sweep_command(texts);
  if (name == "profile") return profile_command(texts);
  if (name == "list") return list_command(texts);
  return InfoCommand{texts.json};
}

}  // namespace perilune
