#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <utility>

#include "common/error.h"
#include "common/waiting.h"

namespace obd::registry {

struct RetryPolicy {
  /// Including the first; failures with progress in between do not count together.
  int tries = 5;
  /// Doubles with each failure; a random part of up to a half is taken off, so that many clients do not
  /// return together.
  std::chrono::milliseconds first_delay{500};
  std::chrono::milliseconds max_delay{20'000};
  /// What asks by Retry-After for more than that is not tried again.
  std::chrono::milliseconds max_retry_after{60'000};
  /// No failure, but a wait too: before we look whether what others write as well (a list of referrers) is
  /// still what we wrote. Whoever takes longer from his reading to his writing can undo ours.
  std::chrono::milliseconds settle{500};

  bool operator==(const RetryPolicy&) const = default;
};

/// An answer with a status that tells of failure.
class StatusError : public NetworkError {
 public:
  StatusError(std::string message, int status, bool retryable,
              std::optional<std::chrono::milliseconds> retry_after)
      : NetworkError(std::move(message), status, retryable), retry_after_(retry_after) {}
  std::optional<std::chrono::milliseconds> retry_after() const noexcept { return retry_after_; }

 private:
  std::optional<std::chrono::milliseconds> retry_after_;
};

/// Counts the failures of one piece of work. One thread at a time.
class Retries {
 public:
  Retries(RetryPolicy policy, std::stop_token stop) : policy_(policy), stop_(std::move(stop)) {}

  /// Waits as the policy and the error say, then returns true; false, at once, if it should be given up.
  /// Throws Cancelled when the stop token fires.
  [[nodiscard]] bool wait_after(const NetworkError& error);
  /// What failed had come further than before.
  void made_progress() { failures_ = 0; }
  /// made_progress(), if `position` is beyond every one before: what starts anew makes none for a while.
  void reached(uint64_t position);

 private:
  RetryPolicy policy_;
  std::stop_token stop_;
  int failures_ = 0;
  uint64_t furthest_ = 0;
};

/// Calls `attempt` until it succeeds or should be given up; then its last error goes on.
template <class Attempt>
auto with_retries(const RetryPolicy& policy, std::stop_token stop, Attempt attempt) {
  Retries retries(policy, std::move(stop));
  for (;;) {
    try {
      return attempt();
    } catch (const NetworkError& error) {
      if (!retries.wait_after(error)) throw;
    }
  }
}

}  // namespace obd::registry
