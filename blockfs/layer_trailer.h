#pragma once

#include "blockfs/lsmt_format.h"
#include "common/byte_source.h"

namespace obd::blockfs {

/// The LSMT trailer of a layer blob in the form that we write: tar(ZFile(LSMT)). It says what the layer is
/// (disk size, UUIDs, user_tag) and costs two small reads at the blob's end, however large the layer:
/// neither jump table nor index is read.
///
/// Throws DataError for a blob of any other form; such a one is read with open_layer_blob().
LsmtHeader read_layer_trailer(const ByteSource& blob);

}  // namespace obd::blockfs
