#pragma once

#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "convertor/options.h"
#include "convertor/source_image.h"

namespace obd::convertor {

/// An image of the source, or an index that leads to one.
struct SourceNode {
  registry::Manifest manifest;
  bool is_index = false;
  std::optional<Platform> platform = {};  // as the index says or, where it had to be known, the config
  std::string label = {};                 // tells an image from the others; empty for the only one
  /// Of an index, what there is to convert: place of the entry, digest.
  std::vector<std::pair<size_t, Digest>> children = {};
  /// Of an index, the places of the entries that stay in a merged one.
  std::vector<size_t> kept = {};

  Descriptor descriptor() const;
};

/// What a reference names: an image, or an index of any depth up to 4 with all that is to be converted of it.
struct ImageGraph {
  Digest root = {};
  std::map<Digest, SourceNode> nodes = {};  // what is named twice is there once
  std::vector<Digest> images = {};          // in the order in which the indexes name them; not empty
  std::vector<Digest> skipped = {};         // entries left out: attestations, images converted already
};

/// Reads it. Entries that say that they are for other platforms than are asked for are not even looked at:
/// an index may name what its repository lacks.
///
/// Errors: as the repository and the parsers; DataError for more than 32 MiB of manifests in all, and for an
///         entry whose size is not its manifest's; UsageError if the source has no image for a platform, or
///         none that is not converted already.
ImageGraph read_image_graph(const SourcePlace& source, const ConvertOptions& options,
                            const std::string& reference, const std::stop_token& stop);

}  // namespace obd::convertor
