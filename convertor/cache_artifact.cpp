#include "convertor/cache_artifact.h"

#include <fmt/format.h>

#include "common/json.h"
#include "convertor/image.h"

namespace obd::convertor {
namespace {

constexpr std::string_view kArtifactType = "application/vnd.overlaybd-convertor.cache";
constexpr std::string_view kDocumentType = "application/vnd.overlaybd-convertor.cache.records+json";
// OCI image specification 1.1, "Guidance for an Empty Descriptor".
constexpr std::string_view kEmptyType = "application/vnd.oci.empty.v1+json";
constexpr std::string_view kEmpty = "{}";

std::string name_of(const registry::Manifest& manifest) {
  return fmt::format("cache {}", manifest.digest.text());
}

Json descriptor(std::string_view media_type, const Digest& digest, uint64_t size) {
  return {{"mediaType", media_type}, {"digest", digest.text()}, {"size", size}};
}

}  // namespace

bool is_cache(const registry::Manifest& manifest) {
  if (manifest.media_type != registry::media_type::kOciManifest) return false;
  // As in nearly all that is asked about.
  if (manifest.bytes.find(kArtifactType) == std::string::npos) return false;
  return text_field(parse_json(manifest.bytes, fmt::format("manifest {}", manifest.digest.text())),
                    "artifactType") == kArtifactType;
}

void refuse_cache(const registry::Manifest& manifest) {
  if (!is_cache(manifest)) return;
  throw DataError(
      fmt::format("{} holds what convertor --cache-tag remembers, and no image", manifest.digest.text()));
}

CacheRecords pull_cache(registry::Repository& repository, const registry::Manifest& manifest,
                        const std::stop_token& stop) {
  const std::string what = name_of(manifest);
  const std::vector<Descriptor> layers = parse_manifest(manifest).layers;
  if (layers.size() != 1 || layers.front().media_type != kDocumentType) {
    throw DataError(fmt::format("{}: it is not made of one list of records", what));
  }
  const auto gone = [&](const Error& error) { return DataError(fmt::format("{}: {}", what, error.what())); };
  try {
    return cache_document::parse(pull_small_blob(repository, layers.front().blob(), stop), what);
  } catch (const IoError& error) {  // of a layout that lacks it
    throw gone(error);
  } catch (const NetworkError& error) {
    if (error.http_status() != 404) throw;
    throw gone(error);
  }
}

std::string push_cache_blobs(registry::Repository& repository, const CacheRecords& records,
                             const std::stop_token& stop) {
  const std::string document = cache_document::print(records);
  const Digest config = repository.push_bytes(kEmpty, stop);
  const Digest layer = repository.push_bytes(document, stop);
  const Json manifest = {{"schemaVersion", 2},
                         {"mediaType", registry::media_type::kOciManifest},
                         {"artifactType", kArtifactType},
                         {"config", descriptor(kEmptyType, config, kEmpty.size())},
                         {"layers", Json::array({descriptor(kDocumentType, layer, document.size())})}};
  return manifest.dump();
}

}  // namespace obd::convertor
