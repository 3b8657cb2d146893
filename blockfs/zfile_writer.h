#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

#include "blockfs/worker_pool.h"
#include "blockfs/zfile_format.h"
#include "common/byte_source.h"
#include "common/stop_condition.h"

namespace obd::blockfs {

struct ZFileOptions {
  Algorithm algorithm = Algorithm::kLz4;
  uint32_t block_bytes = 4096;
};

/// Compresses a stream into a ZFile on all threads of a pool.
///
/// Owns:    nothing; `out` and `pool` must outlive the writer. Holds about 0.5 MiB per pool thread and batch,
///          in_flight_bytes() in all.
/// Threads: one thread at a time calls; `out` is called from pool threads, one at a time and in order.
/// Errors:  what `out` throws comes out of append() or finish(); Cancelled when the token fires.
/// Bytes:   depend on the content and the options only, not on the number of threads.
class ZFileWriter {
 public:
  ZFileWriter(ByteSink& out, const ZFileOptions& options, WorkerPool& pool, std::stop_token stop);
  /// Waits for batches under way. Without finish() what was written is no ZFile.
  ~ZFileWriter();
  ZFileWriter(const ZFileWriter&) = delete;
  ZFileWriter& operator=(const ZFileWriter&) = delete;

  void append(std::span<const std::byte> data);
  /// Bytes appended so far.
  uint64_t size() const { return size_; }
  /// Writes jump table and trailer and completes the header; call once.
  void finish();

  /// The most memory that one writer's batches take on a pool of `threads`.
  static uint64_t in_flight_bytes(const ZFileOptions& options, size_t threads);

 private:
  struct Batch;

  void submit_current();
  void compress(Batch& batch, size_t worker) noexcept;
  void drain(std::unique_lock<std::mutex>& lock);
  std::unique_ptr<Batch> free_batch();
  void wait_until_drained();

  ByteSink& out_;
  const ZFileOptions options_;
  WorkerPool& pool_;
  std::stop_token stop_;
  const uint64_t start_;  // where the ZFile begins in out_
  uint64_t size_ = 0;
  std::unique_ptr<Batch> current_;
  std::vector<std::unique_ptr<BlockCompressor>> compressors_;  // one per worker

  std::mutex mutex_;  // guards all below
  StopCondition changed_;
  std::deque<std::unique_ptr<Batch>> in_flight_;  // in stream order
  std::vector<std::unique_ptr<Batch>> free_;
  size_t batches_ = 0;
  bool draining_ = false;
  std::vector<uint32_t> stored_bytes_;  // of each block
  std::exception_ptr failure_;
};

}  // namespace obd::blockfs
