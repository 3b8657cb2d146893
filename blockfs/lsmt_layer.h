#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "blockfs/lsmt_format.h"
#include "common/byte_source.h"

namespace obd::blockfs {

/// One sealed LSMT layer, opened for reading.
///
/// Owns:    shares the source; the index is in memory (32 bytes per run).
/// Threads: any number at once.
/// Errors:  DataError naming the source and the offset.
class LsmtLayer {
 public:
  /// Reads and checks trailer and index.
  explicit LsmtLayer(std::shared_ptr<const ByteSource> source);
  /// A layer whose index is known although `source` may still be being written: nothing is read here.
  LsmtLayer(std::shared_ptr<const ByteSource> source, LsmtHeader header, std::vector<LsmtEntry> index);

  const LsmtHeader& header() const { return header_; }
  /// Sorted by sector, without overlaps and padding.
  const std::vector<LsmtEntry>& index() const { return index_; }
  /// Reads the data of a run of this layer; `sector_in_file` as in LsmtEntry::data_sector.
  void read_data(uint64_t sector_in_file, std::span<std::byte> out) const;
  std::string name() const { return source_->name(); }

 private:
  void check_entry(const LsmtEntry& entry, uint64_t previous_end, size_t number) const;

  std::shared_ptr<const ByteSource> source_;
  LsmtHeader header_;
  std::vector<LsmtEntry> index_;
};

}  // namespace obd::blockfs
