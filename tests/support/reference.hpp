// The naive double-precision reference: networks, PPO's losses, advantages and Adam, written for
// reading and straight from the formulas, one sample at a time. Shares nothing with the kernels but
// the plain structs of kernels/api.hpp.
//
// Inputs are drawn as floats (Draws), so that the reference and the kernels start from the same
// numbers. Its own gradients are checked against central differences in
// tests/kernels/reference_test.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "kernels/api.hpp"

namespace perilune::test {

using Vector = std::vector<double>;

/// Random test inputs; every number is a float, of so many significant bits.
class Draws {
 public:
  explicit Draws(std::uint64_t seed, int bits = 24) : engine_(seed), bits_(bits) {}
  float uniform(double low, double high) {
    const double unit = static_cast<double>(engine_() >> 11) * 0x1p-53;
    const double x = low + (high - low) * unit;
    int exponent;
    std::frexp(x, &exponent);
    return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(x, bits_ - exponent)), exponent - bits_));
  }
  float normal() {
    double sum = 0.0;
    for (int i = 0; i < 12; ++i) sum += uniform(-0.5, 0.5);
    return static_cast<float>(sum);
  }
  int below(int n) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(n)); }

 private:
  std::mt19937_64 engine_;
  int bits_;
};

inline std::size_t at(int i) { return static_cast<std::size_t>(i); }

/// A multilayer perceptron over a parameter array.
struct Mlp {
  Network network;
  int inputs, outputs;

  int in(int layer) const { return layer == 0 ? inputs : network.width[layer - 1]; }
  int out(int layer) const { return layer == network.depth ? outputs : network.width[layer]; }

  double output(double sum) const {
    if (network.output_activation == OutputActivation::kTanh) return std::tanh(sum);
    return network.output_activation == OutputActivation::kRelu ? std::max(0.0, sum) : sum;
  }

  /// What it is given of an observation: normalised and clipped, where it has statistics.
  Vector given(const Vector& parameters, Vector observation) const {
    for (int i = 0; i < network.inputs.size; ++i) {
      const double mean = parameters[at(network.inputs.mean + i)],
                   variance = parameters[at(network.inputs.variance + i)];
      const double limit = network.input_clip;
      observation[at(i)] = std::clamp((observation[at(i)] - mean) / std::sqrt(variance + 1e-8), -limit, limit);
    }
    return observation;
  }

  /// Every layer's output: [0] is x, back() the network's output.
  std::vector<Vector> forward(const Vector& parameters, const Vector& x) const {
    std::vector<Vector> layers = {x};
    for (int l = 0; l <= network.depth; ++l) {
      Vector y(at(out(l)));
      for (int o = 0; o < out(l); ++o) {
        double sum = parameters[at(network.bias[l] + o)];
        for (int i = 0; i < in(l); ++i) {
          sum += parameters[at(network.weight[l] + o * in(l) + i)] * layers[at(l)][at(i)];
        }
        const bool hidden = l < network.depth;
        y[at(o)] = !hidden                                   ? output(sum)
                   : network.activation == Activation::kTanh ? std::tanh(sum)
                                                             : std::max(0.0, sum);
      }
      layers.push_back(y);
    }
    return layers;
  }

  /// Distance of the nearest unit from where its activation's slope jumps, given what forward returned.
  double nearest_kink(const Vector& parameters, const std::vector<Vector>& layers) const {
    double nearest = std::numeric_limits<double>::infinity();
    const bool relu = network.activation == Activation::kRelu;
    const bool relu_outputs = network.output_activation == OutputActivation::kRelu;
    for (int l = 0; l <= network.depth; ++l) {
      if (!(l < network.depth ? relu : relu_outputs)) continue;
      for (int o = 0; o < out(l); ++o) {
        double sum = parameters[at(network.bias[l] + o)];
        for (int i = 0; i < in(l); ++i) {
          sum += parameters[at(network.weight[l] + o * in(l) + i)] * layers[at(l)][at(i)];
        }
        nearest = std::min(nearest, std::abs(sum));
      }
    }
    return nearest;
  }

  /// Adds d(loss)/d(parameter) to gradient, given what forward returned and d(loss)/d(output).
  void backward(const Vector& parameters, const std::vector<Vector>& layers, Vector slope, Vector& gradient) const {
    for (std::size_t o = 0; o < slope.size(); ++o) {
      const double y = layers.back()[o];
      if (network.output_activation == OutputActivation::kTanh) slope[o] *= 1.0 - y * y;
      if (network.output_activation == OutputActivation::kRelu) slope[o] *= y > 0.0 ? 1.0 : 0.0;
    }
    for (int l = network.depth; l >= 0; --l) {
      Vector previous(at(in(l)), 0.0);
      for (int o = 0; o < out(l); ++o) {
        gradient[at(network.bias[l] + o)] += slope[at(o)];
        for (int i = 0; i < in(l); ++i) {
          const std::size_t weight = at(network.weight[l] + o * in(l) + i);
          gradient[weight] += slope[at(o)] * layers[at(l)][at(i)];
          previous[at(i)] += slope[at(o)] * parameters[weight];
        }
      }
      if (l == 0) return;
      for (int i = 0; i < in(l); ++i) {
        const double h = layers[at(l)][at(i)];
        previous[at(i)] *= network.activation == Activation::kTanh ? 1.0 - h * h : (h > 0.0 ? 1.0 : 0.0);
      }
      slope = previous;
    }
  }

  /// Whether its outputs are the means of a Gaussian policy.
  bool is_gaussian() const { return network.log_std > 0; }
  /// The logarithms of that policy's standard deviations.
  Vector log_std(const Vector& parameters) const {
    const auto from = parameters.begin() + network.log_std;
    return Vector(from, from + outputs);
  }

  /// Positions of all its parameters; the others in [begin, end) are padding.
  std::vector<int> positions() const {
    std::vector<int> result;
    for (int l = 0; l <= network.depth; ++l) {
      const std::vector<int> layer = positions(l);
      result.insert(result.end(), layer.begin(), layer.end());
    }
    for (int i = 0; is_gaussian() && i < outputs; ++i) result.push_back(network.log_std + i);
    return result;
  }
  /// Those of one layer.
  std::vector<int> positions(int layer) const {
    std::vector<int> result;
    for (int i = 0; i < out(layer) * in(layer); ++i) result.push_back(network.weight[layer] + i);
    for (int i = 0; i < out(layer); ++i) result.push_back(network.bias[layer] + i);
    return result;
  }
};

/// An actor and a critic, one after the other in one parameter array.
struct Networks {
  Mlp actor, critic;
  int parameter_count;

  /// Random parameters; NaN in the padding, which must never matter.
  Vector draw(Draws& draws) const {
    Vector parameters(at(parameter_count), std::numeric_limits<double>::quiet_NaN());
    for (const Mlp* mlp : {&actor, &critic}) {
      for (int l = 0; l <= mlp->network.depth; ++l) {
        const double range = 1.5 / std::sqrt(static_cast<double>(l == 0 ? mlp->out(0) : mlp->in(l)));
        for (int i : mlp->positions(l)) parameters[at(i)] = draws.uniform(-range, range);
      }
    }
    for (int i = 0; actor.is_gaussian() && i < actor.outputs; ++i) {
      parameters[at(actor.network.log_std + i)] = draws.uniform(-0.5, 0.5);
    }
    return parameters;
  }
};

/// Random statistics behind the parameters, by which both networks' inputs are normalised.
inline void add_input_statistics(Networks& networks, Vector& parameters, double clip, Draws& draws) {
  const int size = networks.actor.inputs, end = static_cast<int>(parameters.size());
  const int extent = (size + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
  parameters.resize(at(end + 2 * extent), std::numeric_limits<double>::quiet_NaN());
  for (Network* network : {&networks.actor.network, &networks.critic.network}) {
    network->inputs = {.size = size, .mean = end, .variance = end + extent, .count = 0};
    network->input_clip = static_cast<float>(clip);
  }
  for (int i = 0; i < size; ++i) {
    parameters[at(end + i)] = draws.uniform(-0.1, 0.1);
    parameters[at(end + extent + i)] = draws.uniform(0.01, 0.5);
  }
}

/// Hidden layers of a network that only runs layer by layer, as tests write width 0.
inline constexpr int kOddWidths[kMaxHiddenLayers] = {7, 33, 5, 20, 9, 17, 1, 6};

/// width 0: kOddWidths.
inline Mlp place_mlp(int inputs, int width, int outputs, int depth, Activation activation, int& next) {
  Mlp mlp{{}, inputs, outputs};
  mlp.network.depth = depth;
  mlp.network.activation = activation;
  for (int l = 0; l < depth; ++l) mlp.network.width[l] = width == 0 ? kOddWidths[l] : width;
  mlp.network.begin = next;
  const auto take = [&](int count) {
    const int start = next;
    next += (count + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
    return start;
  };
  for (int l = 0; l <= depth; ++l) {
    mlp.network.weight[l] = take(mlp.out(l) * mlp.in(l));
    mlp.network.bias[l] = take(mlp.out(l));
  }
  mlp.network.end = next;
  return mlp;
}

/// gaussian: the actor is one of continuous actions.
inline Networks place_networks(int inputs, int width, int actions, int actor_depth, int critic_depth,
                               Activation activation, bool gaussian = false) {
  int next = 0;
  Networks networks{};
  networks.actor = place_mlp(inputs, width, actions, actor_depth, activation, next);
  if (gaussian) {
    networks.actor.network.log_std = next;
    next += (actions + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
    networks.actor.network.end = next;
  }
  networks.critic = place_mlp(inputs, width, 1, critic_depth, activation, next);
  networks.parameter_count = next;
  return networks;
}

inline Vector log_softmax(const Vector& logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double total = 0.0;
  for (double x : logits) total += std::exp(x - top);
  Vector result;
  for (double x : logits) result.push_back(x - top - std::log(total));
  return result;
}

/// Of independent normal numbers with these means.
inline double log_density(const Vector& means, const Vector& log_std, const Vector& numbers) {
  double sum = 0.0;
  for (std::size_t i = 0; i < means.size(); ++i) {
    const double std = std::exp(log_std[i]), x = numbers[i] - means[i];
    sum += std::log(std::exp(-x * x / (2.0 * std * std)) / (std * std::sqrt(2.0 * std::acos(-1.0))));
  }
  return sum;
}

struct Sample {
  Vector observation;
  int action;
  double old_log_probability, old_value, advantage, target;
  Vector numbers = {};  ///< the action, where it is continuous
};

struct LossSettings {
  double clip, ent_coef, vf_coef;
  bool clip_vloss;
  std::optional<double> own_value_clip = {};  ///< none: clip
  double value_clip() const { return own_value_clip.value_or(clip); }
};

/// One sample's policy loss, and d(loss - ent_coef * entropy)/d(the network's outputs).
struct PolicyLoss {
  double loss, entropy, kl1, kl3;
  bool clipped;
  double by_log_p;  ///< of the loss
  Vector gradient;
  Vector log_std_gradient;  ///< the same by the logarithms of standard deviations, where there are any
};

/// The clipped surrogate alone.
inline PolicyLoss surrogate_loss(double log_p, const Sample& sample, const LossSettings& s) {
  const double log_ratio = log_p - sample.old_log_probability;
  const double ratio = std::exp(log_ratio);
  const double clipped_ratio = std::clamp(ratio, 1.0 - s.clip, 1.0 + s.clip);
  const double plain = -sample.advantage * ratio, limited = -sample.advantage * clipped_ratio;
  // A clipped ratio is a constant; d(ratio)/d(log p) = ratio.
  return {std::max(plain, limited),
          0.0,
          -log_ratio,
          ratio - 1.0 - log_ratio,
          std::abs(ratio - 1.0) > s.clip,
          plain >= limited ? -sample.advantage * ratio : 0.0,
          {},
          {}};
}

inline PolicyLoss policy_loss(const Vector& logits, const Sample& sample, const LossSettings& s) {
  const Vector log_p = log_softmax(logits);
  PolicyLoss result = surrogate_loss(log_p[at(sample.action)], sample, s);
  for (double l : log_p) result.entropy -= std::exp(l) * l;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double p = std::exp(log_p[i]);
    const double log_p_by_logit = (static_cast<int>(i) == sample.action ? 1.0 : 0.0) - p;
    const double entropy_by_logit = -p * (log_p[i] + result.entropy);
    result.gradient.push_back(result.by_log_p * log_p_by_logit - s.ent_coef * entropy_by_logit);
  }
  return result;
}

/// Of a Gaussian policy, whose entropy is log(std sqrt(2 pi e)) in each dimension.
inline PolicyLoss gaussian_loss(const Vector& means, const Vector& log_std, const Sample& sample,
                                const LossSettings& s) {
  PolicyLoss result = surrogate_loss(log_density(means, log_std, sample.numbers), sample, s);
  for (std::size_t i = 0; i < means.size(); ++i) {
    const double std = std::exp(log_std[i]), x = sample.numbers[i] - means[i];
    result.entropy += std::log(std * std::sqrt(2.0 * std::acos(-1.0) * std::exp(1.0)));
    result.gradient.push_back(result.by_log_p * x / (std * std));
    result.log_std_gradient.push_back(result.by_log_p * (x * x / (std * std) - 1.0) - s.ent_coef);
  }
  return result;
}

/// One sample's value loss without vf_coef, and its derivative.
struct ValueLoss {
  double loss, gradient;
};

inline ValueLoss value_loss(double value, const Sample& sample, const LossSettings& s) {
  const double error = value - sample.target, moved = value - sample.old_value;
  if (s.clip_vloss && std::abs(moved) > s.value_clip()) {
    const double clipped_error = sample.old_value + std::copysign(s.value_clip(), moved) - sample.target;
    if (clipped_error * clipped_error > error * error) {
      return {0.5 * clipped_error * clipped_error, 0.0};
    }
  }
  return {0.5 * error * error, error};
}

/// Sums over the samples.
struct LossTotals {
  double policy, entropy, kl1, kl3, clipped, value;
};

/// The losses of a minibatch; adds the gradient of loss(...) below to *gradient when not null.
inline LossTotals loss_totals(const Networks& networks, const Vector& parameters, const std::vector<Sample>& samples,
                              const LossSettings& s, Vector* gradient = nullptr) {
  LossTotals sums{};
  const double n = static_cast<double>(samples.size());
  for (const Sample& sample : samples) {
    const auto actor = networks.actor.forward(parameters, sample.observation);
    const auto critic = networks.critic.forward(parameters, sample.observation);
    PolicyLoss policy = networks.actor.is_gaussian()
                            ? gaussian_loss(actor.back(), networks.actor.log_std(parameters), sample, s)
                            : policy_loss(actor.back(), sample, s);
    const ValueLoss value = value_loss(critic.back()[0], sample, s);
    sums.policy += policy.loss;
    sums.entropy += policy.entropy;
    sums.kl1 += policy.kl1;
    sums.kl3 += policy.kl3;
    sums.clipped += policy.clipped ? 1.0 : 0.0;
    sums.value += value.loss;
    if (gradient == nullptr) continue;
    for (double& slope : policy.gradient) slope /= n;
    networks.actor.backward(parameters, actor, policy.gradient, *gradient);
    for (std::size_t i = 0; i < policy.log_std_gradient.size(); ++i) {
      (*gradient)[at(networks.actor.network.log_std) + i] += policy.log_std_gradient[i] / n;
    }
    networks.critic.backward(parameters, critic, {s.vf_coef * value.gradient / n}, *gradient);
  }
  return sums;
}

inline double loss(const Networks& networks, const Vector& parameters, const std::vector<Sample>& samples,
                   const LossSettings& s) {
  const LossTotals sums = loss_totals(networks, parameters, samples, s);
  return (sums.policy - s.ent_coef * sums.entropy + s.vf_coef * sums.value) / static_cast<double>(samples.size());
}

/// df/dx by a central difference.
inline double central_difference(const std::function<double(double)>& f, double x, double step) {
  return (f(x + step) - f(x - step)) / (2.0 * step);
}

/// Random samples for these networks whose losses are smooth around them: no ratio, value or error
/// is within `margin` of where the clipping switches, and no ReLU within `kink_margin` of 0, so that rounding cannot
/// choose another branch. value_clip: the clip range of values, if it is another.
inline std::vector<Sample> draw_samples(const Networks& networks, const Vector& parameters, int count, double clip,
                                        Draws& draws, double margin = 1e-3, double kink_margin = 0.0,
                                        std::optional<double> value_clip = {}) {
  const double range = value_clip.value_or(clip);
  std::vector<Sample> samples;
  while (static_cast<int>(samples.size()) < count) {
    Sample sample{};
    for (int i = 0; i < networks.actor.inputs; ++i) {
      sample.observation.push_back(draws.uniform(-1.5, 1.5));
    }
    const auto actor = networks.actor.forward(parameters, sample.observation);
    const auto critic = networks.critic.forward(parameters, sample.observation);
    if (networks.actor.nearest_kink(parameters, actor) < kink_margin ||
        networks.critic.nearest_kink(parameters, critic) < kink_margin) {
      continue;
    }
    const double value = critic.back()[0];
    double log_p;
    if (networks.actor.is_gaussian()) {
      const Vector log_std = networks.actor.log_std(parameters);
      for (std::size_t i = 0; i < log_std.size(); ++i) {
        // Not further from the mean, where an error of the mean is multiplied.
        const double x = draws.uniform(-1.5, 1.5) * std::exp(log_std[i]);
        sample.numbers.push_back(static_cast<float>(actor.back()[i] + x));
      }
      log_p = log_density(actor.back(), log_std, sample.numbers);
    } else {
      sample.action = draws.below(networks.actor.outputs);
      log_p = log_softmax(actor.back())[at(sample.action)];
    }
    const double log_ratio = draws.uniform(-0.5, 0.5);
    sample.old_log_probability = static_cast<float>(log_p - log_ratio);
    const double moved = draws.uniform(-3.0 * range, 3.0 * range);
    sample.old_value = static_cast<float>(value - moved);
    sample.target = draws.uniform(-1.0, 1.0);
    sample.advantage = draws.normal();
    const double limited = sample.old_value + std::clamp(moved, -range, range);
    const double distance =
        std::min({std::abs(std::exp(log_ratio) - 1.0 - clip), std::abs(std::exp(log_ratio) - 1.0 + clip),
                  std::abs(std::abs(moved) - range), std::abs(value + limited - 2.0 * sample.target)});
    if (distance > margin) samples.push_back(sample);
  }
  return samples;
}

inline double mean(const Vector& x) {
  double sum = 0.0;
  for (double value : x) sum += value;
  return sum / static_cast<double>(x.size());
}

/// n - 1 in the denominator; 0 for a single value.
inline double sample_variance_of(const Vector& x) {
  const double center = mean(x);
  double sum = 0.0;
  for (double value : x) sum += (value - center) * (value - center);
  return x.size() > 1 ? sum / static_cast<double>(x.size() - 1) : 0.0;
}

/// One environment's trajectory: what happened at each step, and the value of the observation
/// before it.
struct Step {
  double reward, value;
  bool terminated, truncated;
  double final_value;  ///< of the last observation of an episode that was truncated here
};

struct Advantage {
  double advantage, discounted_return;
};

/// Generalised advantages from the definition A_t = sum_k (gamma lambda)^k delta_(t+k), and
/// discounted returns R_t = sum_k gamma^k r_(t+k), both up to the episode's end; last_value follows
/// the last step.
inline std::vector<Advantage> advantages_of(const std::vector<Step>& steps, double last_value, double gamma,
                                            double lambda) {
  const auto value_after = [&](std::size_t t) {
    if (steps[t].terminated) return 0.0;
    if (steps[t].truncated) return steps[t].final_value;
    return t + 1 < steps.size() ? steps[t + 1].value : last_value;
  };
  std::vector<Advantage> result;
  for (std::size_t start = 0; start < steps.size(); ++start) {
    Advantage sums{0.0, 0.0};
    double advantage_weight = 1.0, return_weight = 1.0;
    for (std::size_t t = start; t < steps.size(); ++t) {
      const bool end = steps[t].terminated || steps[t].truncated || t + 1 == steps.size();
      sums.advantage += advantage_weight * (steps[t].reward + gamma * value_after(t) - steps[t].value);
      sums.discounted_return += return_weight * (steps[t].reward + (end ? gamma * value_after(t) : 0.0));
      if (end) break;
      advantage_weight *= gamma * lambda;
      return_weight *= gamma;
    }
    result.push_back(sums);
  }
  return result;
}

/// Adam (Kingma and Ba 2015, algorithm 1) over a range of parameters.
struct Adam {
  double beta1, beta2, epsilon;
  int steps = 0;

  void apply(const Vector& gradient, double learning_rate, int begin, int end, Vector& parameters, Vector& first,
             Vector& second) {
    ++steps;
    for (std::size_t i = at(begin); i < at(end); ++i) {
      first[i] = beta1 * first[i] + (1.0 - beta1) * gradient[i];
      second[i] = beta2 * second[i] + (1.0 - beta2) * gradient[i] * gradient[i];
      const double m = first[i] / (1.0 - std::pow(beta1, steps));
      const double v = second[i] / (1.0 - std::pow(beta2, steps));
      parameters[i] -= learning_rate * m / (std::sqrt(v) + epsilon);
    }
  }
};

}  // namespace perilune::test
