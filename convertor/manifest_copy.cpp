#include "convertor/manifest_copy.h"

#include <fmt/format.h>

#include "common/error.h"

namespace obd::convertor {
namespace {

constexpr size_t kMaxManifests = 10'000;

}  // namespace

void ManifestCopier::copy(const Descriptor& manifest, const std::stop_token& stop) {
  if (&source_ == &target_ || source_.name() == target_.name()) return;
  copy(manifest, 1, stop);
}

void ManifestCopier::copy(const Descriptor& descriptor, int depth, const std::stop_token& stop) {
  if (copied_.contains(descriptor.digest)) return;
  if (copied_.size() == kMaxManifests) {
    throw DataError(fmt::format("an index leads to more than {} manifests", kMaxManifests));
  }
  const registry::Manifest manifest = source_.pull_manifest(descriptor.digest.text(), stop);
  if (manifest_kind(manifest.media_type) == ManifestKind::kIndex) {
    check_index_depth(depth);
    for (const Descriptor& child : parse_index(manifest).manifests) copy(child, depth + 1, stop);
  } else {
    const ImageManifest image = parse_manifest(manifest);
    registry::copy_blob(source_, target_, image.config.blob(), stop);
    for (const Descriptor& layer : image.layers) {
      // What may not be distributed stays where its URLs are, as in a push by Docker.
      if (layer.urls.empty()) registry::copy_blob(source_, target_, layer.blob(), stop);
    }
  }
  target_.push_manifest(std::nullopt, manifest.media_type, manifest.bytes, stop);
  copied_.insert(descriptor.digest);
}

}  // namespace obd::convertor
