#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "blockfs/chunk.h"
#include "common/bounded_queue.h"
#include "common/stage_group.h"
#include "convertor/image.h"
#include "convertor/progress.h"
#include "convertor/source_image.h"

namespace obd::convertor {

/// A source layer on its way in: fetched, inflated and hashed by threads of its own, which run ahead of the
/// reader as far as their queues' budgets allow (kBufferedBytes).
///
/// Owns:    its threads. What `place` refers to, the pool and `progress` outlive it.
/// Threads: one reader.
/// Errors:  next() and verify() throw what went wrong in any stage.
class LayerSource final : public blockfs::ChunkStream {
 public:
  static constexpr uint64_t kBufferedBytes = 6 << 20;

  /// Starts at once. `name` stands in messages.
  LayerSource(const SourcePlace& place, const Descriptor& layer, const Digest& diff_id, std::string name,
              blockfs::ChunkPool& pool, LayerProgress& progress, std::stop_token stop);
  ~LayerSource() override;

  /// The uncompressed tar, piece by piece.
  std::span<const std::byte> next() override;
  /// Waits for the end of all stages: the blob's digest and size and the layer's diff ID are then verified.
  /// Requires that the stream was read to its end.
  void verify();

 private:
  class QueueSink;

  void fetch(std::stop_token stop);
  void inflate(std::stop_token stop);
  void hash(std::stop_token stop);

  const SourcePlace place_;
  const Descriptor layer_;
  const Digest diff_id_;
  const std::string name_;
  blockfs::ChunkPool& pool_;
  LayerProgress& progress_;
  BoundedQueue<blockfs::SharedChunk> compressed_;
  BoundedQueue<blockfs::SharedChunk> to_hash_;
  BoundedQueue<blockfs::SharedChunk> to_reader_;
  blockfs::SharedChunk current_;
  StageGroup stages_;  // last: its threads use all above
};

}  // namespace obd::convertor
