// `perilune info`: what this program is and what it can run on here.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/build_info.hpp"
#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/json.hpp"
#include "host/base/text.hpp"
#include "host/device/arena.hpp"
#include "host/networks/networks.hpp"
#include "host/planning/precision.hpp"
#include "host/settings/config.hpp"
#include "host/settings/environments.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

constexpr std::string_view kHelp = "Examples:\n  perilune info\n  perilune info --json | jq .devices";

std::vector<std::string_view> precision_names(const Device& device, std::string_view environment) {
  std::vector<std::string_view> names;
  for (const Precision precision : available_precisions(device, environment))
    names.push_back(precision_name(precision));
  return names;
}

// Bytes of dynamic shared memory of each kernel with networks, for bench/sass.py.
Json shared_memory_json(const Machine& cuda) {
  Json rows = Json::array();
  for (int i = 0; i < cuda.table.fused_count; ++i) {
    const Kernels& kernels = cuda.table.fused[i];
    for (int layers = 1; layers <= kMaxFusedLayers; ++layers) {
      const KernelStorage bytes = kernels.kernel_storage(layers);
      rows.push_back({{"env", kernels.environment->id},
                      {"hidden_width", kernels.width},
                      {"hidden_layers", layers},
                      {"precision", precision_name(kernels.precision)},
                      {"rollout", bytes.rollout},
                      {"update", bytes.update},
                      {"evaluate", bytes.evaluate}});
    }
  }
  return rows;
}

struct LevelsInProgram {
  std::vector<std::string_view> built, left_out;
};

LevelsInProgram levels_in_program() {
  LevelsInProgram levels;
  for (const CpuLevel& level : cpu_levels())
    (level.machine != nullptr ? levels.built : levels.left_out).push_back(level.name);
  return levels;
}

std::string levels_text(const LevelsInProgram& levels) {
  if (levels.left_out.empty()) return joined(levels.built);
  return formatted("{}; left out: {} (cmake --preset every-cpu builds all)", joined(levels.built),
                   joined(levels.left_out));
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

// What layer-by-layer networks would multiply their matrices with.
struct MatrixLibraryStatus {
  bool usable;
  std::string text;  // its name, or what is wrong
};

MatrixLibraryStatus matrix_library_of(Device& device) {
  try {
    return {true, device.matrix_library(Precision::kFp32).name()};
  } catch (const Error& error) {
    return {false, error.what()};
  }
}

std::string info_json(const BuildInfo& build, const Device& cpu, const Machine* cuda, const SelectedDevice& automatic) {
  Json json;
  json["version"] = build.version;
  json["build"] = {{"commit", build.commit},
                   {"compiler", build.compiler},
                   {"type", build.build_type},
                   {"cpu_levels", levels_in_program().built},
                   {"cuda", cuda != nullptr ? Json(build.cuda) : Json()},
                   {"gpu_architectures", cuda != nullptr ? Json(words_of(build.gpus)) : Json::array()}};
  json["devices"] = {
      {"auto", {{"device", automatic.device->description()}, {"reason", automatic.reason}}},
      {"cpu", {{"level", cpu.machine().name}, {"threads", available_cores()}, {"free_memory", cpu.free_memory()}}},
      {"cuda", {{"usable", automatic.device->is_cuda()}, {"status", describe_cuda()}}}};
  if (cuda != nullptr) json["devices"]["cuda"]["shared_memory"] = shared_memory_json(*cuda);
  const MatrixLibraryStatus matrices = matrix_library_of(*automatic.device);
  json["matrix_library"] = {{"usable", matrices.usable}, {"status", matrices.text}};
  const Device::Fastest fastest = automatic.device->fastest_precision();
  json["precision"] = {{"auto", precision_name(fastest.precision)}, {"reason", fastest.reason}};
  json["instances"] = Json::array();
  for (const EnvironmentInfo& environment : environments()) {
    json["instances"].push_back({{"env", environment.id},
                                 {"hidden_widths", built_widths(cpu.machine(), environment.id)},
                                 {"precisions", precision_names(*automatic.device, environment.id)}});
  }
  return json.dump(2) + "\n";
}

std::string info_text(const Terminal& out, const BuildInfo& build, const Device& cpu, const Machine* cuda,
                      const SelectedDevice& automatic) {
  std::string text = formatted("{} {}\n", out.styled(Style::kBold, "perilune"), build.version);
  text += labelled(out, "build",
                   formatted("{}, {}, {}, commit {}", build.build_type, build.compiler,
                             cuda != nullptr ? formatted("CUDA {}", build.cuda) : "no CUDA", build.commit));
  text += labelled(out, "levels", levels_text(levels_in_program()));
  if (cuda != nullptr) text += labelled(out, "GPUs", joined(words_of(build.gpus)));
  text += labelled(out, "CUDA", describe_cuda());
  text += labelled(
      out, "CPU",
      formatted("{}, {} cores, {} free", cpu.machine().name, available_cores(), format_bytes(cpu.free_memory())));
  text += labelled(out, "auto", formatted("{} - {}", automatic.device->description(), automatic.reason));
  Table fused = {{{"fused kernels for"}, {"hidden_width"}, {"hidden_layers"}, {"precision"}}, {}};
  for (const EnvironmentInfo& environment : environments()) {
    fused.rows.push_back(
        {{std::string(environment.id), joined(built_widths(cpu.machine(), environment.id)),
          formatted("1 to {}", kMaxFusedLayers), joined(precision_names(*automatic.device, environment.id))}});
  }
  const Device::Fastest fastest = automatic.device->fastest_precision();
  text += labelled(out, "precision",
                   formatted("auto is {} where it is built - {}", precision_name(fastest.precision), fastest.reason));
  text += labelled(out, "networks",
                   formatted("in fused kernels as below; others, up to {} hidden layers of any sizes, layer "
                             "by layer with {}",
                             kMaxHiddenLayers, matrix_library_of(*automatic.device).text));
  return text + "\n" + table_text(out, fused);
}

ExitCode run_info(bool json) {
  SelectedDevice automatic = select_device(DeviceChoice::kAuto, 0);
  if (automatic.device->is_cuda()) automatic.reason += "; runs that the CPU is expected to end sooner stay there";
  const SelectedDevice cpu = select_device(DeviceChoice::kCpu, 0);
  Terminal out = Terminal::standard_output();
  out.print((json ? info_json(build_info(), *cpu.device, cuda_machine(), automatic)
                  : info_text(out, build_info(), *cpu.device, cuda_machine(), automatic)));
  out.check();
  return ExitCode::kOk;
}

}  // namespace

Command info_command() {
  const auto json = std::make_shared<bool>(false);
  return {
      .name = "info",
      .summary = "show the build, the devices and the network widths built in",
      .options = {json_option(*json)},
      .help = kHelp,
      .run = [json](const Process&) { return run_info(*json); },
  };
}

}  // namespace perilune
