#include "tools/check_ext4.h"

#include <ext2fs/ext2fs.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "common/c_handle.h"
#include "common/error.h"
#include "tools/check_device.h"

namespace obd::tools {
namespace {

constexpr uint64_t kReadBytes = 1 << 20;
constexpr uint64_t kMaxTargetBytes = 4096;

struct CloseXattrs {
  void operator()(ext2_xattr_handle* handle) const noexcept { ext2fs_xattrs_close(&handle); }
};

/// A piece of a file, in blocks.
struct Piece {
  uint64_t logical = 0;
  uint64_t physical = 0;
  uint64_t blocks = 0;
};

uint64_t size_of(const ext2_inode_large& inode) {
  return inode.i_size | (static_cast<uint64_t>(inode.i_size_high) << 32);
}

void set_mtime(Inode& out, const ext2_inode_large& inode, size_t inode_bytes) {
  const auto seconds = static_cast<int32_t>(inode.i_mtime);
  out.mtime_seconds = seconds;
  constexpr size_t kEnd = offsetof(ext2_inode_large, i_mtime_extra) + sizeof(inode.i_mtime_extra);
  if (inode_bytes < kEnd || size_t{EXT2_GOOD_OLD_INODE_SIZE} + inode.i_extra_isize < kEnd) return;
  out.mtime_seconds += static_cast<int64_t>(inode.i_mtime_extra & 3) << 32;
  out.mtime_nanoseconds = inode.i_mtime_extra >> 2;
}

void set_device(Inode& out, const ext2_inode_large& inode) {
  if (const uint32_t old_form = inode.i_block[0]; old_form != 0) {
    out.device_major = (old_form >> 8) & 0xFF;
    out.device_minor = old_form & 0xFF;
    return;
  }
  const uint32_t form = inode.i_block[1];
  out.device_major = (form >> 8) & 0xFFF;
  out.device_minor = (form & 0xFF) | ((form >> 12) & 0xFFF00);
}

}  // namespace

class Ext4Reader::Impl {
 public:
  explicit Impl(std::shared_ptr<const blockfs::LayerStack> stack)
      : stack_(std::move(stack)), device_(*stack_) {
    ext2_filsys opened = nullptr;
    const errcode_t code =
        ext2fs_open2(device_.name().c_str(), nullptr, EXT2_FLAG_64BITS, 0, 0, device_.manager(), &opened);
    filesystem_.reset(opened);
    device_.check(code, "opening the ext4 filesystem");
  }

  ext2_filsys fs() const { return filesystem_.get(); }

  void check(errcode_t code, uint32_t inode, std::string_view doing) const {
    device_.check(code, fmt::format("inode {}: {}", inode, doing));
  }

  ext2_inode_large read_inode(uint32_t number) const {
    ext2_inode_large inode{};
    check(ext2fs_read_inode_full(fs(), number, reinterpret_cast<ext2_inode*>(&inode), sizeof inode), number,
          "reading it");
    if (inode.i_flags & EXT4_INLINE_DATA_FL) throw DataError(fmt::format("inode {}: inline data", number));
    return inode;
  }

  /// What the inode maps to data; holes and unwritten extents are left out.
  std::vector<Piece> pieces(uint32_t number, ext2_inode_large& inode) const {
    return inode.i_flags & EXT4_EXTENTS_FL ? extents(number, inode) : mapped_blocks(number);
  }

  std::vector<Piece> extents(uint32_t number, ext2_inode_large& inode) const {
    ext2_extent_handle_t raw = nullptr;
    check(ext2fs_extent_open2(fs(), number, reinterpret_cast<ext2_inode*>(&inode), &raw), number,
          "opening its extents");
    const CHandle<ext2_extent_handle, ext2fs_extent_free> handle(raw);
    std::vector<Piece> out;
    for (int step = EXT2_EXTENT_ROOT;; step = EXT2_EXTENT_NEXT_LEAF) {
      ext2fs_extent extent{};
      const errcode_t code = ext2fs_extent_get(handle.get(), step, &extent);
      if (code == EXT2_ET_EXTENT_NO_NEXT || code == EXT2_ET_EXTENT_NO_DOWN) return out;
      check(code, number, "reading its extents");
      const bool leaf = (extent.e_flags & EXT2_EXTENT_FLAGS_LEAF) != 0;
      if (leaf && (extent.e_flags & EXT2_EXTENT_FLAGS_UNINIT) == 0) {
        out.push_back({extent.e_lblk, extent.e_pblk, extent.e_len});
      }
    }
  }

  std::vector<Piece> mapped_blocks(uint32_t number) const {
    std::vector<Piece> out;
    const auto collect = [](ext2_filsys, blk64_t* block, e2_blkcnt_t logical, blk64_t, int,
                            void* to) noexcept {
      auto& pieces = *static_cast<std::vector<Piece>*>(to);
      const auto at = static_cast<uint64_t>(logical);
      if (!pieces.empty() && pieces.back().logical + pieces.back().blocks == at &&
          pieces.back().physical + pieces.back().blocks == *block) {
        ++pieces.back().blocks;
      } else {
        pieces.push_back({at, *block, 1});
      }
      return 0;
    };
    check(ext2fs_block_iterate3(fs(), number, BLOCK_FLAG_READ_ONLY | BLOCK_FLAG_DATA_ONLY, nullptr, collect,
                                &out),
          number, "reading its block map");
    return out;
  }

  /// Hands the pieces' bytes below `size` to `consume(offset, bytes)`.
  template <class Consume>
  void read_pieces(const std::vector<Piece>& pieces, uint64_t size, Consume consume) {
    const uint64_t block_bytes = fs()->blocksize;
    for (const Piece& piece : pieces) {
      uint64_t at = piece.logical * block_bytes;
      uint64_t from = piece.physical * block_bytes;
      const uint64_t end = std::min(size, at + piece.blocks * block_bytes);
      while (at < end) {
        buffer_.resize(std::min(kReadBytes, end - at));
        stack_->read_at(from, buffer_);
        consume(at, std::span<const std::byte>(buffer_));
        at += buffer_.size();
        from += buffer_.size();
      }
    }
  }

  std::string link_target(uint32_t number, ext2_inode_large& inode) {
    const uint64_t size = size_of(inode);
    if (size > kMaxTargetBytes) throw DataError(fmt::format("inode {}: a symlink of {} bytes", number, size));
    if (ext2fs_is_fast_symlink(reinterpret_cast<ext2_inode*>(&inode))) {
      return std::string(reinterpret_cast<const char*>(inode.i_block),
                         std::min<uint64_t>(size, sizeof inode.i_block));
    }
    std::string target(size, '\0');
    read_pieces(pieces(number, inode), size, [&](uint64_t at, std::span<const std::byte> bytes) {
      std::copy_n(reinterpret_cast<const char*>(bytes.data()), bytes.size(), target.data() + at);
    });
    return target;
  }

  void read_xattrs(uint32_t number, Inode& out) const {
    ext2_xattr_handle* raw = nullptr;
    check(ext2fs_xattrs_open(fs(), number, &raw), number, "opening its xattrs");
    const std::unique_ptr<ext2_xattr_handle, CloseXattrs> handle(raw);
    check(ext2fs_xattrs_read(handle.get()), number, "reading its xattrs");
    const auto collect = [](char* name, char* value, size_t size, void* to) noexcept {
      static_cast<Inode*>(to)->make_extra().xattrs[name] = std::string(value, size);
      return 0;
    };
    check(ext2fs_xattrs_iterate(handle.get(), collect, &out), number, "reading its xattrs");
    if (!out.extra) return;
    for (auto& [name, value] : out.extra->xattrs) {
      if (!name.starts_with("system.posix_acl_")) continue;
      // Stored in a form of ext4's own; libext2fs gives the one that system calls and tar use.
      void* converted = nullptr;
      size_t size = 0;
      check(ext2fs_xattr_get(handle.get(), name.c_str(), &converted, &size), number, "reading its ACL");
      value = canonical_xattr(name, std::string(static_cast<const char*>(converted), size));
      ext2fs_free_mem(&converted);
    }
  }

  Status status(uint32_t number) {
    ext2_inode_large inode = read_inode(number);
    Status out;
    out.links = inode.i_links_count;
    out.inode.mode = inode.i_mode;
    out.inode.uid = inode.i_uid | (static_cast<uint32_t>(inode.osd2.linux2.l_i_uid_high) << 16);
    out.inode.gid = inode.i_gid | (static_cast<uint32_t>(inode.osd2.linux2.l_i_gid_high) << 16);
    set_mtime(out.inode, inode, static_cast<size_t>(EXT2_INODE_SIZE(fs()->super)));
    if (out.inode.is_regular()) out.inode.size = size_of(inode);
    if (out.inode.is_device()) set_device(out.inode, inode);
    if (out.inode.is_symlink()) out.inode.make_extra().link_target = link_target(number, inode);
    read_xattrs(number, out.inode);
    return out;
  }

  std::vector<Entry> list(uint32_t directory) const {
    std::vector<Entry> out;
    const auto collect = [](ext2_ino_t, int, ext2_dir_entry* entry, int, int, char*, void* to) noexcept {
      const std::string_view name(entry->name, static_cast<size_t>(ext2fs_dirent_name_len(entry)));
      if (name != "." && name != "..") {
        static_cast<std::vector<Entry>*>(to)->push_back({std::string(name), entry->inode});
      }
      return 0;
    };
    check(ext2fs_dir_iterate2(fs(), directory, 0, nullptr, collect, &out), directory,
          "reading the directory");
    std::sort(out.begin(), out.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
    return out;
  }

  Fingerprint fingerprint(uint32_t number) {
    ext2_inode_large inode = read_inode(number);
    read_pieces(pieces(number, inode), size_of(inode),
                [&](uint64_t at, std::span<const std::byte> bytes) { hash_.add(at, bytes); });
    return hash_.finish();
  }

 private:
  std::shared_ptr<const blockfs::LayerStack> stack_;
  StackDevice device_;
  CHandle<struct_ext2_filsys, ext2fs_free> filesystem_;
  std::vector<std::byte> buffer_;
  ContentHash hash_;
};

Ext4Reader::Ext4Reader(std::shared_ptr<const blockfs::LayerStack> stack)
    : impl_(std::make_unique<Impl>(std::move(stack))) {}
Ext4Reader::~Ext4Reader() = default;

std::vector<Ext4Reader::Entry> Ext4Reader::list(uint32_t directory) {
  return impl_->list(directory);
}
Ext4Reader::Status Ext4Reader::status(uint32_t inode) {
  return impl_->status(inode);
}
Fingerprint Ext4Reader::fingerprint(uint32_t inode) {
  return impl_->fingerprint(inode);
}

}  // namespace obd::tools
