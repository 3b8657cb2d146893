#include "registry/manifest_form.h"

#include <fmt/format.h>

#include "common/error.h"
#include "common/json.h"
#include "registry/registry.h"

namespace obd::registry {
namespace {

bool is_index_type(std::string_view type) {
  return type == media_type::kOciIndex || type == media_type::kDockerIndex;
}

bool is_manifest_type(std::string_view type) {
  return type == media_type::kOciManifest || type == media_type::kDockerManifest;
}

/// Servers of plain files, and some caches, know no better.
bool says_nothing(std::string_view type) {
  return type.empty() || type == "application/json" || type == "application/octet-stream" ||
         type.starts_with("text/plain") || type == "binary/octet-stream";
}

std::string_view without_parameters(std::string_view type) {
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  return type;
}

}  // namespace

std::string manifest_media_type(std::string_view bytes, std::string_view declared, const std::string& what) {
  const Json document = parse_json(bytes, what);
  if (!document.is_object()) throw DataError(fmt::format("{}: not a JSON object", what));
  const bool is_index = document.contains("manifests");
  const bool is_manifest = document.contains("layers") || document.contains("config");
  if (is_index && is_manifest) throw DataError(fmt::format("{}: both a manifest and an index", what));

  std::string type = text_field(document, "mediaType");
  declared = without_parameters(declared);
  if (!says_nothing(declared)) {
    if (!type.empty() && type != declared) {
      throw DataError(fmt::format("{}: sent as {}, but says of itself that it is {}", what, declared, type));
    }
    type = declared;
  }
  if (type.empty()) {
    if (!is_index && !is_manifest) {
      throw DataError(fmt::format("{}: neither a manifest nor an index", what));
    }
    return std::string(is_index ? media_type::kOciIndex : media_type::kOciManifest);
  }
  if ((is_index_type(type) && is_manifest) || (is_manifest_type(type) && is_index)) {
    throw DataError(fmt::format("{}: its content is not what its media type {} says", what, type));
  }
  return type;
}

}  // namespace obd::registry
