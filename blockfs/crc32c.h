#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace obd::blockfs {

/// CRC-32C in its raw form (formats: blockfs/FORMAT.md §3): the register starts at `seed`, nothing is
/// inverted before or after.
uint32_t crc32c_raw(uint32_t seed, std::span<const std::byte> data);

}  // namespace obd::blockfs
