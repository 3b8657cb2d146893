#include "blockfs/ext4/capacity.h"

#include <fmt/format.h>

#include <algorithm>

#include "blockfs/ext4/mkfs.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kInodeBytes = 256;

bool fits(uint64_t gib, const CapacityNeeds& needs) {
  const uint64_t disk = gib * kGiB;
  const uint64_t inodes = disk / bytes_per_inode(disk);
  // Tables, bitmaps, descriptors, and a little for directories that grow.
  const uint64_t overhead = inodes * kInodeBytes / kBlockBytes + disk / kBlockBytes / 200;
  return needs.inodes + needs.inodes / 50 < inodes &&
         needs.blocks + needs.blocks / 50 + overhead < disk / kBlockBytes;
}

}  // namespace

void CapacityNeeds::add(const CapacityNeeds& more) {
  blocks += more.blocks;
  inodes += more.inodes;
}

LayerDoesNotFit::LayerDoesNotFit(const std::string& where, uint64_t disk_gib, const CapacityNeeds& all)
    : CapacityError(fmt::format("{}: the disk of {} GiB is full", where, disk_gib)), needs_(all) {}

CapacityNeeds needs_of(const TarEntry& entry) {
  CapacityNeeds needs{.blocks = 0, .inodes = entry.type == TarEntry::Type::kHardlink ? 0u : 1u};
  for (const TarEntry::Segment& segment : entry.segments) {
    needs.blocks += segment.bytes / kBlockBytes + 2;
  }
  if (entry.type == TarEntry::Type::kDirectory) ++needs.blocks;
  return needs;
}

CapacityNeeds count_remaining(LayerTar& tar) {
  CapacityNeeds total;
  while (const TarEntry* entry = tar.next()) {
    total.add(needs_of(*entry));
    if (!fits(kMaxVsizeGib, total)) break;
  }
  return total;
}

CapacityNeeds needs_of(const Filesystem& filesystem) {
  const uint64_t tables = uint64_t{filesystem.inode_count()} * kInodeBytes / kBlockBytes;
  const uint64_t used = filesystem.block_count() - filesystem.free_blocks();
  return {.blocks = used - std::min(used, tables),
          .inodes = filesystem.inode_count() - filesystem.free_inodes()};
}

std::string vsize_advice(uint64_t disk_gib, const CapacityNeeds& needs) {
  uint64_t gib = std::min(disk_gib + 1, kMaxVsizeGib);
  while (gib < kMaxVsizeGib && !fits(gib, needs))
    gib = std::min(kMaxVsizeGib, gib + std::max<uint64_t>(1, gib / 8));
  if (!fits(gib, needs)) return fmt::format("no disk up to --vsize {} holds the image", kMaxVsizeGib);
  return fmt::format("--vsize {} would do", gib);
}

void check_file_size(uint64_t bytes) {
  constexpr uint64_t kMaxFileBytes = (uint64_t{1} << 44) - kBlockBytes;  // 2^32 - 1 logical blocks
  if (bytes > kMaxFileBytes) {
    throw CapacityError(fmt::format("a file of {} bytes; ext4 holds at most {}", bytes, kMaxFileBytes));
  }
}

}  // namespace obd::blockfs
