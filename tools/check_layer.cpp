#include "tools/check_layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <cstring>

#include "common/c_handle.h"
#include "common/error.h"
#include "registry/callback_guard.h"
#include "tools/check_pax.h"
#include "tools/cli.h"

namespace obd::tools {
namespace {

using ArchiveHandle = CHandle<archive, archive_read_free>;

std::string error_of(archive* handle) {
  const char* text = archive_error_string(handle);
  return text == nullptr ? "libarchive gives no reason" : text;
}

/// The layer's tar archive, decompressed where it is compressed.
class Decompressor {
 public:
  Decompressor(const LayerInput& input, const std::stop_token& stop) : input_(input), stop_(stop) {
    first_ = input_();
    if (first_.empty()) {
      ended_ = true;
      return;
    }
    archive_read_support_filter_gzip(handle_.get());
    archive_read_support_filter_zstd(handle_.get());
    archive_read_support_format_raw(handle_.get());
    archive_read_support_format_empty(handle_.get());
    check(archive_read_open(handle_.get(), this, nullptr, read_input, nullptr));
    archive_entry* entry = nullptr;
    const int result = archive_read_next_header(handle_.get(), &entry);
    ended_ = result == ARCHIVE_EOF;
    if (!ended_) check(result);
  }

  /// Empty at the end; then all of the input has been read.
  std::span<const std::byte> next() {
    while (!ended_) {
      if (stop_.stop_requested()) throw Cancelled();
      const void* data = nullptr;
      size_t size = 0;
      int64_t offset = 0;
      const int result = archive_read_data_block(handle_.get(), &data, &size, &offset);
      if (result == ARCHIVE_EOF) {
        ended_ = true;
        break;
      }
      check(result);
      if (size > 0) return {static_cast<const std::byte*>(data), size};
    }
    while (!first_.empty() || !input_().empty()) first_ = {};
    return {};
  }

 private:
  static la_ssize_t read_input(archive*, void* self, const void** data) noexcept {
    auto& that = *static_cast<Decompressor*>(self);
    return that.guard_.run(la_ssize_t{ARCHIVE_FATAL}, [&] {
      const auto piece = that.first_.empty() ? that.input_() : std::exchange(that.first_, {});
      *data = piece.data();
      return static_cast<la_ssize_t>(piece.size());
    });
  }

  void check(int result) const {
    guard_.rethrow();
    if (result < ARCHIVE_WARN) throw DataError(fmt::format("decompressing: {}", error_of(handle_.get())));
  }

  const LayerInput& input_;
  const std::stop_token& stop_;
  std::span<const std::byte> first_;
  bool ended_ = false;
  registry::CallbackGuard guard_;
  ArchiveHandle handle_{archive_read_new()};
};

/// The members of a tar archive that has at least one byte.
class TarMembers {
 public:
  TarMembers(Decompressor& input, std::span<const std::byte> first) : input_(input) {
    window_.assign(first.begin(), first.end());
    open();
  }

  /// Null at the end.
  archive_entry* next(PaxScanner::Headers& headers) {
    in_header_ = true;
    header_floor_ = consumed();
    archive_entry* entry = nullptr;
    const int result = archive_read_next_header(handle_.get(), &entry);
    if (result == ARCHIVE_EOF) return nullptr;
    check(result);
    in_header_ = false;
    const auto start = static_cast<uint64_t>(archive_read_header_position(handle_.get()));
    OBD_CHECK(start >= window_start_ && start - window_start_ <= window_.size());
    headers = scanner_.scan(std::span<const std::byte>(window_).subspan(start - window_start_));
    return entry;
  }

  Fingerprint hash_content() {
    const void* data = nullptr;
    size_t size = 0;
    int64_t offset = 0;
    int result = ARCHIVE_OK;
    while ((result = archive_read_data_block(handle_.get(), &data, &size, &offset)) != ARCHIVE_EOF) {
      check(result);
      if (size > 0) hash_.add(static_cast<uint64_t>(offset), {static_cast<const std::byte*>(data), size});
    }
    return hash_.finish();
  }

  /// The content of a member that libarchive takes for a directory, to which it grants none: reads it past
  /// libarchive, which starts anew behind it.
  Fingerprint hash_misread_content(uint64_t size) {
    drop_window_before(consumed());
    const uint64_t stored = (size + kBlock - 1) / kBlock * kBlock;
    for (uint64_t offset = 0; offset < stored;) {
      if (window_.empty() && !extend_window()) throw DataError("the archive ends within a file's content");
      const auto piece = std::span(window_).first(std::min<uint64_t>(window_.size(), stored - offset));
      if (offset < size) hash_.add(offset, piece.first(std::min<uint64_t>(piece.size(), size - offset)));
      offset += piece.size();
      drop_window_before(window_start_ + piece.size());
    }
    if (window_.empty()) extend_window();
    window_start_ = header_floor_ = 0;
    handle_.reset(archive_read_new());
    open();
    return hash_.finish();
  }

  void skip_content() { check(archive_read_data_skip(handle_.get())); }

 private:
  static constexpr size_t kBlock = 512;

  void open() {
    opened_ = false;
    archive_read_support_format_tar(handle_.get());
    archive_read_support_format_empty(handle_.get());
    check(archive_read_open(handle_.get(), this, nullptr, read_input, nullptr));
  }

  uint64_t consumed() const { return static_cast<uint64_t>(archive_filter_bytes(handle_.get(), -1)); }

  static la_ssize_t read_input(archive*, void* self, const void** data) noexcept {
    auto& that = *static_cast<TarMembers*>(self);
    return that.guard_.run(la_ssize_t{ARCHIVE_FATAL}, [&] { return that.read(data); });
  }

  /// What libarchive has not consumed, and the headers of the current member, stay in the window.
  la_ssize_t read(const void** data) {
    size_t added = window_.size();
    if (opened_) {
      const uint64_t floor = in_header_ ? header_floor_ : consumed();
      drop_window_before(floor);
      added = extend_window();
    }
    opened_ = true;
    *data = window_.data() + (window_.size() - added);
    return static_cast<la_ssize_t>(added);
  }

  void drop_window_before(uint64_t position) {
    const auto old = static_cast<size_t>(std::min<uint64_t>(position - window_start_, window_.size()));
    window_.erase(window_.begin(), window_.begin() + static_cast<ptrdiff_t>(old));
    window_start_ += old;
  }

  size_t extend_window() {
    const auto piece = input_.next();
    window_.insert(window_.end(), piece.begin(), piece.end());
    return piece.size();
  }

  void check(int result) const {
    guard_.rethrow();
    if (result < ARCHIVE_WARN)
      throw DataError(fmt::format("reading the tar archive: {}", error_of(handle_.get())));
  }

  Decompressor& input_;
  PaxScanner scanner_;
  ContentHash hash_;
  std::vector<std::byte> window_;  // the bytes of the archive from window_start_ on
  uint64_t window_start_ = 0;
  uint64_t header_floor_ = 0;
  bool in_header_ = false;
  bool opened_ = false;
  registry::CallbackGuard guard_;
  ArchiveHandle handle_{archive_read_new()};
};

uint32_t checked_id(int64_t id, const char* what) {
  if (id < 0 || id > UINT32_MAX) throw DataError(fmt::format("the {} {} is out of range", what, id));
  return static_cast<uint32_t>(id);
}

uint32_t record_id(const PaxScanner::Records& records, const char* key, int64_t otherwise) {
  const auto found = records.find(key);
  if (found == records.end()) return checked_id(otherwise, key);
  char* end = nullptr;
  const long long value = std::strtoll(found->second.c_str(), &end, 10);
  if (*end != '\0') throw DataError(fmt::format("'{}' is no {}", printable(found->second), key));
  return checked_id(value, key);
}

/// Attributes that a filesystem on Linux takes from a tar; a conversion leaves out the others. See xattr(7).
bool is_storable(const Inode& inode, std::string_view name) {
  if (name.starts_with("user.") && !inode.is_regular() && !inode.is_directory()) return false;
  for (const std::string_view space : {"user.", "trusted.", "security."}) {
    if (name.starts_with(space)) return name.size() > space.size();
  }
  return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

void set_xattrs(Inode& inode, archive_entry* entry, const PaxScanner::Records& records) {
  const auto set = [&](const std::string& name, std::string value) {
    if (is_storable(inode, name)) inode.make_extra().xattrs[name] = canonical_xattr(name, std::move(value));
  };
  const char* name = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  archive_entry_xattr_reset(entry);
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    set(name, std::string(static_cast<const char*>(value), size));
  }
  constexpr std::string_view kPrefix = "SCHILY.xattr.";
  for (const auto& [key, text] : records) {
    if (key.starts_with(kPrefix)) set(key.substr(kPrefix.size()), text);
  }
}

void set_mtime(Inode& inode, archive_entry* entry, const PaxScanner::Records& records) {
  inode.mtime_seconds = archive_entry_mtime(entry);
  inode.mtime_nanoseconds = static_cast<uint32_t>(archive_entry_mtime_nsec(entry));
  if (const auto found = records.find("mtime"); found != records.end()) {
    std::tie(inode.mtime_seconds, inode.mtime_nanoseconds) = parse_pax_time(found->second);
  }
  constexpr int64_t kFirst = -(int64_t{1} << 31);  // what ext4's 34 bits reach
  constexpr int64_t kLast = (int64_t{1} << 34) - (int64_t{1} << 31) - 1;
  if (inode.mtime_seconds >= kFirst && inode.mtime_seconds <= kLast) return;
  inode.mtime_seconds = inode.mtime_seconds < kFirst ? kFirst : kLast;
  inode.mtime_nanoseconds = 0;
}

std::string text_or(const char* text) {
  return text == nullptr ? "" : text;
}

LayerMember make_member(TarMembers& members, archive_entry* entry, const PaxScanner::Headers& headers) {
  const PaxScanner::Records& records = headers.records;
  const auto record_or = [&](const char* key, const char* otherwise) {
    const auto found = records.find(key);
    return found == records.end() ? text_or(otherwise) : found->second;
  };
  LayerMember member;
  // The name of a GNU sparse file stands in a record of its own, which libarchive knows.
  member.path = records.contains("GNU.sparse.name") ? text_or(archive_entry_pathname(entry))
                                                    : record_or("path", archive_entry_pathname(entry));
  if (archive_entry_hardlink(entry) != nullptr) {
    member.hardlink = record_or("linkpath", archive_entry_hardlink(entry));
    members.skip_content();
    return member;
  }
  member.inode = std::make_shared<Inode>();
  Inode& inode = *member.inode;
  inode.mode = archive_entry_filetype(entry) | (archive_entry_mode(entry) & 07777);
  // Only archives older than POSIX, whose files have no type, mark a directory by its name.
  const bool misread = inode.is_directory() && headers.type != '5';
  if (misread && headers.type != '\0') inode.mode = S_IFREG | (inode.mode & 07777);
  inode.uid = record_id(records, "uid", archive_entry_uid(entry));
  inode.gid = record_id(records, "gid", archive_entry_gid(entry));
  set_mtime(inode, entry, records);
  set_xattrs(inode, entry, records);
  if (inode.is_symlink()) {
    inode.mode = S_IFLNK | 0777;  // Linux knows no other, whatever the archive says
    inode.make_extra().link_target = record_or("linkpath", archive_entry_symlink(entry));
  } else if (inode.is_device()) {
    inode.device_major = static_cast<uint32_t>(archive_entry_rdevmajor(entry));
    inode.device_minor = static_cast<uint32_t>(archive_entry_rdevminor(entry));
  }
  const auto size = static_cast<uint64_t>(archive_entry_size(entry));
  Fingerprint content;
  if (misread && size > 0) {
    content = members.hash_misread_content(size);
  } else if (inode.is_regular()) {
    content = members.hash_content();
  }
  if (inode.is_regular()) {
    inode.size = size;
    inode.content = content;
  }
  return member;
}

std::vector<LayerMember> read_members(const LayerInput& input, const std::stop_token& stop,
                                      std::string& current) {
  Decompressor decompressor(input, stop);
  std::vector<LayerMember> members;
  if (const auto first = decompressor.next(); !first.empty()) {
    TarMembers tar(decompressor, first);
    PaxScanner::Headers headers;
    while (archive_entry* entry = tar.next(headers)) {
      current = text_or(archive_entry_pathname(entry));
      members.push_back(make_member(tar, entry, headers));
    }
    while (!decompressor.next().empty()) continue;
  }
  return members;
}

}  // namespace

std::vector<LayerMember> read_layer(const std::string& name, const LayerInput& input, std::stop_token stop) {
  std::string current;
  try {
    return read_members(input, stop, current);
  } catch (Error& error) {
    error.add_context(current.empty() ? name
                                      : fmt::format("{}: at or behind '{}'", name, printable(current)));
    throw;
  }
}

}  // namespace obd::tools
