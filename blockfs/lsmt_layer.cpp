#include "blockfs/lsmt_layer.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"

namespace obd::blockfs {

LsmtLayer::LsmtLayer(std::shared_ptr<const ByteSource> source) : source_(std::move(source)) {
  const uint64_t size = source_->size();
  if (size < 2 * LsmtHeader::kBytes) {
    throw DataError(fmt::format("{}: {} bytes are too few for an LSMT layer", name(), size));
  }
  const uint64_t trailer_at = size - LsmtHeader::kBytes;
  std::array<std::byte, LsmtHeader::kBytes> bytes;
  source_->read_at(trailer_at, bytes);
  header_ = LsmtHeader::decode(bytes, fmt::format("{}: LSMT trailer at byte {}", name(), trailer_at));
  if ((header_.flags & LsmtHeader::kFlagSealed) == 0) {
    throw DataError(fmt::format("{}: the LSMT layer is not sealed", name()));
  }
  if (header_.index_entries > LsmtHeader::kMaxEntries || header_.index_offset < LsmtHeader::kBytes ||
      header_.index_offset > trailer_at ||
      header_.index_entries > (trailer_at - header_.index_offset) / LsmtEntry::kBytes) {
    throw DataError(
        fmt::format("{}: LSMT index of {} entries at byte {} does not lie before the trailer at {}", name(),
                    header_.index_entries, header_.index_offset, trailer_at));
  }
  std::vector<std::byte> table(header_.index_entries * LsmtEntry::kBytes);
  source_->read_at(header_.index_offset, table);
  index_.reserve(header_.index_entries);
  uint64_t previous_end = 0;
  for (size_t i = 0; i < header_.index_entries; ++i) {
    const LsmtEntry entry = LsmtEntry::decode(&table[i * LsmtEntry::kBytes]);
    if (entry.sector == LsmtEntry::kPaddingSector) continue;
    check_entry(entry, previous_end, i);
    previous_end = entry.end();
    index_.push_back(entry);
  }
}

LsmtLayer::LsmtLayer(std::shared_ptr<const ByteSource> source, LsmtHeader header,
                     std::vector<LsmtEntry> index)
    : source_(std::move(source)), header_(std::move(header)), index_(std::move(index)) {}

void LsmtLayer::check_entry(const LsmtEntry& entry, uint64_t previous_end, size_t number) const {
  const auto fail = [&](std::string_view what) {
    throw DataError(fmt::format("{}: LSMT index entry {} (sector {}, {} sectors): {}", name(), number,
                                entry.sector, entry.sectors, what));
  };
  if (entry.sectors == 0) fail("it is empty");
  if (entry.sector < previous_end) fail("it is out of order");
  if (entry.end() > (header_.virtual_bytes + kSectorBytes - 1) / kSectorBytes)
    fail("it lies beyond the disk");
  if (entry.zeroed || entry.tag != 0) return;
  const uint64_t data_end = header_.index_offset / kSectorBytes;
  if (entry.data_sector < LsmtHeader::kBytes / kSectorBytes || entry.data_sector > data_end ||
      entry.sectors > data_end - entry.data_sector) {
    fail("its data lies outside the data section");
  }
}

void LsmtLayer::read_data(uint64_t sector_in_file, std::span<std::byte> out) const {
  source_->read_at(sector_in_file * kSectorBytes, out);
}

}  // namespace obd::blockfs
