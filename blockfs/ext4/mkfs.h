#pragma once

#include <cstdint>

#include "blockfs/ext4/ext2_handle.h"

namespace obd::blockfs {

/// How many bytes of a disk of that size there are for each inode.
uint64_t bytes_per_inode(uint64_t disk_bytes);

/// Makes the structures of an empty ext4 filesystem (no root directory yet) and leaves them in the handle's
/// memory. The features and their reasons stand in blockfs/README.md. Bytes depend on the size alone.
Ext2Fs make_filesystem(Ext2Bridge& bridge, uint64_t disk_bytes);

}  // namespace obd::blockfs
