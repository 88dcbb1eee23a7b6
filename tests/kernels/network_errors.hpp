// How far from the reference in double the results of a machine's networks may be: a few times as far as the reference
// itself moves when its weights are off by what the machine's number formats make of them.
//
// Weights, because a number with a relative error e that is multiplied by one changes the sum as that error of the
// weight would; sizes of layers, depth, losses and derivatives then do with it what they do, without an estimate of
// ours. A hidden unit of magnitude 1 has
//   - the error of its activation: a function of its argument, so that all samples may have it alike;
//   - where factors are rounded, the error of two of them, which differs from sample to sample. Rounded to nearest
//   within a
//     relative error u, it is uniform in +-u times the power of two below the number: a root mean square of u /
//     sqrt(3), times 0.74 for mantissas between 1 and 2 as logarithms have them, is 0.42 u.
// What a sample adds to a weight's gradient is a product of two factors as well, and has the second error. To these
// comes what float sums of some ten to hundred products round, 2^-21.
#pragma once

#include <cmath>
#include <vector>

#include "tests/kernels/subject.hpp"
#include "tests/support/reference.hpp"

namespace perilune::test {

/// Relative errors of weights, as root mean squares.
struct WeightErrors {
  double common;       ///< of all samples alike
  double independent;  ///< of each sample anew
};

inline WeightErrors weight_errors(const Subject& subject, Activation activation) {
  return {std::hypot(0x1p-21, activation == Activation::kTanh ? subject.tanh_error : 0.0),
          std::sqrt(2.0) * 0.42 * subject.rounding};
}

/// Tolerances are so many standard deviations: the largest of ten thousand normal numbers is 4, and a deviation is
/// known from kTrials of them to within a fifth. Four had a network of one output too exact by a factor of five.
inline constexpr double kDeviations = 6.0;
inline constexpr std::uint64_t kTrials = 16;

/// The parameters of one trial. Those of exact results have no errors.
class Perturbed {
 public:
  Perturbed(const std::vector<const Mlp*>& networks, const Vector& parameters, WeightErrors errors, std::uint64_t seed)
      : engine_(seed), errors_(errors), common_(parameters), own_(parameters) {
    for (const Mlp* mlp : networks) {
      for (int l = 0; l <= mlp->network.depth; ++l) {
        for (const int i : mlp->positions(l)) positions_.push_back(at(i));
      }
    }
    move(common_, common_, errors.common);
  }
  /// Those of the next sample.
  const Vector& next() {
    if (errors_.independent == 0.0) return common_;
    move(common_, own_, errors_.independent);
    return own_;
  }
  /// What multiplies the gradient of the last sample.
  double factor() { return 1.0 + ((engine_() & 1u) != 0 ? errors_.independent : -errors_.independent); }

 private:
  void move(const Vector& from, Vector& to, double error) {
    std::uint64_t signs = 0;
    for (std::size_t k = 0; k < positions_.size(); ++k) {
      if (k % 64 == 0) signs = engine_();
      to[positions_[k]] = from[positions_[k]] * (1.0 + ((signs >> k % 64 & 1u) != 0 ? error : -error));
    }
  }

  std::mt19937_64 engine_;
  WeightErrors errors_;
  Vector common_, own_;
  std::vector<std::size_t> positions_;
};

/// Root mean squares of what these errors change in each of the numbers that results(Perturbed&) computes.
template <class F>
Vector deviations(const std::vector<const Mlp*>& networks, const Vector& parameters, WeightErrors errors, F results) {
  Perturbed none(networks, parameters, {0.0, 0.0}, 0);
  const Vector exact = results(none);
  Vector squares(exact.size(), 0.0);
  for (std::uint64_t trial = 0; trial < kTrials; ++trial) {
    Perturbed perturbed(networks, parameters, errors, trial);
    const Vector moved = results(perturbed);
    for (std::size_t i = 0; i < exact.size(); ++i) {
      squares[i] += (moved[i] - exact[i]) * (moved[i] - exact[i]) / double{kTrials};
    }
  }
  for (double& x : squares) x = std::sqrt(x);
  return squares;
}

inline double root_mean_square(const Vector& x) {
  double squares = 0.0;
  for (const double value : x) squares += value * value;
  return x.empty() ? 0.0 : std::sqrt(squares / static_cast<double>(x.size()));
}

/// Of one network's outputs for these observations.
inline Tolerance output_tolerance(WeightErrors errors, const Mlp& mlp, const Vector& parameters,
                                  const std::vector<Vector>& observations) {
  const std::size_t count = std::min<std::size_t>(100, observations.size());  // as many as tell the size
  const Vector moved = deviations({&mlp}, parameters, errors, [&](Perturbed& perturbed) {
    Vector outputs;
    for (std::size_t n = 0; n < count; ++n) {
      const Vector row = mlp.forward(perturbed.next(), observations[n * observations.size() / count]).back();
      outputs.insert(outputs.end(), row.begin(), row.end());
    }
    return outputs;
  });
  return {kDeviations * root_mean_square(moved), 0.0};
}

}  // namespace perilune::test
