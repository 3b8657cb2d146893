#include "convertor/layer_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "blockfs/layer_decompressor.h"
#include "common/error.h"

namespace obd::convertor {
namespace {

using blockfs::Chunk;
using blockfs::SharedChunk;

constexpr uint64_t kCompressedBytes = 2 << 20;
constexpr uint64_t kUncompressedBytes = 2 << 20;  // in each of two queues, which share most of them

}  // namespace

/// Fills chunks and hands each to both the hash and the reader.
class LayerSource::QueueSink final : public blockfs::ChunkSink {
 public:
  QueueSink(LayerSource& source, std::stop_token stop) : source_(source), stop_(std::move(stop)) {}

  std::span<std::byte> space() override {
    if (!chunk_) chunk_ = source_.pool_.take();
    return std::span(chunk_->storage).subspan(chunk_->bytes);
  }
  void advance(size_t bytes) override {
    chunk_->bytes += bytes;
    if (chunk_->bytes == chunk_->storage.size()) flush();
  }
  void flush() {
    if (!chunk_ || chunk_->bytes == 0) return;
    const SharedChunk full = std::move(chunk_);
    chunk_ = nullptr;
    source_.to_reader_.push(full, full->bytes, stop_);
    source_.to_hash_.push(full, full->bytes, stop_);
  }

 private:
  LayerSource& source_;
  std::stop_token stop_;
  std::shared_ptr<Chunk> chunk_;
};

LayerSource::LayerSource(const SourcePlace& place, const Descriptor& layer, const Digest& diff_id,
                         std::string name, blockfs::ChunkPool& pool, LayerProgress& progress,
                         std::stop_token stop)
    : place_(place),
      layer_(layer),
      diff_id_(diff_id),
      name_(std::move(name)),
      pool_(pool),
      progress_(progress),
      compressed_(kCompressedBytes),
      to_hash_(kUncompressedBytes, kUncompressedBytes / 2),
      to_reader_(kUncompressedBytes, kUncompressedBytes / 2),
      stages_(std::move(stop)) {
  stages_.start("fetch", [this](std::stop_token token) { fetch(std::move(token)); });
  stages_.start("inflate", [this](std::stop_token token) { inflate(std::move(token)); });
  stages_.start("hash", [this](std::stop_token token) { hash(std::move(token)); });
}

LayerSource::~LayerSource() = default;

void LayerSource::fetch(std::stop_token stop) {
  progress_.state = LayerProgress::State::kFetching;
  try {
    pull_layer(
        place_, layer_,
        [&](std::span<const std::byte> data) {
          progress_.fetched_bytes += data.size();
          while (!data.empty()) {
            auto chunk = pool_.take();
            chunk->bytes = std::min(data.size(), chunk->storage.size());
            std::memcpy(chunk->storage.data(), data.data(), chunk->bytes);
            data = data.subspan(chunk->bytes);
            compressed_.push(chunk, chunk->bytes, stop);
          }
        },
        stop);
  } catch (Error& error) {
    error.add_context(name_);
    throw;
  }
  compressed_.close();
  progress_.fetch_cpu = thread_cpu_nanoseconds();
}

void LayerSource::inflate(std::stop_token stop) {
  QueueSink sink(*this, stop);
  blockfs::LayerDecompressor decompressor(name_, sink);
  while (const auto chunk = compressed_.pop(stop)) decompressor.feed((*chunk)->data());
  decompressor.finish();
  sink.flush();
  to_reader_.close();
  to_hash_.close();
  progress_.inflate_cpu = thread_cpu_nanoseconds();
}

void LayerSource::hash(std::stop_token stop) {
  Sha256 sha256;
  while (const auto chunk = to_hash_.pop(stop)) sha256.update((*chunk)->data());
  const Digest found = sha256.finish();
  progress_.hash_cpu = thread_cpu_nanoseconds();
  if (found != diff_id_) {
    throw DataError(
        fmt::format("{}: its uncompressed content has the digest {}, but the config's diff ID is {}", name_,
                    found.text(), diff_id_.text()));
  }
}

std::span<const std::byte> LayerSource::next() {
  try {
    current_ = nullptr;
    auto chunk = to_reader_.pop(stages_.token());
    if (!chunk) return {};
    current_ = std::move(*chunk);
    progress_.applied_bytes += current_->bytes;
    return current_->data();
  } catch (const Cancelled&) {
    stages_.join();  // throws what stopped the stages
    throw;
  }
}

void LayerSource::verify() {
  stages_.join();
}

}  // namespace obd::convertor
