#pragma once

#include <cstdint>
#include <string>

#include "blockfs/ext4/filesystem.h"
#include "blockfs/layer_tar.h"

namespace obd::blockfs {

/// What something takes of a disk.
struct CapacityNeeds {
  uint64_t blocks = 0;
  uint64_t inodes = 0;

  void add(const CapacityNeeds& more);
};

/// A layer that the disk does not hold. `needs` is what the filesystem held before and what the layer takes:
/// who knows the layers above adds theirs and says with vsize_advice() which size would do.
class LayerDoesNotFit : public CapacityError {
 public:
  LayerDoesNotFit(const std::string& where, uint64_t disk_gib, const CapacityNeeds& all);
  const CapacityNeeds& needs() const { return needs_; }

 private:
  CapacityNeeds needs_;
};

CapacityNeeds needs_of(const TarEntry& entry);
/// What all members from here on take. Reads the archive to its end, or until no disk would hold them.
CapacityNeeds count_remaining(LayerTar& tar);
/// What the filesystem holds, its own tables aside.
CapacityNeeds needs_of(const Filesystem& filesystem);

/// "--vsize N would do", for the least N in GiB above `disk_gib` that holds it; or that no disk does.
std::string vsize_advice(uint64_t disk_gib, const CapacityNeeds& needs);

/// Throws CapacityError if no ext4 file can have that size.
void check_file_size(uint64_t bytes);

inline constexpr uint64_t kMaxVsizeGib = 16384;

}  // namespace obd::blockfs
