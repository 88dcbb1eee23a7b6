// A million steps of every environment with random actions: the hash of all that is remembered between steps is the
// same on every machine, at every instruction set, with any number of threads, and the committed one.
//
// A hash that changes on all machines at once means that the simulation has changed. If that was meant, the tests of
// sims/ and tests/gymnasium say whether it is still right; the new hash is in the failure's text.
#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "kernels/machine/thread_pool.hpp"
#include "tests/kernels/environments.hpp"

namespace perilune::test {
namespace {

constexpr int kEnvironments = 512;
// Of each environment: sixteen thousand in all, a hundred thousand, and a million. The first are whole words of random
// bits.
constexpr int kSteps[] = {32, 200, 2000};

struct Flight {
  const char* id;
  TaskParameters parameters;  // as in the environment's kParameters
  std::uint32_t max_episode_steps;
  const char* hashes[3];  // after kSteps; null: that many would take a thread of fibers minutes
};

const std::vector<Flight>& flights() {
  static const std::vector<Flight> all = {
      {"CartPole-v1", {0}, 500, {"7b197925fa3c80f7", "c1da9544d05dcea0", "cc5aa89ecf5f22d1"}},
      {"LunarLander-v3", {-10, 0, 0, 0, 0}, 1000, {"b3add861e7f7eca3", "fc338d35de2532d7", "e9f6e824d7e9a455"}},
      {"LunarLander-v3", {-10, 1, 15, 1.5f, 1}, 1000, {"026b9de4274f81a8", "7d155c4a0e87cb12", "7bd375d423f11d22"}},
      {"LunarLanderContinuous-v3",
       {-10, 1, 15, 1.5f, 0},
       1000,
       {"26cf80ca3adcb6a3", "2319c3ecd2e00098", "1428f0891ce5a82f"}},
      {"BipedalWalker-v3", {}, 1600, {"bc3a1c33f7b3688a", "7b082908cff15d14", nullptr}},
      {"Lander-v0", {-10, 0, 0, 0}, 1000, {"19f3fb403f4dff15", "7b67ed2abe6ff32f", "45afbd7719ec9a61"}},
      {"LanderContinuous-v0", {-10, 1, 15, 1.5f}, 1000, {"6ad5b26641062e5f", "b68922c2c0c0d8f8", "ccd8cf4daab8bd27"}},
  };
  return all;
}

/// FNV-1a over 32-bit words (Fowler, Noll, Vo).
class Hash {
 public:
  template <class T>
  void add(const Buffer<T>& words) {
    static_assert(sizeof(T) == 4);
    for (std::size_t i = 0; i < words.size(); ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, words.data() + i, sizeof bits);
      value_ = (value_ ^ bits) * 0x100000001B3u;
    }
  }
  std::string text() const {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016" PRIx64, value_);
    return digits;
  }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325u;
};

class StateHash : public EveryMachine {
 protected:
  void fly(const Flight& flight, Queue& on) {
    const Kernels* kernels = find_layerwise_kernels(machine(), flight.id);
    ASSERT_NE(kernels, nullptr);
    const Task task{flight.id,         0, 0, static_cast<int>(kernels->environment->field_names.size()), false,
                    flight.parameters, 0};
    Environments environments(subject(), task, kEnvironments, {2026, 0}, flight.max_episode_steps, task.parameters);
    kernels->reset({environments.batch}, on);
    int parts = subject().speed == Speed::kEmulated ? 1 : 3;
#if defined(__SANITIZE_ADDRESS__)
    parts = std::min(parts, 2);  // the last one takes minutes
#endif
    int done = 0;
    for (int part = 0; part < parts && flight.hashes[part] != nullptr; ++part) {
      kernels->simulate({environments.batch, environments.sums, kSteps[part] - done}, on);
      finish();
      done = kSteps[part];
      Hash hash;
      hash.add(environments.fields);
      hash.add(environments.episode);
      hash.add(environments.elapsed);
      hash.add(environments.episode_return);
      EXPECT_EQ(hash.text(), flight.hashes[part]) << flight.id << " after " << done << " steps of each environment";
    }
  }
};

TEST_P(StateHash, IsTheSameEverywhere) {
  for (const Flight& flight : flights()) fly(flight, queue());
}

TEST_P(StateHash, DoesNotDependOnThreads) {
  if (queue().pool == nullptr) GTEST_SKIP() << "this machine has no threads";
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads, largest_block_storage(*find_layerwise_kernels(machine(), "CartPole-v1"), 1));
    Queue with_threads{.pool = &pool};
    for (const Flight& flight : flights()) fly(flight, with_threads);
  }
}

PERILUNE_ON_EVERY_MACHINE(StateHash);

}  // namespace
}  // namespace perilune::test
