#include "blockfs/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace obd::blockfs {

uint32_t crc32c_raw(uint32_t seed, std::span<const std::byte> data) {
  constexpr size_t kMaxPiece = size_t{1} << 30;  // the library takes an int
  while (!data.empty()) {
    const auto piece = data.first(std::min(data.size(), kMaxPiece));
    // The library's prototype lacks a const; it does not write.
    auto* bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(piece.data()));
    seed = crc32_iscsi(bytes, static_cast<int>(piece.size()), seed);
    data = data.subspan(piece.size());
  }
  return seed;
}

}  // namespace obd::blockfs
