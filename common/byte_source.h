#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "common/unique_fd.h"

namespace obd {

/// Random access to immutable bytes: a file, a spool, a blob in a registry, or a view of another source.
///
/// Threads: any number at once.
/// Errors:  whatever the place behind it throws (IoError, NetworkError, DataError).
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// In bytes.
  virtual uint64_t size() const = 0;
  /// Fills all of `out`; throws DataError if the range is not within [0, size()).
  void read_at(uint64_t offset, std::span<std::byte> out) const;
  /// For messages: a path or a digest.
  virtual std::string name() const = 0;

 protected:
  /// `offset + out.size() <= size()` holds.
  virtual void do_read_at(uint64_t offset, std::span<std::byte> out) const = 0;
};

/// Takes bytes in order; the bytes at the front may be corrected once the end is known.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual void append(std::span<const std::byte> data) = 0;
  /// Replaces bytes that were appended before.
  virtual void overwrite(uint64_t offset, std::span<const std::byte> data) = 0;
  /// Bytes appended so far.
  virtual uint64_t size() const = 0;
};

/// Appends all of `from`.
void copy_bytes(const ByteSource& from, ByteSink& to);

class FileSource final : public ByteSource {
 public:
  /// Throws IoError if it cannot be opened or is not a regular file.
  explicit FileSource(const std::filesystem::path& path);
  uint64_t size() const override { return size_; }
  std::string name() const override { return name_; }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override;

 private:
  UniqueFd fd_;
  uint64_t size_ = 0;
  std::string name_;
};

/// A window of another source.
class SubSource final : public ByteSource {
 public:
  /// Throws DataError unless the window lies within `base`.
  SubSource(std::shared_ptr<const ByteSource> base, uint64_t offset, uint64_t size);
  uint64_t size() const override { return size_; }
  std::string name() const override { return base_->name(); }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override {
    base_->read_at(offset_ + offset, out);
  }

 private:
  std::shared_ptr<const ByteSource> base_;
  uint64_t offset_;
  uint64_t size_;
};

/// pread() and pwrite() until all is done; throw IoError naming `what`, a short file included.
void read_fully(int fd, uint64_t offset, std::span<std::byte> out, const std::string& what);
void write_fully(int fd, uint64_t offset, std::span<const std::byte> data, const std::string& what);

}  // namespace obd
