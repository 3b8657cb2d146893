#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "blockfs/chunk.h"

namespace obd::blockfs {

/// Undoes a layer's compression, which is told by its first bytes: gzip with any number of members (RFC
/// 1952), zstd with any number of frames (RFC 8878), or none.
///
/// Owns:    nothing of the caller's; `out` must outlive it.
/// Threads: one at a time.
/// Errors:  DataError that names `what` and the offset in the compressed stream; what `out` throws.
/// Memory:  a zstd frame may ask for a window of at most 128 MiB, the format's own default limit.
class LayerDecompressor {
 public:
  LayerDecompressor(std::string what, ChunkSink& out);
  ~LayerDecompressor();

  void feed(std::span<const std::byte> data);
  /// The input has ended. Throws DataError if it ended within a member, a frame or a checksum.
  void finish();

  class Format;  // one per compression

 private:
  void choose_format();

  std::string what_;
  ChunkSink& out_;
  std::vector<std::byte> start_;  // until there is enough to tell the format
  std::unique_ptr<Format> format_;
};

}  // namespace obd::blockfs
