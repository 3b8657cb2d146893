#include "dedupdb/sqlite_lease.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>

#include "common/digest.h"
#include "common/error.h"
#include "common/unique_fd.h"
#include "dedupdb/waiting.h"

namespace obd::dedupdb {
namespace {

namespace fs = std::filesystem;

class FileLease : public Lease {
 public:
  explicit FileLease(UniqueFd fd) : fd_(std::move(fd)) {}

  bool held() override {
    struct stat status {};
    return ::fstat(fd_.get(), &status) == 0 && status.st_nlink > 0;
  }

 private:
  UniqueFd fd_;
};

off_t lock_offset(const std::string& name) {
  uint64_t hash = 0;
  const Digest digest = Digest::of(name);
  const std::string_view hex = digest.hex();
  std::from_chars(hex.data(), hex.data() + 16, hash, 16);
  return static_cast<off_t>(hash >> 2);
}

DbError failure(const char* what, const fs::path& file, int error_number) {
  return DbError(
      fmt::format("{} '{}': {}", what, file.string(), std::generic_category().message(error_number)));
}

/// Null where somebody else has it.
std::unique_ptr<Lease> try_lock(const fs::path& file, off_t offset) {
  for (;;) {
    UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd) throw failure("opening the lease file", file, errno);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = offset;
    lock.l_len = 1;
    if (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
      if (errno == EAGAIN || errno == EACCES) return nullptr;
      throw failure("locking the lease file", file, errno);
    }
    auto lease = std::make_unique<FileLease>(std::move(fd));
    // Else it was deleted between opening and locking, and others lock the file that took its place.
    if (lease->held()) return lease;
  }
}

}  // namespace

std::unique_ptr<Lease> acquire_file_lease(const fs::path& database, const std::string& name, bool wait,
                                          const std::stop_token& stop) {
  // Whoever comes by a symlink must find the same file.
  std::error_code error;
  fs::path file = fs::weakly_canonical(database, error);
  if (error) throw failure("finding the lease file of", database, error.value());
  file += "-leases";
  const off_t offset = lock_offset(name);
  return poll_lease(wait, stop, [&] { return try_lock(file, offset); });
}

}  // namespace obd::dedupdb
