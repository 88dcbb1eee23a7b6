// The CPU machine's grid: runs task(0..count-1) over a fixed set of threads, the caller among them.
//
// Which thread runs which task is not fixed; kernels write results by task index, so results never depend on it. Idle
// workers spin for a few tens of microseconds, because launches follow each other closely, and then sleep. A run does
// not wait for workers that come too late to find a task.
#pragma once

#include <cstddef>
#include <memory>

namespace perilune {

class ThreadPool {
 public:
  /// threads >= 1, the caller included. storage_bytes: scratch memory for each thread, aligned to 64 bytes.
  ThreadPool(int threads, std::size_t storage_bytes);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  using Task = void (*)(const void* context, int index, int count, float* storage);

  /// Calls task(context, i, count, storage of the running thread) for every i in [0, count) and returns when all are
  /// done. Callers take turns.
  void run(int count, Task task, const void* context);

  int threads() const;
  std::size_t storage_bytes() const;

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace perilune
