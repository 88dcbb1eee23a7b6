// A training iteration in a subject's memory, for tests that compare bits.
#pragma once

#include <cstring>
#include <map>
#include <memory>

#include "kernels/iteration.hpp"
#include "tests/kernels/environments.hpp"

namespace perilune::test {

/// A batch of whole episodes; none of them: of steps.
struct EpisodeShape {
  int environments = 0, least_steps = 0;
};

/// Machine and queue may be others than the subject's, if they share its memory.
class WholeIteration {
 public:
  static constexpr int kEnvironments = 257, kSteps = 12, kMinibatches = 3, kEpochs = 2, kMaxEpisodeSteps = 15;

  /// layerwise: the same networks layer by layer, with one partial gradient. normalized: observations and rewards.
  WholeIteration(const Subject& subject, const Machine& on, int partials, bool layerwise = false,
                 const Task& task = kCartPole, bool normalized = false, EpisodeShape episodes = {})
      : networks(place_networks(task.observations, width(subject, task), task.actions, 2, 2, Activation::kTanh,
                                task.continuous)),
        ring_(subject, kMetricsRing),
        returns_(subject, episodes.least_steps > 0 ? kReturnsRing * samples_of(episodes) : 1) {
    plan.machine = &on;
    plan.kernels = &kernels_of(on, task, layerwise ? 0 : width(subject, task), subject.precision);
    plan.hyper = plain_hyperparameters();
    plan.hyper.max_grad_norm = 0.5f;
    plan.hyper.norm_adv = Normalization::kMinibatch;
    plan.hyper.anneal_lr = Anneal::kLinear;
    plan.actor = networks.actor.network;
    plan.critic = networks.critic.network;
    plan.num_envs = kEnvironments;
    plan.num_steps = kSteps;
    plan.max_episode_steps = kMaxEpisodeSteps;
    std::copy(task.parameters.begin(), task.parameters.end(), plan.env_parameters);
    plan.key = {7, 0};
    plan.num_minibatches = kMinibatches;
    plan.update_epochs = kEpochs;
    plan.partials = partials;
    plan.workspace_columns = 500;
    plan.ring = ring_.data();
    if (normalized) place_statistics(task.observations);
    if (episodes.least_steps > 0) {
      plan.hyper.norm_adv = Normalization::kBatch;
      plan.num_envs = episodes.environments;
      plan.num_steps = rows_of(episodes);
      plan.whole_steps = episodes.least_steps;
      plan.total_steps = 10000;
      plan.num_minibatches = 1;
      plan.episode_returns = returns_.data();
    }
    take_arrays(subject);
    Draws draws(7);
    fill(plan.arrays.parameters, 0.0f);
    if (normalized) begin_statistics();
    const Vector start = networks.draw(draws);
    for (const Mlp* mlp : {&networks.actor, &networks.critic}) {
      for (int i : mlp->positions()) plan.arrays.parameters[i] = static_cast<float>(start[at(i)]);
    }
    fill(plan.arrays.first_moment, 0.0f);
    fill(plan.arrays.second_moment, 0.0f);
    control() = fresh_control();
    std::memset(static_cast<void*>(ring_.data()), 0, ring_.size() * sizeof(IterationMetrics));
  }

  void reset(Queue& queue) { plan.kernels->reset({plan.environments()}, queue); }

  /// Launches one iteration.
  void launch(Queue& queue) {
    NoScopes scopes;
    launch_iteration(plan, scopes, queue);
  }

  Control& control() { return *plan.arrays.control; }
  const IterationMetrics& metrics(std::size_t iteration) const { return ring_[iteration]; }
  /// Of an iteration's episodes, and what follows them in memory.
  const float* returns(std::size_t iteration) const {
    return returns_.data() + iteration % kReturnsRing * at(plan.batch_size());
  }
  /// The values of one of plan.arrays.
  template <class T>
  std::vector<T> copy(const T* array) const {
    return std::vector<T>(array, array + sizes_.at(array));
  }

  /// Everything that the next iteration and the user see.
  std::vector<std::uint32_t> bits() const {
    std::vector<std::uint32_t> result;
    const auto append = [&](const auto* array, std::size_t size) {
      const std::size_t from = result.size();
      result.resize(from + size * sizeof(*array) / 4);
      std::memcpy(&result[from], array, size * sizeof(*array));
    };
    const IterationArrays& arrays = plan.arrays;
    IterationArrays kept = arrays;
    for_each_kept_array(plan.sizes(), kept, [&](const ArrayInfo&, auto* array) { append(array, sizes_.at(array)); });
    for (const float* array : {arrays.records, arrays.rewards, arrays.values}) append(array, sizes_.at(array));
    append(ring_.data(), ring_.size());
    append(arrays.control, 1);
    return result;
  }

  Networks networks;
  Iteration plan{};

 private:
  static int rows_of(EpisodeShape episodes) {
    return static_cast<int>(episode_rows(episodes.least_steps, episodes.environments, kMaxEpisodeSteps));
  }
  static std::size_t samples_of(EpisodeShape episodes) { return at(rows_of(episodes)) * at(episodes.environments); }

  /// Nothing listens to phases, and what a stop ends is looked at by each kernel.
  struct NoScopes {
    int mark(Phase) const { return 0; }
    template <class F>
    void unless_stopped(Queue& queue, Control*, F&& launch) const {
      launch(queue);
    }
  };

  static int width(const Subject& subject, const Task& task) { return std::max(task.min_width, subject.min_width); }

  void place_statistics(int observations) {
    const auto place = [&](int size) {
      const int begin = plan.critic.end + plan.statistics_floats;
      plan.statistics_floats += 3 * kTensorAlignment;
      return StatisticsPlace{size, begin, begin + kTensorAlignment, begin + 2 * kTensorAlignment};
    };
    plan.actor.inputs = plan.critic.inputs = place(observations);
    plan.actor.input_clip = plan.critic.input_clip = 2.0f;
    plan.returns = place(1);
    plan.hyper.clip_reward = 0.2f;
  }
  void begin_statistics() {
    for (const StatisticsPlace& place : {plan.actor.inputs, plan.returns}) {
      std::fill_n(plan.arrays.parameters + place.variance, place.size, 1.0f);
      plan.arrays.parameters[place.count] = 1e-4f;
    }
    for (float* array : {plan.arrays.observation_rest, plan.arrays.return_rest, plan.arrays.discounted_return}) {
      fill(array, 0.0f);
    }
  }

  void take_arrays(const Subject& subject) {
    const IterationSizes sizes = plan.sizes();
    for_each_array(sizes, plan.arrays, [&]<class T>(const ArrayInfo& info, T*& array) {
      std::size_t size = 1;
      for (const std::size_t extent : info.shape) size *= extent;
      const auto memory = std::make_shared<Buffer<T>>(subject, size);
      array = memory->data();
      sizes_[array] = size;
      memory_.push_back(memory);
    });
    share_arrays(sizes, plan.arrays);
  }

  void fill(float* array, float value) { std::fill_n(array, sizes_.at(array), value); }

  Buffer<IterationMetrics> ring_;
  Buffer<float> returns_;
  std::vector<std::shared_ptr<void>> memory_;
  std::map<const void*, std::size_t> sizes_;  ///< of arrays, in elements
};

}  // namespace perilune::test
