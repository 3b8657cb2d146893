#include "blockfs/ext4/allocator.h"

#include <ext2fs/ext2fs.h>
#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"

namespace obd::blockfs {
namespace {

/// Merges runs that touch or overlap; `runs` need not be sorted.
std::vector<BlockRun> merged(std::vector<BlockRun> runs) {
  std::sort(runs.begin(), runs.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<BlockRun> out;
  for (const BlockRun& run : runs) {
    if (!out.empty() && run.first <= out.back().first + out.back().count) {
      out.back().count = std::max(out.back().count, run.first + run.count - out.back().first);
    } else if (run.count > 0) {
      out.push_back(run);
    }
  }
  return out;
}

int collect_block(ext2_filsys /*fs*/, blk64_t* block, e2_blkcnt_t /*logical*/, blk64_t /*ref_block*/,
                  int /*ref_offset*/, void* data) {
  auto& runs = *static_cast<std::vector<BlockRun>*>(data);
  if (!runs.empty() && runs.back().first + runs.back().count == *block) {
    ++runs.back().count;
  } else {
    runs.push_back({*block, 1});
  }
  return 0;
}

}  // namespace

Allocator::Allocator(Ext2Fs fs) : fs_(fs) {
  find_static_blocks();
  begin_layer();
}

/// Content of reserved inodes (a journal, blocks kept for resizing) lies anywhere and never moves: it must
/// not push the cursor into the middle of the disk.
void Allocator::find_static_blocks() {
  std::vector<BlockRun> runs;
  for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
    blk64_t super = 0;
    blk64_t old_descriptors = 0;
    blk64_t new_descriptor = 0;
    ext2fs_super_and_bgd_loc2(fs_, group, &super, &old_descriptors, &new_descriptor, nullptr);
    if (group == 0 || super != 0) runs.push_back({super, 1});
    if (old_descriptors != 0) {
      const uint64_t count = ext2fs_has_feature_meta_bg(fs_->super)
                                 ? fs_->super->s_first_meta_bg
                                 : fs_->desc_blocks + fs_->super->s_reserved_gdt_blocks;
      runs.push_back({old_descriptors, count});
    }
    if (new_descriptor != 0) runs.push_back({new_descriptor, 1});
    runs.push_back({ext2fs_block_bitmap_loc(fs_, group), 1});
    runs.push_back({ext2fs_inode_bitmap_loc(fs_, group), 1});
    runs.push_back({ext2fs_inode_table_loc(fs_, group), fs_->inode_blocks_per_group});
  }
  for (ext2_ino_t inode = EXT2_BAD_INO; inode < EXT2_FIRST_INODE(fs_->super); ++inode) {
    if (inode == EXT2_ROOT_INO) continue;
    ext2_inode content{};
    if (ext2fs_read_inode(fs_, inode, &content) != 0 || !ext2fs_inode_has_valid_blocks2(fs_, &content))
      continue;
    ext2fs_block_iterate3(fs_, inode, BLOCK_FLAG_READ_ONLY, nullptr, collect_block, &runs);
  }
  static_ = merged(std::move(runs));
}

uint64_t Allocator::end_of_dynamic_blocks() const {
  const uint64_t last = ext2fs_blocks_count(fs_->super) - 1;
  uint64_t end = 0;
  size_t next_static = 0;
  for (blk64_t at = fs_->super->s_first_data_block; at <= last;) {
    blk64_t first = 0;
    if (ext2fs_find_first_set_block_bitmap2(fs_->block_map, at, last, &first) != 0) break;
    blk64_t after = last + 1;
    if (ext2fs_find_first_zero_block_bitmap2(fs_->block_map, first, last, &after) != 0) after = last + 1;
    // Within [first, after), what is the last block that is not static?
    uint64_t dynamic_from = first;
    while (next_static < static_.size() && static_[next_static].first < after) {
      const BlockRun& run = static_[next_static];
      if (run.first > dynamic_from) end = run.first;
      dynamic_from = std::max(dynamic_from, run.first + run.count);
      if (run.first + run.count > after) break;  // goes on behind; the next round needs it again
      ++next_static;
    }
    if (dynamic_from < after) end = after;
    at = after;
  }
  return end;
}

void Allocator::begin_layer() {
  block_cursor_ = std::max<uint64_t>(end_of_dynamic_blocks(), fs_->super->s_first_data_block);
  wrapped_ = false;
  const ext2_ino_t last = fs_->super->s_inodes_count;
  ext2_ino_t end = EXT2_FIRST_INODE(fs_->super);
  for (ext2_ino_t at = end; at <= last;) {
    ext2_ino_t first = 0;
    if (ext2fs_find_first_set_inode_bitmap2(fs_->inode_map, at, last, &first) != 0) break;
    if (ext2fs_find_first_zero_inode_bitmap2(fs_->inode_map, first, last, &end) != 0) {
      end = last + 1;
      break;
    }
    at = end;
  }
  inode_cursor_ = end;
}

BlockRun Allocator::next_free_run(uint64_t count) {
  const uint64_t last = ext2fs_blocks_count(fs_->super) - 1;
  for (int round = 0; round < 2; ++round) {
    blk64_t first = 0;
    if (block_cursor_ <= last &&
        ext2fs_find_first_zero_block_bitmap2(fs_->block_map, block_cursor_, last, &first) == 0) {
      blk64_t after = 0;
      const blk64_t limit = std::min<uint64_t>(last, first + count - 1);
      if (ext2fs_find_first_set_block_bitmap2(fs_->block_map, first, limit, &after) != 0) after = limit + 1;
      block_cursor_ = after;
      return {first, after - first};
    }
    // Nothing left behind the cursor: holes, from the start of the disk.
    wrapped_ = true;
    block_cursor_ = fs_->super->s_first_data_block;
  }
  throw DiskFull("the disk is full");
}

void Allocator::mark(BlockRun run, int in_use) {
  // The library counts in 32 bits.
  while (run.count > 0) {
    const uint64_t part = std::min<uint64_t>(run.count, 1 << 30);
    ext2fs_block_alloc_stats_range(fs_, run.first, static_cast<blk_t>(part), in_use);
    run.first += part;
    run.count -= part;
  }
}

std::vector<BlockRun> Allocator::allocate_blocks(uint64_t count) {
  if (count > ext2fs_free_blocks_count(fs_->super)) throw DiskFull("the disk is full");
  std::vector<BlockRun> runs;
  while (count > 0) {
    const BlockRun run = next_free_run(count);
    mark(run, +1);
    runs.push_back(run);
    count -= run.count;
  }
  return runs;
}

uint32_t Allocator::allocate_inode(bool is_directory) {
  const ext2_ino_t last = fs_->super->s_inodes_count;
  for (int round = 0; round < 2; ++round) {
    ext2_ino_t inode = 0;
    if (inode_cursor_ <= last &&
        ext2fs_find_first_zero_inode_bitmap2(fs_->inode_map, inode_cursor_, last, &inode) == 0) {
      ext2fs_inode_alloc_stats2(fs_, inode, +1, is_directory);
      inode_cursor_ = inode + 1;
      return inode;
    }
    inode_cursor_ = EXT2_FIRST_INODE(fs_->super);
  }
  throw DiskFull("the disk has no free inode");
}

void Allocator::free_blocks(BlockRun run) {
  const uint64_t end = ext2fs_blocks_count(fs_->super);
  blk64_t free_one = 0;
  if (run.count == 0 || run.first < fs_->super->s_first_data_block || run.first >= end ||
      run.count > end - run.first ||
      ext2fs_find_first_zero_block_bitmap2(fs_->block_map, run.first, run.first + run.count - 1, &free_one) ==
          0) {
    throw DataError(fmt::format("the ext4 filesystem below is damaged: an inode claims {} blocks at {}",
                                run.count, run.first));
  }
  mark(run, -1);
}

void Allocator::free_inode(uint32_t inode, bool is_directory) {
  ext2fs_inode_alloc_stats2(fs_, inode, -1, is_directory);
}

}  // namespace obd::blockfs
