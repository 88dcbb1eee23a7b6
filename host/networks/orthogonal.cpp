// Gram and Schmidt's method in panels: the vectors of a panel are freed of all vectors before it, each on its own and
// so on every core, and then of each other, one after the other. Only this file of host/ does arithmetic that takes
// time (2 n^3 operations: 0.6 s for 2048 x 1536 on two cores), so it is compiled for several instruction sets.
#include "host/networks/orthogonal.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <thread>

namespace perilune {

namespace {

#if defined(__x86_64__)
// Which vector registers do it changes no bit: elements are independent and products are not contracted into sums.
#define PERILUNE_FOR_EVERY_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PERILUNE_FOR_EVERY_PROCESSOR
#endif

constexpr std::size_t kPanel = 64;  // vectors
constexpr std::size_t kBlock = 16;  // vectors of the basis that stay in the L2 cache while a panel passes by
constexpr std::size_t kLanes = 32;  // partial sums of a dot product
constexpr std::size_t kLengthForThreads = 256;  // below it a thread costs more than it saves

PERILUNE_FOR_EVERY_PROCESSOR double dot(const double* a, const double* b, std::size_t length) {
  std::array<double, kLanes> sums{};
  std::size_t k = 0;
  for (; k + kLanes <= length; k += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[k + lane] * b[k + lane];
  }
  double total = 0.0;
  for (; k < length; ++k) total += a[k] * b[k];
  for (double sum : sums) total += sum;
  return total;
}

// x -= sum_j factors[j] basis[j]
PERILUNE_FOR_EVERY_PROCESSOR void subtract(double* x, const double* basis, const double* factors, std::size_t count,
                                           std::size_t length) {
  for (std::size_t j = 0; j < count; ++j) {
    const double* one = basis + j * length;
    const double factor = factors[j];
    for (std::size_t k = 0; k < length; ++k) x[k] -= factor * one[k];
  }
}

// Frees vectors [begin, end) of the orthonormal vectors [0, basis_count) of `basis`.
void project_out(const double* basis, std::size_t basis_count, double* vectors, std::size_t begin, std::size_t end,
                 std::size_t length) {
  for (std::size_t first = 0; first < basis_count; first += kBlock) {
    const std::size_t count = std::min(kBlock, basis_count - first);
    const double* block = basis + first * length;
    for (std::size_t i = begin; i < end; ++i) {
      double* x = vectors + i * length;
      std::array<double, kBlock> factors{};
      for (std::size_t j = 0; j < count; ++j) factors[j] = dot(x, block + j * length, length);
      subtract(x, block, factors.data(), count, length);
    }
  }
}

// project_out for every vector of a panel, shared by the cores.
void project_panel(double* all, std::size_t first, std::size_t count, std::size_t length) {
  const std::size_t cores = length < kLengthForThreads ? 1 : std::max(1u, std::thread::hardware_concurrency());
  const std::size_t parts = std::min(cores, count);
  const auto part = [=](std::size_t p) {
    project_out(all, first, all, first + count * p / parts, first + count * (p + 1) / parts, length);
  };
  std::vector<std::thread> threads;
  for (std::size_t p = 1; p < parts; ++p) threads.emplace_back(part, p);
  part(0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

double Normals::operator()() {
  const double u = (static_cast<double>(generator_() >> 11) + 1.0) * 0x1p-53;
  const double v = static_cast<double>(generator_() >> 11) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

double Normals::uniform(double limit) { return limit * (static_cast<double>(generator_() >> 11) * 0x1p-52 - 1.0); }

std::vector<double> random_orthogonal(std::size_t rows, std::size_t columns, double gain, Normals& normal) {
  const bool tall = rows > columns;
  const std::size_t count = tall ? columns : rows, length = tall ? rows : columns;
  std::vector<double> vectors(count * length);
  for (double& x : vectors) x = normal();
  for (std::size_t first = 0; first < count; first += kPanel) {
    const std::size_t size = std::min(kPanel, count - first);
    project_panel(vectors.data(), first, size, length);
    double* panel = &vectors[first * length];
    for (std::size_t i = 0; i < size; ++i) {
      // Twice: the first leaves an error of the second's order where a vector all but vanishes.
      for (int pass = 0; pass < 2; ++pass) project_out(panel, i, panel, i, i + 1, length);
      double* x = panel + i * length;
      const double scale = 1.0 / std::sqrt(dot(x, x, length));
      for (std::size_t k = 0; k < length; ++k) x[k] *= scale;
    }
  }
  std::vector<double> matrix(rows * columns);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      matrix[r * columns + c] = gain * (tall ? vectors[c * length + r] : vectors[r * length + c]);
    }
  }
  return matrix;
}

}  // namespace perilune
