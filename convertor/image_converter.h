#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "blockfs/ext4/layer_applier.h"
#include "convertor/image.h"
#include "convertor/run_context.h"

namespace obd::convertor {

struct ConvertedLayer {
  Digest source_digest;
  Descriptor converted;
  blockfs::AppliedLayer applied = {};
  uint64_t uncompressed_bytes = 0;  // of the LSMT layer
  bool reused = false;              // found, not made: nothing is known of what is in it
};

struct ConvertedImage {
  Digest source_digest;
  Platform platform;
  Descriptor manifest;                 // of the result
  std::string manifest_bytes;          // likewise
  std::vector<ConvertedLayer> layers;  // the separate base layer, if any, is not among them
  bool reused = false;                 // found as a whole
  bool recorded = false;               // as being in the target
};

/// What one of several images that are converted at a time may use.
struct ImageShare {
  uint64_t metadata_bytes;  // for the metadata of its filesystem
  size_t layers_ahead;      // fetched ahead of the one being applied
};

/// Converts one image: applies its layers in order while the ones before are compressed and published and the
/// ones behind are fetched, and pushes the config when all of them are there. The manifest is left to the
/// caller, who knows under which name it goes. The lowest layers are reused, as far as they are found.
///
/// `label` names the image in messages.
/// Errors: as the parts; an error of a layer says which. Nothing that refers to anything unfinished is
/// pushed.
ConvertedImage convert_image(const RunContext& context, const registry::Manifest& manifest,
                             const ImageShare& share, const std::string& label, std::stop_token stop);

}  // namespace obd::convertor
