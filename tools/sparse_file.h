#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "common/unique_fd.h"

namespace obd::tools {

/// A file of a fixed size that holds storage only where it was given something else than zeroes. It has its
/// name only after commit(); destroyed before, it leaves nothing.
///
/// Threads: one at a time.
/// Errors:  IoError naming the path; UsageError for a path that exists and is not a regular file.
class SparseFile {
 public:
  SparseFile(std::filesystem::path path, uint64_t bytes);
  ~SparseFile();
  SparseFile(const SparseFile&) = delete;
  SparseFile& operator=(const SparseFile&) = delete;

  /// Leaves out blocks of 4096 bytes that are zero. Each byte is written at most once.
  void write(uint64_t offset, std::span<const std::byte> data);
  /// Syncs the file and gives it its name, replacing what had it.
  void commit();
  /// That were not left out.
  uint64_t written_bytes() const { return written_bytes_; }

 private:
  const std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty while the file has no name, and once it is committed
  UniqueFd fd_;
  uint64_t written_bytes_ = 0;
};

/// Whether all bytes are zero.
bool is_zero(std::span<const std::byte> data);

}  // namespace obd::tools
