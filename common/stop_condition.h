#pragma once

#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace obd {

/// A condition variable whose waits end when a token fires. std::condition_variable_any can do that too, but
/// holds a lock of its own while it wakes a thread, on which that thread goes to sleep once more.
///
/// Threads: any.
class StopCondition {
 public:
  /// Waits until `ready()`, which is called with `lock` held, or until `stop` fires; returns ready(). The
  /// lock is released and taken again meanwhile, even if nobody notifies.
  template <class Ready>
  bool wait(std::unique_lock<std::mutex>& lock, const std::stop_token& stop, Ready ready) {
    while (!ready()) {
      if (stop.stop_requested()) return false;
      // The callback takes the lock, so that a thread between its last look and its sleep does not miss it;
      // it may run in its constructor, and its destructor waits for it.
      lock.unlock();
      {
        const std::stop_callback wake(stop, [&] {
          { const std::lock_guard held(*lock.mutex()); }
          condition_.notify_all();
        });
        lock.lock();
        condition_.wait(lock, [&] { return stop.stop_requested() || ready(); });
        lock.unlock();
      }
      lock.lock();
    }
    return true;
  }

  void notify_one() noexcept { condition_.notify_one(); }
  void notify_all() noexcept { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace obd
