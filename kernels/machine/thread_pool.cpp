#include "kernels/machine/thread_pool.hpp"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

namespace perilune {

namespace {

constexpr int kSpins = 20000;  // about 30 us: longer than the gap between two launches of one minibatch

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::Shared {
  struct alignas(64) Counter {
    std::atomic<std::uint32_t> value{0};
  };
  Counter launch;    // increases with every run; its low bit is not used, all ones means stop
  Counter next;      // next task index
  Counter finished;  // workers that have left the current run
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
  Task task = nullptr;
  const void* context = nullptr;
  int count = 0;
  std::size_t storage_bytes = 0;
  std::vector<float*> storage;
  std::vector<std::thread> workers;

  void drain(int thread) {
    const auto total = static_cast<std::uint32_t>(count);
    for (;;) {
      const std::uint32_t index = next.value.fetch_add(1, std::memory_order_relaxed);
      if (index >= total) return;
      task(context, static_cast<int>(index), count, storage[static_cast<std::size_t>(thread)]);
    }
  }

  void work(int thread) {
    std::uint32_t seen = 0;
    for (;;) {
      int spins = 0;
      while (launch.value.load(std::memory_order_acquire) == seen) {
        if (++spins < kSpins) {
          relax();
        } else {
          sleepers.fetch_add(1);
          launch.value.wait(seen);
          sleepers.fetch_sub(1);
        }
      }
      seen = launch.value.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed)) return;
      drain(thread);
      finished.value.fetch_add(1, std::memory_order_release);
    }
  }
};

ThreadPool::ThreadPool(int threads, std::size_t storage_bytes) : shared_(new Shared) {
  const std::size_t rounded = (storage_bytes + 63) / 64 * 64;
  shared_->storage_bytes = rounded;
  for (int i = 0; i < threads; ++i) {
    void* memory = std::aligned_alloc(64, rounded == 0 ? 64 : rounded);
    if (memory == nullptr) throw std::bad_alloc();
    shared_->storage.push_back(static_cast<float*>(memory));
  }
  for (int i = 1; i < threads; ++i) {
    shared_->workers.emplace_back([shared = shared_.get(), i] { shared->work(i); });
  }
}

ThreadPool::~ThreadPool() {
  shared_->stop.store(true);
  shared_->launch.value.fetch_add(1, std::memory_order_release);
  shared_->launch.value.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
  for (float* memory : shared_->storage) std::free(memory);
}

void ThreadPool::run(int count, Task task, const void* context) {
  Shared& shared = *shared_;
  shared.task = task;
  shared.context = context;
  shared.count = count;
  const auto workers = static_cast<std::uint32_t>(shared.workers.size());
  if (workers == 0 || count == 1) {
    for (int i = 0; i < count; ++i) task(context, i, count, shared.storage[0]);
    return;
  }
  shared.next.value.store(0, std::memory_order_relaxed);
  shared.finished.value.store(0, std::memory_order_relaxed);
  shared.launch.value.fetch_add(1, std::memory_order_seq_cst);
  if (shared.sleepers.load(std::memory_order_seq_cst) > 0) shared.launch.value.notify_all();
  shared.drain(0);
  // A worker that lost its core to another process may take long: stop spinning and let it run.
  for (int spins = 0; shared.finished.value.load(std::memory_order_acquire) != workers; ++spins) {
    if (spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

int ThreadPool::threads() const { return static_cast<int>(shared_->workers.size()) + 1; }

std::size_t ThreadPool::storage_bytes() const { return shared_->storage_bytes; }

}  // namespace perilune
