#pragma once

#include <exception>
#include <utility>

namespace obd::registry {

/// Keeps exceptions from unwinding through a C library: run() parks the first, rethrow() lets it go on once
/// the library has returned. One thread at a time.
class CallbackGuard {
 public:
  /// What `body` returns, or `on_failure` if it threw.
  template <class Result, class Body>
  Result run(Result on_failure, Body&& body) noexcept {
    try {
      return std::forward<Body>(body)();
    } catch (...) {
      if (!parked_) parked_ = std::current_exception();
      return on_failure;
    }
  }
  void rethrow() const {
    if (parked_) std::rethrow_exception(parked_);
  }

 private:
  std::exception_ptr parked_;
};

}  // namespace obd::registry
