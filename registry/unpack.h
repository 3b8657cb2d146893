#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>

#include "common/byte_source.h"

namespace obd::registry {

/// How a file is compressed as a whole, by its first bytes: "gzip", "zstd", "xz", "bzip2", "lz4"; none if it
/// is not, as far as we know.
std::optional<std::string_view> compression_of(const ByteSource& source);

/// Unpacks a file that is gzip or zstd as a whole into a file without a name in `directory`. What bounds its
/// size is the space there.
///
/// Errors: DataError for a damaged or cut off stream, IoError where the disk is full; Cancelled.
std::shared_ptr<const ByteSource> unpack(const ByteSource& source, const std::filesystem::path& directory,
                                         const std::stop_token& stop);

}  // namespace obd::registry
