#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>

#include "common/byte_source.h"
#include "registry/tar_index.h"

namespace obd::registry {

/// Which file has a name, and in which state.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;  // bytes
  int64_t changed_nanoseconds = 0;
  auto operator<=>(const FileIdentity&) const = default;

  /// Throws IoError if there is no such file.
  static FileIdentity of(const std::filesystem::path& path);
};

/// A tar archive that is open for random access. It stays what it was when it was opened, even if another
/// file takes its name.
///
/// Threads: any number at once.
/// Errors:  IoError if it cannot be opened or read; DataError for one that is malformed.
class TarArchive {
 public:
  /// A file that is compressed as a whole (gzip or zstd) is unpacked into `work_directory` first, a file
  /// without a name; other compression is a UsageError that says what to do.
  TarArchive(const std::filesystem::path& path, const std::filesystem::path& work_directory,
             const std::stop_token& stop);

  const FileIdentity& identity() const { return identity_; }
  bool is_compressed() const { return compressed_; }
  const TarIndex& index() const { return index_; }
  std::string name() const { return name_; }

  /// The file that a member is or leads to, see find_file(); null if there is no such member.
  std::shared_ptr<const ByteSource> open(const std::string& member) const;
  /// All of a file; throws DataError if it is not there or has more than `max_bytes`.
  std::string read(const std::string& member, uint64_t max_bytes) const;

 private:
  std::string name_;
  FileIdentity identity_;
  std::shared_ptr<const ByteSource> bytes_;
  bool compressed_ = false;
  TarIndex index_;
};

/// The path behind the prefix `kind` ("oci-archive") of a repository's name. All of it is the path, colons
/// too. Throws UsageError if it is empty, or if it looks as if a tag stood at its end.
std::filesystem::path archive_path(const std::string& kind, const std::string& path);

}  // namespace obd::registry
