#include "convertor/image.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "common/json.h"

namespace obd::convertor {
namespace {

namespace media_type = registry::media_type;

/// More than any image has; the reference reader stacks at most 255 layers.
constexpr size_t kMaxLayers = 1000;
constexpr size_t kMaxIndexEntries = 1000;
/// Images have one or two; all of them may stand in one error message.
constexpr size_t kMaxUrls = 16;
constexpr size_t kMaxUrlBytes = 4096;
constexpr std::string_view kForeignTypes[] = {
    media_type::kDockerForeignLayer, media_type::kDockerForeignLayerGzip, media_type::kOciForeignLayer,
    media_type::kOciForeignLayerGzip, media_type::kOciForeignLayerZstd};
constexpr std::string_view kArtifactType = "application/vnd.containerd.overlaybd.native.v1+json";

std::string name_of(const Digest& digest) {
  return fmt::format("manifest {}", digest.text());
}

const Json& member(const Json& object, const char* key, const std::string& what) {
  if (!object.is_object() || !object.contains(key)) throw DataError(fmt::format("{}: no '{}'", what, key));
  return object.at(key);
}

std::string text_member(const Json& object, const char* key, const std::string& what) {
  const Json& value = member(object, key, what);
  if (!value.is_string()) throw DataError(fmt::format("{}: '{}' is not a text", what, key));
  return value.get<std::string>();
}

std::vector<Json> list_member(const Json& object, const char* key, size_t limit, const std::string& what) {
  const Json& value = member(object, key, what);
  if (!value.is_array()) throw DataError(fmt::format("{}: '{}' is not a list", what, key));
  if (value.size() > limit) {
    throw DataError(
        fmt::format("{}: '{}' has {} entries; at most {} are accepted", what, key, value.size(), limit));
  }
  return {value.begin(), value.end()};
}

Platform parse_platform(const Json& json) {
  return {.os = text_field(json, "os"),
          .architecture = text_field(json, "architecture"),
          .variant = text_field(json, "variant"),
          .os_version = text_field(json, "os.version")};
}

/// RFC 3986 allows nothing but these in a URL; a terminal takes them all.
bool is_plain_url(const std::string& url) {
  return !url.empty() && url.size() <= kMaxUrlBytes &&
         std::all_of(url.begin(), url.end(), [](char c) { return c > ' ' && c < '\x7F'; });
}

std::vector<std::string> parse_urls(const Json& descriptor, const std::string& what) {
  if (!descriptor.contains("urls") || descriptor.at("urls").is_null()) return {};
  std::vector<std::string> urls;
  for (const Json& url : list_member(descriptor, "urls", kMaxUrls, what)) {
    if (!url.is_string() || !is_plain_url(url.get_ref<const std::string&>())) {
      throw DataError(fmt::format("{}: entry {} of 'urls' is no URL of at most {} bytes", what,
                                  urls.size() + 1, kMaxUrlBytes));
    }
    urls.push_back(url.get<std::string>());
  }
  return urls;
}

Descriptor parse_descriptor(const Json& json, const std::string& what) {
  const Json& size = member(json, "size", what);
  if (!size.is_number_unsigned()) throw DataError(fmt::format("{}: 'size' is not a number of bytes", what));
  Descriptor descriptor{.media_type = text_member(json, "mediaType", what),
                        .digest = Digest::parse(text_member(json, "digest", what), what),
                        .size = size.get<uint64_t>()};
  if (descriptor.size > INT64_MAX) throw DataError(fmt::format("{}: 'size' is out of range", what));
  if (json.contains("annotations") && json.at("annotations").is_object()) {
    for (const auto& [key, value] : json.at("annotations").items()) {
      if (value.is_string()) descriptor.annotations[key] = value.get<std::string>();
    }
  }
  if (json.contains("platform") && json.at("platform").is_object()) {
    descriptor.platform = parse_platform(json.at("platform"));
  }
  if (is_foreign_layer(descriptor)) descriptor.urls = parse_urls(json, what);
  return descriptor;
}

Json to_json(const Platform& platform) {
  Json json = {{"architecture", platform.architecture}, {"os", platform.os}};
  if (!platform.variant.empty()) json["variant"] = platform.variant;
  if (!platform.os_version.empty()) json["os.version"] = platform.os_version;
  return json;
}

Json to_json(const Descriptor& descriptor) {
  Json json;
  json["mediaType"] = descriptor.media_type;
  json["digest"] = descriptor.digest.text();
  json["size"] = descriptor.size;
  if (!descriptor.annotations.empty()) json["annotations"] = descriptor.annotations;
  if (descriptor.platform) json["platform"] = to_json(*descriptor.platform);
  return json;
}

void set_media_type(Json& document, MediaTypes types, std::string_view oci, std::string_view docker) {
  document["mediaType"] = types == MediaTypes::kOci ? oci : docker;
}

void set_subject(Json& document, const ResultForm& form) {
  if (!form.subject) return;
  document["artifactType"] = kArtifactType;
  document["subject"] = to_json(*form.subject);
}

/// A history counts one entry for each layer, "empty_layer" ones aside.
void add_base_history(Json& config) {
  if (!config.contains("history") || !config.at("history").is_array()) return;
  Json entry;
  entry["created_by"] = "overlaybd base layer";
  Json& history = config.at("history");
  history.insert(history.begin(), std::move(entry));
}

}  // namespace

std::string Platform::text() const {
  std::string out = fmt::format("{}/{}", os, architecture);
  if (!variant.empty()) out += "/" + variant;
  return out;
}

Platform Platform::parse(std::string_view text) {
  Platform platform;
  std::string* const parts[] = {&platform.os, &platform.architecture, &platform.variant};
  size_t count = 0;
  for (std::string_view rest = text; count < std::size(parts); ++count) {
    const size_t slash = rest.find('/');
    *parts[count] = rest.substr(0, slash);
    const auto plain = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    };
    if (parts[count]->empty() || !std::all_of(parts[count]->begin(), parts[count]->end(), plain)) break;
    if (slash == std::string_view::npos) {
      if (count == 0) break;
      return platform;
    }
    rest.remove_prefix(slash + 1);
  }
  throw UsageError(fmt::format("'{}' is not a platform: OS/ARCHITECTURE[/VARIANT], as in linux/arm64/v8",
                               text.substr(0, 100)));
}

bool Platform::matches(const Platform& other) const {
  const auto variant_of = [](const Platform& platform) -> std::string_view {
    return platform.variant.empty() && platform.architecture == "arm64" ? "v8"
                                                                        : std::string_view(platform.variant);
  };
  return os == other.os && architecture == other.architecture &&
         (variant.empty() || variant_of(*this) == variant_of(other));
}

ManifestKind manifest_kind(const std::string& media_type) {
  if (media_type == media_type::kOciManifest || media_type == media_type::kDockerManifest) {
    return ManifestKind::kImage;
  }
  if (media_type == media_type::kOciIndex || media_type == media_type::kDockerIndex)
    return ManifestKind::kIndex;
  if (media_type.starts_with("application/vnd.docker.distribution.manifest.v1")) {
    throw DataError(
        "the manifest has schema 1, which gives no diff IDs; push the image again with a tool of today");
  }
  throw DataError(fmt::format("media type '{}' is neither an image manifest nor an index", media_type));
}

ImageManifest parse_manifest(const registry::Manifest& manifest) {
  const std::string what = name_of(manifest.digest);
  const Json json = parse_json(manifest.bytes, what);
  ImageManifest image{.config = parse_descriptor(member(json, "config", what), what + ", config"),
                      .layers = {}};
  for (const Json& layer : list_member(json, "layers", kMaxLayers, what)) {
    image.layers.push_back(
        parse_descriptor(layer, fmt::format("{}, layer {}", what, image.layers.size() + 1)));
  }
  return image;
}

ImageIndex parse_index(const registry::Manifest& manifest) {
  const std::string what = name_of(manifest.digest);
  const Json json = parse_json(manifest.bytes, what);
  ImageIndex index;
  for (const Json& entry : list_member(json, "manifests", kMaxIndexEntries, what)) {
    index.manifests.push_back(
        parse_descriptor(entry, fmt::format("{}, entry {}", what, index.manifests.size() + 1)));
  }
  return index;
}

void check_index_depth(int depth) {
  constexpr int kMaxNested = 4;
  if (depth >= kMaxNested) throw DataError(fmt::format("indexes are nested more than {} deep", kMaxNested));
}

ImageConfig parse_config(std::string_view bytes, const Digest& digest) {
  const std::string what = fmt::format("config {}", digest.text());
  const Json json = parse_json(bytes, what);
  const Json& rootfs = member(json, "rootfs", what);
  if (text_member(rootfs, "type", what) != "layers")
    throw DataError(fmt::format("{}: rootfs.type is not 'layers'", what));
  ImageConfig config{.diff_ids = {}, .platform = parse_platform(json)};
  for (const Json& diff_id : list_member(rootfs, "diff_ids", kMaxLayers, what)) {
    if (!diff_id.is_string()) throw DataError(fmt::format("{}: a diff ID is not a text", what));
    config.diff_ids.push_back(Digest::parse(diff_id.get<std::string>(), what));
  }
  return config;
}

bool is_attestation(const Descriptor& descriptor) {
  const auto type = descriptor.annotations.find("vnd.docker.reference.type");
  return type != descriptor.annotations.end() && type->second == "attestation-manifest";
}

bool is_overlaybd(const ImageManifest& manifest) {
  return std::any_of(manifest.layers.begin(), manifest.layers.end(), [](const Descriptor& layer) {
    return layer.annotations.contains(annotation::kVersion);
  });
}

bool is_foreign_layer(const Descriptor& layer) {
  return std::find(std::begin(kForeignTypes), std::end(kForeignTypes), layer.media_type) !=
         std::end(kForeignTypes);
}

void require_layer_type(const std::string& media_type) {
  constexpr std::string_view kKnown[] = {media_type::kOciLayer,        media_type::kOciLayerGzip,
                                         media_type::kOciLayerZstd,    media_type::kDockerLayer,
                                         media_type::kDockerLayerGzip, media_type::kDockerLayerZstd};
  const auto is_one_of = [&](const auto& types) {
    return std::find(std::begin(types), std::end(types), media_type) != std::end(types);
  };
  if (is_one_of(kKnown) || is_one_of(kForeignTypes)) return;
  throw DataError(fmt::format("media type '{}' is no layer that can be converted", media_type));
}

std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids) {
  std::vector<Digest> chain;
  for (const Digest& diff_id : diff_ids) {
    chain.push_back(chain.empty() ? diff_id : Digest::of(chain.back().text() + " " + diff_id.text()));
  }
  return chain;
}

std::string rewrite_config(std::string_view config, const std::vector<Digest>& diff_ids) {
  Json json = parse_json(config, "config");
  Json& list = json.at("rootfs").at("diff_ids");
  const bool with_base = diff_ids.size() > list.size();
  list = Json::array();
  for (const Digest& diff_id : diff_ids) list.push_back(diff_id.text());
  if (with_base) add_base_history(json);
  return json.dump();
}

std::string rewrite_manifest(std::string_view manifest, const ResultForm& form, const Descriptor& config,
                             const std::vector<Descriptor>& layers) {
  Json json = parse_json(manifest, "manifest");
  set_media_type(json, form.types, media_type::kOciManifest, media_type::kDockerManifest);
  set_subject(json, form);
  json["config"] = to_json(config);
  json["layers"] = Json::array();
  for (const Descriptor& layer : layers) json["layers"].push_back(to_json(layer));
  return json.dump();
}

Descriptor layer_descriptor(const registry::BlobId& blob, MediaTypes types) {
  return {
      .media_type = std::string(types == MediaTypes::kOci ? media_type::kOciLayer : media_type::kDockerLayer),
      .digest = blob.digest,
      .size = blob.size,
      .annotations = {{annotation::kVersion, "0.1.0"},
                      {annotation::kBlobDigest, blob.digest.text()},
                      {annotation::kBlobSize, fmt::format("{}", blob.size)}}};
}

RewrittenImage rewrite_image(std::string_view manifest, std::string_view config, const ResultForm& form,
                             const std::vector<Descriptor>& layers) {
  const bool oci = form.types == MediaTypes::kOci;
  std::vector<Digest> diff_ids;
  for (const Descriptor& layer : layers)
    diff_ids.push_back(layer.digest);  // the blob is the uncompressed tar
  RewrittenImage image;
  image.config_bytes = rewrite_config(config, diff_ids);
  image.config = {.media_type = std::string(oci ? media_type::kOciConfig : media_type::kDockerConfig),
                  .digest = Digest::of(image.config_bytes),
                  .size = image.config_bytes.size()};
  image.manifest_bytes = rewrite_manifest(manifest, form, image.config, layers);
  image.manifest = {.media_type = std::string(oci ? media_type::kOciManifest : media_type::kDockerManifest),
                    .digest = Digest::of(image.manifest_bytes),
                    .size = image.manifest_bytes.size()};
  return image;
}

std::string rewrite_index(std::string_view index, const ResultForm& form,
                          const std::vector<std::pair<size_t, Descriptor>>& manifests) {
  Json json = parse_json(index, "index");
  set_media_type(json, form.types, media_type::kOciIndex, media_type::kDockerIndex);
  set_subject(json, form);
  Json entries = Json::array();
  for (const auto& [place, descriptor] : manifests) {
    Json entry = json.at("manifests").at(place);
    entry["mediaType"] = descriptor.media_type;
    entry["digest"] = descriptor.digest.text();
    entry["size"] = descriptor.size;
    entry.erase("data");  // the old content, embedded
    entry.erase("urls");
    entries.push_back(std::move(entry));
  }
  json["manifests"] = std::move(entries);
  return json.dump();
}

std::string merge_index(std::string_view index, const std::vector<size_t>& places, const ResultForm& form,
                        const std::vector<Descriptor>& converted) {
  Json json = parse_json(index, "index");
  set_media_type(json, form.types, media_type::kOciIndex, media_type::kDockerIndex);
  set_subject(json, form);
  Json entries = Json::array();
  for (const size_t place : places) entries.push_back(json.at("manifests").at(place));
  for (const Descriptor& image : converted) {
    Json entry = to_json(image);
    entry["artifactType"] = kArtifactType;
    entries.push_back(std::move(entry));
  }
  json["manifests"] = std::move(entries);
  return json.dump();
}

std::string index_of(const Descriptor& image) {
  const Json json = {{"schemaVersion", 2},
                     {"mediaType", media_type::kOciIndex},
                     {"manifests", Json::array({to_json(image)})}};
  return json.dump();
}

}  // namespace obd::convertor
