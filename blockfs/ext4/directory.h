#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "blockfs/ext4/filesystem.h"

namespace obd::blockfs {

/// One directory in memory: its names, hashed, and what the current layer did to it.
///
/// Threads: one at a time.
class Directory {
 public:
  struct Entry {
    uint32_t inode = 0;  // 0: removed
    uint32_t name_offset = 0;
    uint8_t name_bytes = 0;
    FileType type = FileType::kUnknown;
    bool fresh = false;  // made by the current layer; no whiteout of this layer hides it
  };
  /// What find() and insert() return; valid as long as the directory lives.
  using Index = uint32_t;
  static constexpr Index kNone = UINT32_MAX;
  static constexpr size_t kMaxNameBytes = 255;

  /// A new, empty one.
  Directory(uint32_t inode, uint32_t parent) : inode_(inode), parent_(parent) {}
  /// Reads it. Throws DataError if it is damaged.
  static Directory load(Filesystem& filesystem, uint32_t inode);

  uint32_t inode() const { return inode_; }
  uint32_t parent() const { return parent_; }
  Index find(std::string_view name) const;
  /// `name` must not be there.
  Index insert(std::string_view name, uint32_t inode, FileType type, bool fresh);
  /// Points an existing name to another inode, as this layer's.
  void replace(Index at, uint32_t inode, FileType type);
  void set_fresh(Index at) { entries_[at].fresh = true; }
  void remove(Index at);
  const Entry& entry(Index at) const { return entries_[at]; }
  std::string_view name(Index at) const {
    return std::string_view(names_).substr(entries_[at].name_offset, entries_[at].name_bytes);
  }
  /// Entries including removed ones, whose inode is 0.
  Index end() const { return static_cast<Index>(entries_.size()); }
  size_t subdirectories() const { return subdirectories_; }
  uint64_t memory_bytes() const;

  /// Names were added, removed or replaced.
  bool changed = false;
  /// This layer has an entry for the directory itself.
  bool declared = false;
  /// The layer has entries in here or below.
  bool touched = false;

 private:
  size_t slot_of(std::string_view name) const;
  void grow();

  uint32_t inode_;
  uint32_t parent_;
  size_t subdirectories_ = 0;
  std::vector<Entry> entries_;
  std::string names_;
  std::vector<Index> slots_;  // open addressing; a power of two
};

/// A directory as it stands on the disk, whole blocks without their checksums: one linear block when the
/// names fit, else a hash tree. A function of the names, inodes and types alone.
struct EncodedDirectory {
  std::vector<std::byte> blocks;
  bool indexed = false;
};
/// Throws CapacityError if the names do not fit a tree of two levels (some 20 million names).
EncodedDirectory encode_directory(const Directory& directory, const Filesystem& filesystem);

}  // namespace obd::blockfs
