#pragma once

#include <stop_token>

#include "convertor/image.h"
#include "registry/registry.h"

namespace obd::convertor {

/// Brings a manifest, or an index with all that it names, to another repository, byte for byte. Nothing to do
/// where both are one. Foreign layers that have URLs are left to these. Indexes may be nested up to 4 deep.
void copy_manifest(registry::Repository& source, registry::Repository& target, const Descriptor& manifest,
                   const std::stop_token& stop);

}  // namespace obd::convertor
