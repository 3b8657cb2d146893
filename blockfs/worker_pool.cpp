#include "blockfs/worker_pool.h"

#include <pthread.h>

#include "common/error.h"
#include "common/stage_group.h"

namespace obd::blockfs {

WorkerPool::WorkerPool(size_t threads) {
  OBD_CHECK(threads > 0);
  threads_.reserve(threads);
  for (size_t worker = 0; worker < threads; ++worker) {
    threads_.emplace_back([this, worker](std::stop_token stop) { run(worker, std::move(stop)); });
    OBD_CHECK(::pthread_getcpuclockid(threads_.back().native_handle(), &clocks_.emplace_back()) == 0);
  }
}

WorkerPool::~WorkerPool() {
  for (auto& thread : threads_) thread.request_stop();
  threads_.clear();
}

void WorkerPool::submit(Task task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  ready_.notify_one();
}

uint64_t WorkerPool::cpu_nanoseconds() const {
  uint64_t sum = 0;
  for (const clockid_t clock : clocks_) sum += cpu_clock_nanoseconds(clock);
  return sum;
}

void WorkerPool::run(size_t worker, std::stop_token stop) {
  ::pthread_setname_np(::pthread_self(), "compress");
  while (true) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, stop, [this] { return !tasks_.empty(); });
    if (tasks_.empty()) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task(worker);
  }
}

}  // namespace obd::blockfs
