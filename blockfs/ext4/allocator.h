#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "blockfs/ext4/ext2_handle.h"
#include "blockfs/ext4/filesystem.h"

namespace obd::blockfs {

/// Hands out blocks and inodes of one filesystem: first what lies behind everything in use, so that a layer's
/// blocks are one run; holes only when nothing else is left. The choice depends on the bitmaps at
/// begin_layer() and the calls since, so that a filesystem reopened from its blobs goes on alike.
///
/// Threads: one at a time.
/// Errors:  DiskFull.
class Allocator {
 public:
  /// `fs` has its bitmaps loaded and outlives this.
  explicit Allocator(Ext2Fs fs);

  void begin_layer();
  std::vector<BlockRun> allocate_blocks(uint64_t count);
  /// The next free block, left for the caller (libext2fs) to mark.
  uint64_t choose_block() { return next_free_run(1).first; }
  uint32_t allocate_inode(bool is_directory);
  /// Whether blocks may have been given out again that this layer had freed.
  bool reuses_blocks() const { return wrapped_; }
  /// Throws DataError if the run is not within the filesystem or not in use.
  void free_blocks(BlockRun run);
  void free_inode(uint32_t inode, bool is_directory);

 private:
  void find_static_blocks();
  uint64_t end_of_dynamic_blocks() const;
  BlockRun next_free_run(uint64_t count);
  void mark(BlockRun run, int in_use);

  Ext2Fs fs_;
  std::vector<BlockRun> static_;  // group metadata and reserved inodes' content, sorted, disjoint
  uint64_t block_cursor_ = 0;
  bool wrapped_ = false;  // the cursor has gone back to the start of the disk
  uint32_t inode_cursor_ = 0;
};

}  // namespace obd::blockfs
