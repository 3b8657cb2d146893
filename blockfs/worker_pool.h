#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "common/stop_condition.h"

namespace obd::blockfs {

/// A fixed number of threads for work that needs nothing but a CPU. Shared by all writers of a process.
///
/// Threads: submit() from anywhere.
/// Errors:  a task must not throw.
class WorkerPool {
 public:
  /// Receives the number of the worker that runs it, below size().
  using Task = std::function<void(size_t worker)>;

  explicit WorkerPool(size_t threads);
  /// Runs what was submitted, then joins.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  size_t size() const { return threads_.size(); }
  void submit(Task task);
  /// CPU time that the tasks took so far, in nanoseconds.
  uint64_t cpu_nanoseconds() const { return cpu_nanoseconds_; }

 private:
  void run(size_t worker, std::stop_token stop);

  std::mutex mutex_;  // guards tasks_
  StopCondition ready_;
  std::deque<Task> tasks_;
  std::atomic<uint64_t> cpu_nanoseconds_{0};
  std::vector<std::jthread> threads_;
};

}  // namespace obd::blockfs
