// What lies between the matrix products of a network of any size: one small body per operation. layerwise_launch.hpp
// strings them together with the products; rollout.hpp, update.hpp and evaluate.hpp own everything that fused kernels
// share.
//
// Matrices lie as tiles do, a row per feature and a column per sample or environment, so that a lane is a column; rows
// are a multiple of kTensorAlignment floats apart. Columns between the last and that multiple hold garbage that only
// ever meets itself: every output column depends on its own input column alone.
#pragma once

#include "kernels/act.hpp"
#include "kernels/episodes.hpp"
#include "kernels/evaluate.hpp"
#include "kernels/rollout.hpp"
#include "kernels/update.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// A matrix in device memory.
struct Matrix {
  float* data;
  std::int32_t stride;  ///< floats from row to row

  PERILUNE_HD float* row(int r) const {
    return data + static_cast<std::ptrdiff_t>(r) * static_cast<std::ptrdiff_t>(stride);
  }
  PERILUNE_HD Matrix columns_from(int first) const { return {data + first, stride}; }
};

/// Calls f(first column, lane) for every lane of every group of kLanes among `columns` columns.
template <class B, class F>
PERILUNE_DEVICE void for_columns(B& block, int columns, F&& f) {
  for (int at = 0; at < columns; at += B::kLanes) {
    block.activate(columns - at < B::kLanes ? columns - at : B::kLanes);
    block.lanes([&](typename B::Lane lane) { f(at, lane); });
  }
}

template <class B, int Rows>
PERILUNE_DEVICE void load_column(const B& block, Matrix from, int first, typename B::Lane lane,
                                 typename B::Real (&to)[Rows]) {
  for (int i = 0; i < Rows; ++i) to[i] = block.load_repeated(from.row(i) + first, lane);
}
template <class B, int Rows>
PERILUNE_DEVICE void store_column(const B& block, const typename B::Real (&from)[Rows], Matrix to, int first,
                                  typename B::Lane lane) {
  for (int i = 0; i < Rows; ++i) block.store(to.row(i) + first, lane, from[i]);
}

// ---- layers: blocks share the rows ----

struct FinishLayerArgs {
  Matrix values;      ///< [rows][columns]: W x, and then the layer's output
  const float* bias;  ///< [rows]
  std::int32_t rows, columns;
  std::uint32_t hidden;  ///< 0: the head, whose activation is output_activation
  Activation activation;
  OutputActivation output_activation;
};

/// A ReLU of NaN is NaN here: what diverged must be seen behind the last layer, on every machine.
template <class Real>
PERILUNE_DEVICE Real activate_output(Real x, OutputActivation activation) {
  if (activation == OutputActivation::kTanh) return activate_value(x, Activation::kTanh);
  return activation == OutputActivation::kRelu ? select(x < Real(0.0f), Real(0.0f), x) : x;
}
/// d(loss)/d(x), given d(loss)/d(y) and y = activate_output(x).
template <class Real>
PERILUNE_DEVICE Real output_derivative(Real dy, Real y, OutputActivation activation) {
  if (activation == OutputActivation::kNone) return dy;
  return activation_derivative(dy, y, activation == OutputActivation::kTanh ? Activation::kTanh : Activation::kRelu);
}

/// y = activation(W x + b), once W x is there.
struct FinishLayer {
  static constexpr Grid kGrid = Grid::kRows;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const FinishLayerArgs& args) {
    using Real = typename B::Real;
    for (int r = block.index(); r < args.rows; r += block.count()) {
      float* row = args.values.row(r);
      const Real bias(args.bias[r]);
      for_columns(block, args.columns, [&](int at, typename B::Lane lane) {
        const Real x = block.load(row + at, lane) + bias;
        block.store(row + at, lane,
                    args.hidden != 0 ? activate_value(x, args.activation) : activate_output(x, args.output_activation));
      });
    }
  }
};

struct LayerGradientsArgs {
  Matrix gradients;      ///< [rows][columns]: d(loss)/d(output); of the head d(loss)/d(W x + b)
  Matrix outputs;        ///< replaced by d(loss)/d(W x + b); data is null for the head
  float* bias_gradient;  ///< [rows]
  std::int32_t rows, columns;
  std::uint32_t accumulate;  ///< 1: adds to bias_gradient
  Activation activation;
};

/// Backward through an activation, and the bias's gradient.
struct LayerGradients {
  static constexpr Grid kGrid = Grid::kRows;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerGradientsArgs& args) {
    for (int r = block.index(); r < args.rows; r += block.count()) run_row(block, args, r);
  }

 private:
  template <class B>
  PERILUNE_DEVICE static void run_row(B& block, const LayerGradientsArgs& args, int r) {
    using Real = typename B::Real;
    using Lane = typename B::Lane;
    const bool hidden = args.outputs.data != nullptr;
    PerLane<B, Real> sum;
    block.activate(B::kLanes);
    block.lanes([&](Lane lane) { sum[lane] = Real(0.0f); });
    for_columns(block, args.columns, [&](int at, Lane lane) {
      Real derivative = block.load(args.gradients.row(r) + at, lane);
      if (hidden) {
        float* place = args.outputs.row(r) + at;
        derivative = activation_derivative(derivative, block.load(place, lane), args.activation);
        block.store(place, lane, derivative);
      }
      sum[lane] = sum[lane] + select(block.active(lane), derivative, Real(0.0f));
    });
    block.activate(B::kLanes);
    const float total = block.sum(sum);
    block.one([&] {
      float& gradient = args.bias_gradient[r];
      gradient = args.accumulate != 0 ? gradient + total : total;
    });
  }
};

struct ClearPaddingArgs {
  float* gradient;
  Network network;
  std::int32_t inputs, outputs;
};

/// Zeroes the gradient's entries between the layers' tensors and after them, which the optimiser reads. One block.
struct ClearPadding {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const ClearPaddingArgs& args) {
    const Network& network = args.network;
    block.one([&] {
      for (int l = 0; l <= network.depth; ++l) {
        const int in = l == 0 ? args.inputs : network.width[l - 1];
        const int out = l == network.depth ? args.outputs : network.width[l];
        for (int i = network.weight[l] + out * in; i < network.bias[l]; ++i) args.gradient[i] = 0.0f;
        const int next = l == network.depth ? network.end : network.weight[l + 1];
        for (int i = network.bias[l] + out; i < next; ++i) args.gradient[i] = 0.0f;
      }
    });
  }
};

// ---- rollout: one lane per environment ----

/// Observations of an episode that a time limit truncated wait here until the critic sees them all at once after the
/// last step. A slot has room for one truncation of each environment.
struct LayerwiseRollout {
  RolloutArgs rollout;
  std::int32_t slots;
  /// [obs][(1 + slots) groups of columns]: the present ones, then each slot's; as the networks are given them.
  Matrix observations;
  Matrix outputs;                   ///< [actions][N]: of the actor
  Matrix values;                    ///< [1][as observations]
  std::uint32_t* truncation_steps;  ///< [slots][N], rows as far apart as groups: the step of the truncation, or kNoStep
  std::int32_t group;               ///< columns of a group
  std::int32_t step;
};
inline constexpr std::uint32_t kNoStep = 0xFFFFFFFFu;

template <Env E>
struct LayerwiseObserve {
  static constexpr Grid kGrid = Grid::kLanes;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseRollout& args) {
    using Real = typename B::Real;
    const EnvironmentBatch& batch = args.rollout.environments;
    const BlockRange range = block_range(block, batch.count);
    block.activate(range.count);
    const typename E::Params params = E::params(batch.parameters);
    block.lanes([&](typename B::Lane lane) {
      EnvironmentLane<E, Real> mine;
      load_environment<E>(block, batch, range.first, lane, mine);
      // After a NaN states stay as they are, for who looks for its cause.
      const bool whole = args.rollout.whole.least_steps > 0 && !is_over(args.rollout);
      if (whole) drop_episode<E>(params, batch.key, range.numbers(block, lane), mine);
      Real observation[E::kObsDim];
      E::observe(params, mine.state, observation);
      normalize_inputs(args.rollout.actor, args.rollout.parameters, observation);
      store_column(block, observation, args.observations, range.first, lane);
      for (int s = 0; s < args.slots; ++s) {
        block.store(args.truncation_steps + s * args.group + range.first, lane, UInt<Real>(kNoStep));
        store_column(block, observation, args.observations.columns_from((s + 1) * args.group), range.first, lane);
      }
      // Where nothing else will write the sums of this launch, or not at once.
      if (whole || args.rollout.num_steps == 0) {
        store_environment<E>(block, batch, args.rollout.episodes, range.first, lane, mine);
      }
    });
  }
};

template <Env E>
struct LayerwiseStep {
  static constexpr Grid kGrid = Grid::kLanes;
  /// Keeps the final observation of a truncated episode in the environment's first free slot.
  template <class B, class Real>
  PERILUNE_DEVICE static void keep(B& block, const LayerwiseRollout& args, int first, typename B::Lane lane,
                                   Mask<Real> truncated, const Real (&observation)[E::kObsDim]) {
    for (int s = 0; s < args.slots; ++s) {
      std::uint32_t* steps = args.truncation_steps + s * args.group + first;
      const UInt<Real> taken = block.load(steps, lane);
      const Mask<Real> here = truncated && taken == UInt<Real>(kNoStep);
      block.store(steps, lane, select(here, UInt<Real>(static_cast<std::uint32_t>(args.step)), taken));
      const Matrix slot = args.observations.columns_from((s + 1) * args.group);
      Real kept[E::kObsDim];
      load_column(block, slot, first, lane, kept);
      for (int i = 0; i < E::kObsDim; ++i) kept[i] = select(here, observation[i], kept[i]);
      store_column(block, kept, slot, first, lane);
      truncated = truncated && !here;
    }
  }

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseRollout& args) {
    using Real = typename B::Real;
    const RolloutArgs& rollout = args.rollout;
    if (is_over(rollout)) return;
    const EnvironmentBatch& batch = rollout.environments;
    const BlockRange range = block_range(block, batch.count);
    block.activate(range.count);
    const typename E::Params params = E::params(batch.parameters);
    const std::size_t row = static_cast<std::size_t>(args.step) * static_cast<std::size_t>(batch.count) +
                            static_cast<std::size_t>(range.first);
    const typename PolicyOf<E, Real>::Spread spread(rollout.parameters + rollout.actor.log_std);
    block.lanes([&](typename B::Lane lane) {
      EnvironmentLane<E, Real> mine;
      load_environment<E>(block, batch, range.first, lane, mine);
      if (args.step > 0) load_sums<E>(block, rollout.episodes, range.first, lane, mine);
      Inference<E, Real> inference;
      if (rollout.actor.inputs.size == 0) {
        load_column(block, args.observations, range.first, lane, inference.observation);
      } else {
        E::observe(params, mine.state, inference.observation);
      }
      load_column(block, args.outputs, range.first, lane, inference.outputs);
      inference.value = block.load_repeated(args.values.row(0) + range.first, lane);
      const RolloutStep<Real> step =
          policy_step<E>(block, rollout, params, {range, lane, args.step}, inference, spread, mine);
      Real observation[E::kObsDim];
      if (any(step.truncated)) {
        E::observe(params, mine.state, observation);
        normalize_inputs(rollout.actor, rollout.parameters, observation);
        keep(block, args, range.first, lane, step.truncated, observation);
      }
      block.store(rollout.rewards + row, lane, step.reward);
      block.store(rollout.ends + row, lane, step.ended);
      if (rollout.bootstraps != nullptr) block.store(rollout.bootstraps + row, lane, Real(0.0f));
      if (rollout.truncations != nullptr) block.store(rollout.truncations + row, lane, step.truncated);
      if (any(step.ended)) {
        next_episode<E>(params, batch.key, range.numbers(block, lane), step.ended, mine);
      }
      E::observe(params, mine.state, observation);
      normalize_inputs(rollout.actor, rollout.parameters, observation);
      store_column(block, observation, args.observations, range.first, lane);
      store_environment<E>(block, batch, rollout.episodes, range.first, lane, mine);
    });
  }
};

/// The values after the last step, and gamma * V(final observation) where an episode was truncated.
struct LayerwiseFinish {
  static constexpr Grid kGrid = Grid::kLanes;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseRollout& args) {
    using Real = typename B::Real;
    const RolloutArgs& rollout = args.rollout;
    const int count = rollout.environments.count;
    const BlockRange range = block_range(block, count);
    block.activate(range.count);
    const std::size_t last = static_cast<std::size_t>(rollout.num_steps) * static_cast<std::size_t>(count) +
                             static_cast<std::size_t>(range.first);
    block.lanes([&](typename B::Lane lane) {
      block.store(rollout.values + last, lane, block.load(args.values.data + range.first, lane));
      const UInt<Real> environment = range.numbers(block, lane);
      for (int s = 0; s < args.slots; ++s) {
        const UInt<Real> step = block.load(args.truncation_steps + s * args.group + range.first, lane);
        const Mask<Real> truncated = step < UInt<Real>(kNoStep) && block.active(lane);
        if (!any(truncated)) continue;
        const UInt<Real> index =
            select(truncated, step, UInt<Real>(0u)) * UInt<Real>(static_cast<std::uint32_t>(count)) + environment;
        const Real value = block.load(args.values.data + (s + 1) * args.group + range.first, lane);
        const Real bootstrap = Real(rollout.hyper.gamma) * value;
        float* const to = rollout.bootstraps == nullptr ? rollout.rewards : rollout.bootstraps;
        const Real reward[1] = {block.gather(to, index, lane) + select(truncated, bootstrap, Real(0.0f))};
        block.scatter_rows(to, index, lane, reward);
      }
    });
  }
};

// ---- update: one lane per sample of a chunk of the minibatch ----

struct LayerwiseUpdate {
  UpdateArgs update;
  std::int32_t first, count;  ///< the chunk's place in the minibatch
  Matrix observations;        ///< [obs][count]
  Matrix outputs;             ///< [actions or 1][count]: of the network, and then d(loss)/d(W x + b) of its head
};

PERILUNE_DEVICE int samples_of(const UpdateArgs& args) {
  return args.sampling.samples == nullptr ? args.sampling.minibatch_size : static_cast<int>(args.control->samples);
}

/// Of whole episodes there may be fewer samples than columns; those beyond stand for some sample.
template <class B>
PERILUNE_DEVICE UInt<typename B::Real> sample_index(const B& block, const SampleOrder& order,
                                                    const LayerwiseUpdate& args, int at, typename B::Lane lane) {
  using U = UInt<typename B::Real>;
  const U position = block.numbers(lane) + U(static_cast<std::uint32_t>(args.first + at));
  if (args.update.sampling.samples == nullptr) return order(args.update.minibatch, position);
  const Mask<typename B::Real> counts = position < U(args.update.control->samples);
  return select(counts, block.load(args.update.sampling.samples + args.first + at, lane), U(0u));
}

template <class I>
struct LayerwiseGather {
  static constexpr Grid kGrid = Grid::kLanes;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseUpdate& args) {
    using Real = typename B::Real;
    const BlockRange range = block_range(block, args.count);
    block.activate(range.count);
    const SampleOrder order(args.update.sampling, args.update.control->iteration);
    block.lanes([&](typename B::Lane lane) {
      Real row[Record<I>::kFloats], observation[I::kObsDim];
      block.gather_rows(args.update.records, sample_index(block, order, args, range.first, lane), lane, row);
      for (int i = 0; i < I::kObsDim; ++i) observation[i] = row[i];
      store_column(block, observation, args.observations, range.first, lane);
    });
  }
};

/// Losses of the chunk and their gradients. One block, so that the sums have one order.
template <class I, template <class, class> class TermsOf>
struct LayerwiseLoss {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseUpdate& args) {
    using Real = typename B::Real;
    using Terms = TermsOf<I, B>;
    const UpdateArgs& update = args.update;
    const SampleOrder order(update.sampling, update.control->iteration);
    block.activate(B::kLanes);
    const int samples = samples_of(update), rest = samples - args.first;
    const int count = rest < args.count ? rest > 0 ? rest : 0 : args.count;
    Terms terms(block, update, samples);
    if (count < args.count) clear_from(block, args, count, Terms::kOutputs);
    for_columns(block, count, [&](int at, typename B::Lane lane) {
      Real row[Record<I>::kFloats], output[Terms::kOutputs];
      const UInt<Real> index = sample_index(block, order, args, at, lane);
      block.gather_rows(update.records, index, lane, row);
      load_column(block, args.outputs, at, lane, output);
      Real said[Terms::kOutputs];
      for (int i = 0; i < Terms::kOutputs; ++i) said[i] = output[i];
      terms.add(lane, terms.sample(row, block.gather(Terms::per_sample(update), index, lane)), output);
      for (int i = 0; i < Terms::kOutputs; ++i) {
        output[i] = output_derivative(output[i], said[i], Terms::network(update).output_activation);
      }
      store_column(block, output, args.outputs, at, lane);
    });
    block.activate(B::kLanes);
    const auto add = [&](float& sum, float total) { block.one([&] { sum = args.first > 0 ? sum + total : total; }); };
    terms.totals([&](int which, float total) { add(update.sums[which], total); });
    terms.spread_gradients([&](int at, float derivative) { add(update.gradients[at], derivative); });
  }

 private:
  /// Columns that stand for no sample of the batch have no gradient.
  template <class B>
  PERILUNE_DEVICE static void clear_from(B& block, const LayerwiseUpdate& args, int first, int outputs) {
    using Real = typename B::Real;
    for_columns(block, args.count, [&](int at, typename B::Lane lane) {
      const UInt<Real> column = block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(at));
      const Mask<Real> beyond = column >= UInt<Real>(static_cast<std::uint32_t>(first));
      for (int i = 0; i < outputs; ++i) block.store_where(args.outputs.row(i) + at, lane, Real(0.0f), beyond);
    });
  }
};

// ---- evaluation: one lane per episode ----

struct LayerwiseEvaluate {
  EvaluateArgs evaluate;         ///< its returns and lengths are kept up to date
  Matrix fields;                 ///< [state fields][episodes]
  float* running;                ///< [episodes]: 1 until the episode is over
  float* running_count;          ///< [1]
  Matrix observations, outputs;  ///< [obs][episodes], [actions][episodes]
  std::uint32_t step;
};

template <Env E>
struct LayerwisePlay {
  static constexpr Grid kGrid = Grid::kLanes;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseEvaluate& args) {
    using Real = typename B::Real;
    const EvaluateArgs& evaluate = args.evaluate;
    const BlockRange range = block_range(block, evaluate.episodes);
    const int first = range.first;
    block.activate(range.count);
    const typename E::Params params = E::params(evaluate.env_parameters);
    const typename PolicyOf<E, Real>::Spread spread(evaluate.parameters + evaluate.actor.log_std);
    block.lanes([&](typename B::Lane lane) {
      const UInt<Real> environment = range.numbers(block, lane);
      PlayedLane<E, Real> mine;
      if (args.step == 0) {
        begin_play<E, Real>(evaluate, params, environment, block.active(lane), mine);
      } else {
        load_state<E>(block, args.fields.data, args.fields.stride, first, lane, mine.state);
        mine.total = block.load(evaluate.returns + first, lane);
        mine.length = block.load(evaluate.lengths + first, lane);
        mine.running = block.load(args.running + first, lane) > Real(0.0f);
        Real outputs[kPolicyOutputs<E>];
        load_column(block, args.outputs, first, lane, outputs);
        play_step<E, Real>(evaluate, params, environment, args.step - 1, outputs, spread, mine);
      }
      store_state<E>(block, mine.state, args.fields.data, args.fields.stride, first, lane);
      block.store(evaluate.returns + first, lane, mine.total);
      block.store(evaluate.lengths + first, lane, mine.length);
      block.store(args.running + first, lane, select(mine.running, Real(1.0f), Real(0.0f)));
      Real observation[E::kObsDim];
      E::observe(params, mine.state, observation);
      normalize_inputs(evaluate.actor, evaluate.parameters, observation);
      store_column(block, observation, args.observations, first, lane);
    });
  }
};

/// How many episodes are running. One block.
struct CountRunning {
  static constexpr Grid kGrid = Grid::kOneBlock;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseEvaluate& args) {
    using Real = typename B::Real;
    PerLane<B, Real> sum;
    block.activate(B::kLanes);
    block.lanes([&](typename B::Lane lane) { sum[lane] = Real(0.0f); });
    for_columns(block, args.evaluate.episodes,
                [&](int at, typename B::Lane lane) { sum[lane] = sum[lane] + block.load(args.running + at, lane); });
    block.activate(B::kLanes);
    const float total = block.sum(sum);
    block.one([&] { *args.running_count = total; });
  }
};

// ---- acting ----

/// Rows first .. first + count - 1 of an ActArgs.
struct LayerwiseAct {
  ActArgs act;
  std::int32_t first, count;
  Matrix observations, outputs;  ///< [obs][columns], [outputs][columns]
};

/// Lays the rows out as columns.
template <class I>
struct LayerwiseRows {
  static constexpr Grid kGrid = Grid::kLanes;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseAct& args) {
    const BlockRange range = block_range(block, args.count);
    block.activate(range.count);
    const std::ptrdiff_t row = args.first + range.first;
    block.lanes([&](typename B::Lane lane) {
      typename B::Real observation[I::kObsDim];
      block.load_row(args.act.observations + row * I::kObsDim, lane, observation);
      normalize_inputs(args.act.actor, args.act.parameters, observation);
      store_column(block, observation, args.observations, range.first, lane);
    });
  }
};

/// Chooses the rows' actions.
template <class I>
struct LayerwiseChoose {
  static constexpr Grid kGrid = Grid::kLanes;
  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const LayerwiseAct& args) {
    using Policy = PolicyOf<I, typename B::Real>;
    const BlockRange range = block_range(block, args.count);
    block.activate(range.count);
    const typename Policy::Spread spread(args.act.parameters + args.act.actor.log_std);
    block.lanes([&](typename B::Lane lane) {
      typename B::Real outputs[Policy::kOutputs];
      load_column(block, args.outputs, range.first, lane, outputs);
      act_on_rows<I>(block, args.act, spread, args.first + range.first, lane, outputs);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
