#include "blockfs/block_codec.h"

#include <fmt/format.h>
#include <lz4.h>
#include <zstd.h>

#include <vector>

#include "common/c_handle.h"
#include "common/error.h"

namespace obd::blockfs {

Algorithm parse_algorithm(std::string_view name) {
  if (name == "lz4") return Algorithm::kLz4;
  if (name == "zstd") return Algorithm::kZstd;
  throw UsageError(fmt::format("unknown compression algorithm '{}': use lz4 or zstd", name));
}

std::string_view algorithm_name(Algorithm algorithm) {
  return algorithm == Algorithm::kLz4 ? "lz4" : "zstd";
}

int default_level(Algorithm algorithm) {
  return algorithm == Algorithm::kLz4 ? 0 : 3;
}

struct BlockCompressor::State {
  Algorithm algorithm;
  int level;
  CHandle<ZSTD_CCtx, ZSTD_freeCCtx> zstd;
  std::vector<std::byte> lz4;
};

BlockCompressor::BlockCompressor(Algorithm algorithm, int level)
    : state_(std::make_unique<State>(State{algorithm, level, nullptr, {}})) {
  if (algorithm == Algorithm::kZstd) {
    state_->zstd.reset(ZSTD_createCCtx());
    OBD_CHECK(state_->zstd != nullptr);
  } else {
    state_->lz4.resize(static_cast<size_t>(LZ4_sizeofState()));
  }
}
BlockCompressor::~BlockCompressor() = default;
BlockCompressor::BlockCompressor(BlockCompressor&&) noexcept = default;

size_t BlockCompressor::bound(Algorithm algorithm, size_t block_bytes) {
  return algorithm == Algorithm::kLz4 ? static_cast<size_t>(LZ4_compressBound(static_cast<int>(block_bytes)))
                                      : ZSTD_compressBound(block_bytes);
}

size_t BlockCompressor::compress(std::span<const std::byte> block, std::span<std::byte> out) {
  if (state_->algorithm == Algorithm::kLz4) {
    const int written = LZ4_compress_fast_extState(
        state_->lz4.data(), reinterpret_cast<const char*>(block.data()), reinterpret_cast<char*>(out.data()),
        static_cast<int>(block.size()), static_cast<int>(out.size()), 1);
    OBD_CHECK(written > 0);
    return static_cast<size_t>(written);
  }
  const size_t written = ZSTD_compressCCtx(state_->zstd.get(), out.data(), out.size(), block.data(),
                                           block.size(), state_->level);
  OBD_CHECK(!ZSTD_isError(written));
  return written;
}

bool decompress_block(Algorithm algorithm, std::span<const std::byte> stored, std::span<std::byte> out) {
  if (algorithm == Algorithm::kLz4) {
    const int got =
        LZ4_decompress_safe(reinterpret_cast<const char*>(stored.data()), reinterpret_cast<char*>(out.data()),
                            static_cast<int>(stored.size()), static_cast<int>(out.size()));
    return got >= 0 && static_cast<size_t>(got) == out.size();
  }
  const size_t got = ZSTD_decompress(out.data(), out.size(), stored.data(), stored.size());
  return !ZSTD_isError(got) && got == out.size();
}

}  // namespace obd::blockfs
