#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace obd::blockfs {

/// Receives what a layer changes on the disk, in the order in which it is decided. What becomes of it (an
/// LSMT layer, a mapping, a raw disk) the engine does not know.
///
/// Threads: one at a time.
class DeltaSink {
 public:
  virtual ~DeltaSink() = default;

  /// The next bytes of a file: they belong at byte `disk_offset` of the disk and came from byte `tar_offset`
  /// of the uncompressed tar. Pieces of one block come in ascending order; what no piece covers of a block
  /// that has one is zero.
  virtual void file_data(uint64_t disk_offset, uint64_t tar_offset, std::span<const std::byte> data) = 0;
  /// One whole block of filesystem metadata, after all file data.
  virtual void metadata_block(uint64_t block, std::span<const std::byte> data) = 0;
};

}  // namespace obd::blockfs
