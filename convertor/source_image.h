#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "convertor/image.h"
#include "convertor/options.h"
#include "registry/foreign_blobs.h"
#include "registry/registry.h"

namespace obd::convertor {

/// Where an image and its layers are read.
struct SourcePlace {
  registry::Repository& repository;
  /// Null: foreign layers are refused.
  registry::ForeignBlobs* foreign = nullptr;
};

/// An image of the source, read and checked, all but its layers.
struct SourceImage {
  ImageManifest manifest;
  std::string config_bytes;
  ImageConfig config;
  std::vector<Digest> chain_ids;  // one for each layer
};

/// Throws DataError for an image that cannot be converted: an artifact, no layers, layers and diff IDs that
/// do not match in number, a layer of unknown type, a foreign layer unless they are allowed; CapacityError
/// for more layers than overlaybd readers accept.
SourceImage read_source_image(const SourcePlace& source, const registry::Manifest& manifest,
                              const ConvertOptions& options, const std::stop_token& stop);

/// Repository::pull_blob() for a layer. A foreign one that the repository lacks comes from its URLs, or is
/// refused (DataError) where that is not allowed.
void pull_layer(const SourcePlace& source, const Descriptor& layer, const registry::BlobConsumer& consume,
                const std::stop_token& stop);

}  // namespace obd::convertor
