#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

#include "dedupdb/session.h"

namespace obd::dedupdb {

/// Lends connections: one for each thread that works at the same time, at most DedupDb::kMaxConnections.
///
/// Threads: any. Must outlive what it lends.
class SessionPool {
 public:
  explicit SessionPool(Backend& backend) : backend_(backend) {}

  /// One that is lent; goes back to the pool only by give_back(), else it is closed.
  class Loan {
   public:
    explicit Loan(SessionPool& pool) : pool_(pool) {}
    ~Loan();
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;

    Session& operator*() const { return *session_; }
    void give_back();

   private:
    friend class SessionPool;
    SessionPool& pool_;
    std::unique_ptr<Session> session_;
    uint64_t generation_ = 0;
  };

  /// Waits for a free place; connects if no session is idle. Throws Cancelled, and what connecting throws.
  std::unique_ptr<Loan> take(const std::stop_token& stop);
  /// Closes those that are idle, and later those that are lent now: when one connection is lost the others
  /// that were made before probably are, too.
  void forget_all();

 private:
  Backend& backend_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable_any free_;
  std::vector<std::unique_ptr<Session>> idle_;
  size_t lent_ = 0;
  uint64_t generation_ = 0;
};

}  // namespace obd::dedupdb
