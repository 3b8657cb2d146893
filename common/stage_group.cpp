#include "common/stage_group.h"

#include <pthread.h>

#include "common/error.h"

namespace obd {

StageGroup::StageGroup(std::stop_token outer)
    : outer_(std::move(outer)), forward_(outer_, [this] { source_.request_stop(); }) {}

StageGroup::~StageGroup() {
  source_.request_stop();
  threads_.clear();
}

void StageGroup::start(std::string name, std::function<void(std::stop_token)> stage) {
  threads_.emplace_back([this, name = std::move(name), stage = std::move(stage)] {
    ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
    try {
      stage(source_.get_token());
    } catch (const Cancelled&) {
      source_.request_stop();
    } catch (...) {
      fail(std::current_exception());
    }
  });
}

void StageGroup::fail(std::exception_ptr failure) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(failure);
  }
  source_.request_stop();
}

void StageGroup::join() {
  for (std::jthread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  threads_.clear();
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (outer_.stop_requested() || source_.stop_requested()) throw Cancelled();
}

uint64_t cpu_clock_nanoseconds(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace obd
