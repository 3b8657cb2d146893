#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "blockfs/block_codec.h"

namespace obd::blockfs {

/// The fields of a ZFile header or trailer (blockfs/FORMAT.md §3).
struct ZFileHeader {
  static constexpr size_t kBytes = 512;
  static constexpr uint32_t kDataSeed = 100007;
  static constexpr uint64_t kFlagHeader = 1 << 0;
  static constexpr uint64_t kFlagDataFile = 1 << 1;
  static constexpr uint64_t kFlagSealed = 1 << 2;
  static constexpr uint64_t kFlagHeaderOverwritten = 1 << 3;
  static constexpr uint64_t kFlagDigest = 1 << 4;
  static constexpr uint64_t kFlagIndexCompressed = 1 << 5;

  uint64_t flags = 0;
  uint64_t index_offset = 0;    // bytes from the start of the ZFile
  uint64_t index_entries = 0;   // one per block
  uint64_t original_bytes = 0;  // uncompressed
  uint32_t index_crc = 0;
  uint32_t block_bytes = 4096;
  Algorithm algorithm = Algorithm::kLz4;
  uint8_t level = 0;
  uint32_t dictionary_bytes = 0;
  bool verify = true;  // each block is followed by its CRC

  std::array<std::byte, kBytes> encode() const;
  /// Whether `bytes` starts with the magic numbers.
  static bool has_magic(std::span<const std::byte> bytes);
  /// Checks everything but index_offset and index_entries, which need the size of the file. Throws DataError
  /// that starts with `what`.
  static ZFileHeader decode(std::span<const std::byte, kBytes> bytes, std::string_view what);
};

/// Block sizes that our writer accepts: the reference reader cannot read back incompressible 64 KiB blocks.
bool is_writable_block_size(uint64_t bytes);

}  // namespace obd::blockfs
