#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "blockfs/ext4/layer_applier.h"
#include "blockfs/worker_pool.h"
#include "convertor/image.h"
#include "convertor/options.h"
#include "convertor/progress.h"
#include "registry/registry.h"

namespace obd::convertor {

/// Everything that the images of one run share. All of it outlives the conversion.
struct Workshop {
  registry::Repository& source;
  registry::Repository& target;
  blockfs::WorkerPool& pool;
  ProgressBoard& progress;
  ConvertOptions options;
};

struct ConvertedLayer {
  Digest source_digest;
  Descriptor converted;
  blockfs::AppliedLayer applied = {};
  uint64_t uncompressed_bytes = 0;  // of the LSMT layer
};

struct ConvertedImage {
  Digest source_digest;
  Platform platform;
  Descriptor manifest;         // of the result
  std::string manifest_bytes;  // likewise
  std::vector<ConvertedLayer> layers;  // the separate base layer, if any, is not among them
};

/// Converts one image: applies its layers in order while the ones before are compressed and published and the
/// ones behind are fetched, and pushes the config when all of them are there. The manifest is left to the caller,
/// who knows under which name it goes.
///
/// `metadata_budget_bytes`: this image's share. `label` names the image in messages.
/// Errors: as the parts; an error of a layer says which. Nothing that refers to anything unfinished is pushed.
ConvertedImage convert_image(const Workshop& workshop, const registry::Manifest& manifest,
                             uint64_t metadata_budget_bytes, const std::string& label, std::stop_token stop);

}  // namespace obd::convertor
