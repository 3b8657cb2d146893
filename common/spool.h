#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stop_token>
#include <vector>

#include "common/byte_source.h"
#include "common/digest.h"
#include "common/unique_fd.h"

namespace obd {

/// Where a blob is assembled before anyone may see it: memory up to a budget, then a file without a name, so
/// that a killed process leaves nothing behind.
///
/// Threads: one thread appends; once it has stopped, any number may read.
/// Errors:  IoError (a full disk, a directory that cannot be written).
class Spool final : public ByteSource, public ByteSink {
 public:
  struct Options {
    /// Made if missing. publish_as() works only within the same filesystem.
    std::filesystem::path directory;
    /// Bytes kept in memory before the file is made; 0: a file from the start.
    uint64_t memory_limit = 0;
    /// Start writing back to the disk while the spool grows, so that publish_as() need not wait for it all.
    bool write_behind = false;
  };

  explicit Spool(Options options);
  ~Spool() override;

  void append(std::span<const std::byte> data) override;
  void overwrite(uint64_t offset, std::span<const std::byte> data) override;
  uint64_t size() const override { return size_; }
  std::string name() const override;

  /// Reads all of it once.
  Digest digest(std::stop_token stop) const;
  /// Brings all of it to the disk, so that publish_as() is quick.
  void sync();
  /// Gives the content the name `path`, durably and atomically; an existing file is replaced only if its size
  /// differs (names are content addresses).
  void publish_as(const std::filesystem::path& path);
  /// Likewise, but whatever has that name is replaced; the new file takes over its owner and permissions.
  void replace(const std::filesystem::path& path);

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override;

 private:
  void move_to_file();
  void write_tail();
  void link_as(const std::filesystem::path& path);

  Options options_;
  uint64_t size_ = 0;
  uint64_t size_written_ = 0;  // to the file
  uint64_t written_behind_ = 0;
  bool synced_ = false;
  std::vector<std::vector<std::byte>> chunks_;  // while in memory
  UniqueFd file_;
  // The end of the file that is not written yet: large aligned writes cost the kernel half of small ones.
  std::vector<std::byte> tail_;
  std::filesystem::path linked_name_;  // only where the filesystem has no O_TMPFILE
};

/// Writes `content` to `path` under a temporary name, syncs it and renames it into place.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Makes `path` with `content`, which is whole from the moment that it can be seen. A file that is there
/// stays as it is. Threads and processes may do this at once: the first one's file stays.
void create_file(const std::filesystem::path& path, std::string_view content);

/// Removes temporary files in `directory` that a killed process of ours has left there; files of a living
/// process are locked and stay.
void remove_stale_temporaries(const std::filesystem::path& directory);

}  // namespace obd
