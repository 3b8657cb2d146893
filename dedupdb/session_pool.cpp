#include "dedupdb/session_pool.h"

#include "common/error.h"

namespace obd::dedupdb {

SessionPool::Loan::~Loan() {
  session_.reset();
  {
    const std::lock_guard lock(pool_.mutex_);
    --pool_.lent_;
  }
  pool_.free_.notify_one();
}

void SessionPool::Loan::give_back() {
  const std::lock_guard lock(pool_.mutex_);
  if (generation_ == pool_.generation_) pool_.idle_.push_back(std::move(session_));
}

std::unique_ptr<SessionPool::Loan> SessionPool::take(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  free_.wait(lock, stop, [&] { return lent_ < DedupDb::kMaxConnections; });
  if (stop.stop_requested()) throw Cancelled();
  auto loan = std::make_unique<Loan>(*this);
  ++lent_;
  loan->generation_ = generation_;
  if (!idle_.empty()) {
    loan->session_ = std::move(idle_.back());
    idle_.pop_back();
    return loan;
  }
  lock.unlock();
  loan->session_ = backend_.connect();
  return loan;
}

void SessionPool::forget_all() {
  std::vector<std::unique_ptr<Session>> closing;
  const std::lock_guard lock(mutex_);
  ++generation_;
  closing.swap(idle_);
}

}  // namespace obd::dedupdb
