#pragma once

#include <optional>
#include <string>
#include <vector>

#include "convertor/image.h"
#include "registry/registry.h"

namespace obd::tools {

/// One image manifest with what it names, as far as that is small.
struct LoadedImage {
  registry::Manifest document;
  convertor::ImageManifest manifest;
  convertor::ImageConfig config;
  /// As the index says, else as the config does.
  convertor::Platform platform;

  /// "linux/arm64", or the digest where no platform is known.
  std::string label() const;
  /// Whether any layer says of itself that it is overlaybd's.
  bool is_overlaybd() const;
};

/// All that a reference leads to.
struct LoadedTree {
  std::vector<registry::Manifest> indexes;  // the outermost first; empty for a single image
  std::vector<LoadedImage> images;          // in the order of the indexes
  size_t attestations = 0;                  // entries about images; not loaded
};

/// Pulls manifests, indexes and configs, and verifies their digests. Throws DataError for indexes that are
/// nested too deeply or hold too many images.
LoadedTree load_images(registry::Repository& repository, const std::string& reference, std::stop_token stop);

/// Which images of an index are of interest where it holds both sources and what was made of them.
enum class ImageKind { kSource, kOverlaybd };
/// Takes the images of the other kind out, unless no other is there.
void prefer(LoadedTree& tree, ImageKind kind);

/// Takes out the images that are for none of the platforms `wanted`. One without a variant wants any; one
/// with a variant also takes what names none, unless something fits exactly. Returns those that nothing is
/// for.
std::vector<convertor::Platform> keep_platforms(LoadedTree& tree,
                                                const std::vector<convertor::Platform>& wanted);
/// What the images of `tree` are, for messages: "linux/amd64, linux/arm64/v8".
std::string labels_of(const LoadedTree& tree);

}  // namespace obd::tools
