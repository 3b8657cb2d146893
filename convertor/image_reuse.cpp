#include "convertor/image_reuse.h"

#include <spdlog/spdlog.h>

#include "common/error.h"

namespace obd::convertor {
namespace {

/// None if the repository lacks it or holds something else under that digest.
std::optional<registry::Manifest> pull_if_there(registry::Repository& repository,
                                                const registry::BlobId& blob, const std::stop_token& stop) {
  try {
    auto manifest = registry::find_manifest(repository, blob.digest.text(), stop);
    if (manifest && manifest->bytes.size() == blob.size) return manifest;
  } catch (const DataError& error) {
    spdlog::info("manifest not reused cause=\"{}\"", error.what());
  }
  return std::nullopt;
}

/// Whether the layers of `candidate` are, one on top of the other, those of the source image.
bool proves_itself(const RunContext& context, const SourceImage& image, const std::vector<Descriptor>& layers,
                   const std::stop_token& stop) {
  registry::Repository& target = context.workshop.target;
  const size_t bottom = context.base ? 1 : 0;
  if (layers.size() != image.manifest.layers.size() + bottom) return false;
  if (context.base && layers.front().digest != context.base->blob().digest) return false;
  std::optional<Digest> below;
  if (context.base) below = layers.front().digest;
  for (size_t i = bottom; i < layers.size(); ++i) {
    const LayerIdentity identity = context.identity(image, i - bottom, below);
    const bool top = i + 1 == layers.size();
    // A registry looks for itself when the manifest is pushed.
    if (!target.location() && !target.has_blob(layers[i].blob(), stop)) return false;
    if (!context.reuse->is_recorded(identity, layers[i].blob(), stop)) return false;
    if (top && !context.reuse->is_layer(identity, layers[i].blob(), stop)) return false;
    below = layers[i].digest;
  }
  return true;
}

}  // namespace

std::optional<ConvertedImage> find_converted_image(const RunContext& context,
                                                   const registry::Manifest& source,
                                                   const std::stop_token& stop) {
  const std::string recipe = context.manifest_recipe();
  const std::string type(context.media_types() == MediaTypes::kOci ? registry::media_type::kOciManifest
                                                                   : registry::media_type::kDockerManifest);
  const auto row = context.reuse->find_manifest(source.digest, recipe, type, stop);
  if (!row) return std::nullopt;
  const auto forget = [&] {
    context.reuse->forget_manifest(source.digest, recipe,
                                   {.media_type = type, .digest = row->digest, .size = row->size}, stop);
    return std::nullopt;
  };
  std::optional<registry::Manifest> candidate;
  try {
    candidate = pull_if_there(context.workshop.target, *row, stop);
  } catch (const NetworkError& error) {  // whether it is there is not known: the image can still be made
    spdlog::info("manifest not reused cause=\"{}\"", error.what());
    return std::nullopt;
  }
  if (!candidate || candidate->media_type != type) return forget();
  const SourceImage image =
      read_source_image(context.workshop.source_place(), source, context.workshop.options, stop);
  std::vector<Descriptor> layers;
  try {
    layers = parse_manifest(*candidate).layers;
  } catch (const DataError& error) {
    spdlog::info("manifest not reused cause=\"{}\"", error.what());
    return forget();
  }
  RewrittenImage expected = rewrite_image(source.bytes, image.config_bytes, context.form(source), layers);
  if (expected.manifest_bytes != candidate->bytes || !proves_itself(context, image, layers, stop))
    return forget();
  // The rest of what the manifest names: who collected garbage may have spared the layers alone.
  if (context.base) context.base->publish(context.workshop.target, stop);
  context.workshop.target.push_bytes(expected.config_bytes, stop);

  ConvertedImage converted{.source_digest = source.digest,
                           .platform = image.config.platform,
                           .manifest = expected.manifest,
                           .manifest_bytes = std::move(expected.manifest_bytes),
                           .layers = {},
                           .reused = true};
  const size_t bottom = context.base ? 1 : 0;
  for (size_t i = bottom; i < layers.size(); ++i) {
    converted.layers.push_back({.source_digest = image.manifest.layers[i - bottom].digest,
                                .converted = layers[i],
                                .applied = {},
                                .reused = true});
  }
  return converted;
}

}  // namespace obd::convertor
