#include "dedupdb/mysql_leases.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "common/digest.h"
#include "common/error.h"
#include "common/log.h"
#include "dedupdb/waiting.h"

namespace obd::dedupdb {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLongestPingInterval{20'000};  // firewalls forget a silent connection
constexpr milliseconds kShortestPingInterval{300};

/// A third of what the server allows a connection to be silent.
milliseconds ping_interval(Session& session) {
  const std::string text = session.query("SELECT @@SESSION.wait_timeout", {}).at(0).at(0);
  int64_t seconds = 0;
  std::from_chars(text.data(), text.data() + text.size(), seconds);
  return std::clamp(milliseconds(seconds * 1000 / 3), kShortestPingInterval, kLongestPingInterval);
}

}  // namespace

class MysqlLeases::HeldLease : public Lease {
 public:
  HeldLease(MysqlLeases& leases, std::string lock, uint64_t generation)
      : leases_(leases), lock_(std::move(lock)), generation_(generation) {}
  ~HeldLease() override { leases_.release(lock_, generation_); }
  HeldLease(const HeldLease&) = delete;
  HeldLease& operator=(const HeldLease&) = delete;

  bool held() override { return leases_.is_held(lock_, generation_); }

 private:
  MysqlLeases& leases_;
  const std::string lock_;
  const uint64_t generation_;
};

MysqlLeases::MysqlLeases(std::string database, const RetryPolicy& policy, Connect connect)
    : database_(std::move(database)), policy_(policy), connect_(std::move(connect)) {}

MysqlLeases::~MysqlLeases() {
  keeper_.request_stop();
  if (keeper_.joinable()) keeper_.join();
}

std::string MysqlLeases::lock_name(const std::string& name) const {
  // A lock's name has at most 64 characters.
  return fmt::format("obd-{}", Digest::of(database_ + '\0' + name).hex().substr(0, 56));
}

std::unique_ptr<Lease> MysqlLeases::acquire(const std::string& name, bool wait, const std::stop_token& stop) {
  const std::string lock = lock_name(name);
  Retries retries(policy_, stop);
  return poll_lease(wait, stop, [&]() -> std::unique_ptr<Lease> {
    for (;;) {
      try {
        auto lease = try_acquire(lock);
        // A long wait may see several outages, each with all its tries.
        retries.made_progress();
        return lease;
      } catch (const TransientDbError& error) {
        if (!retries.wait_after(error)) {
          throw DbError(fmt::format("{} (tried {} times)", error.what(), retries.failures()));
        }
      }
    }
  });
}

std::unique_ptr<Lease> MysqlLeases::try_acquire(const std::string& lock) {
  const std::lock_guard guard(mutex_);
  if (locks_.contains(lock)) return nullptr;
  try {
    connect_if_needed();
    const std::string answer = session_->query("SELECT GET_LOCK(?, 0)", {lock}).at(0).at(0);
    if (answer == "0") return nullptr;
    if (answer != "1") throw TransientDbError("GET_LOCK() failed");
  } catch (...) {
    drop_connection();
    throw;
  }
  auto lease = std::make_unique<HeldLease>(*this, lock, generation_);
  locks_.insert(lock);
  if (!keeper_.joinable()) keeper_ = std::jthread([this](const std::stop_token& stop) { keep_alive(stop); });
  changed_.notify_all();
  return lease;
}

void MysqlLeases::connect_if_needed() {
  if (session_) return;
  session_ = connect_();
  ++generation_;
  ping_interval_ = ping_interval(*session_);
}

void MysqlLeases::drop_connection() noexcept {
  if (!locks_.empty()) log::warn("the connection that held {} leases is lost", locks_.size());
  locks_.clear();
  session_.reset();
}

bool MysqlLeases::server_confirms(const std::string& lock) {
  return session_->query("SELECT COALESCE(IS_USED_LOCK(?) = CONNECTION_ID(), 0)", {lock}).at(0).at(0) == "1";
}

bool MysqlLeases::is_held(const std::string& lock, uint64_t generation) {
  const std::lock_guard guard(mutex_);
  if (generation != generation_ || !locks_.contains(lock)) return false;
  try {
    if (server_confirms(lock)) return true;
    locks_.erase(lock);
  } catch (...) {
    drop_connection();
  }
  return false;
}

void MysqlLeases::release(const std::string& lock, uint64_t generation) noexcept {
  const std::lock_guard guard(mutex_);
  if (generation != generation_ || locks_.erase(lock) == 0) return;
  try {
    session_->query("SELECT RELEASE_LOCK(?)", {lock});
  } catch (...) {
    // The end of the connection releases it, and all others.
    drop_connection();
  }
}

void MysqlLeases::keep_alive(const std::stop_token& stop) {
  std::unique_lock guard(mutex_);
  while (!stop.stop_requested()) {
    if (locks_.empty()) {
      changed_.wait(guard, stop, [&] { return !locks_.empty(); });
      continue;
    }
    changed_.wait_for(guard, stop, ping_interval_, [&] { return locks_.empty(); });
    if (stop.stop_requested() || locks_.empty()) continue;
    try {
      // Asking for each lock also finds out what a proxy or a server too old has done to them.
      std::erase_if(locks_, [&](const std::string& lock) { return !server_confirms(lock); });
    } catch (...) {
      drop_connection();
    }
  }
}

}  // namespace obd::dedupdb
