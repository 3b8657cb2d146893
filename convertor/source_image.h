#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "convertor/image.h"
#include "convertor/options.h"
#include "registry/registry.h"

namespace obd::convertor {

/// An image of the source, read and checked, all but its layers.
struct SourceImage {
  ImageManifest manifest;
  std::string config_bytes;
  ImageConfig config;
  std::vector<Digest> chain_ids;  // one for each layer
};

/// Throws DataError for an image that cannot be converted: no layers, layers and diff IDs that do not match in
/// number, a layer of unknown type, a foreign layer unless `options` allow them; CapacityError for more layers
/// than overlaybd readers accept.
SourceImage read_source_image(registry::Repository& repository, const registry::Manifest& manifest,
                              const ConvertOptions& options, const std::stop_token& stop);

}  // namespace obd::convertor
