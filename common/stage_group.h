#pragma once

#include <time.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace obd {

/// Threads that fail together: the first exception stops all, and join() rethrows it.
///
/// Threads: start() and join() from the owner only.
/// Errors:  a stage that throws Cancelled has not failed; if nothing else was thrown and the outer token was
///          asked to stop, join() throws Cancelled.
class StageGroup {
 public:
  /// `outer`: stopping it stops the group.
  explicit StageGroup(std::stop_token outer);
  /// Stops and joins what is still running.
  ~StageGroup();
  StageGroup(const StageGroup&) = delete;
  StageGroup& operator=(const StageGroup&) = delete;

  /// `name`: at most 15 characters, shown by debuggers and profilers.
  void start(std::string name, std::function<void(std::stop_token)> stage);
  std::stop_token token() const { return source_.get_token(); }
  /// Parks `failure` as if a stage had thrown it, and stops the group.
  void fail(std::exception_ptr failure) noexcept;
  void join();

 private:
  std::stop_source source_;
  std::stop_token outer_;
  std::stop_callback<std::function<void()>> forward_;
  std::mutex mutex_;  // guards failure_
  std::exception_ptr failure_;
  std::vector<std::jthread> threads_;
};

/// What a thread's clock shows (clock_getcpuclockid(3)): its CPU time since it started, in nanoseconds. Costs
/// a system call.
uint64_t cpu_clock_nanoseconds(clockid_t clock);
/// Likewise, of the calling thread.
inline uint64_t thread_cpu_nanoseconds() {
  return cpu_clock_nanoseconds(CLOCK_THREAD_CPUTIME_ID);
}

}  // namespace obd
