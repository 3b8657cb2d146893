#include "blockfs/layer_trailer.h"

#include <fmt/format.h>

#include <algorithm>

#include "blockfs/crc32c.h"
#include "blockfs/tar_wrapper.h"
#include "blockfs/zfile_format.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr size_t kCrcBytes = 4;
constexpr uint64_t kEndMarkBytes = 1024;
constexpr uint64_t kTarBlockBytes = 512;
/// Often enough for the jump table too, and then for all that is needed.
constexpr uint64_t kTailBytes = 32 << 10;

/// The end of a blob: what was read first, and more where that does not reach.
class Tail {
 public:
  explicit Tail(const ByteSource& blob) : blob_(blob), bytes_(std::min<uint64_t>(blob.size(), kTailBytes)) {
    blob.read_at(start(), bytes_);
  }
  uint64_t start() const { return blob_.size() - bytes_.size(); }
  std::vector<std::byte> at(uint64_t offset, size_t bytes) const {
    std::vector<std::byte> out(bytes);
    if (offset >= start()) {
      std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset - start()), bytes, out.begin());
    } else {
      blob_.read_at(offset, out);
    }
    return out;
  }

 private:
  const ByteSource& blob_;
  std::vector<std::byte> bytes_;
};

[[noreturn]] void fail(const ByteSource& blob, std::string_view what) {
  throw DataError(fmt::format("{}: no overlaybd layer of this program's form: {}", blob.name(), what));
}

/// Where the ZFile ends: behind its trailer, before at most a block of padding and the tar archive's end
/// mark.
uint64_t find_trailer(const ByteSource& blob, const Tail& tail) {
  const uint64_t least = kTarWrapperHeaderBytes + ZFileHeader::kBytes + ZFileHeader::kBytes + kEndMarkBytes;
  if (blob.size() < least || blob.size() % kTarBlockBytes != 0)
    fail(blob, fmt::format("{} bytes", blob.size()));
  const uint64_t last = blob.size() - kEndMarkBytes - ZFileHeader::kBytes;
  for (uint64_t at = last; at > last - kTarBlockBytes; --at) {
    if (ZFileHeader::has_magic(tail.at(at, ZFileHeader::kBytes))) return at;
  }
  fail(blob, "no ZFile trailer at its end");
}

}  // namespace

LsmtHeader read_layer_trailer(const ByteSource& blob) {
  if (blob.size() == 0) fail(blob, "it is empty");
  const Tail tail(blob);
  const uint64_t trailer_at = find_trailer(blob, tail);
  const auto trailer_bytes = tail.at(trailer_at, ZFileHeader::kBytes);
  const ZFileHeader zfile =
      ZFileHeader::decode(std::span<const std::byte, ZFileHeader::kBytes>(trailer_bytes),
                          fmt::format("{}: ZFile trailer", blob.name()));
  // The jump table lies directly before the trailer; its last entry is the size of the last block.
  const uint64_t content = trailer_at - kTarWrapperHeaderBytes;
  if (zfile.index_offset < ZFileHeader::kBytes || zfile.index_offset > content ||
      content - zfile.index_offset != 4 * zfile.index_entries || zfile.index_entries == 0 ||
      zfile.dictionary_bytes != 0 || !zfile.verify || zfile.original_bytes < LsmtHeader::kBytes ||
      (zfile.original_bytes - 1) / zfile.block_bytes + 1 != zfile.index_entries) {
    fail(blob, "its ZFile trailer does not fit its size");
  }
  const auto stored_bytes = load_le<uint32_t>(tail.at(trailer_at - 4, 4).data());
  if (stored_bytes <= kCrcBytes || stored_bytes > 2 * zfile.block_bytes + 1024 ||
      stored_bytes > zfile.index_offset - ZFileHeader::kBytes) {
    fail(blob, "the last entry of its jump table is impossible");
  }
  const auto stored = tail.at(kTarWrapperHeaderBytes + zfile.index_offset - stored_bytes, stored_bytes);
  const auto body = std::span(stored).first(stored_bytes - kCrcBytes);
  if (crc32c_raw(ZFileHeader::kDataSeed, body) != load_le<uint32_t>(&stored[body.size()])) {
    fail(blob, "the CRC of its last block does not match");
  }
  std::vector<std::byte> block((zfile.original_bytes - 1) % zfile.block_bytes + 1);
  if (block.size() < LsmtHeader::kBytes || !decompress_block(zfile.algorithm, body, block)) {
    fail(blob, "its last block holds no LSMT trailer");
  }
  const auto lsmt = std::span<const std::byte>(block).last<LsmtHeader::kBytes>();
  return LsmtHeader::decode(lsmt, fmt::format("{}: LSMT trailer", blob.name()));
}

}  // namespace obd::blockfs
