#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace obd::blockfs {

/// What stands in a pax extended header (POSIX.1-2001, pax Interchange Format) instead of in the tar header.
struct PaxFields {
  std::optional<std::string> path;
  std::optional<std::string> link_path;
  std::optional<uint64_t> size;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<std::pair<int64_t, uint32_t>> mtime;  // seconds, nanoseconds
  std::optional<uint32_t> device_major;
  std::optional<uint32_t> device_minor;
};

/// All that a pax extended header says, and what GNU and SCHILY add. Unknown keywords are passed over, as the
/// standard wants.
struct PaxRecords : PaxFields {
  std::map<std::string, std::string> xattrs;  // decoded

  // GNU sparse files
  std::optional<uint64_t> sparse_major;
  std::optional<uint64_t> sparse_minor;
  std::optional<std::string> sparse_name;
  std::optional<uint64_t> sparse_size;
  std::optional<uint64_t> sparse_pieces;
  std::vector<std::pair<uint64_t, uint64_t>> sparse_map;  // offset, bytes: formats 0.0 and 0.1

  /// Adds the records of one header; a later record replaces an earlier one, and an empty value removes it.
  /// Throws TarError that starts with `what`.
  void parse(std::string_view records, std::string_view what);
};

/// A decimal number and nothing else; none if it is not one or does not fit.
std::optional<uint64_t> parse_decimal(std::string_view text);

}  // namespace obd::blockfs
