// Everything the host sees of the kernels: plain argument structs, and the table of launchers of each machine.
//
// No templates and no code here: environment, width and precision are looked up once among a Machine's kernels, after
// that a kernel is a function pointer. All pointers are device memory of the machine the launcher belongs to. Shapes: N
// environments, T steps, B = N*T samples, sample (t, n) has index t*N + n everywhere. Arrays that kernels read by SIMD
// pack are allocated with kTailPadding elements more than their shape, which may be read and never change a result.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/hyperparameters.hpp"
#include "kernels/machine/queue.hpp"
#include "kernels/metrics.hpp"
#include "sims/environment_info.hpp"
#include "sims/rng_key.hpp"

namespace perilune {

inline constexpr int kTailPadding = 128;
inline constexpr int kMaxHiddenLayers = 8;
inline constexpr int kMaxFusedLayers = 3;
inline constexpr int kMaxFusedWidth = 128;
inline constexpr int kMaxEnvParameters = 8;
/// Tensors start at multiples of this many floats inside the parameter array.
inline constexpr int kTensorAlignment = 16;

/// Running mean and variance of `size` numbers inside the parameter array, as offsets in floats. size 0: there are
/// none.
struct StatisticsPlace {
  std::int32_t size;
  std::int32_t mean, variance;  ///< [size]
  std::int32_t count;           ///< [1]: of samples
};

/// One multilayer perceptron inside the parameter array. Layer l has weight [out, in] (row-major, as in PyTorch) at
/// weight[l] and bias [out] at bias[l], both offsets in floats; layers 0..depth-1 are hidden, layer depth is the head.
/// Fused kernels serve networks of at most kMaxFusedLayers hidden layers of one width, and do not look at `width`.
struct Network {
  std::int32_t depth;
  Activation activation;
  OutputActivation output_activation;    ///< fused kernels do not look at it
  std::int32_t width[kMaxHiddenLayers];  ///< units of each hidden layer
  std::int32_t weight[kMaxHiddenLayers + 1];
  std::int32_t bias[kMaxHiddenLayers + 1];
  std::int32_t begin, end;  ///< the network's range of the parameter array
  std::int32_t log_std;     ///< of a continuous policy: its log standard deviations [actions], after the layers; else 0
  /// Where there are any, rollouts, evaluations and acting normalise what the network is given (network.hpp); the
  /// samples of an update are normalised already.
  StatisticsPlace inputs;
  float input_clip;  ///< of normalised inputs
};

/// What is annealed or counted: lives in device memory, so that the same launches serve every iteration.
struct Control {
  std::uint32_t iteration;     ///< 0-based; end_iteration advances it
  std::uint32_t stop_policy;   ///< 1 once target_kl ended this iteration's policy updates, or before them a rollout of
                               ///< whole episodes has as many as it needs
  std::uint32_t policy_steps;  ///< policy updates applied in this iteration
  NonFinite nonfinite;         ///< kNone, or nothing is applied any more
  float actor_learning_rate;   ///< with Anneal::kKl these two are carried from iteration to iteration; 0: none yet
  float critic_learning_rate;
  float clip_coef;
  float clip_vloss_coef;
  float ent_coef;
  float actor_correction[2];  ///< Adam's 1 - beta1^t and 1 - beta2^t for the updates so far
  float critic_correction[2];
  float advantage_mean;  ///< over the batch
  float advantage_std;
  float target_variance;         ///< Var[target], for the explained variance
  float residual_variance;       ///< Var[target - value]
  std::uint32_t moments_ticket;  ///< blocks that are done (Block::last_of_grid); 0 between launches
  std::uint32_t reduce_ticket;
  // Of whole episodes:
  std::uint32_t rows;     ///< steps that each environment took in the last rollout
  std::uint32_t samples;  ///< of the batch
  std::uint64_t steps;    ///< of all batches so far
};

/// What one minibatch asks Adam to do, decided by the last block of the reduction.
struct AdamStep {
  std::uint32_t apply;    ///< 0: leave the parameters alone
  float gradient_factor;  ///< of the global-norm clip
  float actor_learning_rate, critic_learning_rate;
  float actor_correction[2];  ///< 1 - beta1^t and 1 - beta2^t, this step counted
  float critic_correction[2];
};

/// Environments that persist between rollouts. fields: [E::State::kFields][N]; counters [N].
struct EnvironmentBatch {
  float* fields;
  std::uint32_t* episode;  ///< index of the running episode of this environment
  std::uint32_t* elapsed;  ///< steps taken in it
  float* episode_return;   ///< undiscounted return so far
  std::int32_t count;      ///< N
  std::uint32_t max_episode_steps;
  float parameters[kMaxEnvParameters];
  RngKey key;
};

/// Finished episodes per environment since the iteration began, each [N].
struct EpisodeSums {
  float* count;
  float* total_return;
  float* total_length;
};

struct ResetArgs {
  EnvironmentBatch environments;
};

/// What becomes of an environment whose episode has ended, as Gymnasium's vector environments name it: reset by the
/// step after, which ignores its action; reset at once; or left to the caller.
enum class Autoreset : std::uint32_t { kNextStep, kSameStep, kDisabled };

/// What actions lie in memory as: choices are integers, numbers are floats.
enum class ActionType : std::uint32_t { kInt32, kInt64, kFloat32, kFloat64 };

/// What environments that are stepped by a caller carry besides EnvironmentBatch, each [N]. Their draws are those of
/// environment `number` under the key {seed, batch.key.stream}; batch.key.seed is not looked at.
struct CallerArrays {
  std::uint32_t* seed;
  std::uint32_t* number;
  std::uint8_t* ended;  ///< 1: the episode is over, and its environment not yet reset
};

/// What steps tell the host besides their results.
struct StepFlags {
  std::uint64_t fault;      ///< kNoFault, or the lowest fault that was found; nothing is stepped then
  std::uint32_t any_ended;  ///< 1 once an episode ended; the host clears it
};
inline constexpr std::uint64_t kNoFault = ~std::uint64_t{0};
/// A fault: place << 33 | FaultKind << 32 | value. kAction: the place in the array of actions, and the action as an
/// int32 (the nearest one) or float. kEnded: an environment that waits for its reset and was stepped.
enum class FaultKind : std::uint32_t { kAction, kEnded };

/// Starts the next episode of some environments, and writes the observations of all.
struct RestartArgs {
  EnvironmentBatch environments;
  CallerArrays caller;
  const std::uint8_t* restart;  ///< [N], 1: this one; null: none
  float* observations;          ///< [N][observation dim], without padding
};

/// One step of every environment. What the caller gives and gets is row by row and without padding.
struct StepArgs {
  EnvironmentBatch environments;
  CallerArrays caller;
  Autoreset autoreset;
  ActionType action_type;  ///< not kFloat64
  const void* actions;     ///< [N], or [N][numbers per action]
  StepFlags* flags;
  float* observations;             ///< [N][observation dim]
  float* rewards;                  ///< [N]
  std::uint8_t* terminated;        ///< [N]
  std::uint8_t* truncated;         ///< [N]
  float* final_observations;       ///< [N][observation dim] or null; written where an episode ended
  float* episode_returns;          ///< [N] or null; the same
  std::uint32_t* episode_lengths;  ///< [N] or null; the same
};

/// Where layer-by-layer networks keep what lies between their kernels; fused ones do not look at it.
struct Workspace {
  float* data;
  std::int32_t columns;  ///< samples that go through a network at a time, at least 1; more take turns
};

/// What a batch of whole episodes takes besides: it has the episodes of each environment that end before all that have
/// ended are of least_steps together. Those are its first EpisodeSums::total_length steps.
struct WholeEpisodes {
  std::int32_t least_steps = 0;  ///< 0: the batch is of all steps, and the rest is null
  Control* control = nullptr;
  std::uint32_t* first_sample = nullptr;   ///< [N]: where in the batch an environment's samples begin
  std::uint32_t* first_episode = nullptr;  ///< [N]: and its episodes
  std::uint32_t* samples = nullptr;        ///< [B]: which they are, environment by environment
  float* returns = nullptr;                ///< [kReturnsRing][B], memory the host can read: of the episodes
};
inline constexpr int kReturnsRing = 4;  ///< iterations whose episodes are kept

struct RolloutArgs {
  Hyperparameters hyper;  ///< gamma discounts the value of a truncated episode's final observation
  EnvironmentBatch environments;
  EpisodeSums episodes;
  const float* parameters;
  Network actor, critic;
  std::int32_t num_steps;
  std::uint32_t truncate_at_end;  ///< 1: the last step truncates every episode
  float* records;                 ///< [B][record floats]: observation, action(s), log-probability, value, zeros
  float* rewards;      ///< [T][N]; where an episode was truncated, + gamma * V(final observation) (bootstrap_truncated)
  float* values;       ///< [T+1][N]; the last row is the value of the observation after the last step
  std::uint8_t* ends;  ///< [T][N]; 1 where the episode ended (terminated or truncated) at this step
  std::uint8_t* truncations;  ///< [T][N] or null; 1 where it was truncated (tests only)
  /// [T][N] or null: what would have been added to rewards where an episode was truncated, and 0 elsewhere.
  float* bootstraps;
  Workspace workspace;
  WholeEpisodes whole{};  ///< layer by layer only
};

/// Running mean and variance (population) in device memory. Each number is the float here and what it leaves out in
/// `rest`, so that small changes are not lost in long runs.
struct RunningStatistics {
  std::int32_t size;
  float *mean, *variance;  ///< [size]
  float* count;            ///< [1]
  float* rest;             ///< [2 size + 1]: of the means, the variances and the count
};

/// Their moments are taken of so many numbers at a time.
inline constexpr int kStatisticsTogether = 4;
/// Rows of a block's moments: the samples' count, then each number's mean and sum of squared deviations from it.
constexpr std::int32_t statistics_moments(std::int32_t size) {
  return 1 + 2 * ((size + kStatisticsTogether - 1) / kStatisticsTogether * kStatisticsTogether);
}

/// Normalises the observations in a rollout's records by the statistics before it, and then adds them to these.
struct NormalizeObservationsArgs {
  Control* control;
  RunningStatistics statistics;
  float clip;
  std::int32_t record_floats;
  float* records;                 ///< [T][N][record floats], which begin with the observation
  float* moments;                 ///< [statistics_moments(size)][gae blocks]
  std::int32_t count, num_steps;  ///< N, T
  float* running;                 ///< [kMetrics]
};

/// Follows each environment's discounted return through a rollout, and adds all of them to their statistics.
struct DiscountRewardsArgs {
  Hyperparameters hyper;
  Control* control;
  RunningStatistics statistics;
  const float* rewards;           ///< [T][N]
  const std::uint8_t* ends;       ///< [T][N]
  float* discounted_return;       ///< [N]: sum of gamma^k r_{t-k} over the episode so far; kept between rollouts
  float* moments;                 ///< [statistics_moments(1)][gae blocks]
  std::int32_t count, num_steps;  ///< N, T
  float* running;                 ///< [kMetrics]
};

/// Divides rewards by the standard deviation of discounted returns, clips them, and adds the bootstraps.
struct ScaleRewardsArgs {
  Hyperparameters hyper;
  RunningStatistics statistics;
  float* rewards;           ///< [B]
  const float* bootstraps;  ///< [B]
  std::int32_t batch_size;  ///< B
};

struct GaeArgs {
  Hyperparameters hyper;
  Control* control;                ///< advantage and target moments are left there
  const float* rewards;            ///< [T][N]
  float* values;                   ///< [T+1][N]; rows 0..T-1 are replaced by the value targets
  const std::uint8_t* ends;        ///< [T][N]
  float* advantages;               ///< [T][N]; may be the rewards array
  float* moments;                  ///< [kBatchMoments][gae blocks]
  std::int32_t count, num_steps;   ///< N, T
  const float* lengths = nullptr;  ///< [N]: how many of an environment's steps there are, the last an end; null: T
};
/// What a batch's moments are of: advantage, target, target - value.
inline constexpr int kBatchQuantities = 3;
/// Of a block's samples: their count, then each quantity's mean and sum of squared deviations from it.
inline constexpr int kBatchMoments = 1 + 2 * kBatchQuantities;

/// How one epoch's samples are drawn: position p of minibatch m is sample shuffle(m * minibatch_size + p).
struct Sampling {
  std::int32_t batch_size;  ///< B
  std::int32_t minibatch_size;
  std::uint32_t shuffled;  ///< 0: in order (full-batch iterations)
  std::uint32_t epoch;
  RngKey key;
  const std::uint32_t* samples = nullptr;  ///< of whole episodes [control->samples]: in this order; else null
};

struct AdvantageMomentsArgs {
  Sampling sampling;  ///< of epoch 0
  Control* control;
  const float* advantages;  ///< [B]
  float* moments;           ///< [moment_chunks][kChunkMoments][epochs][minibatches]
  float* scales;            ///< [epochs][minibatches][2]: mean and 1 / (standard deviation + epsilon)
  std::int32_t num_minibatches, num_epochs;
  float epsilon;  ///< norm_adv_epsilon
};
/// Of a chunk's samples: their count, mean and sum of squared deviations from it.
inline constexpr int kChunkMoments = 3;

/// Which losses an update trains.
enum class Losses : std::uint32_t { kPolicy = 1, kValue = 2, kBoth = 3 };

struct UpdateArgs {
  Sampling sampling;
  Hyperparameters hyper;
  const Control* control;
  Losses losses;
  std::int32_t minibatch;  ///< which one of the epoch
  std::int32_t partials;   ///< P: blocks per loss; each sums its tiles into one partial gradient
  const float* parameters;
  Network actor, critic;
  const float* records;     ///< [B][record floats]
  const float* advantages;  ///< [B]
  const float* targets;     ///< [B]
  const float* scales;      ///< of this epoch, from AdvantageMomentsArgs; read when norm_adv is kMinibatch
  float* gradients;         ///< [P][parameter count]; every entry of the trained networks is written
  float* sums;              ///< [kLossSums][P]
  Workspace workspace;
};
/// Sums over a block's samples, in this order.
enum LossSum { kPolicyLoss, kEntropy, kKl1, kKl3, kClipped, kValueLoss, kLossSums };

struct ReduceGradientsArgs {
  Hyperparameters hyper;
  Control* control;
  Losses losses;
  std::int32_t minibatch_size;  ///< 0: control->samples
  std::int32_t partials;
  std::int32_t parameter_count;
  std::int32_t begin, end;      ///< the range that is trained
  std::int32_t actor_end;       ///< the actor's parameters are those before it
  std::uint32_t last_of_epoch;  ///< 1: kl_stop after an epoch is looked at
  std::uint32_t decay_after;    ///< 1: the learning rates decay by epoch_lr_decay for the minibatches after this one
  const float* gradients;       ///< [P][parameter count]
  const float* sums;            ///< [kLossSums][P]
  float* gradient;              ///< [parameter count]
  float* square_sums;           ///< [reduce_blocks(end - begin)]
  AdamStep* step;
  float* running;  ///< [kMetrics], this iteration's so far: kClipFraction is a sum over kPolicyUpdates minibatches
};

struct ApplyGradientsArgs {
  Hyperparameters hyper;
  const AdamStep* step;
  const float* gradient;    ///< [parameter count]
  std::int32_t begin, end;  ///< the range that is trained
  std::int32_t actor_end;   ///< parameters before it take the actor's learning rate
  float* parameters;
  float* first_moment;
  float* second_moment;
};

struct BeginIterationArgs {
  Hyperparameters hyper;
  Control* control;
  float* running;                 ///< [kMetrics]
  std::uint64_t total_steps = 0;  ///< over which values are annealed, as control->steps counts; 0: over iterations
};

struct EndIterationArgs {
  Control* control;
  EpisodeSums episodes;
  const float* running;    ///< [kMetrics]
  IterationMetrics* ring;  ///< [kMetricsRing], memory the host can read
  std::int32_t count;
  std::int32_t batch_size = 0;  ///< 0: control->samples
};

/// Plays one whole episode in each of `episodes` environments with a frozen policy.
struct EvaluateArgs {
  const float* parameters;
  Network actor;
  std::int32_t episodes;
  std::uint32_t first_episode;  ///< episode index of the first environment, so that sets never repeat
  std::uint32_t max_episode_steps;
  std::uint32_t deterministic;  ///< 1: the policy's mode: argmax, or the mean
  float env_parameters[kMaxEnvParameters];
  RngKey key;
  float* returns;  ///< [episodes]
  float* lengths;  ///< [episodes]
  Workspace workspace;
};

/// Observations to actions with a frozen policy. Rows are without padding.
struct ActArgs {
  const float* parameters;
  Network actor;
  std::int32_t count;
  std::uint32_t call;           ///< counts calls with the same key, so that they draw differently
  std::uint32_t deterministic;  ///< 1: argmax action
  RngKey key;
  const float* observations;  ///< [count][observation dim]
  std::int64_t* choices;      ///< [count] or null
  float* numbers;             ///< [count][numbers per action] or null
  float* outputs;             ///< [count][head's outputs] or null
  Workspace workspace;
};

/// Steps environments with uniformly random actions and no policy: the simulator alone.
struct SimulateArgs {
  EnvironmentBatch environments;
  EpisodeSums episodes;
  std::int32_t num_steps;
};

/// Bytes of block storage (CUDA: dynamic shared memory) of kernels with networks.
struct KernelStorage {
  std::size_t rollout = 0, update = 0, evaluate = 0;
};

/// The launchers of one (environment, hidden width, precision). Only rollout and update differ between precisions:
/// evaluation is always fp32, which is what others will run the policy in. Layer-by-layer kernels have width 0: layers
/// of any sizes, through the matrix library of the queue, which also decides the precision, and one partial gradient.
///
/// Each pointer launches the body that is named beside it; kernel_table.hpp fills them for every machine. LayerwiseX in
/// layerwise_launch.hpp is what does the same layer by layer.
struct Kernels {
  const EnvironmentInfo* environment;
  Precision precision;
  std::int32_t width;
  std::int32_t record_floats;
  std::int32_t policy_outputs;  ///< of the actor's network

  void (*reset)(const ResetArgs&, Queue&);        ///< Reset, environment_lane.hpp
  void (*simulate)(const SimulateArgs&, Queue&);  ///< Simulate, simulate.hpp
  void (*restart)(const RestartArgs&, Queue&);    ///< RestartEnvironments, step.hpp
  void (*check_step)(const StepArgs&, Queue&);    ///< CheckStep, step.hpp: writes what is wrong into the flags
  void (*step)(const StepArgs&, Queue&);          ///< StepEnvironments, step.hpp
  void (*rollout)(const RolloutArgs&, Queue&);    ///< Rollout, rollout.hpp; LayerwiseRollout
  /// A rollout of whole episodes: fresh ones, steps [first, last) unless it has enough of them, and what is in the
  /// batch. Layer by layer only, else null.
  void (*begin_episodes)(const RolloutArgs&, Queue&);
  void (*run_episodes)(const RolloutArgs&, std::int32_t first, std::int32_t last, Queue&);
  void (*end_episodes)(const RolloutArgs&, Queue&);
  void (*update)(const UpdateArgs&, Queue&);      ///< Update, update.hpp; LayerwiseUpdate
  void (*evaluate)(const EvaluateArgs&, Queue&);  ///< Evaluate, evaluate.hpp; LayerwiseEvaluate
  void (*act)(const ActArgs&, Queue&);            ///< Act, act.hpp; LayerwiseAct

  std::int32_t update_tile;  ///< samples an update block takes at a time
  /// The most blocks per network that an update of networks of so many hidden layers should use.
  std::int32_t (*max_partials)(std::int32_t depth);
  KernelStorage (*kernel_storage)(int depth);
  /// Floats of workspace that each launcher needs, from the sizes in its arguments; pointers may be null. Layer by
  /// layer only, else null.
  std::size_t (*rollout_workspace)(const RolloutArgs&);
  std::size_t (*update_workspace)(const UpdateArgs&);
  std::size_t (*evaluate_workspace)(const EvaluateArgs&);
  std::size_t (*act_workspace)(const ActArgs&);
};

/// Bytes of block storage that the largest kernel needs at this depth.
inline std::size_t largest_block_storage(const Kernels& kernels, int depth) {
  const KernelStorage bytes = kernels.kernel_storage(depth);
  const std::size_t most = bytes.rollout > bytes.update ? bytes.rollout : bytes.update;
  return most > bytes.evaluate ? most : bytes.evaluate;
}

/// What a machine has compiled for environments. Plain data, so that a library that was compiled apart may bring one:
/// whoever takes it compares the version, which is that of all structs in this file.
struct KernelTable {
  std::uint32_t version;
  std::int32_t fused_count, layerwise_count;
  const Kernels* fused;      ///< [fused_count]
  const Kernels* layerwise;  ///< [layerwise_count], one for each environment
};
inline constexpr std::uint32_t kKernelTableVersion = 2;

/// All kernels of one machine. Those that know no environment are named as in Kernels.
struct Machine {
  const char* name;  ///< "cuda", "cpu x86-64-v4", ...
  KernelTable table;
  std::int32_t (*gae_blocks)(std::int32_t count);              ///< blocks that gae takes for so many environments
  std::int32_t (*moment_chunks)(std::int32_t minibatch_size);  ///< blocks that advantage_moments takes per minibatch
  std::int32_t (*reduce_blocks)(std::int32_t parameters);      ///< blocks that reduce_gradients takes for that many
  void (*normalize_observations)(const NormalizeObservationsArgs&,
                                 Queue&);                          ///< NormalizeObservations, normalization.hpp
  void (*discount_rewards)(const DiscountRewardsArgs&, Queue&);    ///< DiscountRewards, normalization.hpp
  void (*scale_rewards)(const ScaleRewardsArgs&, Queue&);          ///< ScaleRewards, normalization.hpp
  void (*gae)(const GaeArgs&, Queue&);                             ///< Gae, gae.hpp; EpisodeGae where there are lengths
  void (*advantage_moments)(const AdvantageMomentsArgs&, Queue&);  ///< AdvantageMoments, update.hpp
  void (*reduce_gradients)(const ReduceGradientsArgs&, Queue&);    ///< ReduceGradients, optimizer.hpp
  void (*apply_gradients)(const ApplyGradientsArgs&, Queue&);      ///< ApplyGradients, optimizer.hpp
  void (*begin_iteration)(const BeginIterationArgs&, Queue&);      ///< BeginIteration, statistics.hpp
  void (*end_iteration)(const EndIterationArgs&, Queue&);          ///< EndIteration, statistics.hpp
  /// CUDA only: in a graph, conditional node `handle` runs if neither a KL stop nor a NaN has ended the updates.
  void (*set_condition)(const Control*, std::uint64_t handle, Queue&);
};

/// The CUDA machine, or null in a build without CUDA.
const Machine* cuda_machine();

/// Whether the current CUDA device can run the CUDA machine's kernels of this precision.
bool cuda_supports(Precision precision);

/// The fused kernels for this environment, width and precision, or null.
const Kernels* find_kernels(const Machine&, const char* environment, int width, Precision precision = Precision::kFp32);

/// The layer-by-layer kernels for this environment, or null.
const Kernels* find_layerwise_kernels(const Machine&, const char* environment);

}  // namespace perilune
