// Rollout, update and evaluation of networks of any size: the bodies of layerwise.hpp and the products of the queue's
// matrix library, in the order in which they are launched.
#pragma once

#include "kernels/launch.hpp"
#include "kernels/layerwise.hpp"
#include "kernels/machine/matrix.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// Carves matrices out of a workspace, or, where it is null, only counts.
class WorkspaceCarver {
 public:
  explicit WorkspaceCarver(float* data) : data_(data) {}
  Matrix matrix(int rows, int columns) {
    const int stride = round_up(columns, kTensorAlignment);
    const Matrix result{data_ == nullptr ? nullptr : data_ + floats_, stride};
    floats_ += static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride);
    return result;
  }
  std::size_t floats() const { return floats_; }

 private:
  float* data_;
  std::size_t floats_ = 0;
};

/// One network's launches.
template <class Launcher>
class LayerByLayer {
 public:
  LayerByLayer(const Network& network, int inputs, int outputs, const float* parameters, Queue& queue)
      : network_(network), inputs_(inputs), outputs_(outputs), parameters_(parameters), queue_(queue) {}

  /// output = network(input); layers[0..depth) receive the hidden layers.
  void forward(Matrix input, int columns, const Matrix* layers, Matrix output) const {
    const int head = network_.depth;
    for (int l = 0; l <= head; ++l) {
      const Matrix from = l == 0 ? input : layers[l - 1], to = l == head ? output : layers[l];
      queue_.matrix->multiply({.rows = units(l),
                               .columns = columns,
                               .inner = units(l - 1),
                               .a = weight(l),
                               .a_stride = units(l - 1),
                               .b = from.data,
                               .b_stride = from.stride,
                               .c = to.data,
                               .c_stride = to.stride},
                              queue_);
      launch_rows<FinishLayer>(FinishLayerArgs{.values = to,
                                               .bias = parameters_ + network_.bias[l],
                                               .rows = units(l),
                                               .columns = columns,
                                               .hidden = l < head ? 1u : 0u,
                                               .activation = network_.activation,
                                               .output_activation = network_.output_activation});
    }
  }

  /// The gradient of every parameter, written to or added to gradient[0..parameters), given the matrices of the last
  /// forward() and now d(loss)/d(W x + b) of the head in `output`. Overwrites layers; `spare` holds one more hidden
  /// layer.
  void backward(Matrix input, int columns, const Matrix* layers, Matrix output, Matrix spare, float* gradient,
                bool accumulate) const {
    const int head = network_.depth;
    for (int l = head; l >= 0; --l) {
      const Matrix output_gradients = l == head ? output : layers[l], from = l == 0 ? input : layers[l - 1];
      launch_rows<LayerGradients>(LayerGradientsArgs{.gradients = l == head ? output : spare,
                                                     .outputs = l == head ? Matrix{nullptr, 0} : output_gradients,
                                                     .bias_gradient = gradient + network_.bias[l],
                                                     .rows = units(l),
                                                     .columns = columns,
                                                     .accumulate = accumulate ? 1u : 0u,
                                                     .activation = network_.activation});
      queue_.matrix->multiply({.rows = units(l),
                               .columns = units(l - 1),
                               .inner = columns,
                               .a = output_gradients.data,
                               .a_stride = output_gradients.stride,
                               .b = from.data,
                               .b_stride = from.stride,
                               .b_transposed = true,
                               .c = gradient + network_.weight[l],
                               .c_stride = units(l - 1),
                               .accumulate = accumulate},
                              queue_);
      if (l == 0) break;
      queue_.matrix->multiply({.rows = units(l - 1),
                               .columns = columns,
                               .inner = units(l),
                               .a = weight(l),
                               .a_stride = units(l - 1),
                               .a_transposed = true,
                               .b = output_gradients.data,
                               .b_stride = output_gradients.stride,
                               .c = spare.data,
                               .c_stride = spare.stride},
                              queue_);
    }
  }

  void clear_padding(float* gradient) const {
    launch_blocks<Launcher, ClearPadding>(ClearPaddingArgs{gradient, network_, inputs_, outputs_}, 1, queue_);
  }

 private:
  template <class K, class Args>
  void launch_rows(const Args& args) const {
    launch_blocks<Launcher, K>(args, Launcher::row_blocks(args.rows, args.columns), queue_);
  }
  /// Outputs of layer l; -1: of the observation.
  int units(int l) const { return l < 0 ? inputs_ : l == network_.depth ? outputs_ : network_.width[l]; }
  const float* weight(int l) const { return parameters_ + network_.weight[l]; }

  const Network& network_;
  int inputs_, outputs_;
  const float* parameters_;
  Queue& queue_;
};

inline int widest(const Network& network) {
  int result = 0;
  for (int l = 0; l < network.depth; ++l) {
    result = network.width[l] > result ? network.width[l] : result;
  }
  return result;
}
inline int widest(const Network& a, const Network& b) {
  const int x = widest(a), y = widest(b);
  return x > y ? x : y;
}

template <class Launcher, Env E>
class LayerwiseLaunch {
  using Seen = InterfaceOf<E>;

 public:
  static std::size_t rollout_floats(const RolloutArgs& args) { return RolloutPlan(args).floats; }
  static std::size_t update_floats(const UpdateArgs& args) { return UpdatePlan(args).floats; }
  static std::size_t evaluate_floats(const EvaluateArgs& args) { return EvaluatePlan(args).floats; }
  static std::size_t act_floats(const ActArgs& args) { return ActPlan(args).floats; }

  static void rollout(const RolloutArgs& args, Queue& queue) {
    RolloutPlan plan(args);
    launch<Launcher, LayerwiseObserve<E>>(plan.kernel, args.environments.count, queue);
    for (int t = 0; t < args.num_steps; ++t) run_step(plan, t, queue);
    finish(plan, queue);
  }

  static void begin_episodes(const RolloutArgs& args, Queue& queue) {
    launch<Launcher, LayerwiseObserve<E>>(RolloutPlan(args).kernel, args.environments.count, queue);
  }
  static void run_episodes(const RolloutArgs& args, std::int32_t first, std::int32_t last, Queue& queue) {
    RolloutPlan plan(args);
    for (int t = first; t < last && !Launcher::skips(args.whole.control, Losses::kBoth); ++t) {
      run_step(plan, t, queue);
      launch_blocks<Launcher, CountEpisodeSteps>(EpisodeStepsArgs{args, t}, 1, queue);
    }
  }
  static void end_episodes(const RolloutArgs& args, Queue& queue) {
    RolloutPlan plan(args);
    launch_blocks<Launcher, PlaceEpisodes>(args, 1, queue);
    launch<Launcher, ListEpisodes>(args, args.environments.count, queue);
    finish(plan, queue);
  }

  static void update(const UpdateArgs& args, Queue& queue) {
    if (Launcher::skips(args.control, args.losses)) return;
    UpdatePlan plan(args);
    LayerwiseUpdate& kernel = plan.kernel;
    const Layers actor(args.actor, E::kObsDim, kPolicyOutputs<E>, args.parameters, queue);
    const Layers critic(args.critic, E::kObsDim, 1, args.parameters, queue);
    // Before the losses, which add to a policy's parameters beside its network.
    if (args.losses != Losses::kValue) actor.clear_padding(args.gradients);
    if (args.losses != Losses::kPolicy) critic.clear_padding(args.gradients);
    const int most = args.sampling.minibatch_size;
    const int size = args.sampling.samples == nullptr ? most : Launcher::samples(args.control, most);
    for (kernel.first = 0; kernel.first < size; kernel.first += kernel.count) {
      const int rest = size - kernel.first;
      kernel.count = rest < plan.columns ? rest : plan.columns;
      launch<Launcher, LayerwiseGather<Seen>>(kernel, kernel.count, queue);
      if (args.losses != Losses::kValue) train<PolicyLosses>(actor, plan, queue);
      if (args.losses != Losses::kPolicy) train<ValueLosses>(critic, plan, queue);
    }
  }

  static void evaluate(const EvaluateArgs& args, Queue& queue) {
    EvaluatePlan plan(args);
    LayerwiseEvaluate& kernel = plan.kernel;
    const Layers actor(args.actor, E::kObsDim, kPolicyOutputs<E>, args.parameters, queue);
    launch<Launcher, LayerwisePlay<E>>(kernel, args.episodes, queue);
    constexpr std::uint32_t kLook = 16;  // steps between looks at how many episodes are running
    while (kernel.step < args.max_episode_steps) {
      ++kernel.step;
      infer(actor, plan.hidden, args.workspace.columns, kernel.observations, args.episodes, kernel.outputs);
      launch<Launcher, LayerwisePlay<E>>(kernel, args.episodes, queue);
      if (kernel.step % kLook != 0) continue;
      launch_blocks<Launcher, CountRunning>(kernel, 1, queue);
      if (Launcher::read(kernel.running_count, queue) == 0.0f) return;
    }
  }

  static void act(const ActArgs& args, Queue& queue) {
    ActPlan plan(args);
    LayerwiseAct& kernel = plan.kernel;
    const Layers actor(args.actor, E::kObsDim, kPolicyOutputs<E>, args.parameters, queue);
    for (kernel.first = 0; kernel.first < args.count; kernel.first += kernel.count) {
      const int rest = args.count - kernel.first;
      kernel.count = rest < args.workspace.columns ? rest : args.workspace.columns;
      launch<Launcher, LayerwiseRows<Seen>>(kernel, kernel.count, queue);
      actor.forward(kernel.observations, kernel.count, plan.hidden.layers, kernel.outputs);
      launch<Launcher, LayerwiseChoose<Seen>>(kernel, kernel.count, queue);
    }
  }

 private:
  using Layers = LayerByLayer<Launcher>;
  /// Two hidden layers in turn.
  struct InferenceLayers {
    Matrix layers[kMaxHiddenLayers];
    InferenceLayers(WorkspaceCarver& carver, int units, int columns) {
      const Matrix two[2] = {carver.matrix(units, columns), carver.matrix(units, columns)};
      for (int l = 0; l < kMaxHiddenLayers; ++l) layers[l] = two[l % 2];
    }
  };

  static void infer(const Layers& network, const InferenceLayers& hidden, int at_a_time, Matrix input, int columns,
                    Matrix output) {
    for (int first = 0; first < columns; first += at_a_time) {
      const int rest = columns - first;
      network.forward(input.columns_from(first), rest < at_a_time ? rest : at_a_time, hidden.layers,
                      output.columns_from(first));
    }
  }

  struct RolloutPlan {
    WorkspaceCarver carver;
    InferenceLayers hidden;
    LayerwiseRollout kernel{};
    std::size_t floats;

    explicit RolloutPlan(const RolloutArgs& args)
        : carver(args.workspace.data), hidden(carver, widest(args.actor, args.critic), args.workspace.columns) {
      const int count = args.environments.count;
      kernel.rollout = args;
      kernel.slots = most_truncations(args);
      kernel.group = round_up(count, kTensorAlignment);
      const int all = (kernel.slots + 1) * kernel.group;
      kernel.observations = carver.matrix(E::kObsDim, all);
      kernel.outputs = carver.matrix(kPolicyOutputs<E>, count);
      kernel.values = carver.matrix(1, all);
      kernel.truncation_steps = reinterpret_cast<std::uint32_t*>(carver.matrix(kernel.slots, kernel.group).data);
      floats = carver.floats();
    }

    /// Of one environment in a rollout, of those that are bootstrapped: at the limit, every max_episode_steps after it,
    /// and at the end.
    static int most_truncations(const RolloutArgs& args) {
      if (args.num_steps == 0 || !args.hyper.bootstrap_truncated) return 0;
      const std::uint32_t steps = static_cast<std::uint32_t>(args.num_steps);
      const std::uint32_t truncations = (steps - 1) / args.environments.max_episode_steps + 1 + args.truncate_at_end;
      return static_cast<int>(truncations < steps ? truncations : steps);
    }
  };

  static void run_step(RolloutPlan& plan, int t, Queue& queue) {
    LayerwiseRollout& kernel = plan.kernel;
    const RolloutArgs& args = kernel.rollout;
    const int count = args.environments.count;
    const Layers actor(args.actor, E::kObsDim, kPolicyOutputs<E>, args.parameters, queue);
    const Layers critic(args.critic, E::kObsDim, 1, args.parameters, queue);
    infer(actor, plan.hidden, args.workspace.columns, kernel.observations, count, kernel.outputs);
    infer(critic, plan.hidden, args.workspace.columns, kernel.observations, count, kernel.values);
    kernel.step = t;
    launch<Launcher, LayerwiseStep<E>>(kernel, count, queue);
  }
  static void finish(const RolloutPlan& plan, Queue& queue) {
    const LayerwiseRollout& kernel = plan.kernel;
    const RolloutArgs& args = kernel.rollout;
    const Layers critic(args.critic, E::kObsDim, 1, args.parameters, queue);
    infer(critic, plan.hidden, args.workspace.columns, kernel.observations, (kernel.slots + 1) * kernel.group,
          kernel.values);
    launch<Launcher, LayerwiseFinish>(kernel, args.environments.count, queue);
  }

  struct UpdatePlan {
    WorkspaceCarver carver;
    LayerwiseUpdate kernel{};
    Matrix layers[kMaxHiddenLayers], spare;
    int columns;
    std::size_t floats;

    explicit UpdatePlan(const UpdateArgs& args) : carver(args.workspace.data) {
      const int size = args.sampling.minibatch_size;
      columns = size < args.workspace.columns ? size : args.workspace.columns;
      kernel.update = args;
      kernel.observations = carver.matrix(E::kObsDim, columns);
      kernel.outputs = carver.matrix(kPolicyOutputs<E>, columns);
      for (int l = 0; l < kMaxHiddenLayers; ++l) {
        const int a = l < args.actor.depth ? args.actor.width[l] : 0;
        const int c = l < args.critic.depth ? args.critic.width[l] : 0;
        layers[l] = carver.matrix(a > c ? a : c, columns);
      }
      spare = carver.matrix(widest(args.actor, args.critic), columns);
      floats = carver.floats();
    }
  };

  template <template <class, class> class Terms>
  static void train(const Layers& network, const UpdatePlan& plan, Queue& queue) {
    const LayerwiseUpdate& kernel = plan.kernel;
    network.forward(kernel.observations, kernel.count, plan.layers, kernel.outputs);
    launch_blocks<Launcher, LayerwiseLoss<Seen, Terms>>(kernel, 1, queue);
    network.backward(kernel.observations, kernel.count, plan.layers, kernel.outputs, plan.spare,
                     kernel.update.gradients, kernel.first > 0);
  }

  struct EvaluatePlan {
    WorkspaceCarver carver;
    InferenceLayers hidden;
    LayerwiseEvaluate kernel{};
    std::size_t floats;

    explicit EvaluatePlan(const EvaluateArgs& args)
        : carver(args.workspace.data), hidden(carver, widest(args.actor), args.workspace.columns) {
      kernel.evaluate = args;
      kernel.fields = carver.matrix(E::template State<float>::kFields, args.episodes);
      kernel.running = carver.matrix(1, args.episodes).data;
      kernel.running_count = carver.matrix(1, 1).data;
      kernel.observations = carver.matrix(E::kObsDim, args.episodes);
      kernel.outputs = carver.matrix(kPolicyOutputs<E>, args.episodes);
      floats = carver.floats();
    }
  };

  struct ActPlan {
    WorkspaceCarver carver;
    InferenceLayers hidden;
    LayerwiseAct kernel{};
    std::size_t floats;

    explicit ActPlan(const ActArgs& args)
        : carver(args.workspace.data), hidden(carver, widest(args.actor), args.workspace.columns) {
      kernel.act = args;
      kernel.observations = carver.matrix(E::kObsDim, args.workspace.columns);
      kernel.outputs = carver.matrix(kPolicyOutputs<E>, args.workspace.columns);
      floats = carver.floats();
    }
  };
};

}  // namespace perilune::inline PERILUNE_LEVEL
