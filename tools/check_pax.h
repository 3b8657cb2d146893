#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>

namespace obd::tools {

/// Reads what libarchive does not tell of pax headers: global ones, which it skips; names and link targets,
/// which it converts between character sets; and times before 1970, whose fraction it adds with the wrong
/// sign.
class PaxScanner {
 public:
  using Records = std::map<std::string, std::string>;
  struct Headers {
    Records records;  // the member's own over the global ones
    char type =
        '\0';  // as its header has it: libarchive makes directories of files whose name ends in a slash
  };

  /// `headers` starts where a member's first header block stands, and holds at least all blocks up to its
  /// last one. Global headers count for later members too. Throws DataError for records that are malformed.
  Headers scan(std::span<const std::byte> headers);

 private:
  Records global_;
};

/// A pax time as seconds, rounded down, and nanoseconds. Throws DataError.
std::pair<int64_t, uint32_t> parse_pax_time(const std::string& text);

}  // namespace obd::tools
