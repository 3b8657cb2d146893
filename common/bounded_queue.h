#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

#include "common/error.h"

namespace obd {

/// A blocking queue between two stages, bounded in bytes.
///
/// Threads: any number of producers and consumers.
/// Errors:  push() and pop() throw Cancelled once the token has been asked to stop.
template <class T>
class BoundedQueue {
 public:
  /// An item larger than `capacity_bytes` passes when the queue is empty.
  explicit BoundedQueue(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  void push(T item, uint64_t bytes, std::stop_token stop) {
    std::unique_lock lock(mutex_);
    const bool ready = space_.wait(
        lock, stop, [&] { return items_.empty() || held_bytes_ + bytes <= capacity_bytes_; });
    if (!ready || stop.stop_requested()) throw Cancelled();
    OBD_CHECK(!closed_);
    held_bytes_ += bytes;
    items_.emplace_back(std::move(item), bytes);
    lock.unlock();
    filled_.notify_one();
  }

  /// The next item; none once the queue is closed and empty.
  std::optional<T> pop(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    const bool ready = filled_.wait(lock, stop, [&] { return !items_.empty() || closed_; });
    if (!ready || stop.stop_requested()) throw Cancelled();
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front().first));
    held_bytes_ -= items_.front().second;
    items_.pop_front();
    lock.unlock();
    space_.notify_one();
    return item;
  }

  /// No more items will come.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    filled_.notify_all();
  }

 private:
  const uint64_t capacity_bytes_;
  std::mutex mutex_;  // guards all below
  std::condition_variable_any space_;
  std::condition_variable_any filled_;
  std::deque<std::pair<T, uint64_t>> items_;
  uint64_t held_bytes_ = 0;
  bool closed_ = false;
};

}  // namespace obd
