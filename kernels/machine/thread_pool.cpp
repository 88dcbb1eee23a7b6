#include "kernels/machine/thread_pool.hpp"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <mutex>
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

// Tasks of all runs are numbered one after the other, modulo 2^32. Whoever claims a number has a task of the run that
// is going on, which cannot end before that task has, and with it nothing of what describes the run changes.
struct ThreadPool::Shared {
  template <class T>
  struct alignas(64) Apart {
    std::atomic<T> value{0};
  };
  Apart<std::uint64_t> tickets;  // the number after the last task << 32 | the next task's number
  Apart<std::uint32_t> done;     // tasks of this run that have ended
  Apart<std::uint32_t> launch;   // increases with every run: what workers wait for
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
  std::mutex caller;
  Task task = nullptr;
  const void* context = nullptr;
  int count = 0;
  std::uint32_t first = 0;  // the number of this run's first task
  std::size_t storage_bytes = 0;
  std::vector<float*> storage;
  std::vector<std::thread> workers;

  static std::uint64_t pair(std::uint32_t end, std::uint32_t next) { return std::uint64_t{end} << 32 | next; }

  void drain(int thread) {
    std::uint64_t seen = tickets.value.load(std::memory_order_acquire);
    for (;;) {
      const auto end = static_cast<std::uint32_t>(seen >> 32), next = static_cast<std::uint32_t>(seen);
      if (next == end) return;
      if (!tickets.value.compare_exchange_weak(seen, pair(end, next + 1), std::memory_order_acq_rel)) continue;
      task(context, static_cast<int>(next - first), count, storage[static_cast<std::size_t>(thread)]);
      done.value.fetch_add(1, std::memory_order_release);
      seen = tickets.value.load(std::memory_order_acquire);
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
  const std::lock_guard turn(shared.caller);
  if (shared.workers.empty() || count <= 1) {
    for (int i = 0; i < count; ++i) task(context, i, count, shared.storage[0]);
    return;
  }
  const auto total = static_cast<std::uint32_t>(count);
  shared.task = task;
  shared.context = context;
  shared.count = count;
  shared.first = static_cast<std::uint32_t>(shared.tickets.value.load(std::memory_order_relaxed));
  shared.done.value.store(0, std::memory_order_relaxed);
  shared.tickets.value.store(Shared::pair(shared.first + total, shared.first), std::memory_order_release);
  shared.launch.value.fetch_add(1, std::memory_order_seq_cst);
  if (shared.sleepers.load(std::memory_order_seq_cst) > 0) shared.launch.value.notify_all();
  shared.drain(0);
  // A worker that lost its core to another process may take long: stop spinning and let it run.
  for (int spins = 0; shared.done.value.load(std::memory_order_acquire) != total; ++spins) {
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
