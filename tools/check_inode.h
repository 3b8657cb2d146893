#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

namespace obd::tools {

/// Of a file's content; equal content has equal fingerprints, however it is stored.
struct Fingerprint {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const Fingerprint&) const = default;
  std::string text() const;
};

/// All of a file's properties but its names: what the two sides of a check must agree on.
struct Inode {
  using Xattrs = std::map<std::string, std::string>;
  /// What few files have.
  struct Extra {
    std::string link_target;
    Xattrs xattrs;
  };

  uint32_t mode = 0;  // type and permissions, as in st_mode
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t mtime_nanoseconds = 0;
  int64_t mtime_seconds = 0;
  uint64_t size = 0;  // bytes, of regular files
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  Fingerprint content;
  std::unique_ptr<Extra> extra;  // null: none of it

  bool is_directory() const;
  bool is_regular() const;
  bool is_symlink() const;
  bool is_device() const;
  const std::string& link_target() const;
  const Xattrs& xattrs() const;
  Extra& make_extra();
};

/// An attribute's value in the one form that is compared: the entries of an ACL that name nobody hold an ID
/// that means nothing, and writers disagree on it.
std::string canonical_xattr(const std::string& name, std::string value);

/// Takes a file's content in order. Blocks of zeroes don't count, so a hole costs nothing and is the same as
/// zeroes that are stored; trailing ones show in the size alone.
///
/// Threads: one at a time.
class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;

  /// `offset` is never below the end of what was added before; what lies between is zeroes.
  void add(uint64_t offset, std::span<const std::byte> data);
  /// Ends the file; the next add() starts another.
  Fingerprint finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace obd::tools
