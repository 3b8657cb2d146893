#include "registry/layout_index.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "common/byte_source.h"
#include "common/error.h"
#include "common/spool.h"
#include "common/unique_fd.h"
#include "registry/local_blob.h"

namespace obd::registry {
namespace {

namespace fs = std::filesystem;

/// The lock of a layout is one on its oci-layout file, because that file is never replaced: its inode stays.
/// Requires create().
UniqueFd lock_layout(const fs::path& directory) {
  const fs::path path = directory / "oci-layout";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) throw IoError::from_errno(fmt::format("opening {}", path.string()), errno);
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) throw IoError::from_errno(fmt::format("locking {}", path.string()), errno);
  }
  return fd;
}

}  // namespace

LayoutIndex::LayoutIndex(fs::path directory) : directory_(std::move(directory)) {}

void LayoutIndex::create() const {
  std::error_code error;
  fs::create_directories(directory_ / "blobs" / "sha256", error);
  if (error) throw IoError(fmt::format("creating {}: {}", directory_.string(), error.message()));
  // In this order: where the marker is, all of a layout is.
  create_file(directory_ / "index.json", index_document::empty());
  const fs::path marker = directory_ / "oci-layout";
  create_file(marker, index_document::kMarker);
  const UniqueFd lock = lock_layout(directory_);
  if (::lseek(lock.get(), 0, SEEK_END) == 0) {  // another program was killed just here
    write_fully(lock.get(), 0, std::as_bytes(std::span(index_document::kMarker)), marker.string());
    if (::fsync(lock.get()) != 0)
      throw IoError::from_errno(fmt::format("syncing {}", marker.string()), errno);
  }
}

std::string LayoutIndex::name() const {
  return fmt::format("oci:{}", directory_.string());
}

std::string LayoutIndex::read_index() const {
  const fs::path marker = directory_ / "oci-layout";
  std::error_code error;
  if (!fs::exists(marker, error)) {
    throw IoError(fmt::format("{}: not an OCI image layout (it has no file oci-layout)", name()));
  }
  index_document::check_marker(read_text(FileSource(marker), index_document::kMaxMarkerBytes), name());
  return read_text(FileSource(directory_ / "index.json"), index_document::kMaxBytes);
}

LayoutEntry LayoutIndex::find_tag(const std::string& tag) const {
  return index_document::find_tag(read_index(), tag, name());
}

std::optional<LayoutEntry> LayoutIndex::find_digest(const Digest& digest) const {
  return index_document::find_digest(read_index(), digest, name());
}

std::vector<LayoutEntry> LayoutIndex::entries() const {
  return index_document::entries(read_index(), name());
}

void LayoutIndex::add(const LayoutEntry& entry) const {
  const UniqueFd lock = lock_layout(directory_);
  const std::string index = read_index();
  if (index_document::find_digest(index, entry.digest, name())) return;
  write_file_atomically(directory_ / "index.json", index_document::with_entry(index, entry, name()));
}

void LayoutIndex::set_tag(const std::string& tag, const LayoutEntry& entry) const {
  const UniqueFd lock = lock_layout(directory_);
  write_file_atomically(directory_ / "index.json",
                        index_document::with_tag(read_index(), tag, entry, name()));
}

bool LayoutIndex::replace_tag(const std::string& tag, const std::optional<Digest>& expected,
                              const LayoutEntry& entry) const {
  const UniqueFd lock = lock_layout(directory_);
  const std::string index = read_index();
  const auto current = index_document::look_up_tag(index, tag, name());
  if ((current ? std::optional(current->digest) : std::nullopt) != expected) return false;
  write_file_atomically(directory_ / "index.json", index_document::with_tag(index, tag, entry, name()));
  return true;
}

}  // namespace obd::registry
