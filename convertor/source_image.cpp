#include "convertor/source_image.h"

#include <fmt/format.h>

#include "blockfs/lsmt_format.h"
#include "common/error.h"
#include "convertor/cache_artifact.h"

namespace obd::convertor {

namespace {

[[noreturn]] void refuse_foreign_layer(const Descriptor& layer) {
  const std::string hosts = registry::hosts_of(layer.urls);
  throw DataError(fmt::format(
      "layer {} is a foreign layer ({}), which would be fetched from {}; --allow-foreign-layers allows that",
      layer.digest.text(), layer.media_type,
      hosts.empty() ? "the registry, since it has no URL that can be asked" : hosts));
}

void require_config_type(const Descriptor& config, const registry::Manifest& manifest) {
  if (config.media_type == registry::media_type::kOciConfig) return;
  if (config.media_type == registry::media_type::kDockerConfig) return;
  throw DataError(fmt::format("manifest {}: its config has the media type '{}': it is an artifact, no image",
                              manifest.digest.text(), config.media_type));
}

}  // namespace

SourceImage read_source_image(const SourcePlace& source, const registry::Manifest& manifest,
                              const ConvertOptions& options, const std::stop_token& stop) {
  refuse_cache(manifest);
  SourceImage image{.manifest = parse_manifest(manifest), .config_bytes = {}, .config = {}, .chain_ids = {}};
  require_config_type(image.manifest.config, manifest);
  image.config_bytes = registry::pull_small_blob(source.repository, image.manifest.config.blob(), stop);
  image.config = parse_config(image.config_bytes, image.manifest.config.digest);
  const std::string what = fmt::format("manifest {}", manifest.digest.text());
  const size_t layers = image.manifest.layers.size();
  if (layers == 0) throw DataError(fmt::format("{}: the image has no layers", what));
  if (layers != image.config.diff_ids.size()) {
    throw DataError(fmt::format("{}: {} layers, but its config has {} diff IDs", what, layers,
                                image.config.diff_ids.size()));
  }
  if (layers + (options.mkfs ? 0 : 1) > blockfs::LsmtHeader::kMaxLayers) {
    throw CapacityError(fmt::format("{}: {} layers; overlaybd readers accept {}", what, layers,
                                    blockfs::LsmtHeader::kMaxLayers));
  }
  for (const Descriptor& layer : image.manifest.layers) {
    require_layer_type(layer.media_type);
    if (is_foreign_layer(layer) && source.foreign == nullptr) refuse_foreign_layer(layer);
  }
  image.chain_ids = chain_ids(image.config.diff_ids);
  return image;
}

void pull_layer(const SourcePlace& source, const Descriptor& layer, const registry::BlobConsumer& consume,
                const std::stop_token& stop) {
  if (!is_foreign_layer(layer) || source.repository.has_blob(layer.blob(), stop)) {
    return source.repository.pull_blob(layer.blob(), consume, stop);
  }
  if (source.foreign == nullptr) refuse_foreign_layer(layer);
  source.foreign->pull(layer.blob(), layer.urls, consume, stop);
}

}  // namespace obd::convertor
