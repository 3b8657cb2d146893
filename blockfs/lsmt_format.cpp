#include "blockfs/lsmt_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr std::array<unsigned char, 24> kMagic = {'L',  'S',  'M',  'T',  0x00, 0x01, 0x02, 0x00,
                                                  0x65, 0x7E, 0x63, 0xD2, 0x94, 0x44, 0x08, 0x4C,
                                                  0xA2, 0xD2, 0xC8, 0xEC, 0x4F, 0xCF, 0xAE, 0x8A};
constexpr uint32_t kStructBytes = 390;
constexpr size_t kUuidBytes = 37;
constexpr std::string_view kZeroUuid = "00000000-0000-0000-0000-000000000000";

enum Offset : size_t {
  kStructSize = 24,
  kFlags = 28,
  kIndexOffset = 32,
  kIndexSize = 40,
  kVirtualSize = 48,
  kUuid = 56,
  kParentUuid = 93,
  kVersion = 132,
  kSubVersion = 133,
  kUserTag = 134,
};

std::string text_at(std::span<const std::byte> bytes, size_t at, size_t room) {
  const char* start = reinterpret_cast<const char*>(bytes.data()) + at;
  return std::string(start, ::strnlen(start, room));
}

std::string decode_uuid(std::span<const std::byte> bytes, size_t at, std::string_view what) {
  std::string uuid = text_at(bytes, at, kUuidBytes);
  std::transform(uuid.begin(), uuid.end(), uuid.begin(), [](unsigned char c) { return std::tolower(c); });
  if (uuid.empty() || uuid == kZeroUuid) return {};
  bool valid = uuid.size() == kUuidBytes - 1;
  for (size_t i = 0; valid && i < uuid.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    valid = dash ? uuid[i] == '-' : std::isxdigit(static_cast<unsigned char>(uuid[i])) != 0;
  }
  if (!valid) throw DataError(fmt::format("{}: byte {} should be a UUID", what, at));
  return uuid;
}

/// The reference writes upper case.
void encode_uuid(std::byte* out, std::string_view uuid) {
  for (size_t i = 0; i < uuid.size(); ++i) {
    out[i] = static_cast<std::byte>(std::toupper(static_cast<unsigned char>(uuid[i])));
  }
}

}  // namespace

std::array<std::byte, LsmtHeader::kBytes> LsmtHeader::encode() const {
  OBD_CHECK(uuid.size() < kUuidBytes && parent_uuid.size() < kUuidBytes);
  OBD_CHECK(user_tag.size() <= kMaxUserTagBytes);
  std::array<std::byte, kBytes> out{};
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  store_le<uint32_t>(&out[kStructSize], kStructBytes);
  store_le<uint32_t>(&out[kFlags], flags);
  store_le<uint64_t>(&out[kIndexOffset], index_offset);
  store_le<uint64_t>(&out[kIndexSize], index_entries);
  store_le<uint64_t>(&out[kVirtualSize], virtual_bytes);
  encode_uuid(&out[kUuid], uuid);
  encode_uuid(&out[kParentUuid], parent_uuid);
  out[kVersion] = std::byte{1};
  out[kSubVersion] = std::byte{1};
  std::memcpy(&out[kUserTag], user_tag.data(), user_tag.size());
  return out;
}

bool LsmtHeader::has_magic(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

LsmtHeader LsmtHeader::decode(std::span<const std::byte, kBytes> bytes, std::string_view what) {
  if (!has_magic(bytes)) throw DataError(fmt::format("{}: no LSMT magic", what));
  if (const auto found = load_le<uint32_t>(&bytes[kStructSize]); found != kStructBytes) {
    throw DataError(fmt::format("{}: byte 24 should be the structure's size, 390, found {}", what, found));
  }
  if (const auto found = std::to_integer<unsigned>(bytes[kVersion]); found != 1) {
    throw DataError(fmt::format("{}: unknown LSMT version {}", what, found));
  }
  return LsmtHeader{
      .flags = load_le<uint32_t>(&bytes[kFlags]),
      .index_offset = load_le<uint64_t>(&bytes[kIndexOffset]),
      .index_entries = load_le<uint64_t>(&bytes[kIndexSize]),
      .virtual_bytes = load_le<uint64_t>(&bytes[kVirtualSize]),
      .uuid = decode_uuid(bytes, kUuid, what),
      .parent_uuid = decode_uuid(bytes, kParentUuid, what),
      .user_tag = text_at(bytes, kUserTag, kMaxUserTagBytes + 1),
  };
}

std::string lsmt_uuid(const Digest& digest) {
  const std::string_view hex = digest.hex();
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                     hex.substr(16, 4), hex.substr(20, 12));
}

void LsmtEntry::encode(std::byte* out) const {
  // offset 50 | length 14 | moffset 55 | zeroed 1 | tag 8, lowest bit first
  store_le<uint64_t>(out, sector | (uint64_t{sectors} << 50));
  store_le<uint64_t>(out + 8, data_sector | (uint64_t{zeroed} << 55) | (uint64_t{tag} << 56));
}

LsmtEntry LsmtEntry::decode(const std::byte* bytes) {
  const auto low = load_le<uint64_t>(bytes);
  const auto high = load_le<uint64_t>(bytes + 8);
  return LsmtEntry{
      .sector = low & ((uint64_t{1} << 50) - 1),
      .data_sector = high & ((uint64_t{1} << 55) - 1),
      .sectors = static_cast<uint32_t>(low >> 50),
      .zeroed = ((high >> 55) & 1) != 0,
      .tag = static_cast<uint8_t>(high >> 56),
  };
}

}  // namespace obd::blockfs
