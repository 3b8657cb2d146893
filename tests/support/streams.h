#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "blockfs/chunk.h"
#include "tests/support/memory.h"

namespace obd::test {

/// Hands out `bytes`, which outlive it, in pieces of `piece_bytes`.
class PieceStream final : public blockfs::ChunkStream {
 public:
  explicit PieceStream(std::span<const std::byte> bytes, size_t piece_bytes = SIZE_MAX)
      : rest_(bytes), piece_bytes_(piece_bytes) {}
  std::span<const std::byte> next() override {
    const auto piece = rest_.first(std::min(piece_bytes_, rest_.size()));
    rest_ = rest_.subspan(piece.size());
    return piece;
  }

 private:
  std::span<const std::byte> rest_;
  const size_t piece_bytes_;
};

/// Collects what a decompressor makes, through windows of `window_bytes`.
class CollectingSink final : public blockfs::ChunkSink {
 public:
  explicit CollectingSink(size_t window_bytes = 64 << 10) : window_(window_bytes) {}
  std::span<std::byte> space() override { return window_; }
  void advance(size_t bytes) override {
    OBD_CHECK(bytes <= window_.size());
    made_.insert(made_.end(), window_.begin(), window_.begin() + static_cast<ptrdiff_t>(bytes));
  }
  const Bytes& made() const { return made_; }

 private:
  Bytes window_;
  Bytes made_;
};

inline std::string to_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace obd::test
