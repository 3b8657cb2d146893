#pragma once

#include <memory>
#include <optional>

#include "blockfs/lsmt_layer.h"
#include "blockfs/zfile_reader.h"

namespace obd::blockfs {

/// A layer blob with whatever wrappers it has: tar(ZFile(LSMT)), ZFile(LSMT), tar(LSMT) or LSMT, told apart
/// by their magic numbers (blockfs/FORMAT.md §1).
struct LayerBlob {
  bool in_tar = false;
  /// None where the LSMT layer is not compressed.
  std::shared_ptr<const ZFileReader> zfile;
  /// The LSMT file itself, unwrapped and decompressed.
  std::shared_ptr<const ByteSource> lsmt;
  std::shared_ptr<const LsmtLayer> layer;
};

/// Opens and checks headers and indexes. Throws DataError that says what was found instead of a layer.
LayerBlob open_layer_blob(std::shared_ptr<const ByteSource> blob);

}  // namespace obd::blockfs
