#include "registry/tar_archive.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

#include "common/error.h"
#include "registry/local_blob.h"
#include "registry/unpack.h"

namespace obd::registry {

namespace fs = std::filesystem;

FileIdentity FileIdentity::of(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw IoError::from_errno(fmt::format("opening {}", path.string()), errno);
  }
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = static_cast<uint64_t>(status.st_size),
          .changed_nanoseconds = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
}

TarArchive::TarArchive(const fs::path& path, const fs::path& work_directory, const std::stop_token& stop)
    : name_(path.string()), identity_(FileIdentity::of(path)), bytes_(std::make_shared<FileSource>(path)) {
  if (const auto compression = compression_of(*bytes_)) {
    if (*compression != "gzip" && *compression != "zstd") {
      throw UsageError(fmt::format("{} is compressed with {}: unpack it first, or pack it with gzip or zstd",
                                   name_, *compression));
    }
    compressed_ = true;
    bytes_ = unpack(*bytes_, work_directory, stop);
  }
  try {
    index_ = read_tar_index(*bytes_, stop);
  } catch (Error& error) {
    if (compressed_) error.add_context(name_);
    throw;
  }
}

std::shared_ptr<const ByteSource> TarArchive::open(const std::string& member) const {
  const TarMember* file = find_file(index_, member, name_);
  if (file == nullptr) return nullptr;
  return std::make_shared<SubSource>(bytes_, file->offset, file->size);
}

std::string TarArchive::read(const std::string& member, uint64_t max_bytes) const {
  const auto source = open(member);
  if (!source) throw DataError(fmt::format("{}: it has no member '{}'", name_, shown_name(member)));
  if (source->size() > max_bytes) {
    throw DataError(fmt::format("{}: member '{}' has {} bytes, more than the {} that are read", name_,
                                shown_name(member), source->size(), max_bytes));
  }
  return read_text(*source, max_bytes);
}

fs::path archive_path(const std::string& kind, const std::string& path) {
  if (path.empty()) throw UsageError(fmt::format("'{0}:' needs a file: {0}:FILE", kind));
  const size_t colon = path.rfind(':');
  std::error_code error;
  if (colon != std::string::npos && !fs::exists(path, error) &&
      fs::is_regular_file(path.substr(0, colon), error)) {
    throw UsageError(fmt::format("there is no file {}: if '{}' is a tag, give it apart from the file {}",
                                 path, path.substr(colon + 1), path.substr(0, colon)));
  }
  return path;
}

}  // namespace obd::registry
