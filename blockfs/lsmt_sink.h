#pragma once

#include <array>

#include "blockfs/delta_sink.h"
#include "blockfs/lsmt_writer.h"

namespace obd::blockfs {

/// Stores all data in an LSMT layer: file content as it comes, metadata behind it.
///
/// Owns:    nothing; `writer` must outlive it.
/// Threads: one at a time.
class LsmtSink final : public DeltaSink {
 public:
  explicit LsmtSink(LsmtWriter& writer) : writer_(writer) {}

  void file_data(uint64_t disk_offset, uint64_t tar_offset, std::span<const std::byte> data) override;
  void metadata_block(uint64_t block, std::span<const std::byte> data) override;

 private:
  void flush_partial();

  LsmtWriter& writer_;
  std::array<std::byte, kBlockBytes> partial_{};
  uint64_t partial_block_ = 0;
  size_t partial_bytes_ = 0;  // 0: none
};

}  // namespace obd::blockfs
