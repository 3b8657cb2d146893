#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "blockfs/chunk.h"
#include "common/error.h"

namespace obd::blockfs {

/// One member of a layer's tar archive, as the archive has it: nothing is resolved or cleaned.
struct TarEntry {
  enum class Type { kFile, kDirectory, kSymlink, kHardlink, kCharDevice, kBlockDevice, kFifo };
  /// A piece of a file that has content; what lies between is a hole.
  struct Segment {
    uint64_t offset = 0;  // bytes in the file
    uint64_t bytes = 0;
  };

  Type type = Type::kFile;
  std::string path;         // any bytes but NUL
  std::string link_target;  // of symlinks and hardlinks
  uint32_t mode = 0;        // the lower 12 bits
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_seconds = 0;
  uint32_t mtime_nanoseconds = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  uint64_t size = 0;                                        // of a file, holes included
  std::vector<Segment> segments;                            // ascending, not empty, within size
  std::vector<std::pair<std::string, std::string>> xattrs;  // full name ("user.x") and value
  uint64_t header_offset = 0;                               // bytes in the uncompressed archive
};

/// A malformed archive: the message already names layer, member and offset.
class TarError : public DataError {
 public:
  using DataError::DataError;
};

/// Reads a layer's tar archive as it streams by.
///
/// Formats: v7, ustar (POSIX.1-1988), pax with local and global headers (POSIX.1-2001), GNU tar (long names,
///          base-256 numbers, sparse files old, 0.0, 0.1 and 1.0), xattrs as SCHILY.xattr and
///          LIBARCHIVE.xattr. An empty stream, a missing end mark and any bytes behind it are accepted.
/// Threads: one at a time.
/// Errors:  TarError that names the layer and the offset of the member; nothing is skipped silently.
/// Memory:  extended headers are at most kMaxExtendedBytes, sparse maps kMaxSegments.
class LayerTar {
 public:
  static constexpr uint64_t kMaxExtendedBytes = 1 << 20;
  static constexpr size_t kMaxSegments = 1 << 18;
  static constexpr size_t kMaxPathBytes = 1 << 16;

  /// A piece of content of the current file.
  struct Data {
    uint64_t file_offset = 0;
    uint64_t tar_offset = 0;
    std::span<const std::byte> bytes;
  };

  /// `name` is put in front of every message.
  LayerTar(std::string name, ChunkStream& in);
  ~LayerTar();

  /// The next member, valid until the next call; null at the end. Content that was not read is skipped.
  const TarEntry* next();
  /// The next piece of the current file's content, in order, valid until the next call; none at its end.
  std::optional<Data> next_data();
  /// Reads the stream to its end, so that all of it has been hashed.
  void drain();
  /// "<layer>: tar member '<name>' at byte N": the current member, for messages.
  std::string describe_member() const;
  /// Bytes of the archive that were consumed.
  uint64_t position() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace obd::blockfs
