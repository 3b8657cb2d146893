#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "blockfs/ext4/filesystem.h"

namespace obd::blockfs {

/// The 60 bytes in an inode that hold the root of an extent tree.
using ExtentRoot = std::array<std::byte, 60>;

/// How an extent tree reaches its blocks.
struct ExtentTreeIo {
  std::function<void(uint64_t block, MetadataStore::Page& out)> read;
  /// Fills in the checksum and writes.
  std::function<void(uint64_t block, MetadataStore::Page& page)> write;
  std::function<uint64_t()> allocate;
  uint64_t block_count = 0;  // of the filesystem
};

/// Builds the tree for `extents` (ascending, physical runs of any length) in as few blocks as it takes, full
/// from the left. Returns the root and the number of blocks it allocated.
struct BuiltTree {
  ExtentRoot root{};
  uint64_t tree_blocks = 0;
};
BuiltTree build_extent_tree(const std::vector<FileExtent>& extents, const ExtentTreeIo& io);

/// Reads a tree made by anyone. Throws DataError for one that is malformed or points outside the filesystem.
struct WalkedTree {
  std::vector<FileExtent> extents;
  std::vector<uint64_t> tree_blocks;
};
WalkedTree walk_extent_tree(const ExtentRoot& root, const ExtentTreeIo& io);

}  // namespace obd::blockfs
