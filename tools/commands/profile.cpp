// `perilune profile`: a table of phases, measured and predicted, and the command lines that show more.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "host/base/build_info.hpp"
#include "host/base/format.hpp"
#include "host/base/json.hpp"
#include "host/networks/networks.hpp"
#include "host/planning/precision.hpp"
#include "host/training/profiling.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

constexpr std::string_view kHelp =
    "Trains for a moment, writes nothing, and shows for each phase its time, the\n"
    "rates reached with their share of the device's peak, and the time that a model\n"
    "of the work predicts. Nominal FLOP: 2 per parameter forward, 4 more backward.\n"
    "\nExamples:\n"
    "  perilune profile cartpole-zoo\n"
    "  perilune profile --set num_envs=4096 --set num_steps=128 --iterations 50\n"
    "  perilune profile cartpole --predict h200 --set num_envs=65536\n"
    "  perilune profile --json | jq '.phases[] | {phase, seconds, bound}'";

struct ProfileOptions : SettingsOptions {
  DeviceOptions device;
  int iterations = 20;
  std::optional<std::string> predict;  // a GPU's name: predict for it and run nothing
  bool json = false;
};

Config resolve_config(const ProfileOptions& options) {
  Config config = preset(options.preset);
  if (options.config_file) apply_toml_file(config, *options.config_file);
  for (const Setting& setting : options.settings) set_key(config, setting.key, setting.value);
  // How long a run would go on does not matter here.
  config.total_timesteps = std::max(config.total_timesteps, batch_size(config));
  validate(config, built_widths(cpu_machine(), config.env_id));
  return config;
}

// ---- the command lines of Nsight ----

struct NsightCommands {
  std::string nsys, ncu;
};

NsightCommands nsight_commands(const ProfileOptions& options, const std::string& program) {
  std::string own = formatted("{} profile {} --device cuda", shell_quoted(program), shell_quoted(options.preset));
  if (options.config_file) own += " --config " + shell_quoted(options.config_file->string());
  for (const Setting& setting : options.settings)
    own += " --set " + shell_quoted(setting.key + "=" + value_text(setting.value));
  // A capture range drops what ran before; --cuda-graph-trace=node shows the kernels inside graphs.
  // Lines end as a shell goes on with the next.
  const std::string nsys = formatted(
      "nsys profile -o perilune -f true -t cuda,nvtx --cuda-graph-trace=node \\\n"
      "  -c cudaProfilerApi --capture-range-end=stop \\\n"
      "  {} --iterations {}",
      own, options.iterations);
  // Each kernel is replayed some forty times, so one iteration and few of its kernels. ncu would lock the GPU's clocks,
  // which others may share and which are then not those that training has.
  const std::string ncu = formatted(
      "ncu -o perilune -f --clock-control none --profile-from-start off --set full --import-source on \\\n"
      "  --nvtx --nvtx-include \"perilune@update/\" --launch-count 12 \\\n"
      "  {} --iterations 1",
      own);
  return {nsys, ncu};
}

// ---- JSON ----

Json or_null(double value) { return value > 0.0 && std::isfinite(value) ? Json(value) : Json(); }

Json row_json(const Profile& profile, const ProfileRow& row) {
  const PhaseWork& work = row.model.work;
  const double peak = profile.hardware.flops[static_cast<std::size_t>(profile.precision)];
  Json json = {{"phase", kPhaseNames[static_cast<std::size_t>(work.phase)]},
               {"seconds", or_null(row.seconds)},
               {"share", or_null(row.seconds / profile.marked)},
               {"count", or_null(row.marks)},
               {"flop", work.flop},
               {"tanh", work.tanh},
               {"bytes", work.bytes},
               {"launches", work.launches},
               {"flops", or_null(work.flop / row.seconds)},
               {"share_of_peak_flops", or_null(work.flop / row.seconds / peak)},
               {"bytes_per_second", or_null(work.bytes / row.seconds)},
               {"share_of_peak_bytes", or_null(work.bytes / row.seconds / profile.hardware.memory)},
               {"predicted_seconds", row.model.seconds},
               {"bound", row.model.bound}};
  if (row.counters.cycles > 0) {
    json["cycles"] = row.counters.cycles;
    json["instructions"] = row.counters.instructions;
  }
  return json;
}

std::string profile_json(const Profile& profile, const NsightCommands* commands, const std::string& counters) {
  const Config& config = profile.config;
  const Hardware& hardware = profile.hardware;
  Json json = {{"measured", profile.iterations > 0},
               {"preset", config.name},
               {"env", config.env_id},
               {"device", profile.device},
               {"precision", precision_name(profile.precision)},
               {"num_envs", config.num_envs},
               {"num_steps", config.num_steps},
               {"iterations", profile.iterations},
               {"version", formatted("{} {}", build_info().version, build_info().commit)},
               {"peak",
                {{"flops", {{"fp32", hardware.flops[0]}, {"tf32", hardware.flops[1]}, {"bf16", hardware.flops[2]}}},
                 {"bytes_per_second", hardware.memory},
                 {"gpu", hardware.is_gpu},
                 {"processors", hardware.processors}}},
               {"steps_per_iteration", profile.steps_per_iteration},
               {"flop_per_step", flop_per_step(model_of(config), config)},
               {"simulation_steps_per_second", predict_simulation(config, hardware)},
               {"seconds_per_iteration",
                {{"plain", or_null(profile.plain)},
                 {"marked", or_null(profile.marked)},
                 {"graph", or_null(profile.graph)},
                 {"predicted", profile.predicted}}}};
  json["phases"] = Json::array();
  for (const ProfileRow& row : profile.rows) json["phases"].push_back(row_json(profile, row));
  if (profile.iterations > 0) {
    json["update_seconds"] = profile.update;
    json["counters"] = counters.empty() ? "counted" : counters;
  }
  if (commands != nullptr) json["commands"] = {{"nsys", commands->nsys}, {"ncu", commands->ncu}};
  return json.dump(2) + "\n";
}

// ---- the table ----

std::string time_text(double seconds) {
  if (!(seconds > 0.0)) return "-";
  if (seconds < 9.995e-6) return formatted("{:.2f} us", seconds * 1e6);
  if (seconds < 99.95e-6) return formatted("{:.1f} us", seconds * 1e6);
  if (seconds < 999.5e-6) return formatted("{:.0f} us", seconds * 1e6);
  if (seconds < 99.95e-3) return formatted("{:.2f} ms", seconds * 1e3);
  return formatted("{:.0f} ms", seconds * 1e3);
}

std::string rate_text(double rate) { return rate > 0.0 && std::isfinite(rate) ? scaled(rate) : "-"; }

std::string share_text(double share) {
  if (!(share > 0.0) || !std::isfinite(share)) return "-";
  return share < 0.005 ? "<1%" : formatted("{:.0f}%", 100.0 * share);
}

using Cells = std::vector<std::string>;

Cells row_cells(const Profile& profile, const ProfileRow& row, bool counted) {
  const PhaseWork& work = row.model.work;
  const bool nested = work.phase == Phase::kGradient || work.phase == Phase::kReduce || work.phase == Phase::kApply;
  const bool measured = profile.iterations > 0;
  const double seconds = measured ? row.seconds : row.model.seconds;
  const double peak = profile.hardware.flops[static_cast<std::size_t>(profile.precision)];
  // Adding and scaling gradients are no matrix products: their FLOP are not held against that peak.
  const double flops = work.phase == Phase::kRollout || work.phase == Phase::kGradient ? work.flop / seconds : 0.0;
  Cells cells = {formatted("{}{}", nested ? "  " : "", kPhaseNames[static_cast<std::size_t>(work.phase)])};
  if (measured) {
    cells.push_back(time_text(seconds));
    cells.push_back(share_text(seconds / profile.marked));
  }
  for (std::string cell : {rate_text(flops), share_text(flops / peak), rate_text(work.bytes / seconds),
                           share_text(work.bytes / seconds / profile.hardware.memory), time_text(row.model.seconds)}) {
    cells.push_back(std::move(cell));
  }
  if (!measured) cells.push_back(share_text(seconds / profile.predicted));
  cells.push_back(std::string(row.model.bound));
  if (counted) {
    cells.push_back(rate_text(static_cast<double>(row.counters.cycles)));
    cells.push_back(formatted("{:.2f}", static_cast<double>(row.counters.instructions) /
                                            std::max(1.0, static_cast<double>(row.counters.cycles))));
  }
  return cells;
}

std::string table_of(const Terminal& out, const Profile& profile) {
  const bool measured = profile.iterations > 0;
  const bool counted = std::any_of(profile.rows.begin(), profile.rows.end(),
                                   [](const ProfileRow& row) { return row.counters.cycles > 0; });
  Cells head = {"phase"};
  if (measured) head.insert(head.end(), {"time", "share"});
  head.insert(head.end(), {"FLOP/s", "peak", "bytes/s", "peak", measured ? "model" : "time"});
  if (!measured) head.push_back("share");
  const std::size_t word_column = head.size();
  head.push_back("bound by");
  if (counted) head.insert(head.end(), {"cycles", "instr/cycle"});
  Table table;
  for (std::size_t c = 0; c < head.size(); ++c) table.columns.push_back({head[c], c != 0 && c != word_column});

  // A row with nothing but a time: what is measured but not modelled.
  const auto add_rest = [&](std::string name, double seconds, double predicted) {
    Cells cells(head.size(), "-");
    cells[0] = std::move(name);
    if (measured) {
      cells[1] = time_text(seconds);
      cells[2] = share_text(seconds / profile.marked);
    }
    cells[measured ? 7 : 5] = time_text(predicted);
    if (!measured) cells[6] = share_text(predicted / profile.predicted);
    cells[word_column] = "";
    table.rows.push_back({std::move(cells)});
  };
  double top = 0.0, inner = 0.0, update_model = 0.0;
  for (const ProfileRow& row : profile.rows) {
    const bool nested = row.model.work.phase >= Phase::kGradient;
    (nested ? inner : top) += row.seconds;
    if (nested) update_model += row.model.seconds;
  }
  bool update_shown = false;
  for (const ProfileRow& row : profile.rows) {
    if (row.model.work.phase >= Phase::kGradient && !update_shown) {
      update_shown = true;
      add_rest("update", profile.update, update_model);
    }
    table.rows.push_back({row_cells(profile, row, counted)});
  }
  if (measured) {
    add_rest("  rest", profile.update - inner, 0.0);
    add_rest("rest", profile.marked - top - profile.update, 0.0);
  }
  add_rest("iteration", profile.marked, profile.predicted);
  return table_text(out, table);
}

std::string hardware_text(const Profile& profile) {
  const Hardware& hardware = profile.hardware;
  return formatted("{}FLOP/s {}, {}B/s{}", scaled(hardware.flops[static_cast<std::size_t>(profile.precision)]),
                   precision_name(profile.precision), scaled(hardware.memory),
                   hardware.is_gpu ? ", by its properties" : ", measured just now");
}

std::string profile_text(const Terminal& out, const Profile& profile, const std::string& counters) {
  const Config& config = profile.config;
  const auto rate = [&](double seconds) { return scaled(profile.steps_per_iteration / seconds) + " steps/s"; };
  std::string text = formatted("{} {}\n", out.styled(Style::kBold, config.env_id), config.name);
  text += labelled(out, "device", profile.device + (profile.iterations > 0 ? "" : " (a prediction: nothing was run)"));
  text += labelled(out, "peak", hardware_text(profile));
  text += labelled(
      out, "batch",
      formatted("{} environments x {} steps{}", grouped(static_cast<std::uint64_t>(config.num_envs)), config.num_steps,
                profile.iterations > 0 ? formatted("; the faster half of {} iterations", profile.iterations) : ""));
  if (profile.iterations > 0) {
    text += labelled(out, "iteration",
                     formatted("{}, {} (timing its phases: {:+.1f}%)", time_text(profile.plain), rate(profile.plain),
                               100.0 * (profile.marked / profile.plain - 1.0)));
    if (profile.graph > 0.0) {
      text += labelled(out, "as a graph", formatted("{}, {}", time_text(profile.graph), rate(profile.graph)));
    }
  }
  text += labelled(out, "model", formatted("{}, {}", time_text(profile.predicted), rate(profile.predicted)));
  text += "\n" + table_of(out, profile);
  if (profile.iterations > 0 && !counters.empty()) {
    text += "\n";
    for (const std::string& line : wrapped("no cycle counts: " + counters, out.text_width(), LongWords::kKeep)) {
      text += out.styled(Style::kDim, line) + "\n";
    }
  }
  return text;
}

std::string commands_text(const Terminal& out, const NsightCommands& commands) {
  return formatted("\n{}\n{}\n\n{}\n{}\n",
                   out.styled(Style::kDim, "the timeline in Nsight Systems, on a machine with a GPU:"), commands.nsys,
                   out.styled(Style::kDim, "the update's kernels in Nsight Compute:"), commands.ncu);
}

ExitCode run_profile(const ProfileOptions& options, const Process& process) {
  const Config config = resolve_config(options);
  CpuCounters counters;  // before the device: its threads are counted too
  Profile profile;
  if (options.predict) {
    const Hardware& hardware = find_hardware(*options.predict);
    profile = predict_training(config, hardware, expected_precision(config, hardware));
  } else {
    const SelectedDevice selected = select_device(options.device.choice, options.device.threads);
    const bool counting = !selected.device->is_cuda();
    profile = profile_training(config, *selected.device, options.iterations, counting ? &counters : nullptr);
  }
  const std::string no_counters = profile.hardware.is_gpu ? "only of a CPU" : counters.obstacle();
  const NsightCommands commands = nsight_commands(options, process.program);
  Terminal out = Terminal::standard_output();
  if (options.json) {
    out.print(profile_json(profile, options.predict ? nullptr : &commands, no_counters));
  } else {
    out.print(profile_text(out, profile, profile.hardware.is_gpu ? "" : no_counters));
    if (!options.predict) out.print(commands_text(out, commands));
  }
  out.check();
  return ExitCode::kOk;
}

}  // namespace

Command profile_command() {
  const auto options = std::make_shared<ProfileOptions>();
  const auto check_graph = [](std::string_view option, const std::string& value) {
    bool graph = false;
    switch_to(graph)(option, value);
    if (graph) {
      throw UsageError(
          "--graph on: a graph is one launch, in which no phase can be timed - allowed: off - leave it out "
          "(the iteration as a graph is timed beside the phases)");
    }
  };
  return {
      .name = "profile",
      .summary = "show where an iteration's time goes, phase by phase",
      .options = options_of({
          settings_options(*options),
          {{.name = "iterations",
            .value = "N",
            .help = "iterations to measure (default 20)",
            .to = whole_to(options->iterations, 1, 100000)}},
          device_options(options->device),
          {{.name = "graph",
            .value = "off",
            .help = "off: phases are timed between launches, which a CUDA graph hides",
            .to = check_graph},
           {.name = "predict",
            .value = "GPU",
            .help = "run nothing: what the model says of this GPU (h200, a100, rtx-4090 ...)",
            .to = text_to(options->predict)},
           json_option(options->json)},
      }),
      .conflicts = {{.some = {"predict"},
                     .others = {"iterations", "device", "threads"},
                     .error = "--predict runs nothing - leave out --iterations, --device and --threads"}},
      .help = kHelp,
      .run = [options](const Process& process) { return run_profile(*options, process); },
  };
}

}  // namespace perilune
