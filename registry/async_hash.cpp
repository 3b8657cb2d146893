#include "registry/async_hash.h"

#include <algorithm>

namespace obd::registry {
namespace {

// Of the size that stays in a core's second-level cache until it is hashed.
constexpr size_t kBufferBytes = 512 << 10;
constexpr size_t kMaxBuffers = 8;

}  // namespace

AsyncSha256::~AsyncSha256() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    full_.clear();
  }
  changed_.notify_all();
}

void AsyncSha256::update(std::span<const std::byte> data) {
  while (!data.empty()) {
    const size_t take = std::min(data.size(), kBufferBytes - filling_.size());
    filling_.insert(filling_.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
    data = data.subspan(take);
    if (filling_.size() == kBufferBytes) hand_over();
  }
}

void AsyncSha256::hand_over() {
  std::unique_lock lock(mutex_);
  if (!worker_.joinable()) worker_ = std::jthread([this] { work(); });
  full_.push_back(std::move(filling_));
  changed_.notify_all();
  filling_ = {};
  if (buffers_ < kMaxBuffers && spare_.empty()) {
    ++buffers_;
    filling_.reserve(kBufferBytes);
    return;
  }
  changed_.wait(lock, [this] { return !spare_.empty(); });
  filling_ = std::move(spare_.back());
  spare_.pop_back();
}

void AsyncSha256::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !full_.empty() || ended_; });
    if (full_.empty()) return;
    Buffer buffer = std::move(full_.front());
    full_.pop_front();
    lock.unlock();
    hash_.update(buffer);
    buffer.clear();
    lock.lock();
    spare_.push_back(std::move(buffer));
    changed_.notify_all();
  }
}

Digest AsyncSha256::finish() {
  if (worker_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    worker_.join();
  }
  hash_.update(filling_);
  return hash_.finish();
}

}  // namespace obd::registry
