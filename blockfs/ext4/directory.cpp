#include "blockfs/ext4/directory.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <xxhash.h>

#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr size_t kDirentBytes = 8;  // before the name

/// Names come from strangers: a seed that they cannot know keeps them from aiming at one slot. No byte of the
/// output depends on it.
uint64_t hash_seed() {
  static const uint64_t seed = [] {
    uint64_t value = 0;
    if (::getrandom(&value, sizeof value, 0) != sizeof value) value = reinterpret_cast<uintptr_t>(&value);
    return value;
  }();
  return seed;
}

[[noreturn]] void damaged(uint32_t inode, std::string_view what) {
  throw DataError(fmt::format("the ext4 filesystem below is damaged: directory inode {}: {}", inode, what));
}

}  // namespace

/// Where the name is, or the free slot where it would be.
size_t Directory::slot_of(std::string_view name) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = XXH3_64bits_withSeed(name.data(), name.size(), hash_seed()) & mask;
  while (slots_[slot] != kNone && this->name(slots_[slot]) != name) slot = (slot + 1) & mask;
  return slot;
}

void Directory::grow() {
  std::vector<Index> old(std::max<size_t>(8, slots_.size() * 2), kNone);
  slots_.swap(old);
  for (Index at = 0; at < entries_.size(); ++at) slots_[slot_of(name(at))] = at;
}

Directory::Index Directory::find(std::string_view name) const {
  if (slots_.empty()) return kNone;
  const Index at = slots_[slot_of(name)];
  return at != kNone && entries_[at].inode != 0 ? at : kNone;
}

Directory::Index Directory::insert(std::string_view name, uint32_t inode, FileType type, bool fresh) {
  OBD_CHECK(!name.empty() && name.size() <= kMaxNameBytes && inode != 0);
  if ((entries_.size() + 1) * 4 > slots_.size() * 3) grow();
  Index& slot = slots_[slot_of(name)];
  if (slot == kNone) {
    slot = static_cast<Index>(entries_.size());
    entries_.push_back({.name_offset = static_cast<uint32_t>(names_.size()),
                        .name_bytes = static_cast<uint8_t>(name.size())});
    names_.append(name);
  }
  Entry& entry = entries_[slot];  // a removed one of the same name keeps its place
  OBD_CHECK(entry.inode == 0);
  entry.inode = inode;
  entry.type = type;
  entry.fresh = fresh;
  if (type == FileType::kDirectory) ++subdirectories_;
  return slot;
}

void Directory::replace(Index at, uint32_t inode, FileType type) {
  Entry& entry = entries_[at];
  if (entry.type == FileType::kDirectory) --subdirectories_;
  if (type == FileType::kDirectory) ++subdirectories_;
  entry.inode = inode;
  entry.type = type;
  entry.fresh = true;
}

void Directory::remove(Index at) {
  if (entries_[at].type == FileType::kDirectory) --subdirectories_;
  entries_[at].inode = 0;
}

uint64_t Directory::memory_bytes() const {
  return sizeof *this + entries_.capacity() * sizeof(Entry) + names_.capacity() +
         slots_.capacity() * sizeof(Index);
}

Directory Directory::load(Filesystem& filesystem, uint32_t inode) {
  Directory directory(inode, inode);
  const std::vector<BlockRun> runs = filesystem.content_blocks(inode);
  directory.changed = runs.empty();  // the root of a new filesystem is yet to be written
  for (const BlockRun& run : runs) {
    for (uint64_t i = 0; i < run.count; ++i) {
      const std::vector<std::byte> block = filesystem.read_directory_block(run.first + i);
      // Inner nodes of a hash tree and checksums look like unused entries.
      for (size_t at = 0; at < block.size();) {
        if (block.size() - at < kDirentBytes) damaged(inode, "an entry runs over its block");
        const auto target = load_le<uint32_t>(&block[at]);
        const size_t length = load_le<uint16_t>(&block[at + 4]);
        const size_t name_bytes = std::to_integer<size_t>(block[at + 6]);
        if (length < kDirentBytes || length % 4 != 0 || length > block.size() - at ||
            (target != 0 && name_bytes + kDirentBytes > length)) {
          damaged(inode, fmt::format("malformed entry at byte {} of block {}", at, run.first + i));
        }
        const std::string_view name(reinterpret_cast<const char*>(&block[at + kDirentBytes]),
                                    target != 0 ? name_bytes : 0);
        if (target > filesystem.inode_count()) damaged(inode, "an entry points to no inode");
        if (name == "..") {
          directory.parent_ = target;
        } else if (target != 0 && name != ".") {
          if (name.empty() || directory.find(name) != kNone) damaged(inode, "an empty or repeated name");
          directory.insert(name, target, static_cast<FileType>(block[at + 7]), false);
        }
        at += length;
      }
    }
  }
  return directory;
}

}  // namespace obd::blockfs
