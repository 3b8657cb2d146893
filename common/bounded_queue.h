#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

#include "common/error.h"
#include "common/stop_condition.h"

namespace obd {

/// A blocking queue between two stages, bounded in bytes.
///
/// Threads: any number of producers and consumers.
/// Errors:  push() and pop() throw Cancelled once the token has been asked to stop.
template <class T>
class BoundedQueue {
 public:
  /// An item larger than `capacity_bytes` passes when the queue is empty. A consumer that found the queue
  /// empty sleeps until `wake_bytes` are there, or the queue is closed or full: to wake it for every item can
  /// cost more than what it then does.
  explicit BoundedQueue(uint64_t capacity_bytes, uint64_t wake_bytes = 0)
      : capacity_bytes_(capacity_bytes), wake_bytes_(wake_bytes) {}

  void push(T item, uint64_t bytes, std::stop_token stop) {
    std::unique_lock lock(mutex_);
    const auto fits = [&] { return items_.empty() || held_bytes_ + bytes <= capacity_bytes_; };
    if (stop.stop_requested()) throw Cancelled();
    if (!fits()) {
      ++waiting_producers_;
      filled_.notify_all();
      const bool ready = space_.wait(lock, stop, [&] { return is_drained() && fits(); });
      --waiting_producers_;
      if (!ready) throw Cancelled();
    }
    OBD_CHECK(!closed_);
    held_bytes_ += bytes;
    items_.emplace_back(std::move(item), bytes);
    const bool wakes = is_worth_waking();
    lock.unlock();
    if (wakes) filled_.notify_one();
  }

  /// The next item; none once the queue is closed and empty.
  std::optional<T> pop(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    if (stop.stop_requested()) throw Cancelled();
    if (items_.empty() && !filled_.wait(lock, stop, [&] { return is_worth_waking(); })) throw Cancelled();
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front().first));
    held_bytes_ -= items_.front().second;
    items_.pop_front();
    const bool drained = is_drained();
    lock.unlock();
    if (drained) space_.notify_all();
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
  /// A producer that found the queue full sleeps until half of it is free, likewise.
  bool is_drained() const { return held_bytes_ <= capacity_bytes_ / 2; }
  bool is_worth_waking() const {
    return closed_ || (!items_.empty() && (held_bytes_ >= wake_bytes_ || waiting_producers_ > 0));
  }

  const uint64_t capacity_bytes_;
  const uint64_t wake_bytes_;
  std::mutex mutex_;  // guards all below
  StopCondition space_;
  StopCondition filled_;
  std::deque<std::pair<T, uint64_t>> items_;
  uint64_t held_bytes_ = 0;
  size_t waiting_producers_ = 0;
  bool closed_ = false;
};

}  // namespace obd
