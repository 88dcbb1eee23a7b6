// Environments in a subject's memory, and one stepped by hand with the random draws that kernels
// use.
#pragma once

#include "sims/cartpole.hpp"
#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {

/// The memory of EnvironmentBatch and EpisodeSums.
class Environments {
 public:
  /// CartPoles.
  Environments(const Subject& subject, int count, RngKey key, std::uint32_t max_episode_steps = 500,
               bool sutton_barto_reward = false)
      : Environments(subject, kCartPole, count, key, max_episode_steps, {sutton_barto_reward ? 1.0f : 0.0f}) {}

  Environments(const Subject& subject, const Task& task, int count, RngKey key, std::uint32_t max_episode_steps,
               const TaskParameters& parameters)
      : fields(subject, at(task.state_fields) * at(count)),
        episode(subject, at(count)),
        elapsed(subject, at(count)),
        episode_return(subject, at(count)),
        finished(subject, at(count)),
        total_return(subject, at(count)),
        total_length(subject, at(count)) {
    batch = {fields.data(), episode.data(), elapsed.data(), episode_return.data(), count, max_episode_steps, {}, key};
    std::copy(parameters.begin(), parameters.end(), batch.parameters);
    sums = {finished.data(), total_return.data(), total_length.data()};
  }

  Buffer<float> fields;
  Buffer<std::uint32_t> episode, elapsed;
  Buffer<float> episode_return, finished, total_return, total_length;
  EnvironmentBatch batch;
  EpisodeSums sums;
};

/// One environment of a batch, stepped alone over float.
template <class E>
struct ByHandOf {
  using Action = typename E::Action::template Value<float>;
  RngKey key;
  typename E::Params params;
  std::uint32_t environment, max_episode_steps;
  std::uint32_t episode = 0, elapsed = 0;
  float episode_return = 0.0f;
  float finished = 0.0f, total_return = 0.0f, total_length = 0.0f;
  typename E::template State<float> state{};

  ByHandOf(const EnvironmentBatch& batch, int number)
      : key(batch.key),
        params(E::params(batch.parameters)),
        environment(static_cast<std::uint32_t>(number)),
        max_episode_steps(batch.max_episode_steps) {
    reset();
  }

  CounterRandom<float> random(Purpose purpose) const {
    return CounterRandom<float>(key, environment, episode, elapsed, purpose);
  }
  void reset() {
    CounterRandom<float> draws = random(Purpose::kReset);
    state = E::template reset<float>(params, draws);
  }
  /// Steps, without ending the episode.
  Outcome<float> step(const Action& action) {
    CounterRandom<float> draws = random(Purpose::kStep);
    const Outcome<float> outcome = E::step(params, state, action, draws);
    ++elapsed;
    episode_return += outcome.reward;
    return outcome;
  }
  bool out_of_time() const { return elapsed >= max_episode_steps; }
  void end_episode() {
    finished += 1.0f;
    total_return += episode_return;
    total_length += static_cast<float>(elapsed);
    episode_return = 0.0f;
    elapsed = 0;
    ++episode;
    reset();
  }
  Vector observation() const {
    float values[E::kObsDim];
    E::observe(params, state, values);
    return Vector(values, values + E::kObsDim);
  }
};
using ByHand = ByHandOf<CartPole>;

/// Every number kept between launches has the bits of the environments stepped by hand.
template <class E>
void expect_environments(const Environments& actual, const std::vector<ByHandOf<E>>& expected) {
  std::vector<float> fields(actual.fields.size()), episode_return, finished, total_return, total_length;
  std::vector<std::uint32_t> episode, elapsed;
  const std::size_t count = expected.size();
  for (std::size_t n = 0; n < count; ++n) {
    const ByHandOf<E>& one = expected[n];
    std::size_t row = 0;
    one.state.fields([&](const float& field) { fields[row++ * count + n] = field; });
    episode.push_back(one.episode);
    elapsed.push_back(one.elapsed);
    episode_return.push_back(one.episode_return);
    finished.push_back(one.finished);
    total_return.push_back(one.total_return);
    total_length.push_back(one.total_length);
  }
  expect_same_bits("state", actual.fields.copy(), fields);
  expect_same_bits("episode", actual.episode.copy(), episode);
  expect_same_bits("elapsed", actual.elapsed.copy(), elapsed);
  expect_same_bits("episode return", actual.episode_return.copy(), episode_return);
  expect_same_bits("finished", actual.finished.copy(), finished);
  expect_same_bits("total return", actual.total_return.copy(), total_return);
  expect_same_bits("total length", actual.total_length.copy(), total_length);
}

}  // namespace perilune::test
