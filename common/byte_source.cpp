#include "common/byte_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "common/error.h"

namespace obd {

void ByteSource::read_at(uint64_t offset, std::span<std::byte> out) const {
  const uint64_t end = size();
  if (offset > end || out.size() > end - offset) {
    throw DataError(fmt::format("{}: bytes {} to {} were asked for, but it ends at {}", name(), offset,
                                offset + out.size(), end));
  }
  if (!out.empty()) do_read_at(offset, out);
}

void read_fully(int fd, uint64_t offset, std::span<std::byte> out, const std::string& what) {
  while (!out.empty()) {
    const ssize_t got = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      throw IoError::from_errno(fmt::format("reading {}", what), errno);
    }
    if (got == 0) throw IoError(fmt::format("reading {}: it ends early, at byte {}", what, offset));
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
}

void write_fully(int fd, uint64_t offset, std::span<const std::byte> data, const std::string& what) {
  while (!data.empty()) {
    const ssize_t put = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (put < 0) {
      if (errno == EINTR) continue;
      throw IoError::from_errno(fmt::format("writing {}", what), errno);
    }
    data = data.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
}

void copy_bytes(const ByteSource& from, ByteSink& to) {
  std::vector<std::byte> buffer(std::min<uint64_t>(from.size(), 1 << 20));
  for (uint64_t offset = 0; offset < from.size();) {
    const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), from.size() - offset));
    from.read_at(offset, part);
    to.append(part);
    offset += part.size();
  }
}

// O_NONBLOCK: opening a FIFO would wait for its writer. A file is not affected.
FileSource::FileSource(const std::filesystem::path& path)
    : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), name_(path.string()) {
  if (!fd_) throw IoError::from_errno(fmt::format("opening {}", name_), errno);
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) throw IoError::from_errno(fmt::format("reading {}", name_), errno);
  if (!S_ISREG(status.st_mode)) throw IoError(fmt::format("opening {}: not a regular file", name_));
  size_ = static_cast<uint64_t>(status.st_size);
}

void FileSource::do_read_at(uint64_t offset, std::span<std::byte> out) const {
  read_fully(fd_.get(), offset, out, name_);
}

SubSource::SubSource(std::shared_ptr<const ByteSource> base, uint64_t offset, uint64_t size)
    : base_(std::move(base)), offset_(offset), size_(size) {
  if (offset > base_->size() || size > base_->size() - offset) {
    throw DataError(fmt::format("{}: a part of {} bytes at {} does not lie within its {} bytes",
                                base_->name(), size, offset, base_->size()));
  }
}

}  // namespace obd
