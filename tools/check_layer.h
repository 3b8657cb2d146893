#pragma once

#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "tools/check_inode.h"

namespace obd::tools {

/// One member of a source layer's tar, as the archive names it.
struct LayerMember {
  std::string path;
  /// The target of a hardlink; `inode` is null then.
  std::string hardlink;
  std::shared_ptr<Inode> inode;
};

/// The next piece of a layer's blob, valid until the next call; empty at its end.
using LayerInput = std::function<std::span<const std::byte>()>;

/// Reads a source layer, compressed or not, with libarchive: a reader that shares nothing with the engine.
/// Content is hashed as it passes. Reads `input` to its end, also behind the archive's end mark.
///
/// Errors: DataError that starts with `name`.
/// Names:  raw bytes, as long as the process keeps the C locale; pax path and linkpath records in any case.
std::vector<LayerMember> read_layer(const std::string& name, const LayerInput& input, std::stop_token stop);

}  // namespace obd::tools
