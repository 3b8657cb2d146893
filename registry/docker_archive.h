#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"

namespace obd::registry {

/// One image as manifest.json of `docker save` describes it: names of members.
struct DockerArchiveImage {
  std::string config;
  std::vector<std::string> repo_tags;  // "name:tag"; empty for an image that was saved by its id
  std::vector<std::string> layers;     // lowest first
  auto operator<=>(const DockerArchiveImage&) const = default;
};

inline constexpr uint64_t kMaxDockerManifestBytes = 32 << 20;

/// `where` is named in messages. Throws DataError if it is malformed.
std::vector<DockerArchiveImage> parse_docker_manifest(std::string_view text, const std::string& where);

/// The diff IDs that an image's config lists, lowest first. Throws DataError if it is malformed.
std::vector<Digest> parse_diff_ids(std::string_view config, const std::string& where);

/// The image that `reference` names: "name:tag" in the forms that Docker accepts ("ubuntu:22.04" is
/// docker.io/library/ubuntu:22.04), or a tag alone where only one image has it; null if there is none. Throws
/// UsageError for what is no reference, DataError, with what is there, if several images have it.
const DockerArchiveImage* find_docker_image(const std::vector<DockerArchiveImage>& images,
                                            const std::string& reference, const std::string& where);

/// The tags of an archive for messages: "it has a:1, b:1 and 3 more".
std::string describe_docker_tags(const std::vector<DockerArchiveImage>& images);

}  // namespace obd::registry
