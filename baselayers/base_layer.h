#pragma once

#include <cstdint>

#include "blockfs/zfile_writer.h"
#include "common/byte_source.h"

namespace obd::baselayers {

/// Writes a layer that holds an empty ext4 filesystem of `vsize_gib` GiB: tar(ZFile(LSMT)). The bytes depend
/// on the two numbers and the algorithm alone.
void write_base_layer(ByteSink& out, uint64_t vsize_gib, const blockfs::ZFileOptions& options);

}  // namespace obd::baselayers
