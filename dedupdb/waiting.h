#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <utility>

#include "common/error.h"
#include "common/waiting.h"
#include "dedupdb/dedup_db.h"

namespace obd::dedupdb {

/// May go away by itself: a lost connection, a lock that others hold. Trying again is safe, as every piece of
/// work here may be done twice. Leaves the folder only as its base.
class TransientDbError : public DbError {
 public:
  using DbError::DbError;
};

/// Counts the failures of one piece of work. One thread at a time.
class Retries {
 public:
  Retries(const RetryPolicy& policy, std::stop_token stop) : policy_(policy), stop_(std::move(stop)) {}
  /// Waits, then returns true; false, at once, if it should be given up.
  [[nodiscard]] bool wait_after(const TransientDbError& error);
  int failures() const { return failures_; }
  void made_progress() { failures_ = 0; }

 private:
  RetryPolicy policy_;
  std::stop_token stop_;
  int failures_ = 0;
};

/// Between two looks at a lease that somebody else has.
inline constexpr std::chrono::milliseconds kLeasePollLeast{50};
inline constexpr std::chrono::milliseconds kLeasePollMost{200};

/// Calls `attempt` until it gives a lease. Null, after the first one, unless `wait`.
template <class Attempt>
std::unique_ptr<Lease> poll_lease(bool wait, const std::stop_token& stop, Attempt attempt) {
  for (;;) {
    if (stop.stop_requested()) throw Cancelled();
    if (std::unique_ptr<Lease> lease = attempt()) return lease;
    if (!wait) return nullptr;
    wait_for(random_delay(kLeasePollLeast, kLeasePollMost), stop);
  }
}

}  // namespace obd::dedupdb
