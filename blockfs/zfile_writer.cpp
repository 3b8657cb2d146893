#include "blockfs/zfile_writer.h"

#include <algorithm>
#include <cstring>

#include "blockfs/crc32c.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

// Small enough to stay in a core's cache between the thread that fills a batch and the one that compresses
// it.
constexpr size_t kBatchBytes = 512 << 10;
constexpr size_t kCrcBytes = 4;

size_t max_batches(size_t threads) {
  return 2 * threads + 2;
}

}  // namespace

struct ZFileWriter::Batch {
  std::vector<std::byte> input;  // capacity kBatchBytes
  std::vector<std::byte> output;
  size_t output_bytes = 0;
  std::vector<uint32_t> stored_bytes;
  bool done = false;
};

ZFileWriter::ZFileWriter(ByteSink& out, const ZFileOptions& options, WorkerPool& pool, std::stop_token stop)
    : out_(out), options_(options), pool_(pool), stop_(std::move(stop)), start_(out.size()) {
  OBD_CHECK(is_writable_block_size(options.block_bytes));
  compressors_.resize(pool.size());
  out_.append(std::array<std::byte, ZFileHeader::kBytes>{});  // completed by finish()
}

ZFileWriter::~ZFileWriter() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, {}, [this] {
    return !draining_ && std::all_of(in_flight_.begin(), in_flight_.end(), [](auto& b) { return b->done; });
  });
}

uint64_t ZFileWriter::in_flight_bytes(const ZFileOptions& options, size_t threads) {
  const size_t blocks = kBatchBytes / options.block_bytes;
  const size_t output = blocks * (BlockCompressor::bound(options.algorithm, options.block_bytes) + kCrcBytes);
  return max_batches(threads) * (kBatchBytes + output);
}

void ZFileWriter::append(std::span<const std::byte> data) {
  size_ += data.size();
  while (!data.empty()) {
    if (!current_) current_ = free_batch();
    auto& input = current_->input;
    const size_t take = std::min(data.size(), kBatchBytes - input.size());
    input.insert(input.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
    data = data.subspan(take);
    if (input.size() == kBatchBytes) submit_current();
  }
}

std::unique_ptr<ZFileWriter::Batch> ZFileWriter::free_batch() {
  std::unique_lock lock(mutex_);
  const bool ready = changed_.wait(
      lock, stop_, [this] { return failure_ || !free_.empty() || batches_ < max_batches(pool_.size()); });
  if (failure_) std::rethrow_exception(failure_);
  if (!ready || stop_.stop_requested()) throw Cancelled();
  if (!free_.empty()) {
    auto batch = std::move(free_.back());
    free_.pop_back();
    return batch;
  }
  ++batches_;
  auto batch = std::make_unique<Batch>();
  batch->input.reserve(kBatchBytes);
  return batch;
}

void ZFileWriter::submit_current() {
  Batch& batch = *current_;
  {
    const std::lock_guard lock(mutex_);
    in_flight_.push_back(std::move(current_));
  }
  pool_.submit([this, &batch](size_t worker) { compress(batch, worker); });
}

void ZFileWriter::compress(Batch& batch, size_t worker) noexcept {
  std::exception_ptr failure;
  try {
    auto& compressor = compressors_[worker];
    if (!compressor) {
      compressor = std::make_unique<BlockCompressor>(options_.algorithm, default_level(options_.algorithm));
    }
    const size_t bound = BlockCompressor::bound(options_.algorithm, options_.block_bytes) + kCrcBytes;
    const size_t blocks = (batch.input.size() + options_.block_bytes - 1) / options_.block_bytes;
    if (batch.output.size() < blocks * bound) batch.output.resize(blocks * bound);
    std::span<std::byte> room(batch.output);
    std::span<const std::byte> rest(batch.input);
    while (!rest.empty()) {
      const auto block = rest.first(std::min<size_t>(rest.size(), options_.block_bytes));
      const size_t stored = compressor->compress(block, room);
      store_le<uint32_t>(room.data() + stored, crc32c_raw(ZFileHeader::kDataSeed, room.first(stored)));
      batch.stored_bytes.push_back(static_cast<uint32_t>(stored + kCrcBytes));
      room = room.subspan(stored + kCrcBytes);
      rest = rest.subspan(block.size());
    }
    batch.output_bytes = batch.output.size() - room.size();
  } catch (...) {
    failure = std::current_exception();
  }
  std::unique_lock lock(mutex_);
  if (failure && !failure_) failure_ = failure;
  batch.done = true;
  if (!draining_) drain(lock);
  // Under the lock: the destructor may free the condition variable once it sees the last batch done.
  changed_.notify_all();
}

/// Writes out the finished batches at the front. One thread at a time does so; the others go on compressing.
void ZFileWriter::drain(std::unique_lock<std::mutex>& lock) {
  draining_ = true;
  while (!in_flight_.empty() && in_flight_.front()->done) {
    auto batch = std::move(in_flight_.front());
    in_flight_.pop_front();
    if (!failure_) {
      stored_bytes_.insert(stored_bytes_.end(), batch->stored_bytes.begin(), batch->stored_bytes.end());
      lock.unlock();
      std::exception_ptr failure;
      try {
        out_.append(std::span<const std::byte>(batch->output).first(batch->output_bytes));
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure && !failure_) failure_ = failure;
    }
    batch->input.clear();
    batch->stored_bytes.clear();
    batch->done = false;
    free_.push_back(std::move(batch));
    changed_.notify_all();
  }
  draining_ = false;
}

void ZFileWriter::wait_until_drained() {
  std::unique_lock lock(mutex_);
  const bool ready =
      changed_.wait(lock, stop_, [this] { return failure_ || (in_flight_.empty() && !draining_); });
  if (failure_) std::rethrow_exception(failure_);
  if (!ready || stop_.stop_requested()) throw Cancelled();
}

void ZFileWriter::finish() {
  if (current_ && !current_->input.empty()) submit_current();
  wait_until_drained();
  {
    // For the next layer's writer, while this one's blob is on its way.
    const std::lock_guard lock(mutex_);
    free_.clear();
  }
  std::vector<std::byte> table(stored_bytes_.size() * 4);
  for (size_t i = 0; i < stored_bytes_.size(); ++i) store_le<uint32_t>(&table[i * 4], stored_bytes_[i]);
  ZFileHeader header{
      .flags = ZFileHeader::kFlagDataFile | ZFileHeader::kFlagSealed | ZFileHeader::kFlagDigest,
      .index_offset = out_.size() - start_,
      .index_entries = stored_bytes_.size(),
      .original_bytes = size_,
      .index_crc = crc32c_raw(0, table),
      .block_bytes = options_.block_bytes,
      .algorithm = options_.algorithm,
      .level = static_cast<uint8_t>(default_level(options_.algorithm)),
  };
  out_.append(table);
  out_.append(header.encode());
  header.flags = ZFileHeader::kFlagHeader | ZFileHeader::kFlagDataFile | ZFileHeader::kFlagHeaderOverwritten |
                 ZFileHeader::kFlagDigest;
  out_.overwrite(start_, header.encode());
}

}  // namespace obd::blockfs
