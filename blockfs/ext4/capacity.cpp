#include "blockfs/ext4/capacity.h"

#include <fmt/format.h>

#include <algorithm>

#include "blockfs/ext4/mkfs.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kInodeBytes = 256;

CapacityNeeds needs_of(const TarEntry& entry) {
  CapacityNeeds needs{.blocks = 0, .inodes = entry.type == TarEntry::Type::kHardlink ? 0u : 1u};
  for (const TarEntry::Segment& segment : entry.segments) {
    needs.blocks += (segment.bytes + 2 * kBlockBytes - 1) / kBlockBytes;
  }
  if (entry.type == TarEntry::Type::kDirectory) ++needs.blocks;
  return needs;
}

bool fits(uint64_t gib, const CapacityNeeds& needs) {
  const uint64_t disk = gib * kGiB;
  const uint64_t inodes = disk / bytes_per_inode(disk);
  // Tables, bitmaps, descriptors, and a little for directories that grow.
  const uint64_t overhead = inodes * kInodeBytes / kBlockBytes + disk / kBlockBytes / 200;
  return needs.inodes + needs.inodes / 50 < inodes && needs.blocks + needs.blocks / 50 + overhead < disk / kBlockBytes;
}

}  // namespace

CapacityNeeds count_remaining(const TarEntry& entry, LayerTar& tar) {
  CapacityNeeds total = needs_of(entry);
  while (const TarEntry* next = tar.next()) {
    const CapacityNeeds needs = needs_of(*next);
    total.blocks += needs.blocks;
    total.inodes += needs.inodes;
  }
  return total;
}

std::string vsize_advice(const Filesystem& filesystem, const CapacityNeeds& needs) {
  const uint64_t disk = filesystem.block_count() * kBlockBytes;
  const uint64_t tables = uint64_t{filesystem.inode_count()} * kInodeBytes / kBlockBytes;
  const uint64_t used = filesystem.block_count() - filesystem.free_blocks();
  const CapacityNeeds all{.blocks = used - std::min(used, tables) + needs.blocks,
                          .inodes = filesystem.inode_count() - filesystem.free_inodes() + needs.inodes};
  uint64_t gib = disk / kGiB + 1;
  while (gib < kMaxVsizeGib && !fits(gib, all)) gib = std::min(kMaxVsizeGib, gib + std::max<uint64_t>(1, gib / 8));
  if (!fits(gib, all)) return fmt::format("no disk up to --vsize {} holds it", kMaxVsizeGib);
  return fmt::format("--vsize {} would do", gib);
}

void check_file_size(uint64_t bytes) {
  constexpr uint64_t kMaxFileBytes = (uint64_t{1} << 44) - kBlockBytes;  // 2^32 - 1 logical blocks
  if (bytes > kMaxFileBytes) {
    throw CapacityError(fmt::format("a file of {} bytes; ext4 holds at most {}", bytes, kMaxFileBytes));
  }
}

}  // namespace obd::blockfs
