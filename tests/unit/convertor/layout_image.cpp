#include "tests/unit/convertor/layout_image.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/compression.h"
#include "tests/support/streams.h"

namespace obd::convertor {
namespace {

namespace fs = std::filesystem;
namespace media_type = registry::media_type;
using Json = nlohmann::ordered_json;

Json descriptor_json(const Descriptor& descriptor) {
  Json json = {
      {"mediaType", descriptor.media_type}, {"digest", descriptor.digest.text()}, {"size", descriptor.size}};
  if (!descriptor.annotations.empty()) json["annotations"] = descriptor.annotations;
  if (descriptor.platform) {
    json["platform"] = {{"architecture", descriptor.platform->architecture}, {"os", descriptor.platform->os}};
    if (!descriptor.platform->variant.empty()) json["platform"]["variant"] = descriptor.platform->variant;
  }
  return json;
}

}  // namespace

LayoutImages::LayoutImages()
    : path_(directory_.path() / "layout"),
      repository_(registry::open_repository("oci:" + path_.string(), {})) {}

Descriptor LayoutImages::add_blob(std::string_view media_type, const test::Bytes& content) {
  return {.media_type = std::string(media_type),
          .digest = repository_->push_bytes(test::to_text(content), {}),
          .size = content.size(),
          .annotations = {},
          .platform = {}};
}

Descriptor LayoutImages::add_manifest(std::string_view media_type, const std::string& bytes,
                                      const std::optional<std::string>& tag) {
  return {.media_type = std::string(media_type),
          .digest = repository_->push_manifest(tag, std::string(media_type), bytes, {}),
          .size = bytes.size(),
          .annotations = {},
          .platform = {}};
}

Descriptor LayoutImages::add_image(const std::vector<SourceLayer>& layers,
                                   const std::optional<std::string>& tag, const Platform& platform) {
  Json config = {{"architecture", platform.architecture},
                 {"os", platform.os},
                 {"config", {{"Env", {"A=1"}}}},
                 {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array()}}},
                 {"history", Json::array()}};
  Json manifest = {{"schemaVersion", 2},
                   {"mediaType", media_type::kOciManifest},
                   {"config", nullptr},
                   {"layers", Json::array()}};
  for (const SourceLayer& layer : layers) {
    const test::Bytes& blob = layer.blob.empty() ? test::gzip(layer.tar) : layer.blob;
    if (layer.urls.empty()) {
      manifest["layers"].push_back(descriptor_json(add_blob(media_type::kOciLayerGzip, blob)));
    } else {
      manifest["layers"].push_back({{"mediaType", media_type::kOciForeignLayerGzip},
                                    {"digest", Digest::of(blob).text()},
                                    {"size", blob.size()},
                                    {"urls", layer.urls}});
    }
    config["rootfs"]["diff_ids"].push_back(layer.diff_id.value_or(Digest::of(layer.tar)).text());
    config["history"].push_back({{"created_by", "test"}});
  }
  manifest["config"] = descriptor_json(add_blob(media_type::kOciConfig, test::to_bytes(config.dump())));
  Descriptor image = add_manifest(media_type::kOciManifest, manifest.dump(), tag);
  image.platform = platform;
  return image;
}

Descriptor LayoutImages::add_index(const std::vector<Descriptor>& manifests,
                                   const std::optional<std::string>& tag) {
  Json index = {{"schemaVersion", 2}, {"mediaType", media_type::kOciIndex}, {"manifests", Json::array()}};
  for (const Descriptor& manifest : manifests) index["manifests"].push_back(descriptor_json(manifest));
  return add_manifest(media_type::kOciIndex, index.dump(), tag);
}

std::string LayoutImages::manifest(const std::string& reference) {
  return repository_->pull_manifest(reference, {}).bytes;
}

fs::path LayoutImages::blob_path(const Digest& digest) const {
  return path_ / "blobs" / "sha256" / std::string(digest.hex());
}

std::string LayoutImages::blob(const Digest& digest) const {
  return test::read_file(blob_path(digest));
}

std::vector<std::string> LayoutImages::files() const {
  std::vector<std::string> found;
  if (!fs::exists(path_)) return found;
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {
    if (entry.is_regular_file()) found.push_back(fs::relative(entry.path(), path_).string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

ConvertResult convert(LayoutConversion conversion) {
  if (conversion.options.vsize_gib == ConvertOptions().vsize_gib) conversion.options.vsize_gib = 1;
  conversion.options.work_directory = std::move(conversion.work_directory);
  blockfs::WorkerPool pool(conversion.threads);
  ProgressBoard progress;
  const Workshop workshop{.source = conversion.source.repository(),
                          .target = conversion.target.repository(),
                          .pool = pool,
                          .progress = progress,
                          .options = std::move(conversion.options),
                          .records = conversion.records,
                          .foreign = conversion.foreign};
  return convert_reference(workshop, conversion.reference, "out", std::move(conversion.stop));
}

}  // namespace obd::convertor
