#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockfs/zfile_format.h"
#include "common/byte_source.h"

namespace obd::blockfs {

/// The uncompressed content of a ZFile.
///
/// Owns:    shares the source; holds 8 bytes of memory per block.
/// Threads: any number at once.
/// Errors:  DataError naming the source and the offset for everything that is out of range, does not match
///          its CRC or does not decompress to its size.
class ZFileReader final : public ByteSource {
 public:
  explicit ZFileReader(std::shared_ptr<const ByteSource> source);

  uint64_t size() const override { return header_.original_bytes; }
  std::string name() const override { return source_->name(); }
  const ZFileHeader& header() const { return header_; }
  /// Bytes that the compressed blocks take, their CRCs included.
  uint64_t stored_bytes() const { return offsets_.back() - offsets_.front(); }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override;

 private:
  void read_index();
  void decode_block(uint64_t index, std::span<const std::byte> stored, std::span<std::byte> out) const;
  size_t block_length(uint64_t index) const;

  std::shared_ptr<const ByteSource> source_;
  ZFileHeader header_;
  std::vector<uint64_t> offsets_;  // where each block is stored, and one more for the end
};

}  // namespace obd::blockfs
