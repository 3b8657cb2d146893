#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "common/digest.h"

namespace obd::registry {

/// SHA-256 on a thread of its own, so that a transfer is not as slow as its sum with the hash. Copies what it
/// is given: at most 4 MiB wait, then update() does. Content of less than a buffer is hashed by the caller:
/// small blobs start no thread.
///
/// Threads: one at a time calls this.
class AsyncSha256 {
 public:
  AsyncSha256() = default;
  ~AsyncSha256();
  AsyncSha256(const AsyncSha256&) = delete;
  AsyncSha256& operator=(const AsyncSha256&) = delete;

  void update(std::span<const std::byte> data);
  /// Ends the stream; nothing else may be called afterwards.
  Digest finish();

 private:
  using Buffer = std::vector<std::byte>;

  void hand_over();
  void work();

  Buffer filling_;
  Sha256 hash_;       // the worker's, once there is one
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::deque<Buffer> full_;
  std::vector<Buffer> spare_;
  size_t buffers_ = 1;  // that exist, `filling_` included
  bool ended_ = false;
  std::jthread worker_;
};

}  // namespace obd::registry
