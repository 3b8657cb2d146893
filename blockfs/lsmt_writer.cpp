#include "blockfs/lsmt_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "common/error.h"

namespace obd::blockfs {

LsmtWriter::LsmtWriter(Output out, uint64_t virtual_bytes, std::string uuid, std::string parent_uuid)
    : out_(std::move(out)) {
  trailer_ = LsmtHeader{.flags = LsmtHeader::kFlagDataFile | LsmtHeader::kFlagSealed,
                        .virtual_bytes = virtual_bytes,
                        .uuid = std::move(uuid),
                        .parent_uuid = std::move(parent_uuid),
                        .user_tag = {}};
  LsmtHeader header = trailer_;
  header.flags |= LsmtHeader::kFlagHeader;
  out_(header.encode());
}

void LsmtWriter::add(uint64_t sector, uint64_t sectors, bool zeroed) {
  OBD_CHECK(sector <= trailer_.virtual_bytes / kSectorBytes &&
            sectors <= trailer_.virtual_bytes / kSectorBytes - sector);
  uint64_t data_sector = zeroed ? 0 : next_data_sector_;
  while (sectors > 0) {
    if (!entries_.empty()) {
      LsmtEntry& last = entries_.back();
      const bool follows = last.end() == sector && last.zeroed == zeroed &&
                           (zeroed || last.data_sector + last.sectors == data_sector);
      if (follows && last.sectors < LsmtEntry::kMaxRunSectors) {
        const auto take =
            static_cast<uint32_t>(std::min<uint64_t>(sectors, LsmtEntry::kMaxRunSectors - last.sectors));
        last.sectors += take;
        sector += take;
        sectors -= take;
        if (!zeroed) data_sector += take;
        continue;
      }
    }
    entries_.push_back({.sector = sector, .data_sector = data_sector, .sectors = 0, .zeroed = zeroed});
  }
  if (!zeroed) next_data_sector_ = data_sector;
}

void LsmtWriter::write(uint64_t sector, std::span<const std::byte> data) {
  OBD_CHECK(data.size() % kSectorBytes == 0);
  add(sector, data.size() / kSectorBytes, false);
  out_(data);
}

void LsmtWriter::write_zeroes(uint64_t sector, uint64_t sectors) {
  add(sector, sectors, true);
}

std::vector<LsmtEntry> resolve_overlaps(std::vector<LsmtEntry> in_order) {
  const auto starts_before = [](const LsmtEntry& a, const LsmtEntry& b) { return a.sector < b.sector; };
  std::vector<LsmtEntry> sorted = in_order;
  std::stable_sort(sorted.begin(), sorted.end(), starts_before);
  const bool disjoint = std::adjacent_find(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
                          return a.end() > b.sector;
                        }) == sorted.end();
  if (disjoint) return sorted;

  std::map<uint64_t, LsmtEntry> resolved;
  const auto tail_of = [](const LsmtEntry& entry, uint64_t from) {
    LsmtEntry tail = entry;
    tail.sector = from;
    tail.sectors = static_cast<uint32_t>(entry.end() - from);
    if (!entry.zeroed) tail.data_sector += from - entry.sector;
    return tail;
  };
  for (const LsmtEntry& entry : in_order) {
    auto at = resolved.upper_bound(entry.sector);
    if (at != resolved.begin() && std::prev(at)->second.end() > entry.sector) --at;
    while (at != resolved.end() && at->first < entry.end()) {
      const LsmtEntry old = at->second;
      at = resolved.erase(at);
      if (old.sector < entry.sector) {
        LsmtEntry head = old;
        head.sectors = static_cast<uint32_t>(entry.sector - old.sector);
        resolved.emplace(head.sector, head);
      }
      if (old.end() > entry.end()) {
        at = resolved.emplace(entry.end(), tail_of(old, entry.end())).first;
        break;
      }
    }
    resolved.emplace(entry.sector, entry);
  }
  std::vector<LsmtEntry> out;
  out.reserve(resolved.size());
  for (const auto& [sector, entry] : resolved) out.push_back(entry);
  return out;
}

std::vector<LsmtEntry> LsmtWriter::finish_index() {
  std::vector<LsmtEntry> index = resolve_overlaps(std::move(entries_));
  constexpr size_t kPerPage = LsmtHeader::kBytes / LsmtEntry::kBytes;
  const size_t padded = (index.size() + kPerPage - 1) / kPerPage * kPerPage;
  if (padded > LsmtHeader::kMaxEntries) {
    throw CapacityError(fmt::format("the layer is scattered over {} runs of sectors; readers accept {}",
                                    padded, LsmtHeader::kMaxEntries));
  }
  std::vector<std::byte> bytes(padded * LsmtEntry::kBytes);
  for (size_t i = 0; i < padded; ++i) {
    const LsmtEntry entry = i < index.size() ? index[i] : LsmtEntry{.sector = LsmtEntry::kPaddingSector};
    entry.encode(&bytes[i * LsmtEntry::kBytes]);
  }
  trailer_.index_offset = next_data_sector_ * kSectorBytes;
  trailer_.index_entries = padded;
  out_(bytes);
  return index;
}

void LsmtWriter::finish(const std::string& user_tag) {
  OBD_CHECK(trailer_.index_offset != 0);
  trailer_.user_tag = user_tag;
  out_(trailer_.encode());
}

}  // namespace obd::blockfs
