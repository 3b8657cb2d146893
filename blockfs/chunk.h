#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace obd::blockfs {

/// A piece of a stream that several stages read without copying it.
struct Chunk {
  std::vector<std::byte> storage;
  size_t bytes = 0;
  std::span<const std::byte> data() const { return std::span(storage).first(bytes); }
};
using SharedChunk = std::shared_ptr<const Chunk>;

/// Hands out chunks and takes them back when the last reader drops them, so that memory is touched once.
///
/// Owns:    the free chunks; those in use keep the pool's state alive.
/// Threads: any.
class ChunkPool {
 public:
  static constexpr size_t kChunkBytes = 256 << 10;

  ChunkPool() : state_(std::make_shared<State>()) {}
  /// An empty chunk with storage of kChunkBytes.
  std::shared_ptr<Chunk> take();

 private:
  struct State {
    std::mutex mutex;  // guards free
    std::vector<std::unique_ptr<Chunk>> free;
  };
  std::shared_ptr<State> state_;
};

/// Takes what a decompressor makes, in order.
class ChunkSink {
 public:
  virtual ~ChunkSink() = default;
  /// Room for at least one byte, valid until advance().
  virtual std::span<std::byte> space() = 0;
  /// The first `bytes` of space() are filled.
  virtual void advance(size_t bytes) = 0;
};

/// A stream that is read piece by piece.
class ChunkStream {
 public:
  virtual ~ChunkStream() = default;
  /// The next piece, valid until the next call; empty at the end.
  virtual std::span<const std::byte> next() = 0;
};

}  // namespace obd::blockfs
