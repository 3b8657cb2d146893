#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace obd::blockfs {

/// The numbers are those of the ZFile header.
enum class Algorithm : uint8_t { kLz4 = 1, kZstd = 2 };

/// "lz4" or "zstd"; throws UsageError for anything else.
Algorithm parse_algorithm(std::string_view name);
std::string_view algorithm_name(Algorithm algorithm);

/// The level that our writers use and state in the header.
int default_level(Algorithm algorithm);

/// Compresses blocks independently of one another. Output depends on the input, the algorithm and the level.
///
/// Threads: one at a time; make one per thread.
class BlockCompressor {
 public:
  BlockCompressor(Algorithm algorithm, int level);
  ~BlockCompressor();
  BlockCompressor(BlockCompressor&&) noexcept;

  /// The most that compress() writes for `block_bytes` of input.
  static size_t bound(Algorithm algorithm, size_t block_bytes);
  /// Returns the number of bytes written to `out`, which holds at least bound() bytes.
  size_t compress(std::span<const std::byte> block, std::span<std::byte> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Decompresses one block to exactly `out.size()` bytes; false if `stored` is not such a block.
///
/// Threads: any number at once.
bool decompress_block(Algorithm algorithm, std::span<const std::byte> stored, std::span<std::byte> out);

}  // namespace obd::blockfs
