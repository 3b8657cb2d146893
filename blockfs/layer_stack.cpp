#include "blockfs/layer_stack.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "common/error.h"

namespace obd::blockfs {
namespace {

using Extent = LayerStack::Extent;

/// The part of `extent` from `from` up to `to`.
Extent clip(const Extent& extent, uint64_t from, uint64_t to) {
  Extent part = extent;
  part.entry.sector = from;
  part.entry.sectors = static_cast<uint32_t>(to - from);
  if (!part.entry.zeroed) part.entry.data_sector += from - extent.entry.sector;
  return part;
}

/// One pass over both, the upper hiding the lower.
std::vector<Extent> overlay(const std::vector<Extent>& lower, const std::vector<LsmtEntry>& upper,
                            uint32_t layer) {
  std::vector<Extent> out;
  out.reserve(lower.size() + upper.size());
  size_t low = 0;
  uint64_t covered = 0;  // all below this sector is decided
  const auto copy_lower_until = [&](uint64_t until) {
    while (low < lower.size() && lower[low].entry.sector < until) {
      const LsmtEntry& entry = lower[low].entry;
      const uint64_t from = std::max(entry.sector, covered);
      const uint64_t to = std::min(entry.end(), until);
      if (from < to) out.push_back(clip(lower[low], from, to));
      if (entry.end() > until) break;
      ++low;
    }
  };
  for (const LsmtEntry& entry : upper) {
    copy_lower_until(entry.sector);
    out.push_back({entry, layer});
    covered = entry.end();
  }
  copy_lower_until(UINT64_MAX);
  return out;
}

}  // namespace

LayerStack::LayerStack(const std::vector<std::shared_ptr<const LsmtLayer>>& bottom_first) {
  for (const auto& layer : bottom_first) push(layer);
}

void LayerStack::push(std::shared_ptr<const LsmtLayer> layer) {
  if (layers_.size() == LsmtHeader::kMaxLayers) {
    throw CapacityError(fmt::format("more than {} layers: readers accept no more", LsmtHeader::kMaxLayers));
  }
  if (!layers_.empty()) {
    const std::string& expected = layers_.back()->header().uuid;
    const std::string& found = layer->header().parent_uuid;
    if (!expected.empty() && !found.empty() && expected != found) {
      throw DataError(fmt::format("{}: it was made on top of {}, but {} with UUID {} lies below",
                                  layer->name(), found, layers_.back()->name(), expected));
    }
  }
  extents_ = overlay(extents_, layer->index(), static_cast<uint32_t>(layers_.size()));
  layers_.push_back(std::move(layer));
}

void LayerStack::do_read_at(uint64_t offset, std::span<std::byte> out) const {
  const uint64_t first = offset / kSectorBytes;
  const uint64_t last = (offset + out.size() - 1) / kSectorBytes;
  if (offset % kSectorBytes == 0 && out.size() % kSectorBytes == 0) return read_sectors(first, out);
  std::vector<std::byte> whole((last - first + 1) * kSectorBytes);
  read_sectors(first, whole);
  std::memcpy(out.data(), whole.data() + offset % kSectorBytes, out.size());
}

void LayerStack::read_sectors(uint64_t sector, std::span<std::byte> out) const {
  auto extent = std::partition_point(extents_.begin(), extents_.end(),
                                     [&](const Extent& e) { return e.entry.end() <= sector; });
  while (!out.empty()) {
    const uint64_t wanted_end = sector + out.size() / kSectorBytes;
    const bool mapped = extent != extents_.end() && extent->entry.sector <= sector;
    uint64_t end = wanted_end;
    if (extent != extents_.end()) end = std::min(end, mapped ? extent->entry.end() : extent->entry.sector);
    const auto part = out.first((end - sector) * kSectorBytes);
    if (!mapped || extent->entry.zeroed) {
      std::memset(part.data(), 0, part.size());
    } else if (extent->entry.tag != 0) {
      throw DataError(fmt::format("{}: sector {} lies in the source layer of a TurboOCI image",
                                  layers_[extent->layer]->name(), sector));
    } else {
      layers_[extent->layer]->read_data(extent->entry.data_sector + (sector - extent->entry.sector), part);
    }
    if (mapped) ++extent;
    out = out.subspan(part.size());
    sector = end;
  }
}

}  // namespace obd::blockfs
