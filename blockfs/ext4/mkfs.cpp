#include "blockfs/ext4/mkfs.h"

#include <ext2fs/ext2fs.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "blockfs/ext4/filesystem.h"
#include "common/digest.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

void set_features(ext2_super_block& super) {
  ext2fs_set_feature_xattr(&super);
  ext2fs_set_feature_dir_index(&super);
  ext2fs_set_feature_sparse_super2(&super);
  ext2fs_set_feature_filetype(&super);
  ext2fs_set_feature_extents(&super);
  ext2fs_set_feature_64bit(&super);
  ext2fs_set_feature_flex_bg(&super);
  ext2fs_set_feature_large_file(&super);
  ext2fs_set_feature_huge_file(&super);
  ext2fs_set_feature_dir_nlink(&super);
  ext2fs_set_feature_extra_isize(&super);
  ext2fs_set_feature_metadata_csum(&super);
}

/// The same for every disk of one size, so that it does not depend on who makes it.
void set_identity(ext2_filsys fs, uint64_t disk_bytes) {
  const Digest digest = Digest::of(fmt::format("overlaybd-convertor ext4 {}", disk_bytes));
  ext2_super_block& super = *fs->super;
  for (size_t i = 0; i < 16; ++i) {
    const auto byte_at = [&](size_t at) {
      return static_cast<uint8_t>(std::stoul(std::string(digest.hex().substr(2 * at, 2)), nullptr, 16));
    };
    super.s_uuid[i] = byte_at(i);
    reinterpret_cast<uint8_t*>(super.s_hash_seed)[i] = byte_at(16 + i);
  }
  super.s_uuid[6] = static_cast<uint8_t>((super.s_uuid[6] & 0x0F) | 0x80);  // RFC 9562: version 8, custom
  super.s_uuid[8] = static_cast<uint8_t>((super.s_uuid[8] & 0x3F) | 0x80);
  super.s_def_hash_version = EXT2_HASH_HALF_MD4;
  super.s_flags |= EXT2_FLAGS_UNSIGNED_HASH;
  super.s_mkfs_time = super.s_lastcheck = static_cast<uint32_t>(Filesystem::kSuperblockTime);
  super.s_max_mnt_count = -1;
  super.s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
  super.s_checksum_type = EXT2_CRC32C_CHKSUM;
  fs->now = Filesystem::kSuperblockTime;
  ext2fs_init_csum_seed(fs);
}

ext2_super_block parameters(uint64_t disk_bytes) {
  ext2_super_block super{};
  const uint64_t blocks = disk_bytes / kBlockBytes;
  const uint64_t groups = (blocks + 32767) / 32768;
  super.s_rev_level = EXT2_DYNAMIC_REV;
  super.s_log_block_size = super.s_log_cluster_size = 2;  // 4096
  super.s_inode_size = 256;
  super.s_min_extra_isize = super.s_want_extra_isize = 32;
  super.s_desc_size = EXT2_MIN_DESC_SIZE_64BIT;
  super.s_backup_bgs[0] = groups > 1 ? 1 : 0;
  // One flexible group: all bitmaps and tables stand together at the front.
  super.s_log_groups_per_flex =
      static_cast<uint8_t>(std::max<int>(1, static_cast<int>(std::bit_width(groups - 1))));
  super.s_inodes_count = static_cast<uint32_t>(disk_bytes / bytes_per_inode(disk_bytes));
  set_features(super);
  ext2fs_blocks_count_set(&super, blocks);
  return super;
}

/// Gives out runs of free blocks from the front of the disk.
class TablePlacer {
 public:
  explicit TablePlacer(ext2_filsys fs) : fs_(fs), cursor_(fs->super->s_first_data_block) {}

  uint64_t place(uint64_t count) {
    const blk64_t last = ext2fs_blocks_count(fs_->super) - 1;
    while (true) {
      blk64_t first = 0;
      if (ext2fs_find_first_zero_block_bitmap2(fs_->block_map, cursor_, last, &first) != 0 ||
          count > last - first + 1) {
        throw CapacityError("the disk is too small for its inode tables");
      }
      blk64_t taken = 0;  // by a backup of the superblock
      if (ext2fs_find_first_set_block_bitmap2(fs_->block_map, first, first + count - 1, &taken) != 0) {
        ext2fs_block_alloc_stats_range(fs_, first, static_cast<blk_t>(count), +1);
        cursor_ = first + count;
        return first;
      }
      cursor_ = taken;
    }
  }

 private:
  ext2_filsys fs_;
  blk64_t cursor_;
};

/// What ext2fs_allocate_tables() does for one flexible group, without its search from the start for each
/// table, which takes half a minute at 16 TiB.
void place_tables(ext2_filsys fs) {
  TablePlacer placer(fs);
  for (dgrp_t group = 0; group < fs->group_desc_count; ++group) {
    ext2fs_block_bitmap_loc_set(fs, group, placer.place(1));
  }
  for (dgrp_t group = 0; group < fs->group_desc_count; ++group) {
    ext2fs_inode_bitmap_loc_set(fs, group, placer.place(1));
  }
  for (dgrp_t group = 0; group < fs->group_desc_count; ++group) {
    ext2fs_inode_table_loc_set(fs, group, placer.place(fs->inode_blocks_per_group));
  }
}

}  // namespace

/// Images hold many small files: small disks get more inodes per byte than mke2fs's default of 1 per 16 KiB.
uint64_t bytes_per_inode(uint64_t disk_bytes) {
  if (disk_bytes < 16 * kGiB) return 4096;
  if (disk_bytes < 64 * kGiB) return 8192;
  if (disk_bytes <= 1024 * kGiB) return 16384;
  return 65536;
}

Ext2Fs make_filesystem(Ext2Bridge& bridge, uint64_t disk_bytes) {
  ext2_super_block super = parameters(disk_bytes);
  ext2_filsys fs = nullptr;
  bridge.check(
      ext2fs_initialize(bridge.device_name().c_str(), EXT2_FLAG_64BITS, &super, Ext2Bridge::manager(), &fs),
      "making the superblock");
  set_identity(fs, disk_bytes);
  place_tables(fs);
  for (ext2_ino_t inode = 1; inode < EXT2_FIRST_INODE(fs->super); ++inode) {
    ext2fs_inode_alloc_stats2(fs, inode, +1, inode == EXT2_ROOT_INO);
  }
  for (dgrp_t group = 0; group < fs->group_desc_count; ++group) {
    // Unmapped sectors read as zero: without this the kernel would write zeroes over every inode table.
    ext2fs_bg_flags_set(fs, group, EXT2_BG_INODE_ZEROED);
    ext2fs_group_desc_csum_set(fs, group);
  }
  ext2fs_mark_super_dirty(fs);
  return fs;
}

}  // namespace obd::blockfs
