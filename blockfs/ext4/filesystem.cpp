#include "blockfs/ext4/filesystem.h"

#include <ext2fs/ext2fs.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "blockfs/ext4/allocator.h"
#include "blockfs/ext4/ext2_handle.h"
#include "blockfs/ext4/extent_tree.h"
#include "blockfs/ext4/inode_codec.h"
#include "blockfs/ext4/mkfs.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr uint32_t kMaxLinks = 65000;

[[noreturn]] void unsupported(std::string_view feature) {
  throw DataError(
      fmt::format("the ext4 filesystem below has {}, which the converter cannot keep right", feature));
}

/// Only what the engine keeps right may be changed.
void require_supported(ext2_filsys fs) {
  const ext2_super_block* super = fs->super;
  if (fs->blocksize != kBlockBytes) unsupported(fmt::format("blocks of {} bytes", fs->blocksize));
  if (EXT2_INODE_SIZE(super) < 256) unsupported("inodes too small for nanoseconds");
  if (!ext2fs_has_feature_extents(fs->super)) unsupported("no extents");
  if (!ext2fs_has_feature_filetype(fs->super)) unsupported("no file types in directories");
  if (ext2fs_has_feature_journal_needs_recovery(fs->super)) unsupported("a journal to replay");
  if (ext2fs_has_feature_journal_dev(fs->super)) unsupported("an external journal");
  if (ext2fs_has_feature_inline_data(fs->super)) unsupported("inline data");
  if (ext2fs_has_feature_encrypt(fs->super)) unsupported("encryption");
  if (ext2fs_has_feature_verity(fs->super)) unsupported("verity");
  if (ext2fs_has_feature_casefold(fs->super)) unsupported("case folding");
  if (ext2fs_has_feature_bigalloc(fs->super)) unsupported("block clusters");
  if (ext2fs_has_feature_ea_inode(fs->super)) unsupported("attributes in inodes");
  if (ext2fs_has_feature_quota(fs->super)) unsupported("quota files");
  if (ext2fs_has_feature_shared_blocks(fs->super)) unsupported("shared blocks");
  if (ext2fs_has_feature_mmp(fs->super)) unsupported("multiple mount protection");
  if (super->s_state & EXT2_ERROR_FS) unsupported("recorded errors");
}

}  // namespace

class Filesystem::Impl {
 public:
  explicit Impl(MetadataStore& metadata) : store(metadata), bridge(metadata) {}
  ~Impl() {
    if (fs == nullptr) return;
    ext2fs_free(fs);  // does not write
  }

  void attach(Ext2Fs handle) {
    fs = handle;
    fs->priv_data = this;
    fs->now = kSuperblockTime;
    allocator = std::make_unique<Allocator>(fs);
    ext2fs_set_alloc_block_callback(fs, choose_block, nullptr);
  }

  static errcode_t choose_block(ext2_filsys fs, blk64_t /*goal*/, blk64_t* out) noexcept {
    auto* self = static_cast<Impl*>(fs->priv_data);
    try {
      *out = self->allocator->choose_block();
      return 0;
    } catch (...) {
      self->bridge.park(std::current_exception());
      return EXT2_ET_BLOCK_ALLOC_FAIL;
    }
  }

  InodeBytes read(uint32_t inode) {
    InodeBytes bytes;
    bridge.check(ext2fs_read_inode_full(fs, inode, bytes.c_inode(), InodeBytes::kBytes),
                 fmt::format("reading inode {}", inode));
    return bytes;
  }
  void write(uint32_t inode, InodeBytes& bytes) {
    bridge.check(ext2fs_write_inode_full(fs, inode, bytes.c_inode(), InodeBytes::kBytes),
                 fmt::format("writing inode {}", inode));
  }

  ExtentTreeIo tree_io(uint32_t inode) {
    return {.read = [this](uint64_t block, MetadataStore::Page& page) { store.read(block, page); },
            .write =
                [this, inode](uint64_t block, MetadataStore::Page& page) {
                  bridge.check(ext2fs_extent_block_csum_set(
                                   fs, inode, reinterpret_cast<ext3_extent_header*>(page.data())),
                               "writing an extent block");
                  store.write(block, page);
                },
            .allocate = [this] { return allocator->allocate_blocks(1).front().first; },
            .block_count = ext2fs_blocks_count(fs->super)};
  }

  WalkedTree content(uint32_t inode, InodeBytes& bytes);
  void free_content(uint32_t inode, InodeBytes& bytes, bool is_metadata);
  void free_inode(uint32_t inode, InodeBytes& bytes, FileType type);
  void set_extents(uint32_t inode, InodeBytes& bytes, const std::vector<FileExtent>& extents, uint64_t size);
  void set_xattrs(uint32_t inode, const Xattrs& xattrs);

  MetadataStore& store;
  Ext2Bridge bridge;
  Ext2Fs fs = nullptr;
  std::unique_ptr<Allocator> allocator;
};

Filesystem::Filesystem(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Filesystem::~Filesystem() = default;

std::unique_ptr<Filesystem> Filesystem::create(MetadataStore& store, uint64_t disk_bytes) {
  auto impl = std::make_unique<Impl>(store);
  impl->attach(make_filesystem(impl->bridge, disk_bytes));
  std::unique_ptr<Filesystem> made(new Filesystem(std::move(impl)));
  made->create_inode(kRootInode, {.type = FileType::kDirectory, .permissions = 0755}, {});
  return made;
}

std::unique_ptr<Filesystem> Filesystem::open(MetadataStore& store) {
  auto impl = std::make_unique<Impl>(store);
  Ext2Fs fs = nullptr;
  impl->bridge.check(ext2fs_open2(impl->bridge.device_name().c_str(), nullptr,
                                  EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, Ext2Bridge::manager(), &fs),
                     "opening it");
  impl->fs = fs;
  require_supported(fs);
  fs->default_bitmap_type = EXT2FS_BMAP64_RBTREE;  // a bit array would take 648 MiB at 16 TiB
  impl->bridge.check(ext2fs_read_bitmaps(fs), "reading the bitmaps");
  if (!(fs->super->s_flags & (EXT2_FLAGS_SIGNED_HASH | EXT2_FLAGS_UNSIGNED_HASH))) {
    fs->super->s_flags |= EXT2_FLAGS_SIGNED_HASH;  // what this says by default, on the machines that made it
  }
  fs->flags |= EXT2_FLAG_MASTER_SB_ONLY;
  impl->attach(fs);
  return std::unique_ptr<Filesystem>(new Filesystem(std::move(impl)));
}

void Filesystem::begin_layer() {
  impl_->allocator->begin_layer();
}

void Filesystem::flush() {
  ext2_filsys fs = impl_->fs;
  ext2fs_mark_super_dirty(fs);
  impl_->bridge.check(ext2fs_flush2(fs, EXT2_FLAG_FLUSH_NO_SYNC), "writing the superblock");
  fs->flags |= EXT2_FLAG_MASTER_SB_ONLY;  // backups are written once, at mkfs
}

std::vector<BlockRun> Filesystem::allocate_blocks(uint64_t count) {
  return impl_->allocator->allocate_blocks(count);
}
uint32_t Filesystem::allocate_inode(bool is_directory) {
  return impl_->allocator->allocate_inode(is_directory);
}
bool Filesystem::reuses_blocks() const {
  return impl_->allocator->reuses_blocks();
}
uint64_t Filesystem::free_blocks() const {
  return ext2fs_free_blocks_count(impl_->fs->super);
}
uint32_t Filesystem::free_inodes() const {
  return impl_->fs->super->s_free_inodes_count;
}
uint32_t Filesystem::inode_count() const {
  return impl_->fs->super->s_inodes_count;
}
uint64_t Filesystem::block_count() const {
  return ext2fs_blocks_count(impl_->fs->super);
}

void Filesystem::create_inode(uint32_t inode, const InodeAttributes& attributes, const Xattrs& xattrs,
                              const std::vector<FileExtent>& extents, uint64_t size) {
  InodeBytes bytes;
  bytes.initialise(attributes);
  if (size > 0) impl_->set_extents(inode, bytes, extents, size);
  impl_->write(inode, bytes);
  if (!xattrs.empty()) impl_->set_xattrs(inode, xattrs);
}

void Filesystem::set_attributes(uint32_t inode, const InodeAttributes& attributes, const Xattrs& xattrs) {
  InodeBytes bytes = impl_->read(inode);
  const bool had_xattrs = bytes.has_xattrs();
  bytes.set_attributes(attributes);
  impl_->write(inode, bytes);
  if (had_xattrs || !xattrs.empty()) impl_->set_xattrs(inode, xattrs);
}

InodeAttributes Filesystem::attributes(uint32_t inode) {
  return impl_->read(inode).attributes();
}

void Filesystem::Impl::set_xattrs(uint32_t inode, const Xattrs& xattrs) {
  struct Close {
    void operator()(ext2_xattr_handle* handle) const noexcept { ext2fs_xattrs_close(&handle); }
  };
  ext2_xattr_handle* raw = nullptr;
  bridge.check(ext2fs_xattrs_open(fs, inode, &raw), "opening extended attributes");
  const std::unique_ptr<ext2_xattr_handle, Close> handle(raw);
  // Not read: what was there is replaced as a whole.
  bridge.check(ext2fs_xattrs_write(raw), "clearing extended attributes");
  for (const auto& [name, value] : xattrs) {
    const errcode_t code = ext2fs_xattr_set(raw, name.c_str(), value.data(), value.size());
    if (code == EXT2_ET_EA_NO_SPACE) {
      throw CapacityError(
          fmt::format("its extended attributes do not fit: '{}' with {} bytes; ext4 holds about "
                      "4000 bytes of them for each file",
                      name, value.size()));
    }
    bridge.check(code, fmt::format("setting the extended attribute '{}'", name));
  }
}

WalkedTree Filesystem::Impl::content(uint32_t inode, InodeBytes& bytes) {
  if (bytes.has_extents()) return walk_extent_tree(bytes.extent_root(), tree_io(inode));
  WalkedTree tree;
  struct Collector {
    WalkedTree& tree;
    uint64_t block_count;
  } collector{tree, ext2fs_blocks_count(fs->super)};
  if (!ext2fs_inode_has_valid_blocks2(fs, bytes.c_inode())) return tree;
  const auto collect = [](ext2_filsys, blk64_t* block, e2_blkcnt_t logical, blk64_t, int, void* data) -> int {
    auto& into = *static_cast<Collector*>(data);
    if (*block >= into.block_count) return BLOCK_ABORT;
    if (logical < 0) {
      into.tree.tree_blocks.push_back(*block);
    } else {
      into.tree.extents.push_back({static_cast<uint64_t>(logical), {*block, 1}});
    }
    return 0;
  };
  bridge.check(ext2fs_block_iterate3(fs, inode, BLOCK_FLAG_READ_ONLY, nullptr, collect, &collector),
               fmt::format("reading the blocks of inode {}", inode));
  return tree;
}

void Filesystem::Impl::free_content(uint32_t inode, InodeBytes& bytes, bool is_metadata) {
  const WalkedTree tree = content(inode, bytes);
  for (const FileExtent& extent : tree.extents) {
    allocator->free_blocks(extent.physical);
    for (uint64_t i = 0; is_metadata && i < extent.physical.count; ++i)
      store.forget(extent.physical.first + i);
  }
  for (const uint64_t block : tree.tree_blocks) {
    allocator->free_blocks({block, 1});
    store.forget(block);
  }
}

void Filesystem::Impl::free_inode(uint32_t inode, InodeBytes& bytes, FileType type) {
  free_content(inode, bytes, type != FileType::kFile);
  if (const uint64_t block = bytes.xattr_block(); block != 0) {
    bridge.check(ext2fs_free_ext_attr(fs, inode, bytes.c_large()), "freeing extended attributes");
    if (!ext2fs_test_block_bitmap2(fs->block_map, block)) store.forget(block);
  }
  bytes.clear();
  write(inode, bytes);
  allocator->free_inode(inode, type == FileType::kDirectory);
}

void Filesystem::Impl::set_extents(uint32_t inode, InodeBytes& bytes, const std::vector<FileExtent>& extents,
                                   uint64_t size) {
  const BuiltTree built = build_extent_tree(extents, tree_io(inode));
  uint64_t blocks = built.tree_blocks + (bytes.xattr_block() != 0 ? 1 : 0);
  for (const FileExtent& extent : extents) blocks += extent.physical.count;
  bytes.set_extent_root(built.root);
  bytes.set_size(size);
  bytes.set_block_count(blocks);
}

void Filesystem::set_symlink_target(uint32_t inode, const std::string& target) {
  InodeBytes bytes = impl_->read(inode);
  if (target.size() < InodeBytes::kInlineBytes) {
    bytes.set_inline_target(target);
  } else {
    OBD_CHECK(target.size() < kBlockBytes);
    const BlockRun run = impl_->allocator->allocate_blocks(1).front();
    MetadataStore::Page page{};
    std::memcpy(page.data(), target.data(), target.size());
    impl_->store.write(run.first, page);
    impl_->set_extents(inode, bytes, {{0, run}}, target.size());
  }
  impl_->write(inode, bytes);
}

void Filesystem::set_device(uint32_t inode, uint32_t major, uint32_t minor) {
  InodeBytes bytes = impl_->read(inode);
  bytes.set_device(major, minor);
  impl_->write(inode, bytes);
}

std::string Filesystem::symlink_target(uint32_t inode) {
  InodeBytes bytes = impl_->read(inode);
  const uint64_t size = bytes.size();
  if (auto target = bytes.inline_target()) return *target;
  const WalkedTree tree = impl_->content(inode, bytes);
  if (size >= kBlockBytes || tree.extents.size() != 1 || tree.extents[0].logical != 0) {
    throw DataError(
        fmt::format("the ext4 filesystem below is damaged: symlink inode {} of {} bytes", inode, size));
  }
  MetadataStore::Page page;
  impl_->store.read(tree.extents[0].physical.first, page);
  return std::string(reinterpret_cast<const char*>(page.data()), size);
}

void Filesystem::add_link(uint32_t inode) {
  InodeBytes bytes = impl_->read(inode);
  if (bytes.links() >= kMaxLinks) {
    throw CapacityError(fmt::format("the file would have more than {} hard links, ext4's limit", kMaxLinks));
  }
  bytes.set_links(bytes.links() + 1);
  impl_->write(inode, bytes);
}

void Filesystem::remove_link(uint32_t inode) {
  InodeBytes bytes = impl_->read(inode);
  if (bytes.links() > 1) {
    bytes.set_links(bytes.links() - 1);
    impl_->write(inode, bytes);
    return;
  }
  impl_->free_inode(inode, bytes, bytes.attributes().type);
}

void Filesystem::free_directory(uint32_t inode) {
  InodeBytes bytes = impl_->read(inode);
  impl_->free_inode(inode, bytes, FileType::kDirectory);
}

std::vector<BlockRun> Filesystem::content_blocks(uint32_t inode) {
  InodeBytes bytes = impl_->read(inode);
  std::vector<BlockRun> runs;
  for (const FileExtent& extent : impl_->content(inode, bytes).extents) runs.push_back(extent.physical);
  return runs;
}

std::vector<std::byte> Filesystem::read_directory_block(uint64_t block) {
  std::vector<std::byte> bytes(kBlockBytes);
  impl_->store.read(block, std::span<std::byte, kBlockBytes>(bytes));
  return bytes;
}

void Filesystem::write_directory(uint32_t inode, std::vector<std::byte>& blocks, bool indexed,
                                 uint32_t links) {
  InodeBytes bytes = impl_->read(inode);
  const uint64_t wanted = blocks.size() / kBlockBytes;
  const WalkedTree old = impl_->content(inode, bytes);
  for (const uint64_t block : old.tree_blocks) {
    impl_->allocator->free_blocks({block, 1});
    impl_->store.forget(block);
  }
  std::vector<BlockRun> runs;
  uint64_t have = 0;
  for (const FileExtent& extent : old.extents) {
    const uint64_t keep = std::min(extent.physical.count, wanted - have);
    if (keep > 0) runs.push_back({extent.physical.first, keep});
    have += keep;
    const BlockRun rest{extent.physical.first + keep, extent.physical.count - keep};
    if (rest.count > 0) impl_->allocator->free_blocks(rest);
    for (uint64_t i = 0; i < rest.count; ++i) impl_->store.forget(rest.first + i);
  }
  if (have < wanted) {
    for (const BlockRun& run : impl_->allocator->allocate_blocks(wanted - have)) runs.push_back(run);
  }
  std::vector<FileExtent> extents;
  std::byte* at = blocks.data();
  uint64_t logical = 0;
  for (const BlockRun& run : runs) {
    if (!extents.empty() && extents.back().physical.first + extents.back().physical.count == run.first) {
      extents.back().physical.count += run.count;
    } else {
      extents.push_back({logical, run});
    }
    logical += run.count;
    for (uint64_t i = 0; i < run.count; ++i, at += kBlockBytes) {
      impl_->bridge.check(ext2fs_dir_block_csum_set(impl_->fs, inode, reinterpret_cast<ext2_dir_entry*>(at)),
                          "writing a directory");
      impl_->store.write(run.first + i, std::span<const std::byte, kBlockBytes>(at, kBlockBytes));
    }
  }
  bytes.use_extents();
  bytes.set_indexed(indexed);
  bytes.set_links(links > kMaxLinks ? 1 : links);
  impl_->set_extents(inode, bytes, extents, blocks.size());
  impl_->write(inode, bytes);
}

bool Filesystem::has_checksums() const {
  return ext2fs_has_feature_metadata_csum(impl_->fs->super);
}
bool Filesystem::has_directory_index() const {
  return ext2fs_has_feature_dir_index(impl_->fs->super);
}
uint8_t Filesystem::hash_version() const {
  return impl_->fs->super->s_def_hash_version;
}

std::pair<uint32_t, uint32_t> Filesystem::hash_name(std::string_view name) const {
  const ext2_super_block* super = impl_->fs->super;
  int version = super->s_def_hash_version;
  // The numbers of the unsigned variants are not stored, a flag is.
  if (version <= EXT2_HASH_TEA && (super->s_flags & EXT2_FLAGS_UNSIGNED_HASH)) version += 3;
  ext2_dirhash_t major = 0;
  ext2_dirhash_t minor = 0;
  impl_->bridge.check(ext2fs_dirhash2(version, name.data(), static_cast<int>(name.size()), nullptr, 0,
                                      super->s_hash_seed, &major, &minor),
                      "hashing a name");
  return {major, minor};
}

bool is_storable_xattr(std::string_view name, FileType type) {
  // Permissions of other files say nothing of who may write them, so the kernel denies that they have any.
  if (name.starts_with("user.") && type != FileType::kFile && type != FileType::kDirectory) return false;
  for (const std::string_view prefix : {"user.", "trusted.", "security."}) {
    if (name.starts_with(prefix) && name.size() > prefix.size()) return true;
  }
  return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

}  // namespace obd::blockfs
