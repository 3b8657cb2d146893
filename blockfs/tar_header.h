#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace obd::blockfs {

/// One 512-byte header block of a tar archive: POSIX.1-1988 ustar and what GNU, star and v7 do differently.
/// Numbers are octal text or, with the top bit set, base-256.
///
/// Errors: TarError that starts with `what`, for a field that is no number or out of its range.
class TarHeader {
 public:
  static constexpr size_t kBytes = 512;
  using Pieces = std::vector<std::pair<uint64_t, uint64_t>>;  // offset, bytes

  std::span<std::byte, kBytes> bytes() { return bytes_; }

  bool is_zero() const;
  /// Both the sum of unsigned bytes and, as old writers had it, of signed ones is accepted.
  bool checksum_matches() const;

  char type() const { return static_cast<char>(bytes_[156]); }
  /// With the prefix where the format has one.
  std::string path() const;
  std::string link_target() const { return text(157, 100); }
  uint64_t mode(std::string_view what) const { return number(100, 8, UINT32_MAX, "mode", what); }
  uint32_t uid(std::string_view what) const { return id(108, "uid", what); }
  uint32_t gid(std::string_view what) const { return id(116, "gid", what); }
  uint64_t size(std::string_view what) const { return number(124, 12, INT64_MAX, "size", what); }
  int64_t mtime(std::string_view what) const { return signed_number(136, 12, "mtime", what); }
  uint32_t device_major(std::string_view what) const { return id(329, "device number", what); }
  uint32_t device_minor(std::string_view what) const { return id(337, "device number", what); }

  /// Old GNU sparse files (type 'S').
  uint64_t old_sparse_real_size(std::string_view what) const {
    return number(483, 12, INT64_MAX, "real size", what);
  }
  Pieces old_sparse_pieces(std::string_view what) const { return pieces(386, 4, what); }
  bool old_sparse_continues() const { return bytes_[482] != std::byte{0}; }
  /// Of a block that continues the map.
  Pieces old_sparse_continuation(std::string_view what) const { return pieces(0, 21, what); }
  bool old_sparse_continuation_continues() const { return bytes_[504] != std::byte{0}; }

 private:
  std::string text(size_t at, size_t width) const;
  int64_t signed_number(size_t at, size_t width, std::string_view field, std::string_view what) const;
  uint64_t number(size_t at, size_t width, uint64_t limit, std::string_view field,
                  std::string_view what) const;
  uint32_t id(size_t at, std::string_view field, std::string_view what) const {
    return static_cast<uint32_t>(number(at, 8, UINT32_MAX, field, what));
  }
  Pieces pieces(size_t at, size_t count, std::string_view what) const;

  std::array<std::byte, kBytes> bytes_{};
};

}  // namespace obd::blockfs
