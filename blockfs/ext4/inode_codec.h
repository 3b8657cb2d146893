#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "blockfs/ext4/extent_tree.h"
#include "blockfs/ext4/filesystem.h"

struct ext2_inode;
struct ext2_inode_large;

namespace obd::blockfs {

/// The first 256 bytes of an inode as they stand on the disk, field by field (kernel documentation,
/// filesystems/ext4, "Inode Table"). libext2fs reads, writes and checksums them.
class InodeBytes {
 public:
  static constexpr int kBytes = 256;
  /// A symlink's target of fewer bytes stands in the inode.
  static constexpr size_t kInlineBytes = 60;

  ext2_inode* c_inode() { return reinterpret_cast<ext2_inode*>(bytes_.data()); }
  ext2_inode_large* c_large() { return reinterpret_cast<ext2_inode_large*>(bytes_.data()); }

  /// A new inode with one link.
  void initialise(const InodeAttributes& attributes);
  /// Keeps size, links and content. All four timestamps become the mtime, clamped to ext4's range.
  void set_attributes(const InodeAttributes& attributes);
  InodeAttributes attributes() const;
  /// What a freed inode looks like.
  void clear();

  uint64_t size() const;
  void set_size(uint64_t bytes);
  uint32_t links() const;
  void set_links(uint32_t links);
  /// Blocks of 4096 bytes.
  void set_block_count(uint64_t blocks);
  void set_indexed(bool indexed);

  bool has_extents() const;
  /// Forgets block pointers of the old kind.
  void use_extents();
  ExtentRoot extent_root() const;
  void set_extent_root(const ExtentRoot& root);

  bool has_xattrs() const;
  uint64_t xattr_block() const;

  void set_device(uint32_t major, uint32_t minor);
  void set_inline_target(const std::string& target);
  /// None if the target stands in a block.
  std::optional<std::string> inline_target() const;

 private:
  template <class T>
  T get(size_t at) const;
  template <class T>
  void set(size_t at, T value);
  void set_time(size_t at, size_t extra_at, int64_t seconds, uint32_t nanoseconds);

  alignas(8) std::array<std::byte, kBytes> bytes_{};
};

}  // namespace obd::blockfs
