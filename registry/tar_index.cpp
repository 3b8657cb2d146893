#include "registry/tar_index.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "registry/archive_input.h"
#include "registry/local_blob.h"

namespace obd::registry {
namespace {

constexpr size_t kPieceBytes = 16 << 10;  // headers lie far apart: more would be read in vain
constexpr int kMaxLinks = 16;
constexpr size_t kShownBytes = 100;

/// Parts of `path` onto `parts`, ".." resolved; false if they leave the root.
bool append_parts(std::vector<std::string>& parts, std::string_view path) {
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.emplace_back(part);
    } else if (parts.empty()) {
      return false;
    } else {
      parts.pop_back();
    }
  }
  return true;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string path;
  for (const std::string& part : parts) path += (path.empty() ? "" : "/") + part;
  return path;
}

/// As in TarIndex; ".." stays: such a name leads nowhere, and nobody asks for it.
std::string clean_name(std::string_view name) {
  std::string clean;
  while (!name.empty()) {
    const size_t slash = std::min(name.find('/'), name.size());
    const std::string_view part = name.substr(0, slash);
    name.remove_prefix(std::min(slash + 1, name.size()));
    if (part.empty() || part == ".") continue;
    if (!clean.empty()) clean += '/';
    clean += part;
  }
  return clean;
}

/// Where a link leads, by the rules of tar: hard links from the root, symbolic ones from where they lie.
std::optional<std::string> target_of(const std::string& name, const TarMember& link) {
  std::vector<std::string> parts;
  if (link.kind == TarMember::Kind::kSymlink && !link.target.starts_with('/')) {
    const size_t slash = name.rfind('/');
    if (slash != std::string::npos && !append_parts(parts, name.substr(0, slash))) return std::nullopt;
  }
  if (!append_parts(parts, link.target)) return std::nullopt;
  return joined(parts);
}

class IndexReader {
 public:
  IndexReader(const ByteSource& source, const std::stop_token& stop)
      : source_(source), stop_(stop), input_(source, kPieceBytes) {
    archive_read_support_format_tar(input_.handle());
    check(input_.open());
  }

  TarIndex read() {
    TarIndex index;
    archive_entry* entry = nullptr;
    for (;;) {
      throw_if_stopped(stop_);
      const int result = archive_read_next_header(input_.handle(), &entry);
      if (result == ARCHIVE_EOF) break;
      check(result);
      TarMember member = describe(entry);
      std::string name =
          clean_name(text_of(archive_entry_pathname(entry), archive_entry_pathname_utf8(entry)));
      name_bytes_ += name.size() + member.target.size();
      if (name_bytes_ > kMaxTarNameBytes || (index.size() == kMaxTarMembers && !index.contains(name))) {
        fail(fmt::format("more than {} members, or more than {} bytes of names", kMaxTarMembers,
                         kMaxTarNameBytes));
      }
      index.insert_or_assign(std::move(name), std::move(member));
    }
    input_.rethrow();
    return index;
  }

 private:
  TarMember describe(archive_entry* entry) {
    TarMember member;
    // The headers are consumed by now, extended ones too: what follows is content.
    member.offset = static_cast<uint64_t>(archive_filter_bytes(input_.handle(), 0));
    const int64_t size = archive_entry_size(entry);
    if (archive_entry_sparse_count(entry) != 0) return member;  // the size counts holes too
    if (size < 0 || member.offset > source_.size() ||
        static_cast<uint64_t>(size) > source_.size() - member.offset) {
      fail(fmt::format(
          "member '{}' has {} bytes, which is beyond the end of the archive at byte {}: it is cut "
          "off or damaged",
          shown_name(text_of(archive_entry_pathname(entry), archive_entry_pathname_utf8(entry))), size,
          source_.size()));
    }
    member.size = static_cast<uint64_t>(size);
    if (archive_entry_hardlink(entry) != nullptr || archive_entry_hardlink_utf8(entry) != nullptr) {
      member.kind = TarMember::Kind::kHardlink;
      member.target = text_of(archive_entry_hardlink(entry), archive_entry_hardlink_utf8(entry));
    } else if (archive_entry_filetype(entry) == AE_IFLNK) {
      member.kind = TarMember::Kind::kSymlink;
      member.target = text_of(archive_entry_symlink(entry), archive_entry_symlink_utf8(entry));
    } else if (archive_entry_filetype(entry) == AE_IFDIR) {
      member.kind = TarMember::Kind::kDirectory;
    } else if (archive_entry_filetype(entry) == AE_IFREG) {
      member.kind = TarMember::Kind::kFile;
    }
    return member;
  }

  /// The bytes of the archive or, where the locale knows no such characters, the name in UTF-8.
  std::string text_of(const char* bytes, const char* utf8) {
    if (bytes == nullptr) bytes = utf8;
    if (bytes == nullptr) fail("a member has a name that cannot be read");
    return bytes;
  }

  void check(int result) {
    if (result == ARCHIVE_OK || result == ARCHIVE_WARN) return;
    input_.rethrow();
    fail(fmt::format("not a sound tar archive ({})", input_.reason()));
  }

  [[noreturn]] void fail(const std::string& cause) {
    throw DataError(fmt::format("{}: at byte {}: {}", source_.name(),
                                archive_read_header_position(input_.handle()), cause));
  }

  const ByteSource& source_;
  const std::stop_token& stop_;
  uint64_t name_bytes_ = 0;
  ArchiveInput input_;
};

}  // namespace

std::string shown_name(const std::string& name) {
  std::string shown = name.substr(0, kShownBytes);
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F) c = '?';
  }
  return name.size() > kShownBytes ? shown + "…" : shown;
}

TarIndex read_tar_index(const ByteSource& archive, const std::stop_token& stop) {
  return IndexReader(archive, stop).read();
}

const TarMember* find_file(const TarIndex& index, const std::string& name, const std::string& where) {
  std::string current = clean_name(name);
  for (int links = 0; links <= kMaxLinks; ++links) {
    const auto at = index.find(current);
    if (at == index.end() && links == 0) return nullptr;
    if (at == index.end()) {
      throw DataError(fmt::format("{}: member '{}' is a link to '{}', which is not there", where,
                                  shown_name(name), shown_name(current)));
    }
    const TarMember& member = at->second;
    if (member.kind == TarMember::Kind::kFile) return &member;
    if (member.kind != TarMember::Kind::kHardlink && member.kind != TarMember::Kind::kSymlink) {
      throw DataError(
          fmt::format("{}: member '{}' is not a file, or a sparse one", where, shown_name(current)));
    }
    auto target = target_of(current, member);
    if (!target) {
      throw DataError(fmt::format("{}: member '{}' is a link that leads out of the archive, to '{}'", where,
                                  shown_name(current), shown_name(member.target)));
    }
    current = std::move(*target);
  }
  throw DataError(
      fmt::format("{}: member '{}' is a link over more than {} others", where, shown_name(name), kMaxLinks));
}

}  // namespace obd::registry
