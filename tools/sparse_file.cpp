#include "tools/sparse_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/byte_source.h"
#include "common/error.h"

namespace obd::tools {
namespace {

constexpr uint64_t kBlockBytes = 4096;

std::filesystem::path temporary_name(const std::filesystem::path& path) {
  std::filesystem::path name = path;
  name += fmt::format(".partial-{}", ::getpid());
  return name;
}

}  // namespace

bool is_zero(std::span<const std::byte> data) {
  return data.empty() ||
         (data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

SparseFile::SparseFile(std::filesystem::path path, uint64_t bytes) : path_(std::move(path)) {
  struct stat status {};
  if (::stat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw UsageError(fmt::format("{} exists and is not a regular file", path_.string()));
  }
  const std::filesystem::path directory = path_.has_parent_path() ? path_.parent_path() : ".";
  fd_.reset(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644));
  if (!fd_) {  // some filesystems know no file without a name
    temporary_ = temporary_name(path_);
    fd_.reset(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!fd_) throw IoError::from_errno(fmt::format("creating {}", temporary_.string()), errno);
  }
  if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) {
    const int error = errno;
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    throw IoError::from_errno(fmt::format("making {} {} bytes long", path_.string(), bytes), error);
  }
}

SparseFile::~SparseFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void SparseFile::write(uint64_t offset, std::span<const std::byte> data) {
  const auto block_at = [&](size_t at) {
    return data.subspan(at, std::min<size_t>(data.size() - at, kBlockBytes - (offset + at) % kBlockBytes));
  };
  for (size_t at = 0; at < data.size();) {
    size_t end = at;
    while (end < data.size() && !is_zero(block_at(end))) end += block_at(end).size();
    if (end > at) {
      write_fully(fd_.get(), offset + at, data.subspan(at, end - at), path_.string());
      written_bytes_ += end - at;
    }
    at = end == data.size() ? end : end + block_at(end).size();
  }
}

void SparseFile::commit() {
  if (::fsync(fd_.get()) != 0) throw IoError::from_errno(fmt::format("syncing {}", path_.string()), errno);
  if (temporary_.empty()) {
    const std::filesystem::path name = temporary_name(path_);
    const std::string self = fmt::format("/proc/self/fd/{}", fd_.get());
    if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      throw IoError::from_errno(fmt::format("naming {}", name.string()), errno);
    }
    temporary_ = name;
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw IoError::from_errno(fmt::format("renaming {} to {}", temporary_.string(), path_.string()), errno);
  }
  temporary_.clear();
}

}  // namespace obd::tools
