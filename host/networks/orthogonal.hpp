// Random orthogonal matrices: the first weights of a layer.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

namespace perilune {

// Standard normals by Box and Muller, so that they do not depend on the standard library.
class Normals {
 public:
  explicit Normals(std::uint64_t seed) : generator_(seed) {}
  double operator()();
  // A number of [-limit, limit) instead, each as probable as the others.
  double uniform(double limit);

 private:
  std::mt19937_64 generator_;
};

// [rows, columns] whose rows (or, if there are more rows than columns, whose columns) are a random set of orthogonal
// vectors of length `gain`. The same bits on every processor and for any number of threads.
std::vector<double> random_orthogonal(std::size_t rows, std::size_t columns, double gain, Normals& normal);

}  // namespace perilune
