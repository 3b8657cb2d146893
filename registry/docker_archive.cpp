#include "registry/docker_archive.h"

#include <fmt/format.h>

#include "common/error.h"
#include "common/json.h"
#include "registry/reference.h"
#include "registry/registry.h"
#include "registry/tar_index.h"

namespace obd::registry {
namespace {

constexpr size_t kTagsToName = 8;

std::vector<std::string> texts(const Json& object, const char* key, const std::string& where) {
  const auto field = object.find(key);
  if (field == object.end() || field->is_null()) return {};
  if (!field->is_array()) throw DataError(fmt::format("{}: {} is not a list", where, key));
  std::vector<std::string> result;
  for (const Json& text : *field) {
    if (!text.is_string()) throw DataError(fmt::format("{}: {} holds something else than names", where, key));
    result.push_back(text.get<std::string>());
  }
  return result;
}

struct NameAndTag {
  std::string name;
  std::string tag;
};

/// A port has a colon too, but stands before a slash.
NameAndTag split(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || text.find('/', colon) != std::string::npos) return {text, ""};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

/// In the long form, so that what means the same compares as equal.
std::string long_form(const NameAndTag& parts) {
  return fmt::format("{}:{}", parse_repository_name(parts.name).display, parts.tag);
}

/// What an archive says is compared as it stands where it is no name that we know.
std::string long_form_or_text(const std::string& text) {
  try {
    return long_form(split(text));
  } catch (const UsageError&) {
    return text;
  }
}

}  // namespace

std::vector<DockerArchiveImage> parse_docker_manifest(std::string_view text, const std::string& where) {
  const std::string what = where + ": manifest.json";
  const Json document = parse_json(text, what);
  if (!document.is_array()) throw DataError(fmt::format("{}: it is not a list of images", what));
  std::vector<DockerArchiveImage> images;
  for (const Json& entry : document) {
    DockerArchiveImage image{.config = text_field(entry, "Config"), .repo_tags = {}, .layers = {}};
    if (image.config.empty()) throw DataError(fmt::format("{}: an image has no Config", what));
    image.repo_tags = texts(entry, "RepoTags", what);
    image.layers = texts(entry, "Layers", what);
    images.push_back(std::move(image));
  }
  return images;
}

std::vector<Digest> parse_diff_ids(std::string_view config, const std::string& where) {
  const Json document = parse_json(config, where);
  const auto rootfs = document.is_object() ? document.find("rootfs") : document.end();
  if (rootfs == document.end() || !rootfs->is_object()) {
    throw DataError(fmt::format("{}: it has no rootfs", where));
  }
  std::vector<Digest> diff_ids;
  for (const std::string& text : texts(*rootfs, "diff_ids", where))
    diff_ids.push_back(Digest::parse(text, where));
  return diff_ids;
}

std::string describe_docker_tags(const std::vector<DockerArchiveImage>& images) {
  std::string text;
  size_t tags = 0;
  for (const DockerArchiveImage& image : images) {
    for (const std::string& tag : image.repo_tags) {
      if (++tags <= kTagsToName) text += fmt::format("{}{}", text.empty() ? "" : ", ", shown_name(tag));
    }
  }
  if (tags > kTagsToName) text += fmt::format(" and {} more", tags - kTagsToName);
  if (images.empty()) return "it is empty";
  return text.empty() ? "it has no tags" : fmt::format("it has {}", text);
}

const DockerArchiveImage* find_docker_image(const std::vector<DockerArchiveImage>& images,
                                            const std::string& reference, const std::string& where) {
  const bool by_tag = reference.find_first_of("/:") == std::string::npos;
  if (by_tag) check_reference(reference);
  const NameAndTag parts = split(reference);
  if (!by_tag && !is_valid_tag(parts.tag)) {
    throw UsageError(fmt::format("'{}' names no image: give NAME:TAG or a tag", shown_name(reference)));
  }
  const std::string wanted = by_tag ? reference : long_form(parts);
  const DockerArchiveImage* found = nullptr;
  for (const DockerArchiveImage& image : images) {
    for (const std::string& name : image.repo_tags) {
      if ((by_tag ? split(name).tag : long_form_or_text(name)) != wanted) continue;
      if (found != nullptr && (found->config != image.config || found->layers != image.layers)) {
        throw DataError(fmt::format("{}: several images have the tag '{}': {}; ask for one as NAME:TAG",
                                    where, reference, describe_docker_tags(images)));
      }
      found = &image;
    }
  }
  return found;
}

}  // namespace obd::registry
