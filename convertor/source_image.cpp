#include "convertor/source_image.h"

#include <fmt/format.h>

#include "blockfs/lsmt_format.h"
#include "common/error.h"
#include "convertor/cache_artifact.h"

namespace obd::convertor {

SourceImage read_source_image(registry::Repository& repository, const registry::Manifest& manifest,
                              const ConvertOptions& options, const std::stop_token& stop) {
  refuse_cache(manifest);
  SourceImage image{.manifest = parse_manifest(manifest), .config_bytes = {}, .config = {}, .chain_ids = {}};
  image.config_bytes = registry::pull_small_blob(repository, image.manifest.config.blob(), stop);
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
  for (const Descriptor& layer : image.manifest.layers) require_layer_type(layer.media_type);
  image.chain_ids = chain_ids(image.config.diff_ids);
  return image;
}

}  // namespace obd::convertor
