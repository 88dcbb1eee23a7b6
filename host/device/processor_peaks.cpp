// measure_processor(): what a CPU's vector units and memory give when nothing else is asked of them.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "host/device/hardware.hpp"
#include "host/device/processor.hpp"
#include "kernels/cpu_levels.hpp"

namespace perilune {

namespace {

using Clock = std::chrono::steady_clock;
constexpr double kSeconds = 0.1;

// Twelve chains hide the latency of two units of four or five clocks and still fit sixteen registers.
constexpr int kChains = 12;

// a <- a * b + c in every chain; this file is compiled with contraction, unlike all others.
struct Wide4 {
  typedef float Vector __attribute__((vector_size(16)));
};
struct Wide8 {
  typedef float Vector __attribute__((vector_size(32)));
};
struct Wide16 {
  typedef float Vector __attribute__((vector_size(64)));
};
template <class Wide>
[[gnu::always_inline]] inline void multiply_add(float* out, int repeats) {
  using Vector = typename Wide::Vector;
  Vector chains[kChains];
  for (int k = 0; k < kChains; ++k) chains[k] = Vector{} + out[k];
  const Vector factor = Vector{} + 0.5f, term = Vector{} + 0.25f;
  for (int i = 0; i < repeats; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < kChains; ++k) chains[k] = chains[k] * factor + term;
  }
  for (int k = 0; k < kChains; ++k) out[k] = chains[k][0];
}

struct MultiplyAdd {
  void (*run)(float* out, int repeats);
  int width;
};

MultiplyAdd best_multiply_add() {
#if defined(__x86_64__)
  struct Level {
    [[gnu::target("avx512f")]] static void v4(float* out, int repeats) { multiply_add<Wide16>(out, repeats); }
    [[gnu::target("avx2,fma")]] static void v3(float* out, int repeats) { multiply_add<Wide8>(out, repeats); }
  };
  if (__builtin_cpu_supports("avx512f")) return {Level::v4, 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {Level::v3, 8};
#endif
  return {[](float* out, int repeats) { multiply_add<Wide4>(out, repeats); }, 4};
}

// Runs `work` on every thread for kSeconds; calls per second by each thread's fastest call, of all threads together.
// The fastest, because a ceiling that other processes lowered would let kernels seem to reach more than all.
double calls_per_second(int threads, const std::function<void(int)>& work) {
  std::vector<double> fastest(static_cast<std::size_t>(threads), 1e30);
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      const auto seconds_since = [](Clock::time_point begin) {
        return std::chrono::duration<double>(Clock::now() - begin).count();
      };
      double& best = fastest[static_cast<std::size_t>(t)];
      for (const Clock::time_point begin = Clock::now(); seconds_since(begin) < kSeconds;) {
        const Clock::time_point call = Clock::now();
        work(t);
        best = std::min(best, seconds_since(call));
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  double total = 0.0;
  for (double seconds : fastest) total += 1.0 / seconds;
  return total;
}

}  // namespace

Hardware measure_processor(int threads) {
  constexpr int kRepeats = 20000;
  constexpr std::size_t kFloats = std::size_t{4} << 20;  // 16 MiB from and 16 MiB to, for each thread
  std::vector<std::vector<float>> sums(static_cast<std::size_t>(threads), std::vector<float>(kChains, 1.0f));
  std::vector<std::vector<float>> from(sums.size(), std::vector<float>(kFloats, 1.0f)), to = from;
  Hardware processor;
  processor.name = "this processor";
  processor.processors = threads;
  const MultiplyAdd multiply_adds = best_multiply_add();
  const double flop = 2.0 * kChains * multiply_adds.width * kRepeats;
  const double rate = flop * calls_per_second(threads, [&](int t) {
                        multiply_adds.run(sums[static_cast<std::size_t>(t)].data(), kRepeats);
                      });
  processor.flops.fill(rate);
#if defined(__x86_64__)
  // A dot-product instruction holds twice the multiply-adds of a fused one. (Not measured: where only one of the two
  // units has it, the rate is fp32's.)
  if (__builtin_cpu_supports("avx512bf16")) processor.flops[static_cast<std::size_t>(Precision::kBf16)] = 2.0 * rate;
#endif
  processor.memory = 2.0 * kFloats * sizeof(float) * calls_per_second(threads, [&](int t) {
                       const auto i = static_cast<std::size_t>(t);
                       std::copy(from[i].begin(), from[i].end(), to[i].begin());
                     });
  return processor;
}

// FLOP/s of a core with fused multiply-adds: 95 G were measured on Zen 4, 150 G on a Xeon with AVX-512, 96 G are what
// two units of AVX2 give at 3 GHz; without them, a product and a sum of four a clock.
Hardware nominal_processor(int threads) {
  Hardware processor;
  processor.name = "this processor";
  processor.processors = threads;
  const double rate = threads * (best_multiply_add().width > 4 ? 100e9 : 24e9);
  processor.flops.fill(rate);
  if (cpu_supports(Precision::kBf16) && bf16_is_faster(this_processor())) {
    processor.automatic = Precision::kBf16;
    processor.flops[static_cast<std::size_t>(Precision::kBf16)] = 2.0 * rate;
  }
  processor.memory = std::min(threads, 10) * 10e9;
  return processor;
}

}  // namespace perilune
