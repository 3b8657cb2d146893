#include "convertor/manifest_copy.h"

#include <fmt/format.h>

#include "common/error.h"

namespace obd::convertor {
namespace {

constexpr int kMaxDepth = 4;

void copy(registry::Repository& source, registry::Repository& target, const Descriptor& descriptor, int depth,
          const std::stop_token& stop) {
  if (depth > kMaxDepth) throw DataError(fmt::format("indexes are nested more than {} deep", kMaxDepth));
  const registry::Manifest manifest = source.pull_manifest(descriptor.digest.text(), stop);
  if (manifest_kind(manifest.media_type) == ManifestKind::kIndex) {
    for (const Descriptor& child : parse_index(manifest).manifests)
      copy(source, target, child, depth + 1, stop);
  } else {
    const ImageManifest image = parse_manifest(manifest);
    registry::copy_blob(source, target, image.config.blob(), stop);
    for (const Descriptor& layer : image.layers) {
      // What may not be distributed stays where its URLs are, as in a push by Docker.
      if (layer.urls.empty()) registry::copy_blob(source, target, layer.blob(), stop);
    }
  }
  target.push_manifest(std::nullopt, manifest.media_type, manifest.bytes, stop);
}

}  // namespace

void copy_manifest(registry::Repository& source, registry::Repository& target, const Descriptor& manifest,
                   const std::stop_token& stop) {
  if (&source == &target || source.name() == target.name()) return;
  copy(source, target, manifest, 0, stop);
}

}  // namespace obd::convertor
