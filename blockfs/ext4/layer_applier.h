#pragma once

#include <cstdint>
#include <memory>

#include "blockfs/delta_sink.h"
#include "blockfs/ext4/filesystem.h"
#include "blockfs/layer_tar.h"

namespace obd::blockfs {

/// What one layer held.
struct AppliedLayer {
  uint64_t entries = 0;
  uint64_t file_bytes = 0;
  uint64_t metadata_blocks = 0;
  /// Attributes that Linux does not take: outside ext4's namespaces, or user.* of what is neither a file nor
  /// a directory. They are left out.
  uint64_t skipped_xattrs = 0;
};

/// Applies a layer's changeset (OCI image specification, "Image Layer Filesystem Changeset") to a filesystem:
/// file data goes to `sink` as it comes, then every metadata block that differs from what lay below.
///
/// The stream is read to its end. Whiteouts hide what the layers below have, never what this layer has,
/// wherever they stand in it.
/// Errors: DataError that names the layer, the member and its offset; LayerDoesNotFit (capacity.h) when the
///         disk is full. The filesystem is then of no use any more.
AppliedLayer apply_layer(Filesystem& filesystem, MetadataStore& store, LayerTar& tar, DeltaSink& sink);

}  // namespace obd::blockfs
