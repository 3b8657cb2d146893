#pragma once

#include <cstdint>
#include <string>

#include "blockfs/ext4/filesystem.h"
#include "blockfs/layer_tar.h"

namespace obd::blockfs {

/// What a layer needs of a disk.
struct CapacityNeeds {
  uint64_t blocks = 0;
  uint64_t inodes = 0;
};

/// What `entry` and all that follows it in `tar` would take. Reads the archive to its end.
CapacityNeeds count_remaining(const TarEntry& entry, LayerTar& tar);

/// "--vsize N would do", for the least N in GiB that holds what `filesystem` holds now and `needs`; or that
/// no disk does.
std::string vsize_advice(const Filesystem& filesystem, const CapacityNeeds& needs);

/// Throws CapacityError if no ext4 file can have that size.
void check_file_size(uint64_t bytes);

inline constexpr uint64_t kMaxVsizeGib = 16384;

}  // namespace obd::blockfs
