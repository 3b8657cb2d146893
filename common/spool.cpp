#include "common/spool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>

#include "common/error.h"

namespace obd {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkBytes = 1 << 20;
constexpr uint64_t kMappedBytes = 2 << 20;
constexpr uint64_t kReadBytes = 256 << 10;
constexpr uint64_t kWriteBehindBytes = 8 << 20;
constexpr std::string_view kTemporaryPrefix = ".obd-tmp-";

/// A part of a file in memory without a copy of it. Nothing if it cannot be had so, or the kernel is older
/// than 5.14: to touch what was not brought in beforehand would be a signal instead of an error if the disk
/// fails.
class MappedPart {
 public:
  MappedPart(int fd, uint64_t offset, size_t bytes)
      : bytes_(bytes), at_(::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset))) {
    is_there_ = at_ != MAP_FAILED && ::madvise(at_, bytes_, MADV_POPULATE_READ) == 0;
  }
  ~MappedPart() {
    if (at_ != MAP_FAILED) ::munmap(at_, bytes_);
  }
  MappedPart(const MappedPart&) = delete;
  MappedPart& operator=(const MappedPart&) = delete;

  explicit operator bool() const { return is_there_; }
  std::span<const std::byte> data() const { return {static_cast<const std::byte*>(at_), bytes_}; }

 private:
  size_t bytes_;
  void* at_;
  bool is_there_;
};

/// Process ids repeat, after a crash as well as in containers that share a directory: who makes a file of
/// this name must not take one that is there.
fs::path temporary_name(const fs::path& directory) {
  static std::atomic<uint64_t> counter{0};
  return directory / fmt::format("{}{}-{}", kTemporaryPrefix, ::getpid(), counter++);
}

/// The lock tells remove_stale_temporaries() that we live.
void lock_as_alive(const UniqueFd& fd, const fs::path& name) {
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    throw IoError::from_errno(fmt::format("locking {}", name.string()), errno);
  }
}

struct NamedFile {
  fs::path name;
  UniqueFd fd;
};

NamedFile create_named(const fs::path& directory) {
  for (;;) {
    NamedFile file{temporary_name(directory), UniqueFd()};
    file.fd.reset(::open(file.name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!file.fd && errno == EEXIST) continue;
    if (!file.fd) throw IoError::from_errno(fmt::format("creating {}", file.name.string()), errno);
    // Before it is locked, another process may take it for a stale one, hold the lock and remove it.
    while (::flock(file.fd.get(), LOCK_EX) != 0) {
      if (errno != EINTR) throw IoError::from_errno(fmt::format("locking {}", file.name.string()), errno);
    }
    struct stat status {};
    if (::fstat(file.fd.get(), &status) == 0 && status.st_nlink > 0) return file;
  }
}

void sync_directory(const fs::path& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) {
    throw IoError::from_errno(fmt::format("syncing {}", directory.string()), errno);
  }
}

void rename_into_place(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    throw IoError::from_errno(fmt::format("renaming {} to {}", from.string(), to.string()), errno);
  }
}

/// `publish` gives the file with that name its place.
void write_under_temporary_name(const fs::path& path, std::string_view content,
                                const std::function<void(const fs::path&)>& publish) {
  const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const auto [temporary, fd] = create_named(directory);
  try {
    write_fully(fd.get(), 0, std::as_bytes(std::span(content)), path.string());
    if (::fsync(fd.get()) != 0) throw IoError::from_errno(fmt::format("syncing {}", path.string()), errno);
    publish(temporary);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_directory(directory);
}

}  // namespace

Spool::Spool(Options options) : options_(std::move(options)) {
  std::error_code error;
  fs::create_directories(options_.directory, error);
  if (error) throw IoError(fmt::format("creating {}: {}", options_.directory.string(), error.message()));
  if (options_.memory_limit == 0) move_to_file();
}

Spool::~Spool() {
  if (!linked_name_.empty()) ::unlink(linked_name_.c_str());
}

std::string Spool::name() const {
  return fmt::format("spool in {}", options_.directory.string());
}

void Spool::move_to_file() {
  file_.reset(::open(options_.directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644));
  if (file_) {
    lock_as_alive(file_, options_.directory);
  } else {  // some network and overlay filesystems know no file without a name
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT) {
      throw IoError::from_errno(fmt::format("creating a file in {}", options_.directory.string()), errno);
    }
    NamedFile named = create_named(options_.directory);
    linked_name_ = std::move(named.name);
    file_ = std::move(named.fd);
  }
  uint64_t offset = 0;
  for (const auto& chunk : chunks_) {
    write_fully(file_.get(), offset, chunk, name());
    offset += chunk.size();
  }
  chunks_.clear();
  chunks_.shrink_to_fit();
  size_written_ = offset;
}

void Spool::write_tail() {
  write_fully(file_.get(), size_written_, tail_, name());
  size_written_ += tail_.size();
  tail_.clear();
}

void Spool::append(std::span<const std::byte> data) {
  synced_ = false;
  if (!file_ && size_ + data.size() > options_.memory_limit) move_to_file();
  if (file_) {
    size_ += data.size();
    tail_.reserve(kChunkBytes);
    while (!data.empty()) {
      const size_t take = std::min(data.size(), kChunkBytes - tail_.size());
      tail_.insert(tail_.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
      data = data.subspan(take);
      if (tail_.size() == kChunkBytes) write_tail();
    }
    if (options_.write_behind && size_written_ - written_behind_ >= kWriteBehindBytes) {
      ::sync_file_range(file_.get(), static_cast<off_t>(written_behind_),
                        static_cast<off_t>(size_written_ - written_behind_), SYNC_FILE_RANGE_WRITE);
      written_behind_ = size_written_;
    }
    return;
  }
  size_ += data.size();
  while (!data.empty()) {
    if (chunks_.empty() || chunks_.back().size() == kChunkBytes) chunks_.emplace_back().reserve(kChunkBytes);
    auto& chunk = chunks_.back();
    const size_t take = std::min(data.size(), kChunkBytes - chunk.size());
    chunk.insert(chunk.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
    data = data.subspan(take);
  }
}

void Spool::overwrite(uint64_t offset, std::span<const std::byte> data) {
  OBD_CHECK(offset <= size_ && data.size() <= size_ - offset);
  synced_ = false;
  if (file_) {
    const auto written =
        data.first(std::min<uint64_t>(data.size(), size_written_ - std::min(size_written_, offset)));
    write_fully(file_.get(), offset, written, name());
    const auto rest = data.subspan(written.size());
    if (!rest.empty()) std::memcpy(&tail_[offset + written.size() - size_written_], rest.data(), rest.size());
    return;
  }
  while (!data.empty()) {
    auto& chunk = chunks_[offset / kChunkBytes];
    const size_t within = offset % kChunkBytes;
    const size_t take = std::min(data.size(), chunk.size() - within);
    std::memcpy(chunk.data() + within, data.data(), take);
    data = data.subspan(take);
    offset += take;
  }
}

void Spool::do_read_at(uint64_t offset, std::span<std::byte> out) const {
  if (file_) {
    const auto written =
        out.first(std::min<uint64_t>(out.size(), size_written_ - std::min(size_written_, offset)));
    read_fully(file_.get(), offset, written, name());
    const auto rest = out.subspan(written.size());
    if (!rest.empty()) std::memcpy(rest.data(), &tail_[offset + written.size() - size_written_], rest.size());
    return;
  }
  while (!out.empty()) {
    const auto& chunk = chunks_[offset / kChunkBytes];
    const size_t within = offset % kChunkBytes;
    const size_t take = std::min(out.size(), chunk.size() - within);
    std::memcpy(out.data(), chunk.data() + within, take);
    out = out.subspan(take);
    offset += take;
  }
}

Digest Spool::digest(std::stop_token stop) const {
  Sha256 hash;
  if (!file_) {
    for (const auto& chunk : chunks_) hash.update(chunk);
    return hash.finish();
  }
  std::vector<std::byte> buffer;
  for (uint64_t offset = 0; offset < size_written_;) {
    if (stop.stop_requested()) throw Cancelled();
    const uint64_t left = size_written_ - offset;
    if (const MappedPart part(file_.get(), offset, std::min(left, kMappedBytes)); part) {
      hash.update(part.data());
      offset += part.data().size();
    } else {
      buffer.resize(std::min(left, kReadBytes));
      read_at(offset, buffer);
      hash.update(buffer);
      offset += buffer.size();
    }
  }
  if (stop.stop_requested()) throw Cancelled();
  hash.update(tail_);
  return hash.finish();
}

void Spool::sync() {
  if (!file_) move_to_file();
  if (synced_) return;
  write_tail();
  if (::fsync(file_.get()) != 0) throw IoError::from_errno(fmt::format("syncing {}", name()), errno);
  synced_ = true;
}

void Spool::link_as(const fs::path& path) {
  if (!linked_name_.empty()) {
    rename_into_place(linked_name_, path);
    linked_name_.clear();
    return;
  }
  const std::string self = fmt::format("/proc/self/fd/{}", file_.get());
  const auto link = [&](const fs::path& to) {
    return ::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, to.c_str(), AT_SYMLINK_FOLLOW) == 0;
  };
  if (link(path)) return;
  fs::path temporary = temporary_name(path.parent_path());
  while (errno == EEXIST) {  // a name cannot be replaced by a link, only by another name
    if (link(temporary)) return rename_into_place(temporary, path);
    temporary = temporary_name(path.parent_path());
  }
  throw IoError::from_errno(fmt::format("naming {}", path.string()), errno);
}

void Spool::publish_as(const fs::path& path) {
  sync();
  std::error_code error;
  if (fs::exists(path, error) && fs::file_size(path, error) == size_ && !error) return;
  link_as(path);
  sync_directory(path.parent_path());
}

void Spool::replace(const fs::path& path) {
  sync();
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    // Only root may give a file away; before the permissions, since a new owner takes some of them.
    if (::geteuid() == 0 && ::fchown(file_.get(), status.st_uid, status.st_gid) != 0) {
      throw IoError::from_errno(fmt::format("setting the owner of the new {}", path.string()), errno);
    }
    if (::fchmod(file_.get(), status.st_mode & 0777) != 0) {
      throw IoError::from_errno(fmt::format("setting the permissions of the new {}", path.string()), errno);
    }
  }
  link_as(path);
  sync_directory(path.parent_path());
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  write_under_temporary_name(path, content, [&](const fs::path& from) { rename_into_place(from, path); });
}

void create_file(const fs::path& path, std::string_view content) {
  std::error_code error;
  if (fs::exists(path, error)) return;
  write_under_temporary_name(path, content, [&](const fs::path& from) {
    // Most filesystems know the one or the other. Where there is neither, two of this moment may both be
    // taken for the first.
    const bool renamed = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0;
    if (renamed) return;
    if (errno != EEXIST && ::link(from.c_str(), path.c_str()) != 0 && !fs::exists(path, error)) {
      return rename_into_place(from, path);
    }
    ::unlink(from.c_str());
  });
}

void remove_stale_temporaries(const fs::path& directory) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (!entry.path().filename().string().starts_with(kTemporaryPrefix)) continue;
    const UniqueFd fd(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(entry.path().c_str());
  }
}

}  // namespace obd
