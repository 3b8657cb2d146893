#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/byte_source.h"
#include "registry/callback_guard.h"

struct archive;  // libarchive's

namespace obd::registry {

/// libarchive, reading from a byte source. The caller chooses formats and filters, then opens it.
///
/// Owns:    the handle. The source must outlive it.
/// Threads: one at a time.
class ArchiveInput {
 public:
  /// Reads `piece_bytes` at a time.
  ArchiveInput(const ByteSource& source, size_t piece_bytes);
  ~ArchiveInput();
  ArchiveInput(const ArchiveInput&) = delete;
  ArchiveInput& operator=(const ArchiveInput&) = delete;

  archive* handle() const { return handle_; }
  /// Returns libarchive's result.
  int open();
  /// Lets go on what reading the source threw. After each failure, and at the end: libarchive may take it for
  /// the end of a stream.
  void rethrow() const { guard_.rethrow(); }
  /// Why the last call failed, in libarchive's words.
  const char* reason() const;
  /// Of the source, what is read next.
  uint64_t position() const { return position_; }

 private:
  const ByteSource& source_;
  uint64_t position_ = 0;
  std::vector<std::byte> buffer_;
  CallbackGuard guard_;
  archive* const handle_;
};

}  // namespace obd::registry
