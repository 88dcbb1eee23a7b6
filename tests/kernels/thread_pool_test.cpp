// ThreadPool: every index exactly once, launch after launch, whatever the number of threads.
#include "kernels/machine/thread_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace perilune::test {
namespace {

struct Counts {
  std::vector<std::atomic<int>> calls;
  std::atomic<int> wrong{0};
  explicit Counts(int n) : calls(static_cast<std::size_t>(n)) {}
};

void count_call(const void* context, int index, int count, float* storage) {
  Counts& counts = *const_cast<Counts*>(static_cast<const Counts*>(context));
  ++counts.calls[static_cast<std::size_t>(index)];
  if (count != static_cast<int>(counts.calls.size())) ++counts.wrong;
  if (reinterpret_cast<std::uintptr_t>(storage) % 64 != 0) ++counts.wrong;
}

void expect_each_once(ThreadPool& pool, int count) {
  Counts counts(count);
  pool.run(count, count_call, &counts);
  EXPECT_EQ(counts.wrong, 0);
  for (const std::atomic<int>& calls : counts.calls) ASSERT_EQ(calls, 1) << "of " << count;
}

TEST(ThreadPool, RunsEveryIndexOnce) {
  for (int threads = 1; threads <= 8; ++threads) {
    ThreadPool pool(threads, 256);
    EXPECT_EQ(pool.threads(), threads);
    EXPECT_GE(pool.storage_bytes(), 256u);
    for (const int count : {0, 1, 2, 3, 7, 8, 9, 1000}) expect_each_once(pool, count);
  }
}

TEST(ThreadPool, ManyLaunches) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads, 64);
    const int launches = threads <= 3 ? 300 : 30;  // spinning threads that share cores are slow
    for (int launch = 0; launch < launches; ++launch) expect_each_once(pool, 1 + launch % 11);
  }
}

TEST(ThreadPool, WakesSleepingWorkers) {
  ThreadPool pool(4, 64);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // longer than workers spin
    expect_each_once(pool, 64);
  }
}

/// A task may use its thread's storage as it likes: no two run on the same storage at once.
TEST(ThreadPool, StorageBelongsToOneTaskAtATime) {
  ThreadPool pool(4, 4096);
  std::atomic<int> clashes{0};
  const auto task = [](const void* context, int index, int, float* storage) {
    for (int i = 0; i < 1024; ++i) storage[i] = static_cast<float>(index);
    for (int i = 0; i < 1024; ++i) {
      if (storage[i] != static_cast<float>(index)) {
        ++*const_cast<std::atomic<int>*>(static_cast<const std::atomic<int>*>(context));
      }
    }
  };
  for (int launch = 0; launch < 20; ++launch) pool.run(100, task, &clashes);
  EXPECT_EQ(clashes, 0);
}

TEST(ThreadPool, CallersTakeTurns) {
  ThreadPool pool(3, 64);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&pool, caller] {
      for (int launch = 0; launch < 30; ++launch) expect_each_once(pool, 1 + (launch + caller) % 7);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(ThreadPool, CreatedAndDestroyedWithoutWork) {
  for (int threads = 1; threads <= 8; ++threads) ThreadPool pool(threads, 0);
}

}  // namespace
}  // namespace perilune::test
