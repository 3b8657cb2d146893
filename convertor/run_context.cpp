#include "convertor/run_context.h"

#include <fmt/format.h>

#include "blockfs/lsmt_format.h"

namespace obd::convertor {

std::string ConvertOptions::layer_key() const {
  return fmt::format("overlaybd-convertor/1 ext4 {} vsize={} {}/{}", mkfs ? "mkfs" : "base", vsize_gib,
                     blockfs::algorithm_name(zfile.algorithm), zfile.block_bytes);
}

RunContext::RunContext(const Workshop& shared) : workshop(shared) {
  const ConvertOptions& options = workshop.options;
  if (!options.mkfs) base = std::make_unique<BaseLayer>(options.base_layer, options.vsize_gib);
  if (workshop.records != nullptr && options.upload) {
    if (!workshop.target.can_keep_blobs()) held = std::make_unique<HeldRecords>(*workshop.records);
    reuse = std::make_unique<Reuse>(held ? *held : *workshop.records, workshop.target, options.require_db);
  }
}

ResultForm RunContext::form(const registry::Manifest& source) const {
  ResultForm form{.types = media_types()};
  if (workshop.options.referrer) {
    form.subject =
        Descriptor{.media_type = source.media_type, .digest = source.digest, .size = source.bytes.size()};
  }
  return form;
}

LayerIdentity RunContext::identity(const SourceImage& image, size_t index,
                                   const std::optional<Digest>& below) const {
  const std::string bottom_uuid = base ? base->uuid() : "";
  return {.source_digest = image.manifest.layers[index].digest,
          .chain_id = image.chain_ids[index],
          .lineage = fmt::format("{} below={}", workshop.options.layer_key(), below ? below->text() : "none"),
          .virtual_bytes = workshop.options.vsize_gib << 30,
          .parent_uuid = index == 0 ? bottom_uuid : blockfs::lsmt_uuid(image.chain_ids[index - 1])};
}

std::string RunContext::layer_recipe() const {
  return fmt::format("{} base={}", workshop.options.layer_key(), base ? base->blob().digest.text() : "none");
}

std::string RunContext::manifest_recipe() const {
  return fmt::format("{}{}", layer_recipe(), workshop.options.referrer ? " referrer" : "");
}

}  // namespace obd::convertor
