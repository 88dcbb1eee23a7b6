#include "host/planning/performance_model.hpp"

#include <algorithm>
#include <cmath>

#include "host/networks/networks.hpp"
#include "host/settings/environment_settings.hpp"

namespace perilune {

namespace {

// Shares of a ceiling that good code reaches. GPU: 790 of 989 bf16 TFLOP/s in matrix products on random data, 4.3 of
// 4.8 TB/s in copies (both H200). CPU: fitted, with the next three, to the times of one AVX-512 core (EPYC) at widths
// 16 to 128, which they give back within 5%; the nominal FLOP hold about as much that is not executed as the loops
// cost.
constexpr double kGpuFlops = 0.8, kGpuMemory = 0.9, kCpuFlops = 1.0, kCpuMemory = 0.5;

// A CPU's work beside the matrix products, in FLOP that would take as long: a tanh, and its slope and the extra passes
// of the backward pass; observation, sampling (exp, log, Philox) and record of a step, beside what its simulator takes
// (StepCost); gathering a sample and both losses.
constexpr double kTanhFlop = 30.0, kSlopeFlop = 19.0;
constexpr double kStepFlop = 670.0, kLossFlop = 1900.0;

// Start to start of dependent graph nodes on a GPU; a parallel section of a thread pool.
constexpr double kGpuLaunch = 1.3e-6, kCpuLaunch = 0.6e-6;
// A matrix product that a GPU's library runs for few samples, and the kernel behind it; an estimate.
constexpr double kProductLatency = 5e-6;
// Loads from memory that are started together, and what waits for them. (A serial scan with a load a step took 124 us
// for 128 steps on an H100, 0.97 us each.)
constexpr double kLoadLatency = 0.8e-6;
// What the last block of a grid does alone: a ticket, the sums of the others, a verdict.
constexpr double kLastBlockLatency = 2.0e-6;
// Of a multiprocessor; and the lanes that fill them with a warp each.
constexpr double kSchedulers = 4.0, kWarp = 32.0, kLanesPerProcessor = kSchedulers * kWarp;

// As kernels/cuda_launcher.cuh and kernels/cpu_launcher.hpp choose them: a block's environments or samples, and of
// tensor cores'; threads of a multiprocessor over which uneven environments are spread; threads that it has registers
// for where the kernel does not say.
constexpr double kGpuTile = 64.0, kTensorTile = 128.0, kCpuTile = 96.0, kCpuPartials = 16.0;
constexpr double kSpreadThreads = 256.0, kThreads = 512.0, kTensorThreads = 256.0;

// bench/results/sass.json of CUDA 13.0, which the tests compare: alone, together, issued, before. Other architectures
// schedule other machine code; theirs is taken to need as many cycles.
constexpr KernelCycles kKernelCycles[] = {
    {"rollout", Precision::kFp32, 84596, 33851, 23340.5, 24221},
    {"rollout", Precision::kTf32, 6464, 4149, 1742, 3590},
    {"rollout", Precision::kBf16, 5303, 3289, 1471, 2693},
    {"rollout, two teams", Precision::kTf32, 3940, 2654, 902, 2524},
    {"rollout, two teams", Precision::kBf16, 3326, 1601, 764.5, 2008},
    {"update, actor", Precision::kFp32, 80548, 41517, 25366, 27548},
    {"update, actor", Precision::kTf32, 9546, 8055, 3359, 4731},
    {"update, actor", Precision::kBf16, 8412, 4925, 2295, 3492},
    {"update, critic", Precision::kFp32, 77689, 40179, 24692, 26573},
    {"update, critic", Precision::kTf32, 9193, 7901, 3170, 4506},
    {"update, critic", Precision::kBf16, 7752, 4834, 2053, 3221},
    {"simulate", Precision::kFp32, 361, 207, 188, 414},
    {"reduce gradients", Precision::kFp32, 6955},
};
// The parameters that they are of: 4-64-64-2 and 4-64-64-1.
constexpr double kCountedParameters = 9155.0;

// Cycles from an instruction to the one that awaits its result: 4 to 6.
constexpr double kInstructionCycles = 5.0;
// Lanes that share a column of the scan or of the reduction, and loads that each has in flight.
constexpr double kSplit = 8.0, kAhead = 8.0;

constexpr double kPack = 16.0;

constexpr double kFloat = 4.0, kSector = 32.0;

// The share of the machine that so many lanes keep busy. CPU threads take packs of lanes, whole ones, in turns.
double fill_of(const Hardware& hardware, double lanes) {
  if (hardware.is_gpu) return std::min(1.0, lanes / (kLanesPerProcessor * hardware.processors));
  return lanes / (kPack * hardware.processors * std::ceil(lanes / (kPack * hardware.processors)));
}

// What a step of the simulator alone costs.
StepCost step_cost(const Config& config) {
  return find_environment(config.env_id).step_cost(env_parameters(config).data());
}

bool is_uneven(const Config& config) { return find_environment(config.env_id).uneven; }

// What one environment step takes a CPU beside the networks.
double step_flop(const Config& config) { return kStepFlop + step_cost(config).cpu_flop; }

// Whether no fused kernel can have these networks, so that a library multiplies their matrices.
bool is_layer_by_layer(const Config& config) {
  constexpr int kWidest = 128;  // that is compiled
  const int width = fused_width(config);
  return width == 0 || width > kWidest;
}

// What one sample counts among the lanes: a library's products spread over a layer's units as well, some 32 of them a
// lane.
double lanes_per_sample(const Config& config) {
  const std::vector<int> sizes = layer_sizes(config);
  return is_layer_by_layer(config) ? std::max(1.0, *std::max_element(sizes.begin(), sizes.end()) / 32.0) : 1.0;
}

const KernelCycles& cycles_of(std::string_view walk, Precision precision) {
  const auto matches = [&](const KernelCycles& row) { return row.walk == walk && row.precision == precision; };
  return *std::find_if(std::begin(kKernelCycles), std::end(kKernelCycles), matches);
}

// Seconds of a GPU: of the longest chain of instructions, and of its schedulers with those of all warps.
struct GpuSeconds {
  double chain = 0.0, issue = 0.0;
};

// Of so many warps that make `passes` each.
GpuSeconds gpu_seconds(const Hardware& hardware, double alone, double together, double passes, double warps) {
  return {passes * alone / hardware.clock,
          passes * together * warps / (kSchedulers * hardware.processors) / hardware.clock};
}

// Cycles of a simulator's step in a warp of so many environments: alone, and for each of those that share a scheduler.
struct StepCycles {
  double alone, together;
};

StepCycles step_cycles(const Config& config, double environments, double warps) {
  const StepCost cost = step_cost(config);
  if (cost.gpu_instructions == 0.0) {
    const KernelCycles& row = cycles_of("simulate", Precision::kFp32);
    return {row.alone, row.together};
  }
  const double instructions = cost.gpu_instructions + cost.gpu_instructions_more * (environments - 1.0);
  return {instructions * kInstructionCycles, instructions * std::max(1.0, kInstructionCycles / warps)};
}

// Blocks of so many lanes that step environments: uneven ones are spread, as their warps are slow and diverge.
double environment_blocks(const Config& config, const Hardware& hardware, double envs, double lanes) {
  const double spread = is_uneven(config) ? std::min(envs, kSpreadThreads / lanes * hardware.processors) : 0.0;
  return std::max(std::ceil(envs / lanes), spread);
}

// Environments' steps with their networks, of so many layers and parameters.
GpuSeconds rollout_seconds(const Config& config, const Hardware& hardware, Precision precision, double envs,
                           double steps, double layers, double parameters) {
  const bool tensor = precision != Precision::kFp32;
  const double blocks = environment_blocks(config, hardware, envs, kGpuTile);
  // A team of warps for each network.
  const double most_of_teams = (precision == Precision::kBf16 ? 3.0 : 2.0) * hardware.processors;
  const bool is_teamed = tensor && fused_width(config) == 64 && !is_uneven(config) && blocks <= most_of_teams;
  const double teams = is_teamed ? 2.0 : 1.0;
  const KernelCycles& row = cycles_of(teams > 1.0 ? "rollout, two teams" : "rollout", precision);
  const double block_warps = kGpuTile / kWarp;
  const double environments = std::min(kWarp, std::ceil(envs / (blocks * block_warps)));
  const KernelCycles& counted = cycles_of("simulate", Precision::kFp32);
  const StepCycles step = step_cycles(config, environments, (tensor ? kTensorThreads : kThreads) / kLanesPerProcessor);
  const bool by_layer = is_layer_by_layer(config);
  const double scale = by_layer ? 0.0 : parameters / kCountedParameters;
  GpuSeconds busy = gpu_seconds(hardware, (row.alone - counted.alone) * scale + step.alone,
                                (row.together - counted.together / teams) * scale + step.together / teams,
                                steps - 1.0 + row.before / row.issued, blocks * block_warps * teams);
  if (by_layer) busy.chain += steps * layers * kProductLatency;  // one after another
  return busy;
}

struct NetworkCounts {
  double parameters = 0.0, hidden_units = 0.0;
};

NetworkCounts count(const Model& model, std::string_view network, const Network& layout) {
  NetworkCounts counts;
  const std::string head = std::string(network) + "." + std::to_string(2 * layout.depth) + ".";
  for (const ModelTensor& tensor : model.tensors) {
    if (tensor.name.rfind(network, 0) != 0 || tensor.name == kLogStdName) continue;
    counts.parameters += static_cast<double>(tensor.size);
    const bool hidden_bias = tensor.shape.size() == 1 && tensor.name.rfind(head, 0) != 0;
    if (hidden_bias) counts.hidden_units += static_cast<double>(tensor.size);
  }
  return counts;
}

// Blocks of an update, of both networks, that a multiprocessor has registers for.
double update_blocks(const Config& config, const Model& model, Precision precision) {
  if (precision == Precision::kFp32) return 4.0;
  const int width = fused_width(config);
  return width <= 32 || (precision == Precision::kBf16 && width == 64 && model.actor.depth <= 2) ? 3.0 : 2.0;
}

}  // namespace

std::span<const KernelCycles> kernel_cycles() { return kKernelCycles; }

double flop_per_step(const Model& model, const Config& config) {
  const NetworkCounts actor = count(model, "actor", model.actor), critic = count(model, "critic", model.critic);
  const bool joint = config.update_mode == UpdateMode::kJoint;
  const double actor_passes = joint ? config.update_epochs : config.policy_iterations;
  const double critic_passes = joint ? config.update_epochs : config.value_iterations;
  return actor.parameters * (2.0 + 6.0 * actor_passes) + critic.parameters * (2.0 + 6.0 * critic_passes);
}

std::vector<PhaseWork> iteration_work(const Config& config, const Hardware& hardware, Precision precision,
                                      int partials) {
  const Model model = model_of(config);
  const EnvironmentInfo& environment = find_environment(config.env_id);
  const NetworkCounts actor = count(model, "actor", model.actor), critic = count(model, "critic", model.critic);
  const double parameters = actor.parameters + critic.parameters, hidden = actor.hidden_units + critic.hidden_units;
  const double envs = config.num_envs, samples = static_cast<double>(batch_size(config)), steps = samples / envs;
  const double layers = model.actor.depth + 1;
  // Observation, action, log-probability and value, filled up to 32 bytes.
  const int action = environment.action_space.numbers();
  const double record = std::ceil((environment.observation_dim() + action + 2) * kFloat / kSector) * kSector;

  const bool joint = config.update_mode == UpdateMode::kJoint;
  const double minibatch = joint ? samples / config.num_minibatches : samples;
  const double updates =
      joint ? config.update_epochs * config.num_minibatches : config.policy_iterations + config.value_iterations;
  const double actor_passes = joint ? config.update_epochs : config.policy_iterations;
  const double critic_passes = joint ? config.update_epochs : config.value_iterations;
  const double networks = joint ? 2.0 : 1.0;
  const double trained = joint ? parameters : parameters / 2.0;
  const bool tensor = hardware.is_gpu && precision != Precision::kFp32;
  const double tiles = std::ceil(minibatch / (!hardware.is_gpu ? kCpuTile : tensor ? kTensorTile : kGpuTile));
  const double most =
      !hardware.is_gpu ? kCpuPartials : std::floor(update_blocks(config, model, precision) * hardware.processors / 2.0);
  const double blocks = partials > 0 ? partials : std::min(tiles, most);

  PhaseWork rollout{Phase::kRollout};
  rollout.flop = 2.0 * parameters * samples;
  rollout.tanh = hidden * samples;
  rollout.other = step_flop(config) * samples;
  rollout.bytes = samples * (record + 2.0 * kFloat + 1.0);
  rollout.launches = 1.0;
  rollout.lanes = envs * lanes_per_sample(config);
  if (hardware.is_gpu) {
    const GpuSeconds busy = rollout_seconds(config, hardware, precision, envs, steps, 2.0 * layers, parameters);
    rollout.chain = busy.chain;
    rollout.issue = busy.issue;
  }

  PhaseWork gae{Phase::kGae};
  gae.bytes = samples * (4.0 * kFloat + 1.0);
  gae.launches = 1.0;
  gae.lanes = envs * kSplit;
  gae.chain = 2.0 * std::ceil(steps / (kSplit * kAhead)) * kLoadLatency + kLastBlockLatency;  // two passes

  PhaseWork gradient{Phase::kGradient};
  gradient.flop = 6.0 * samples * (actor.parameters * actor_passes + critic.parameters * critic_passes);
  gradient.tanh = samples * (actor.hidden_units * actor_passes + critic.hidden_units * critic_passes);
  gradient.other = kLossFlop / 2.0 * samples * (actor_passes + critic_passes) + kSlopeFlop * gradient.tanh;
  // Each network draws the record and one more number of a sample, and writes its share of the partial gradients.
  gradient.bytes = samples * (actor_passes + critic_passes) * (record + kSector) + updates * blocks * trained * kFloat;
  gradient.launches = updates;
  gradient.lanes = networks * minibatch * lanes_per_sample(config);
  if (is_layer_by_layer(config)) {
    gradient.chain = updates * std::ceil(tiles / blocks) * 3.0 * layers * kProductLatency;
  } else if (hardware.is_gpu) {
    const KernelCycles &a = cycles_of("update, actor", precision), &c = cycles_of("update, critic", precision);
    const double scale = parameters / kCountedParameters;
    const double passes = updates * (std::ceil(tiles / blocks) - 1.0 + (a.before + c.before) / (a.issued + c.issued));
    const double warps = networks * blocks * (tensor ? kTensorTile : kGpuTile) / kWarp;
    // However small the networks, samples come from memory.
    const double alone = std::max(scale * (a.alone + c.alone) / 2.0, kLoadLatency * hardware.clock);
    const GpuSeconds busy = gpu_seconds(hardware, alone, scale * (a.together + c.together) / 2.0, passes, warps);
    gradient.chain = busy.chain;
    gradient.issue = busy.issue;
  }

  PhaseWork reduce{Phase::kReduce};
  reduce.flop = updates * blocks * trained;
  reduce.bytes = updates * (blocks + 1.0) * trained * kFloat;
  reduce.launches = updates;
  reduce.lanes = trained * kSplit;
  if (hardware.is_gpu) reduce.chain = updates * cycles_of("reduce gradients", Precision::kFp32).alone / hardware.clock;

  PhaseWork apply{Phase::kApply};
  apply.flop = updates * 16.0 * trained;
  apply.bytes = updates * 7.0 * trained * kFloat;
  apply.launches = updates;
  apply.lanes = trained;
  apply.chain = updates * kLoadLatency;
  return {rollout, gae, gradient, reduce, apply};
}

PhasePrediction predict(const PhaseWork& work, const Hardware& hardware, Precision precision) {
  struct Bound {
    std::string_view name;
    double seconds;
  };
  const bool networks = work.phase == Phase::kRollout || work.phase == Phase::kGradient;
  const Precision used = networks ? precision : Precision::kFp32;
  const double flops = hardware.flops[static_cast<std::size_t>(used)];
  const double fp32 = hardware.flops[static_cast<std::size_t>(Precision::kFp32)];
  const double fill = fill_of(hardware, work.lanes);
  const double reached = hardware.is_gpu ? kGpuFlops : kCpuFlops;
  // Beside tensor cores tanh is a hardware instruction; all else that a GPU does is in its kernels' cycles.
  const bool special = hardware.is_gpu && used != Precision::kFp32;
  const double other = hardware.is_gpu ? 0.0 : work.tanh * kTanhFlop + work.other;
  constexpr std::string_view kNames[] = {"fp32", "tf32", "bf16"};
  Bound bounds[] = {
      {kNames[static_cast<std::size_t>(used)], work.flop / (flops * reached * fill) + other / (fp32 * reached * fill)},
      {"tanh", special ? work.tanh / (hardware.special * fill) : 0.0},
      {"memory", work.bytes / (hardware.memory * (hardware.is_gpu ? kGpuMemory : kCpuMemory))},
      {"latency", hardware.is_gpu ? work.chain : 0.0},
      {"issue", work.issue},
  };
  PhasePrediction prediction{work, 0.0, "launches"};
  double longest = 0.0;
  for (const Bound& bound : bounds) {
    if (bound.seconds <= longest) continue;
    longest = bound.seconds;
    prediction.bound = bound.name;
  }
  const double launching = work.launches * (hardware.is_gpu ? kGpuLaunch : kCpuLaunch);
  if (launching > longest) prediction.bound = "launches";
  prediction.seconds = longest + launching;
  return prediction;
}

std::vector<PhasePrediction> predict_iteration(const Config& config, const Hardware& hardware, Precision precision,
                                               int partials) {
  std::vector<PhasePrediction> predictions;
  for (const PhaseWork& work : iteration_work(config, hardware, precision, partials)) {
    predictions.push_back(predict(work, hardware, precision));
  }
  return predictions;
}

double predict_evaluation(const Config& config, const Hardware& hardware, int episodes) {
  const Model model = model_of(config);
  const NetworkCounts actor = count(model, "actor", model.actor);
  const double steps = episode_limit(config), samples = steps * episodes, layers = model.actor.depth + 1;
  PhaseWork work{Phase::kEvaluation};
  work.flop = 2.0 * actor.parameters * samples;
  work.tanh = actor.hidden_units * samples;
  work.other = step_flop(config) * samples;
  work.launches = 1.0;
  work.lanes = episodes * lanes_per_sample(config);
  if (hardware.is_gpu) {
    const GpuSeconds busy =
        rollout_seconds(config, hardware, Precision::kFp32, episodes, steps, layers, actor.parameters);
    work.chain = busy.chain;
    work.issue = busy.issue;
  }
  return predict(work, hardware, Precision::kFp32).seconds;
}

Precision expected_precision(const Config& config, const Hardware& hardware) {
  if (config.precision) return *config.precision;
  // Libraries multiply a CPU's matrices in fp32.
  return !hardware.is_gpu && is_layer_by_layer(config) ? Precision::kFp32 : hardware.automatic;
}

double predict_simulation(const Config& config, const Hardware& hardware) {
  const double envs = config.num_envs;
  if (!hardware.is_gpu) {
    return hardware.flops[static_cast<std::size_t>(Precision::kFp32)] * fill_of(hardware, envs) /
           step_cost(config).cpu_flop;
  }
  const double warps = environment_blocks(config, hardware, envs, kWarp);
  const StepCycles step = step_cycles(config, std::min(kWarp, std::ceil(envs / warps)), kThreads / kLanesPerProcessor);
  const GpuSeconds busy = gpu_seconds(hardware, step.alone, step.together, 1.0, warps);
  return envs / std::max(busy.chain, busy.issue);
}

}  // namespace perilune
