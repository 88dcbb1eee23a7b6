// One training iteration as the host launches it, from rollout to metrics, for tests that compare
// bits.
#pragma once

#include <cstring>

#include "tests/kernels/environments.hpp"

namespace perilune::test {

/// All memory of a small training run. Machine and queue may be others than the subject's, if they
/// share its memory.
class WholeIteration {
 public:
  static constexpr int kEnvironments = 257, kSteps = 12, kMinibatches = 3, kEpochs = 2;
  static constexpr int kBatch = kEnvironments * kSteps;

  /// layerwise: the same networks layer by layer, with one partial gradient.
  WholeIteration(const Subject& subject, const Machine& on, int partial_count, bool layerwise = false,
                 const Task& task = kCartPole)
      : machine(on),
        kernels(kernels_of(on, task, layerwise ? 0 : width(subject, task), subject.precision)),
        networks(place_networks(task.observations, width(subject, task), task.actions, 2, 2, Activation::kTanh,
                                task.continuous)),
        partials(partial_count),
        environments(subject, task, kEnvironments, {7, 0}, 15, task.parameters),
        records(subject, at(kBatch * kernels.record_floats)),
        rewards(subject, at(kBatch)),
        values(subject, at(kBatch + kEnvironments)),
        gae_moments(subject, at(on.gae_blocks(kEnvironments) * kBatchMoments)),
        moments(subject, at(on.moment_chunks(kBatch / kMinibatches) * kChunkMoments * kEpochs * kMinibatches)),
        scales(subject, at(kEpochs * kMinibatches * 2)),
        gradients(subject, at(partials * networks.parameter_count)),
        gradient(subject, at(networks.parameter_count)),
        square_sums(subject, at(on.reduce_blocks(networks.parameter_count))),
        sums(subject, at(partials * kLossSums)),
        parameters(subject, at(networks.parameter_count)),
        first_moment(subject, at(networks.parameter_count)),
        second_moment(subject, at(networks.parameter_count)),
        running(subject, kRunningMetrics),
        ends(subject, at(kBatch)),
        control(subject, 1),
        step(subject, 1),
        ring(subject, kMetricsRing),
        workspace(subject, layerwise ? workspace_floats() : 0) {
    Draws draws(7);
    parameters.fill(0.0f);
    const Vector start = networks.draw(draws);
    for (const Mlp* mlp : {&networks.actor, &networks.critic}) {
      for (int i : mlp->positions()) parameters[at(i)] = static_cast<float>(start[at(i)]);
    }
    first_moment.fill(0.0f);
    second_moment.fill(0.0f);
    control[0] = fresh_control();
    std::memset(static_cast<void*>(ring.data()), 0, ring.size() * sizeof(IterationMetrics));
    hyper.max_grad_norm = 0.5f;
    hyper.norm_adv = 1;
    hyper.anneal_lr = 1;
  }

  void reset(Queue& queue) { kernels.reset({environments.batch}, queue); }

  /// Launches one iteration.
  void launch(Queue& queue) {
    const Network &actor = networks.actor.network, &critic = networks.critic.network;
    const int count = networks.parameter_count;
    machine.begin_iteration({hyper, control.data(), running.data()}, queue);
    kernels.rollout({environments.batch,
                     environments.sums,
                     parameters.data(),
                     actor,
                     critic,
                     kSteps,
                     hyper.gamma,
                     0,
                     records.data(),
                     rewards.data(),
                     values.data(),
                     ends.data(),
                     nullptr,
                     {workspace.data(), kColumns}},
                    queue);
    machine.gae({control.data(), rewards.data(), values.data(), ends.data(), rewards.data(), gae_moments.data(),
                 kEnvironments, kSteps, hyper.gamma, hyper.gae_lambda, 0},
                queue);
    const auto sampling_of = [](std::uint32_t epoch) {
      return Sampling{kBatch, kBatch / kMinibatches, 1, epoch, {7, 0}};
    };
    machine.advantage_moments(
        {sampling_of(0), control.data(), rewards.data(), moments.data(), scales.data(), kMinibatches, kEpochs}, queue);
    for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
      const Sampling sampling = sampling_of(epoch);
      const float* epoch_scales = scales.data() + epoch * kMinibatches * 2;
      for (int minibatch = 0; minibatch < kMinibatches; ++minibatch) {
        const Losses both = Losses::kBoth;
        const int size = sampling.minibatch_size;
        kernels.update({sampling,
                        hyper,
                        control.data(),
                        both,
                        minibatch,
                        partials,
                        parameters.data(),
                        actor,
                        critic,
                        records.data(),
                        rewards.data(),
                        values.data(),
                        epoch_scales,
                        gradients.data(),
                        sums.data(),
                        {workspace.data(), kColumns}},
                       queue);
        const std::uint32_t last = minibatch + 1 == kMinibatches ? 1u : 0u;
        machine.reduce_gradients({hyper, control.data(), both, size, partials, count, 0, count, actor.end, last,
                                  last != 0 && epoch + 1 < kEpochs ? 1u : 0u, gradients.data(), sums.data(),
                                  gradient.data(), square_sums.data(), step.data(), running.data()},
                                 queue);
        machine.apply_gradients({hyper, step.data(), gradient.data(), 0, count, actor.end, parameters.data(),
                                 first_moment.data(), second_moment.data()},
                                queue);
      }
    }
    machine.end_iteration({control.data(), environments.sums, running.data(), ring.data(), kEnvironments}, queue);
  }

  /// Everything that the next iteration and the user see.
  std::vector<std::uint32_t> bits() const {
    std::vector<std::uint32_t> result;
    const auto append = [&](const auto& buffer) {
      const std::size_t bytes = buffer.size() * sizeof(buffer[0]);
      const std::size_t from = result.size();
      result.resize(from + bytes / 4);
      std::memcpy(&result[from], buffer.data(), bytes);
    };
    append(parameters);
    append(first_moment);
    append(second_moment);
    append(environments.fields);
    append(environments.episode);
    append(environments.elapsed);
    append(records);
    append(rewards);
    append(values);
    append(ring);
    append(control);
    return result;
  }

  const Machine& machine;
  const Kernels& kernels;
  Networks networks;
  int partials;
  Hyperparameters hyper = plain_hyperparameters();
  Environments environments;
  Buffer<float> records, rewards, values, gae_moments, moments, scales, gradients, gradient, square_sums, sums,
      parameters, first_moment, second_moment, running;
  Buffer<std::uint8_t> ends;
  Buffer<Control> control;
  Buffer<AdamStep> step;
  Buffer<IterationMetrics> ring;
  Buffer<float> workspace;

 private:
  static constexpr int kColumns = 500;

  static int width(const Subject& subject, const Task& task) { return std::max(task.min_width, subject.min_width); }

  std::size_t workspace_floats() const {
    RolloutArgs rollout{};
    rollout.environments = environments.batch;
    rollout.actor = networks.actor.network;
    rollout.critic = networks.critic.network;
    rollout.num_steps = kSteps;
    rollout.workspace.columns = kColumns;
    UpdateArgs update{};
    update.actor = rollout.actor;
    update.critic = rollout.critic;
    update.sampling.minibatch_size = kBatch / kMinibatches;
    update.workspace.columns = kColumns;
    return std::max(kernels.rollout_workspace(rollout), kernels.update_workspace(update));
  }
};

}  // namespace perilune::test
