#include "registry/layout_index.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <vector>

#include "common/byte_source.h"
#include "common/error.h"
#include "common/spool.h"
#include "common/unique_fd.h"
#include "common/json.h"
#include "registry/registry.h"

namespace obd::registry {
namespace {

namespace fs = std::filesystem;

/// About a hundred thousand tags.
constexpr uint64_t kMaxIndexBytes = 32 << 20;
constexpr size_t kTagsToName = 8;
constexpr const char* kRefName = "org.opencontainers.image.ref.name";
constexpr std::string_view kLayoutFile = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// The lock of a layout is one on its oci-layout file, because that file is never replaced: its inode stays.
UniqueFd lock_layout(const fs::path& directory) {
  const fs::path path = directory / "oci-layout";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) throw IoError::from_errno(fmt::format("opening {}", path.string()), errno);
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) throw IoError::from_errno(fmt::format("locking {}", path.string()), errno);
  }
  return fd;
}

std::string read_text(const fs::path& path, uint64_t max_bytes) {
  const FileSource file(path);
  if (file.size() > max_bytes) {
    throw DataError(
        fmt::format("{}: {} bytes, more than the {} that are read", path.string(), file.size(), max_bytes));
  }
  std::string text(file.size(), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

Json read_index(const fs::path& path) {
  Json index = parse_json(read_text(path, kMaxIndexBytes), path.string());
  if (!index.is_object() || !index.contains("manifests") || !index["manifests"].is_array()) {
    throw DataError(fmt::format("{}: it has no list of manifests", path.string()));
  }
  return index;
}

/// Throws unless `directory` says of itself that it is a layout that we know.
Json open_index(const fs::path& directory) {
  const fs::path marker = directory / "oci-layout";
  std::error_code error;
  if (!fs::exists(marker, error)) {
    throw IoError(
        fmt::format("oci:{}: not an OCI image layout (it has no file oci-layout)", directory.string()));
  }
  const std::string text = read_text(marker, 1 << 16);
  const std::string version = text_field(parse_json(text, marker.string()), "imageLayoutVersion");
  if (!version.starts_with("1.")) {
    throw DataError(
        fmt::format("{}: the layout's version is '{}', not 1.0.0", marker.string(), version.substr(0, 20)));
  }
  return read_index(directory / "index.json");
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
  return {Digest::parse(text_field(descriptor, "digest")), size->get<uint64_t>(),
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

void write_index(const fs::path& directory, const Json& index) {
  const std::string text = index.dump();
  if (text.size() > kMaxIndexBytes) {
    throw CapacityError(
        fmt::format("oci:{}: its index.json would exceed {} bytes", directory.string(), kMaxIndexBytes));
  }
  write_file_atomically(directory / "index.json", text);
}

}  // namespace

LayoutIndex::LayoutIndex(fs::path directory) : directory_(std::move(directory)) {}

void LayoutIndex::create() const {
  std::error_code error;
  fs::create_directories(directory_ / "blobs" / "sha256", error);
  if (error) throw IoError(fmt::format("creating {}: {}", directory_.string(), error.message()));
  const UniqueFd lock = lock_layout(directory_);
  const std::string marker = (directory_ / "oci-layout").string();
  if (::lseek(lock.get(), 0, SEEK_END) == 0) {  // new, or its maker was killed just here
    write_fully(lock.get(), 0, std::as_bytes(std::span(kLayoutFile)), marker);
    if (::fsync(lock.get()) != 0) throw IoError::from_errno(fmt::format("syncing {}", marker), errno);
  }
  const fs::path path = directory_ / "index.json";
  if (!fs::exists(path)) {
    const Json index = {
        {"schemaVersion", 2}, {"mediaType", media_type::kOciIndex}, {"manifests", Json::array()}};
    write_file_atomically(path, index.dump());
  }
}

LayoutEntry LayoutIndex::find_tag(const std::string& tag) const {
  const Json index = open_index(directory_);
  const std::string where = fmt::format("oci:{}", directory_.string());
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
  if (!found) throw IoError(fmt::format("{}: no manifest has the tag '{}'; {}", where, tag, tags_of(index)));
  return *found;
}

std::optional<LayoutEntry> LayoutIndex::find_digest(const Digest& digest) const {
  const Json index = open_index(directory_);
  for (const Json& descriptor : index["manifests"]) {
    if (text_field(descriptor, "digest") == digest.text()) return entry_of(descriptor, directory_.string());
  }
  return std::nullopt;
}

std::vector<LayoutEntry> LayoutIndex::entries() const {
  const Json index = open_index(directory_);
  std::vector<LayoutEntry> result;
  std::set<std::string> seen;
  for (const Json& descriptor : index["manifests"]) {
    if (!seen.insert(text_field(descriptor, "digest")).second) continue;
    result.push_back(entry_of(descriptor, fmt::format("oci:{}", directory_.string())));
  }
  return result;
}

void LayoutIndex::add(const LayoutEntry& entry) const {
  const UniqueFd lock = lock_layout(directory_);
  Json index = open_index(directory_);
  for (const Json& other : index["manifests"]) {
    if (text_field(other, "digest") == entry.digest.text()) return;
  }
  index["manifests"].push_back(
      {{"mediaType", entry.media_type}, {"digest", entry.digest.text()}, {"size", entry.size}});
  write_index(directory_, index);
}

void LayoutIndex::set_tag(const std::string& tag, const LayoutEntry& entry) const {
  const UniqueFd lock = lock_layout(directory_);
  Json index = open_index(directory_);
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
  write_index(directory_, index);
}

}  // namespace obd::registry
