#pragma once

#include <map>
#include <memory>
#include <stop_token>
#include <string>

#include "common/byte_source.h"

namespace obd::registry {

/// Content by member name, which is also the order in the archive.
using TarContent = std::map<std::string, std::shared_ptr<const ByteSource>>;

/// Writes a tar archive (ustar; pax headers only for what ustar cannot say) of files that belong to root,
/// 0644, with the time 0: the bytes depend on `members` alone.
///
/// Errors: what `out` and the members throw; Cancelled.
void write_tar(ByteSink& out, const TarContent& members, const std::stop_token& stop);

}  // namespace obd::registry
