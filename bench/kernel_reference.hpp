// What the kernels that bench_kernels times should have computed, in double and as plainly as possible. No tile, no
// lane, no order of sums is shared with them.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/api.hpp"

namespace perilune::reference {

using Vector = std::vector<double>;

// The activations of one network for one observation: layer 0 is the observation, the last the head's output.
inline std::vector<Vector> forward(const float* parameters, const Network& network, const std::vector<int>& sizes,
                                   const float* observation) {
  std::vector<Vector> layers = {Vector(observation, observation + sizes[0])};
  for (int l = 0; l <= network.depth; ++l) {
    const auto in = static_cast<std::size_t>(sizes[static_cast<std::size_t>(l)]);
    const auto out = static_cast<std::size_t>(sizes[static_cast<std::size_t>(l) + 1]);
    const float* weight = parameters + network.weight[l];
    const float* bias = parameters + network.bias[l];
    Vector next(out);
    for (std::size_t o = 0; o < out; ++o) {
      double sum = bias[o];
      for (std::size_t i = 0; i < in; ++i) sum += static_cast<double>(weight[o * in + i]) * layers.back()[i];
      next[o] = l < network.depth ? std::tanh(sum) : sum;
    }
    layers.push_back(next);
  }
  return layers;
}

// Adds the gradient of a loss with this slope at the head's output.
inline void add_gradient(const float* parameters, const Network& network, const std::vector<Vector>& layers,
                         Vector slope, Vector& gradient) {
  for (int l = network.depth; l >= 0; --l) {
    const Vector& input = layers[static_cast<std::size_t>(l)];
    const float* weight = parameters + network.weight[l];
    Vector before(input.size(), 0.0);
    for (std::size_t o = 0; o < slope.size(); ++o) {
      for (std::size_t i = 0; i < input.size(); ++i) {
        gradient[static_cast<std::size_t>(network.weight[l]) + o * input.size() + i] += slope[o] * input[i];
        before[i] += slope[o] * static_cast<double>(weight[o * input.size() + i]);
      }
      gradient[static_cast<std::size_t>(network.bias[l]) + o] += slope[o];
    }
    for (std::size_t i = 0; i < input.size(); ++i) before[i] *= 1.0 - input[i] * input[i];  // of tanh
    slope = before;
  }
}

inline Vector softmax(const Vector& logits) {
  double sum = 0.0;
  Vector p;
  for (double x : logits) p.push_back(std::exp(x - logits[0]));
  for (double x : p) sum += x;
  for (double& x : p) x /= sum;
  return p;
}

// Advantages [T][N] and value targets [T][N] by the recurrence of kernels/gae.hpp.
inline void advantages(const std::vector<float>& rewards, const std::vector<float>& values,
                       const std::vector<std::uint8_t>& ends, std::size_t envs, std::size_t steps, double gamma,
                       double lambda, Vector& advantage, Vector& target) {
  advantage.assign(envs * steps, 0.0);
  target = advantage;
  for (std::size_t n = 0; n < envs; ++n) {
    double next_value = values[steps * envs + n], carried = 0.0;
    for (std::size_t t = steps; t-- > 0;) {
      const std::size_t i = t * envs + n;
      const double goes_on = ends[i] != 0 ? 0.0 : 1.0;
      carried = rewards[i] + gamma * goes_on * next_value - values[i] + gamma * lambda * goes_on * carried;
      advantage[i] = carried;
      target[i] = carried + values[i];
      next_value = values[i];
    }
  }
}

// sqrt(sum (a - b)^2 / sum b^2).
template <class A>
double relative_distance(const A& a, const Vector& b) {
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return size > 0.0 ? std::sqrt(difference / size) : std::sqrt(difference);
}

}  // namespace perilune::reference
