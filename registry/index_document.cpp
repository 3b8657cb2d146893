#include "registry/index_document.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "common/error.h"
#include "common/json.h"
#include "registry/registry.h"

namespace obd::registry::index_document {
namespace {

constexpr size_t kTagsToName = 8;
constexpr const char* kRefName = "org.opencontainers.image.ref.name";

Json parse(std::string_view text, const std::string& where) {
  const std::string what = where + ": index.json";
  Json index = parse_json(text, what);
  if (!index.is_object() || !index.contains("manifests") || !index["manifests"].is_array()) {
    throw DataError(fmt::format("{}: it has no list of manifests", what));
  }
  return index;
}

std::string tag_of(const Json& descriptor) {
  if (!descriptor.is_object()) return {};
  const auto annotations = descriptor.find("annotations");
  return annotations == descriptor.end() ? std::string() : text_field(*annotations, kRefName);
}

LayoutEntry entry_of(const Json& descriptor, const std::string& where) {
  const auto size = descriptor.find("size");
  if (size == descriptor.end() || !size->is_number_unsigned()) {
    throw DataError(fmt::format("{}: a manifest is listed without its size", where));
  }
  return {Digest::parse(text_field(descriptor, "digest"), where), size->get<uint64_t>(),
          text_field(descriptor, "mediaType")};
}

std::string tags_of(const Json& index) {
  std::string text;
  size_t tags = 0;
  for (const Json& descriptor : index["manifests"]) {
    const std::string tag = tag_of(descriptor);
    if (tag.empty() || ++tags > kTagsToName) continue;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", tag.substr(0, 128));
  }
  if (tags > kTagsToName) text += fmt::format(" and {} more", tags - kTagsToName);
  if (!text.empty()) return fmt::format("it has {}", text);
  const Json& manifests = index["manifests"];
  if (manifests.empty()) return "it is empty";
  return fmt::format("none of its {} manifests has a tag; ask by digest: {}", manifests.size(),
                     text_field(manifests.front(), "digest").substr(0, 71));
}

std::string print(const Json& index, const std::string& where) {
  std::string text = index.dump();
  if (text.size() > kMaxBytes) {
    throw CapacityError(fmt::format("{}: its index.json would exceed {} bytes", where, kMaxBytes));
  }
  return text;
}

}  // namespace

std::string empty() {
  const Json index = {
      {"schemaVersion", 2}, {"mediaType", media_type::kOciIndex}, {"manifests", Json::array()}};
  return index.dump();
}

void check_marker(std::string_view marker, const std::string& where) {
  const std::string what = where + ": oci-layout";
  const std::string version = text_field(parse_json(marker, what), "imageLayoutVersion");
  if (version.starts_with("1.")) return;
  throw DataError(fmt::format("{}: the layout's version is '{}', not 1.0.0", what, version.substr(0, 20)));
}

std::optional<LayoutEntry> look_up_tag(std::string_view text, const std::string& tag,
                                       const std::string& where) {
  const Json index = parse(text, where);
  std::optional<LayoutEntry> found;
  for (const Json& descriptor : index["manifests"]) {
    if (tag_of(descriptor) != tag) continue;
    LayoutEntry entry = entry_of(descriptor, where);
    if (found && found->digest != entry.digest) {
      throw DataError(
          fmt::format("{}: several manifests have the tag '{}', among them {} and {}; ask by digest", where,
                      tag, found->digest.text(), entry.digest.text()));
    }
    found = std::move(entry);
  }
  return found;
}

LayoutEntry find_tag(std::string_view text, const std::string& tag, const std::string& where) {
  if (auto found = look_up_tag(text, tag, where)) return *std::move(found);
  throw IoError(fmt::format("{}: no manifest has the tag '{}'; {}", where, tag, tags_of(parse(text, where))));
}

std::optional<LayoutEntry> find_digest(std::string_view text, const Digest& digest,
                                       const std::string& where) {
  const Json index = parse(text, where);
  for (const Json& descriptor : index["manifests"]) {
    if (text_field(descriptor, "digest") == digest.text()) return entry_of(descriptor, where);
  }
  return std::nullopt;
}

std::vector<LayoutEntry> entries(std::string_view text, const std::string& where) {
  const Json index = parse(text, where);
  std::vector<LayoutEntry> result;
  std::set<std::string> seen;
  for (const Json& descriptor : index["manifests"]) {
    if (seen.insert(text_field(descriptor, "digest")).second) result.push_back(entry_of(descriptor, where));
  }
  return result;
}

std::string with_entry(std::string_view text, const LayoutEntry& entry, const std::string& where) {
  if (find_digest(text, entry.digest, where)) return std::string(text);
  Json index = parse(text, where);
  index["manifests"].push_back(
      {{"mediaType", entry.media_type}, {"digest", entry.digest.text()}, {"size", entry.size}});
  return print(index, where);
}

std::string with_tag(std::string_view text, const std::string& tag, const LayoutEntry& entry,
                     const std::string& where) {
  Json index = parse(text, where);
  const Json descriptor = {{"mediaType", entry.media_type},
                           {"digest", entry.digest.text()},
                           {"size", entry.size},
                           {"annotations", {{kRefName, tag}}}};
  Json manifests = Json::array();
  bool placed = false;
  for (Json& other : index["manifests"]) {
    if (tag_of(other) != tag) {
      manifests.push_back(std::move(other));
    } else if (!placed) {
      manifests.push_back(descriptor);
      placed = true;
    }
  }
  if (!placed) manifests.push_back(descriptor);
  index["manifests"] = std::move(manifests);
  return print(index, where);
}

}  // namespace obd::registry::index_document
