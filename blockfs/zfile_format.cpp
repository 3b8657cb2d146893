#include "blockfs/zfile_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "blockfs/crc32c.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr std::array<unsigned char, 24> kMagic = {'Z',  'F',  'i',  'l',  'e',  0x00, 0x01, 0x00,
                                                  0x74, 0x75, 0x6A, 0x69, 0x2E, 0x79, 0x79, 0x66,
                                                  0x40, 0x41, 0x6C, 0x69, 0x62, 0x61, 0x62, 0x61};
constexpr uint32_t kStructBytes = 96;

enum Offset : size_t {
  kStructSize = 24,
  kDigest = 28,
  kFlags = 32,
  kIndexOffset = 40,
  kIndexSize = 48,
  kOriginalSize = 56,
  kIndexCrc = 64,
  kBlockSize = 72,
  kAlgorithm = 76,
  kLevel = 77,
  kUseDictionary = 78,
  kDictionarySize = 84,
  kVerify = 88,
};

}  // namespace

bool is_writable_block_size(uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes >= 4096 && bytes <= 32768;
}

std::array<std::byte, ZFileHeader::kBytes> ZFileHeader::encode() const {
  std::array<std::byte, kBytes> out{};
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  store_le<uint32_t>(&out[kStructSize], kStructBytes);
  store_le<uint64_t>(&out[kFlags], flags);
  store_le<uint64_t>(&out[kIndexOffset], index_offset);
  store_le<uint64_t>(&out[kIndexSize], index_entries);
  store_le<uint64_t>(&out[kOriginalSize], original_bytes);
  store_le<uint32_t>(&out[kIndexCrc], index_crc);
  store_le<uint32_t>(&out[kBlockSize], block_bytes);
  out[kAlgorithm] = static_cast<std::byte>(algorithm);
  out[kLevel] = static_cast<std::byte>(level);
  store_le<uint32_t>(&out[kDictionarySize], dictionary_bytes);
  out[kVerify] = static_cast<std::byte>(verify);
  if (flags & kFlagDigest) store_le<uint32_t>(&out[kDigest], crc32c_raw(0, out));
  return out;
}

bool ZFileHeader::has_magic(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

ZFileHeader ZFileHeader::decode(std::span<const std::byte, kBytes> bytes, std::string_view what) {
  const auto fail = [&](size_t at, std::string_view expected, uint64_t found) {
    throw DataError(fmt::format("{}: byte {} should be {}, found {}", what, at, expected, found));
  };
  if (!has_magic(bytes)) throw DataError(fmt::format("{}: no ZFile magic", what));
  ZFileHeader header;
  header.flags = load_le<uint64_t>(&bytes[kFlags]);
  if (header.flags & kFlagDigest) {
    std::array<std::byte, kBytes> copy{};
    std::copy(bytes.begin(), bytes.end(), copy.begin());
    store_le<uint32_t>(&copy[kDigest], 0);
    const auto stored = load_le<uint32_t>(&bytes[kDigest]);
    const uint32_t computed = crc32c_raw(0, copy);
    if (stored != computed) fail(kDigest, fmt::format("the CRC {}", computed), stored);
  }
  if (const auto found = load_le<uint32_t>(&bytes[kStructSize]); found != kStructBytes) {
    fail(kStructSize, "the structure's size, 96", found);
  }
  header.index_offset = load_le<uint64_t>(&bytes[kIndexOffset]);
  header.index_entries = load_le<uint64_t>(&bytes[kIndexSize]);
  header.original_bytes = load_le<uint64_t>(&bytes[kOriginalSize]);
  header.index_crc = load_le<uint32_t>(&bytes[kIndexCrc]);
  header.block_bytes = load_le<uint32_t>(&bytes[kBlockSize]);
  if (!std::has_single_bit(header.block_bytes) || header.block_bytes < 4096 || header.block_bytes > 65536) {
    fail(kBlockSize, "a block size of 4096 to 65536", header.block_bytes);
  }
  const auto algorithm = std::to_integer<uint8_t>(bytes[kAlgorithm]);
  if (algorithm != 1 && algorithm != 2) fail(kAlgorithm, "1 (lz4) or 2 (zstd)", algorithm);
  header.algorithm = static_cast<Algorithm>(algorithm);
  header.level = std::to_integer<uint8_t>(bytes[kLevel]);
  if (bytes[kUseDictionary] != std::byte{0}) fail(kUseDictionary, "0 (no dictionary)", 1);
  header.dictionary_bytes = load_le<uint32_t>(&bytes[kDictionarySize]);
  header.verify = bytes[kVerify] != std::byte{0};
  if (header.flags & kFlagIndexCompressed) fail(kFlags, "flags without a compressed index", header.flags);
  return header;
}

}  // namespace obd::blockfs
