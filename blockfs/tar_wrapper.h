#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "common/byte_source.h"

namespace obd::blockfs {

/// The tar archive with the one member `overlaybd.commit` around a layer (blockfs/FORMAT.md §2).
inline constexpr size_t kTarWrapperHeaderBytes = 1536;

std::array<std::byte, kTarWrapperHeaderBytes> encode_tar_wrapper_header(uint64_t content_bytes);
/// What follows the content: padding and the end mark.
std::vector<std::byte> encode_tar_wrapper_end(uint64_t content_bytes);

/// The member's content if `source` starts with a tar header, else none. Throws DataError for a tar archive
/// whose header is damaged or whose content does not lie within the source.
std::shared_ptr<const ByteSource> open_tar_wrapper(std::shared_ptr<const ByteSource> source);

}  // namespace obd::blockfs
