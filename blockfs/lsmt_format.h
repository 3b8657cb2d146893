#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"

namespace obd::blockfs {

inline constexpr uint64_t kSectorBytes = 512;
inline constexpr uint64_t kBlockBytes = 4096;
inline constexpr uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;

/// The fields of an LSMT header or trailer (blockfs/FORMAT.md §4).
struct LsmtHeader {
  static constexpr size_t kBytes = 4096;
  static constexpr uint32_t kFlagHeader = 1 << 0;
  static constexpr uint32_t kFlagDataFile = 1 << 1;
  static constexpr uint32_t kFlagSealed = 1 << 2;
  static constexpr size_t kMaxUserTagBytes = 255;  // one byte stays for the end
  /// The reference reader's limits.
  static constexpr uint64_t kMaxEntries = 1'000'000;
  static constexpr size_t kMaxLayers = 255;

  uint32_t flags = 0;
  uint64_t index_offset = 0;   // bytes
  uint64_t index_entries = 0;  // padding included
  uint64_t virtual_bytes = 0;
  std::string uuid;         // 8-4-4-4-12, lower case; empty: none
  std::string parent_uuid;  // likewise
  std::string user_tag;

  std::array<std::byte, kBytes> encode() const;
  static bool has_magic(std::span<const std::byte> bytes);
  /// Throws DataError that starts with `what`. UUIDs come out in lower case, "none" as an empty text.
  static LsmtHeader decode(std::span<const std::byte, kBytes> bytes, std::string_view what);
};

/// The UUID of a layer that is named by `digest`: its first 32 hex digits, as the reference makes it of a
/// chain ID.
std::string lsmt_uuid(const Digest& digest);

/// One run of sectors.
struct LsmtEntry {
  static constexpr size_t kBytes = 16;
  static constexpr uint64_t kMaxSector = (uint64_t{1} << 50) - 2;
  static constexpr uint64_t kPaddingSector = (uint64_t{1} << 50) - 1;
  static constexpr uint32_t kMaxRunSectors = 16376;  // what we write: whole blocks below the 14-bit limit

  uint64_t sector = 0;       // of the virtual disk
  uint64_t data_sector = 0;  // of the LSMT file; of the source tar where tag is 1
  uint32_t sectors = 0;
  bool zeroed = false;
  uint8_t tag = 0;

  uint64_t end() const { return sector + sectors; }
  void encode(std::byte* out) const;
  static LsmtEntry decode(const std::byte* bytes);
  bool operator==(const LsmtEntry&) const = default;
};

}  // namespace obd::blockfs
