#include "blockfs/tar_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "blockfs/layer_tar.h"

namespace obd::blockfs {
namespace {

constexpr size_t kChecksumAt = 148;
constexpr size_t kMagicAt = 257;
constexpr size_t kPrefixAt = 345;
constexpr size_t kPrefixWidth = 155;
constexpr size_t kStarPrefixWidth = 131;  // star keeps times behind a shorter prefix
constexpr size_t kStarMagicAt = 508;

}  // namespace

bool TarHeader::is_zero() const {
  return std::all_of(bytes_.begin(), bytes_.end(), [](std::byte b) { return b == std::byte{0}; });
}

bool TarHeader::checksum_matches() const {
  int64_t as_unsigned = 0;
  int64_t as_signed = 0;
  for (size_t i = 0; i < kBytes; ++i) {
    const bool inside = i >= kChecksumAt && i < kChecksumAt + 8;
    const unsigned char c = inside ? ' ' : std::to_integer<unsigned char>(bytes_[i]);
    as_unsigned += c;
    as_signed += static_cast<signed char>(c);
  }
  int64_t stored = 0;
  bool any = false;
  for (size_t i = kChecksumAt; i < kChecksumAt + 8; ++i) {
    const char c = static_cast<char>(bytes_[i]);
    if (c >= '0' && c <= '7') {
      stored = stored * 8 + (c - '0');
      any = true;
    } else if (any || c != ' ') {
      break;
    }
  }
  return any && (stored == as_unsigned || stored == as_signed);
}

std::string TarHeader::text(size_t at, size_t width) const {
  const char* start = reinterpret_cast<const char*>(&bytes_[at]);
  return std::string(start, ::strnlen(start, width));
}

std::string TarHeader::path() const {
  std::string name = text(0, 100);
  if (std::memcmp(&bytes_[kMagicAt], "ustar\0", 6) != 0) return name;  // v7, and GNU's "ustar  "
  const bool star = std::memcmp(&bytes_[kStarMagicAt], "tar\0", 4) == 0;
  const std::string prefix = text(kPrefixAt, star ? kStarPrefixWidth : kPrefixWidth);
  return prefix.empty() ? name : prefix + "/" + name;
}

int64_t TarHeader::signed_number(size_t at, size_t width, std::string_view field,
                                 std::string_view what) const {
  const auto fail = [&]() -> int64_t {
    throw TarError(fmt::format("{}: the field {} is no valid number", what, field));
  };
  const auto* raw = reinterpret_cast<const unsigned char*>(&bytes_[at]);
  if (raw[0] & 0x80) {  // base-256, two's complement below the top bit
    const bool negative = (raw[0] & 0x40) != 0;
    uint64_t value = negative ? UINT64_MAX : 0;
    for (size_t i = 0; i < width; ++i) {
      const unsigned char c = i == 0 ? static_cast<unsigned char>(negative ? raw[0] : raw[0] & 0x7F) : raw[i];
      const unsigned char overflow = static_cast<unsigned char>(value >> 56);
      if (overflow != (negative ? 0xFF : 0)) return fail();
      value = (value << 8) | c;
    }
    if (negative != ((value >> 63) != 0)) return fail();
    return static_cast<int64_t>(value);
  }
  uint64_t value = 0;
  size_t i = 0;
  while (i < width && raw[i] == ' ') ++i;
  for (; i < width && raw[i] != ' ' && raw[i] != 0; ++i) {
    if (raw[i] < '0' || raw[i] > '7') return fail();
    value = value * 8 + (raw[i] - '0');  // 12 digits cannot overflow
  }
  for (; i < width; ++i) {
    if (raw[i] != ' ' && raw[i] != 0) return fail();
  }
  return static_cast<int64_t>(value);
}

uint64_t TarHeader::number(size_t at, size_t width, uint64_t limit, std::string_view field,
                           std::string_view what) const {
  const int64_t value = signed_number(at, width, field, what);
  if (value < 0 || static_cast<uint64_t>(value) > limit) {
    throw TarError(fmt::format("{}: the {} is out of range: {}", what, field, value));
  }
  return static_cast<uint64_t>(value);
}

TarHeader::Pieces TarHeader::pieces(size_t at, size_t count, std::string_view what) const {
  Pieces out;
  for (size_t i = 0; i < count; ++i, at += 24) {
    if (bytes_[at] == std::byte{0}) break;
    const uint64_t offset = number(at, 12, INT64_MAX, "sparse offset", what);
    out.emplace_back(offset, number(at + 12, 12, INT64_MAX, "sparse size", what));
  }
  return out;
}

}  // namespace obd::blockfs
