#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>

#include "dedupdb/dedup_db.h"
#include "dedupdb/session.h"

namespace obd::dedupdb {

/// Leases as GET_LOCK() locks of one connection that does nothing else: the server releases them when the
/// connection ends, so when the process dies. A connection would be given its own locks again, so what this
/// object holds is known here as well; other objects have other connections. A thread keeps the connection
/// busy while leases are held, or wait_timeout would end it.
///
/// Several locks for one connection: MySQL 5.7.5, MariaDB 10.0.2.
///
/// Threads: any. The connection is shared, so a server that hangs makes all of them wait, for the DSN's
/// timeouts.
class MysqlLeases {
 public:
  using Connect = std::function<std::unique_ptr<Session>()>;

  /// Locks belong to the server: `database` keeps those of different databases apart.
  MysqlLeases(std::string database, const RetryPolicy& policy, Connect connect);
  ~MysqlLeases();
  MysqlLeases(const MysqlLeases&) = delete;
  MysqlLeases& operator=(const MysqlLeases&) = delete;

  std::unique_ptr<Lease> acquire(const std::string& name, bool wait, const std::stop_token& stop);

 private:
  class HeldLease;

  std::string lock_name(const std::string& name) const;
  /// Null if it is taken. Throws like a Session.
  std::unique_ptr<Lease> try_acquire(const std::string& lock);
  bool is_held(const std::string& lock, uint64_t generation);
  void release(const std::string& lock, uint64_t generation) noexcept;
  // With mutex_ held:
  void connect_if_needed();
  void drop_connection() noexcept;
  bool server_confirms(const std::string& lock);
  void keep_alive(const std::stop_token& stop);

  const std::string database_;
  const RetryPolicy policy_;
  const Connect connect_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::unique_ptr<Session> session_;
  std::chrono::milliseconds ping_interval_{};
  /// Counts connections: a lease of an earlier one is lost.
  uint64_t generation_ = 0;
  std::set<std::string> locks_;  // that session_ holds
  std::jthread keeper_;          // started with the first lease
};

}  // namespace obd::dedupdb
