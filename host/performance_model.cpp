#include "host/performance_model.hpp"

#include <algorithm>
#include <cmath>

#include "host/networks.hpp"

namespace perilune {

namespace {

// Shares of a ceiling that good code reaches. GPU: 790 of 989 bf16 TFLOP/s in matrix products on random data, 4.3 of
// 4.8 TB/s in copies (both H200). CPU: fitted, with the next three, to the times of one AVX-512 core (EPYC) at widths 16 to
// 128, which they give back within 5%; the nominal FLOP hold about as much that is not executed as the loops cost.
constexpr double kGpuFlops = 0.8, kGpuMemory = 0.9, kCpuFlops = 1.0, kCpuMemory = 0.5;

// Beside the matrix products, in FLOP that would take as long on the same fp32 units: a tanh, and its slope and the extra
// passes of the backward pass; CartPole's observation, sampling (exp, log, Philox), step and record; gathering a sample
// and both losses; a simulator's step alone. A GPU's fp32 tanh is the polynomial of sims/math.hpp, about 25 instructions;
// beside tensor cores tanh is one hardware instruction.
constexpr double kCpuTanhFlop = 30.0, kCpuSlopeFlop = 19.0, kGpuTanhFlop = 50.0;
constexpr double kStepFlop = 900.0, kLossFlop = 1900.0, kSimulateFlop = 230.0;
// The landers' steps alone, from the steps per second of their simulators on two cores of a Xeon (357 GFLOP/s).
constexpr double kLanderFlop = 6.7e3, kLunarLanderFlop = 338e3, kFastLunarLanderFlop = 162e3;

// Start to start of dependent graph nodes on a GPU; a parallel section of a thread pool.
constexpr double kGpuLaunch = 1.3e-6, kCpuLaunch = 0.6e-6;
// A layer of 64 lanes: matrix products in flight, activation, two barriers. One environment step around it.
constexpr double kLayerLatency = 0.15e-6, kStepLatency = 0.35e-6;
// A matrix product that a GPU's library runs for few samples, and the kernel behind it; an estimate.
constexpr double kProductLatency = 5e-6;
// Loads from memory that are started together, and what waits for them. (A serial scan with a load a step took 124 us for
// 128 steps on an H100, 0.97 us each.)
constexpr double kLoadLatency = 0.8e-6;
// What the last block of a grid does alone: a ticket, the sums of the others, a verdict.
constexpr double kLastBlockLatency = 2.0e-6;
// Lanes that fill a multiprocessor's four schedulers with a warp each.
constexpr double kLanesPerProcessor = 128.0;

// As kernels/cuda_instances.cuh and kernels/cpu.cpp choose them.
constexpr double kGpuTile = 64.0, kTensorTile = 128.0, kCpuTile = 96.0, kCpuPartials = 16.0;
// Lanes that share a column of the scan or of the reduction, and loads that each has in flight.
constexpr double kSplit = 8.0, kAhead = 8.0;

constexpr double kPack = 16.0;

constexpr double kFloat = 4.0, kSector = 32.0;

// The share of the machine that so many lanes keep busy. CPU threads take packs of lanes, whole ones, in turns.
double fill_of(const Hardware& hardware, double lanes) {
  if (hardware.is_gpu) return std::min(1.0, lanes / (kLanesPerProcessor * hardware.processors));
  return lanes / (kPack * hardware.processors * std::ceil(lanes / (kPack * hardware.processors)));
}

// What one environment step takes beside the networks.
double step_flop(const Config& config) {
  const std::string& id = config.env_id;
  if (id.starts_with("LunarLander")) {
    const auto fast = config.env_parameters.find("fast_solver");
    const bool is_fast = fast != config.env_parameters.end() && fast->second != 0.0;
    return kStepFlop - kSimulateFlop + (is_fast ? kFastLunarLanderFlop : kLunarLanderFlop);
  }
  return id.starts_with("Lander") ? kStepFlop - kSimulateFlop + kLanderFlop : kStepFlop;
}

// How long one thread of a GPU is busy with it, as CartPole's.
double step_latency(const Config& config) { return kStepLatency * step_flop(config) / kStepFlop; }

// Whether no fused kernel can have these networks, so that a library multiplies their matrices.
bool is_layer_by_layer(const Config& config) {
  constexpr int kWidest = 128;  // that is compiled
  const int width = fused_width(config);
  return width == 0 || width > kWidest;
}

// What one sample counts among the lanes: a library's products spread over a layer's units as well, some 32 of them a lane.
double lanes_per_sample(const Config& config) {
  const std::vector<int> sizes = layer_sizes(config);
  return is_layer_by_layer(config) ? std::max(1.0, *std::max_element(sizes.begin(), sizes.end()) / 32.0) : 1.0;
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

}  // namespace

double flop_per_step(const Model& model, const Config& config) {
  const NetworkCounts actor = count(model, "actor", model.actor), critic = count(model, "critic", model.critic);
  const bool joint = config.update_mode == Config::UpdateMode::kJoint;
  const double actor_passes = joint ? config.update_epochs : config.policy_iterations;
  const double critic_passes = joint ? config.update_epochs : config.value_iterations;
  return actor.parameters * (2.0 + 6.0 * actor_passes) + critic.parameters * (2.0 + 6.0 * critic_passes);
}

std::vector<PhaseWork> iteration_work(const Config& config, const Hardware& hardware, Precision precision, int partials) {
  const Model model = model_of(config);
  const EnvironmentInfo& environment = find_environment(config.env_id);
  const NetworkCounts actor = count(model, "actor", model.actor), critic = count(model, "critic", model.critic);
  const double parameters = actor.parameters + critic.parameters, hidden = actor.hidden_units + critic.hidden_units;
  const double envs = config.num_envs, steps = config.num_steps, samples = envs * steps;
  const double layers = model.actor.depth + 1;
  // Observation, action, log-probability and value, filled up to 32 bytes.
  const int action = environment.continuous ? environment.num_actions : 1;
  const double record = std::ceil((environment.obs_dim + action + 2) * kFloat / kSector) * kSector;

  const bool joint = config.update_mode == Config::UpdateMode::kJoint;
  const double minibatch = joint ? samples / config.num_minibatches : samples;
  const double updates = joint ? config.update_epochs * config.num_minibatches
                               : config.policy_iterations + config.value_iterations;
  const double actor_passes = joint ? config.update_epochs : config.policy_iterations;
  const double critic_passes = joint ? config.update_epochs : config.value_iterations;
  const double networks = joint ? 2.0 : 1.0;
  const double trained = joint ? parameters : parameters / 2.0;
  const bool tensor = hardware.is_gpu && precision != Precision::kFp32;
  const double tiles = std::ceil(minibatch / (!hardware.is_gpu ? kCpuTile : tensor ? kTensorTile : kGpuTile));
  const double most = !hardware.is_gpu ? kCpuPartials : (tensor ? 1.0 : 2.0) * hardware.processors;
  const double blocks = partials > 0 ? partials : std::min(tiles, most);

  PhaseWork rollout{Phase::kRollout};
  rollout.flop = 2.0 * parameters * samples;
  rollout.tanh = hidden * samples;
  rollout.other = step_flop(config) * samples;
  rollout.bytes = samples * (record + 2.0 * kFloat + 1.0);
  rollout.launches = 1.0;
  rollout.lanes = envs * lanes_per_sample(config);
  // Actor and critic; a library's products run one after another.
  const double layer = is_layer_by_layer(config) ? kProductLatency : kLayerLatency;
  rollout.chain = steps * (2.0 * layers * layer + step_latency(config));

  PhaseWork gae{Phase::kGae};
  gae.bytes = samples * (4.0 * kFloat + 1.0);
  gae.launches = 1.0;
  gae.lanes = envs * kSplit;
  gae.chain = 2.0 * std::ceil(steps / (kSplit * kAhead)) * kLoadLatency + kLastBlockLatency;  // two passes

  PhaseWork gradient{Phase::kGradient};
  gradient.flop = 6.0 * samples * (actor.parameters * actor_passes + critic.parameters * critic_passes);
  gradient.tanh = samples * (actor.hidden_units * actor_passes + critic.hidden_units * critic_passes);
  gradient.other = kLossFlop / 2.0 * samples * (actor_passes + critic_passes) + kCpuSlopeFlop * gradient.tanh;
  // Each network draws the record and one more number of a sample, and writes its share of the partial gradients.
  gradient.bytes = samples * (actor_passes + critic_passes) * (record + kSector) + updates * blocks * trained * kFloat;
  gradient.launches = updates;
  gradient.lanes = networks * minibatch * lanes_per_sample(config);
  gradient.chain = updates * std::ceil(tiles / blocks) * (3.0 * layers * layer + kStepLatency);

  PhaseWork reduce{Phase::kReduce};
  reduce.flop = updates * blocks * trained;
  reduce.bytes = updates * (blocks + 1.0) * trained * kFloat;
  reduce.launches = updates;
  reduce.lanes = trained * kSplit;
  reduce.chain = updates * (std::ceil(blocks / (kSplit * kAhead)) * kLoadLatency + kLastBlockLatency);

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
  const bool own_tanh = !hardware.is_gpu || used == Precision::kFp32;
  const double tanh_flop = own_tanh ? work.tanh * (hardware.is_gpu ? kGpuTanhFlop : kCpuTanhFlop) : 0.0;
  const double units = fp32 * reached * fill;
  constexpr std::string_view kNames[] = {"fp32", "tf32", "bf16"};
  Bound bounds[] = {
      {kNames[static_cast<std::size_t>(used)], work.flop / (flops * reached * fill) + (tanh_flop + work.other) / units},
      {"tanh", own_tanh ? 0.0 : work.tanh / (hardware.special * fill)},
      {"memory", work.bytes / (hardware.memory * (hardware.is_gpu ? kGpuMemory : kCpuMemory))},
      {"latency", hardware.is_gpu ? work.chain : 0.0},
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
  work.chain = steps * (layers * (is_layer_by_layer(config) ? kProductLatency : kLayerLatency) + step_latency(config));
  return predict(work, hardware, Precision::kFp32).seconds;
}

Precision expected_precision(const Config& config, const Hardware& hardware) {
  switch (config.precision) {
    case Config::Precision::kFp32: return Precision::kFp32;
    case Config::Precision::kTf32: return Precision::kTf32;
    case Config::Precision::kBf16: return Precision::kBf16;
    case Config::Precision::kAuto: break;
  }
  // Libraries multiply a CPU's matrices in fp32.
  return !hardware.is_gpu && is_layer_by_layer(config) ? Precision::kFp32 : hardware.automatic;
}

double predict_simulation(const Hardware& hardware, double num_envs) {
  const double flops = hardware.flops[static_cast<std::size_t>(Precision::kFp32)];
  return flops * fill_of(hardware, num_envs) / kSimulateFlop;
}

}  // namespace perilune
