#pragma once

#include <time.h>

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
  /// CPU time that the threads took so far.
  uint64_t cpu_nanoseconds() const;

 private:
  void run(size_t worker, std::stop_token stop);

  std::mutex mutex_;  // guards tasks_
  StopCondition ready_;
  std::deque<Task> tasks_;
  std::vector<std::jthread> threads_;
  std::vector<clockid_t> clocks_;  // of the threads
};

}  // namespace obd::blockfs
