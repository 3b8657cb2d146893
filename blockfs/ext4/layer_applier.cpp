#include "blockfs/ext4/layer_applier.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "blockfs/ext4/capacity.h"
#include "blockfs/ext4/tree.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

using Path = std::vector<std::string_view>;

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueWhiteout = ".wh..wh..opq";
constexpr std::string_view kReservedPrefix = ".wh..wh.";  // what aufs kept for itself
/// A cleaned path longer than this cannot be opened on Linux.
constexpr size_t kMaxPathBytes = 4095;
constexpr uint32_t kMaxMajor = (1u << 12) - 1;
constexpr uint32_t kMaxMinor = (1u << 20) - 1;

/// Components without empty ones and ".", with ".." resolved by the text alone.
Path clean_path(std::string_view text) {
  Path path;
  size_t bytes = 0;
  for (size_t at = 0; at <= text.size();) {
    const size_t slash = std::min(text.find('/', at), text.size());
    const std::string_view component = text.substr(at, slash - at);
    at = slash + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      if (path.empty()) throw DataError("its path leads out of the image");
      bytes -= path.back().size() + 1;
      path.pop_back();
      continue;
    }
    if (component.size() > Directory::kMaxNameBytes) {
      throw DataError(
          fmt::format("a name of {} bytes; ext4 holds {}", component.size(), Directory::kMaxNameBytes));
    }
    path.push_back(component);
    bytes += component.size() + 1;
  }
  if (bytes > kMaxPathBytes)
    throw DataError(fmt::format("a path of {} bytes; Linux takes {}", bytes, kMaxPathBytes));
  return path;
}

InodeAttributes attributes_of(const TarEntry& entry, FileType type) {
  return {.type = type,
          .permissions = type == FileType::kSymlink ? 0777 : entry.mode,
          .uid = entry.uid,
          .gid = entry.gid,
          .mtime_seconds = entry.mtime_seconds,
          .mtime_nanoseconds = entry.mtime_nanoseconds};
}

/// The form in which Linux passes a POSIX ACL: a version and 8 bytes per entry. libext2fs rewrites it without
/// looking at its length.
void check_acl(std::string_view name, std::string_view value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(value.data());
  bool valid = value.size() >= 4 && (value.size() - 4) % 8 == 0 && load_le<uint32_t>(bytes) == 2;
  for (size_t at = 4; valid && at < value.size(); at += 8) {
    const auto tag = load_le<uint16_t>(bytes + at);
    valid = tag == 0x01 || tag == 0x02 || tag == 0x04 || tag == 0x08 || tag == 0x10 || tag == 0x20;
  }
  if (!valid) throw DataError(fmt::format("the attribute '{}' is no valid access control list", name));
}

/// The kernel's vfs_cap_data, whose revision says how long it is. The kernel refuses to set any other value,
/// and to read it where it is.
void check_capability(std::string_view name, std::string_view value) {
  constexpr std::array<size_t, 4> kBytes{0, 12, 20, 24};  // by revision, which counts from 1
  const auto* bytes = reinterpret_cast<const std::byte*>(value.data());
  const uint32_t revision = value.size() >= 4 ? load_le<uint32_t>(bytes) >> 24 : 0;
  if (revision == 0 || revision >= kBytes.size() || value.size() != kBytes[revision]) {
    throw DataError(fmt::format("the attribute '{}' is no valid set of capabilities", name));
  }
}

class Applier {
 public:
  Applier(Filesystem& filesystem, MetadataStore& store, LayerTar& tar, DeltaSink& sink)
      : filesystem_(filesystem), tar_(tar), sink_(sink), tree_(filesystem, store) {}

  void apply(const TarEntry& entry);
  void finish() { tree_.write_changed(); }

  AppliedLayer result;

 private:
  void apply_root(const TarEntry& entry);
  bool apply_whiteout(std::span<const std::string_view> parent, std::string_view name);
  void make_file(Directory& parent, std::string_view name, const TarEntry& entry);
  void make_directory(Directory& parent, std::string_view name, const TarEntry& entry);
  void make_hardlink(Directory& parent, std::string_view name, const TarEntry& entry);
  void make_symlink(Directory& parent, std::string_view name, const TarEntry& entry);
  void make_special(Directory& parent, std::string_view name, const TarEntry& entry, FileType type);
  void stream_data(const std::vector<FileExtent>& extents);
  std::vector<FileExtent> place(const TarEntry& entry);
  Xattrs xattrs_of(const TarEntry& entry, FileType type);

  Filesystem& filesystem_;
  LayerTar& tar_;
  DeltaSink& sink_;
  Tree tree_;
};

void Applier::apply(const TarEntry& entry) {
  const Path path = clean_path(entry.path);
  if (path.empty()) return apply_root(entry);
  for (const std::string_view component : path) {
    if (component.starts_with(kReservedPrefix) && component != kOpaqueWhiteout) return;
  }
  const auto parent_path = std::span(path).first(path.size() - 1);
  const std::string_view name = path.back();
  for (const std::string_view component : parent_path) {
    if (component.starts_with(kWhiteoutPrefix)) throw DataError("it lies below a whiteout");
  }
  if (apply_whiteout(parent_path, name)) return;
  if (entry.type == TarEntry::Type::kHardlink) {
    return make_hardlink(*tree_.resolve(parent_path, true), name, entry);
  }
  Directory& parent = *tree_.resolve(parent_path, true);
  switch (entry.type) {
    case TarEntry::Type::kFile:
      return make_file(parent, name, entry);
    case TarEntry::Type::kDirectory:
      return make_directory(parent, name, entry);
    case TarEntry::Type::kSymlink:
      return make_symlink(parent, name, entry);
    case TarEntry::Type::kCharDevice:
      return make_special(parent, name, entry, FileType::kCharDevice);
    case TarEntry::Type::kBlockDevice:
      return make_special(parent, name, entry, FileType::kBlockDevice);
    case TarEntry::Type::kFifo:
      return make_special(parent, name, entry, FileType::kFifo);
    case TarEntry::Type::kHardlink:
      break;
  }
}

void Applier::apply_root(const TarEntry& entry) {
  if (entry.type != TarEntry::Type::kDirectory) throw DataError("the image's root must be a directory");
  filesystem_.set_attributes(Filesystem::kRootInode, attributes_of(entry, FileType::kDirectory),
                             xattrs_of(entry, FileType::kDirectory));
  tree_.root().declared = true;
}

bool Applier::apply_whiteout(std::span<const std::string_view> parent_path, std::string_view name) {
  if (!name.starts_with(kWhiteoutPrefix)) return false;
  const std::string_view hidden = name.substr(kWhiteoutPrefix.size());
  if (hidden.empty() || hidden == "." || hidden == "..") throw DataError("a whiteout of no name");
  Directory* parent = tree_.resolve(parent_path, false);
  if (parent == nullptr) return true;  // nothing to hide
  if (name == kOpaqueWhiteout) {
    tree_.hide_content(*parent);
  } else if (const Directory::Index at = parent->find(hidden); at != Directory::kNone) {
    tree_.hide(*parent, at);
  }
  return true;
}

Xattrs Applier::xattrs_of(const TarEntry& entry, FileType type) {
  Xattrs kept;
  for (const auto& [name, value] : entry.xattrs) {
    if (name.size() > Directory::kMaxNameBytes || name.find('\0') != std::string::npos) {
      throw DataError("an extended attribute's name is too long or has a NUL byte");
    }
    if (!is_storable_xattr(name, type)) {
      ++result.skipped_xattrs;
      continue;
    }
    if (name.starts_with("system.")) check_acl(name, value);
    if (name == "security.capability") check_capability(name, value);
    kept.emplace_back(name, value);
  }
  return kept;
}

/// Allocates the blocks in which the file has content, as few runs as the disk allows.
std::vector<FileExtent> Applier::place(const TarEntry& entry) {
  std::vector<BlockRun> wanted;  // of the file
  uint64_t total = 0;
  for (const TarEntry::Segment& segment : entry.segments) {
    uint64_t first = segment.offset / kBlockBytes;
    const uint64_t end = (segment.offset + segment.bytes + kBlockBytes - 1) / kBlockBytes;
    if (!wanted.empty()) {
      BlockRun& last = wanted.back();
      first = std::max(first, last.first + last.count);
      if (first >= end) continue;
      if (first == last.first + last.count) {
        last.count += end - first;
        total += end - first;
        continue;
      }
    }
    wanted.push_back({first, end - first});
    total += end - first;
  }
  std::vector<FileExtent> extents;
  if (total == 0) return extents;
  const std::vector<BlockRun> runs = filesystem_.allocate_blocks(total);
  size_t run = 0;
  uint64_t used = 0;
  for (BlockRun piece : wanted) {
    while (piece.count > 0) {
      const uint64_t part = std::min(piece.count, runs[run].count - used);
      extents.push_back({piece.first, {runs[run].first + used, part}});
      piece.first += part;
      piece.count -= part;
      used += part;
      if (used == runs[run].count) {
        ++run;
        used = 0;
      }
    }
  }
  return extents;
}

void Applier::make_file(Directory& parent, std::string_view name, const TarEntry& entry) {
  check_file_size(entry.size);
  const Xattrs xattrs = xattrs_of(entry, FileType::kFile);
  const std::vector<FileExtent> extents = place(entry);
  const uint32_t inode = filesystem_.allocate_inode(false);
  filesystem_.create_inode(inode, attributes_of(entry, FileType::kFile), xattrs, extents, entry.size);
  tree_.put(parent, name, inode, FileType::kFile);
  result.file_bytes += entry.size;
  stream_data(extents);
}

void Applier::stream_data(const std::vector<FileExtent>& extents) {
  auto extent = extents.begin();
  while (const auto piece = tar_.next_data()) {
    uint64_t file_offset = piece->file_offset;
    uint64_t tar_offset = piece->tar_offset;
    std::span<const std::byte> data = piece->bytes;
    while (!data.empty()) {
      while (file_offset >= (extent->logical + extent->physical.count) * kBlockBytes) ++extent;
      const uint64_t within = file_offset - extent->logical * kBlockBytes;
      const auto part = data.first(static_cast<size_t>(
          std::min<uint64_t>(data.size(), extent->physical.count * kBlockBytes - within)));
      sink_.file_data(extent->physical.first * kBlockBytes + within, tar_offset, part);
      data = data.subspan(part.size());
      file_offset += part.size();
      tar_offset += part.size();
    }
  }
}

void Applier::make_directory(Directory& parent, std::string_view name, const TarEntry& entry) {
  const InodeAttributes attributes = attributes_of(entry, FileType::kDirectory);
  const Xattrs xattrs = xattrs_of(entry, FileType::kDirectory);
  const Directory::Index at = parent.find(name);
  if (at != Directory::kNone && parent.entry(at).type == FileType::kDirectory) {
    filesystem_.set_attributes(parent.entry(at).inode, attributes, xattrs);
    Directory& existing = tree_.directory(parent.entry(at).inode);
    existing.declared = true;
    tree_.touch(parent);
    return;
  }
  tree_.make_directory(parent, name, attributes, xattrs).declared = true;
}

void Applier::make_hardlink(Directory& parent, std::string_view name, const TarEntry& entry) {
  const Path target = clean_path(entry.link_target);
  const auto fail = [&](std::string_view cause) {
    throw DataError(fmt::format("hard link to '{}': {}", entry.link_target.substr(0, 200), cause));
  };
  if (target.empty()) fail("it is the image's root");
  Directory* holder = tree_.resolve(std::span(target).first(target.size() - 1), false);
  const Directory::Index at = holder != nullptr ? holder->find(target.back()) : Directory::kNone;
  if (at == Directory::kNone) fail("there is no such file");
  const Directory::Entry linked = holder->entry(at);
  if (linked.type == FileType::kDirectory) fail("it is a directory");
  if (holder == &parent && target.back() == name) fail("it is itself");
  // Adding first: the name that is replaced may be the file's last one.
  filesystem_.add_link(linked.inode);
  tree_.put(parent, name, linked.inode, linked.type);
}

void Applier::make_symlink(Directory& parent, std::string_view name, const TarEntry& entry) {
  const std::string& target = entry.link_target;
  if (target.empty()) throw DataError("a symlink without a target");
  if (target.size() >= kBlockBytes)
    throw DataError(fmt::format("a symlink's target of {} bytes", target.size()));
  const Xattrs xattrs = xattrs_of(entry, FileType::kSymlink);
  const uint32_t inode = filesystem_.allocate_inode(false);
  filesystem_.create_inode(inode, attributes_of(entry, FileType::kSymlink), xattrs);
  filesystem_.set_symlink_target(inode, target);
  tree_.put(parent, name, inode, FileType::kSymlink);
}

void Applier::make_special(Directory& parent, std::string_view name, const TarEntry& entry, FileType type) {
  if (entry.device_major > kMaxMajor || entry.device_minor > kMaxMinor) {
    throw DataError(
        fmt::format("device number {}:{} is out of range", entry.device_major, entry.device_minor));
  }
  const Xattrs xattrs = xattrs_of(entry, type);
  const uint32_t inode = filesystem_.allocate_inode(false);
  filesystem_.create_inode(inode, attributes_of(entry, type), xattrs);
  if (type != FileType::kFifo) filesystem_.set_device(inode, entry.device_major, entry.device_minor);
  tree_.put(parent, name, inode, type);
}

[[noreturn]] void report_full_disk(const Filesystem& filesystem, CapacityNeeds more,
                                   const std::string& where) {
  more.add(needs_of(filesystem));
  throw LayerDoesNotFit(where, filesystem.block_count() * kBlockBytes >> 30, more);
}

AppliedLayer apply_members(Filesystem& filesystem, MetadataStore& store, LayerTar& tar, DeltaSink& sink) {
  Applier applier(filesystem, store, tar, sink);
  while (const TarEntry* entry = tar.next()) {
    try {
      applier.apply(*entry);
    } catch (const DiskFull&) {
      const std::string where = tar.describe_member();
      CapacityNeeds more = needs_of(*entry);
      more.add(count_remaining(tar));
      report_full_disk(filesystem, more, where);
    } catch (const TarError&) {
      throw;
    } catch (Error& error) {
      error.add_context(tar.describe_member());
      throw;
    }
    ++applier.result.entries;
  }
  try {
    applier.finish();
  } catch (const DiskFull&) {
    report_full_disk(filesystem, {.blocks = filesystem.block_count() / 100, .inodes = 0},
                     "writing the layer's directories");
  }
  return applier.result;
}

}  // namespace

AppliedLayer apply_layer(Filesystem& filesystem, MetadataStore& store, LayerTar& tar, DeltaSink& sink) {
  filesystem.begin_layer();
  AppliedLayer result = apply_members(filesystem, store, tar, sink);
  filesystem.flush();
  const auto emit = [&](uint64_t block, std::span<const std::byte> data) {
    sink.metadata_block(block, data);
    ++result.metadata_blocks;
  };
  // Where a block may have held file data of this layer before, the sink has that: what equals the layers
  // below must be said all the same.
  store.flush(emit, filesystem.reuses_blocks());
  tar.drain();
  return result;
}

}  // namespace obd::blockfs
