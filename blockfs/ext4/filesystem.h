#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "blockfs/ext4/metadata_store.h"
#include "common/error.h"

namespace obd::blockfs {

/// A run of filesystem blocks.
struct BlockRun {
  uint64_t first = 0;
  uint64_t count = 0;
  bool operator==(const BlockRun&) const = default;
};

/// Where a run of a file's blocks lies on the disk.
struct FileExtent {
  uint64_t logical = 0;  // block of the file
  BlockRun physical;
};

enum class FileType : uint8_t {  // the numbers are those of ext4's directory entries
  kUnknown = 0,
  kFile = 1,
  kDirectory = 2,
  kCharDevice = 3,
  kBlockDevice = 4,
  kFifo = 5,
  kSocket = 6,
  kSymlink = 7,
};

/// What an inode says of itself, without where its content lies.
struct InodeAttributes {
  FileType type = FileType::kFile;
  uint32_t permissions = 0;  // the lower 12 bits of the mode
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_seconds = 0;
  uint32_t mtime_nanoseconds = 0;
};

using Xattrs = std::vector<std::pair<std::string, std::string>>;

/// Thrown when the disk has no free block or inode left; whoever knows the layer turns it into advice.
class DiskFull : public CapacityError {
 public:
  explicit DiskFull(const std::string& what) : CapacityError(what) {}
};

/// An ext4 filesystem on a MetadataStore, through libext2fs: bitmaps, group descriptors, inodes, extent
/// trees, extended attributes. Knows nothing of paths.
///
/// Owns:    the libext2fs handle; `store` outlives it.
/// Threads: one at a time.
/// Errors:  DataError for a filesystem that is damaged or has features that the engine cannot keep right;
///          DiskFull; what the store throws.
/// Bytes:   depend on the calls and on what lies below: no clock, no random numbers.
class Filesystem {
 public:
  static constexpr uint32_t kRootInode = 2;
  /// What every timestamp of the superblock says: a constant, and not 0, which libext2fs takes for "ask the
  /// clock".
  static constexpr int64_t kSuperblockTime = 1;

  /// Makes an empty filesystem of `disk_bytes`. Its root is an inode without blocks: the first layer writes
  /// it.
  static std::unique_ptr<Filesystem> create(MetadataStore& store, uint64_t disk_bytes);
  /// Opens what lies in the store.
  static std::unique_ptr<Filesystem> open(MetadataStore& store);
  ~Filesystem();

  /// Recomputes the allocation cursors from the bitmaps; before the first change of a layer.
  void begin_layer();
  /// Brings superblock, group descriptors and bitmaps into the store.
  void flush();

  /// Next free blocks behind the cursor, in as few runs as the disk allows.
  std::vector<BlockRun> allocate_blocks(uint64_t count);
  /// Whether this layer may have given a block twice: first to a file that it replaced later.
  bool reuses_blocks() const;
  uint32_t allocate_inode(bool is_directory);
  uint64_t free_blocks() const;
  uint64_t block_count() const;

  /// Writes a new inode, with one link and the content of a file, if it has some.
  void create_inode(uint32_t inode, const InodeAttributes& attributes, const Xattrs& xattrs,
                    const std::vector<FileExtent>& extents = {}, uint64_t bytes = 0);
  /// Replaces attributes and xattrs, keeps content and links.
  void set_attributes(uint32_t inode, const InodeAttributes& attributes, const Xattrs& xattrs);
  InodeAttributes attributes(uint32_t inode);
  void set_symlink_target(uint32_t inode, const std::string& target);
  void set_device(uint32_t inode, uint32_t major, uint32_t minor);
  std::string symlink_target(uint32_t inode);
  /// One more link. Throws CapacityError at ext4's limit of 65,000.
  void add_link(uint32_t inode);
  /// One link less; frees inode and content with the last one. Not for directories.
  void remove_link(uint32_t inode);
  void free_directory(uint32_t inode);

  /// Inodes in use, and how many there are.
  uint32_t inode_count() const;
  uint32_t free_inodes() const;

  /// A directory's content block by block, in order.
  std::vector<BlockRun> content_blocks(uint32_t inode);
  std::vector<std::byte> read_directory_block(uint64_t block);
  /// Replaces a directory's blocks; `blocks` are whole and without their checksums, which are filled in.
  /// Blocks it has are reused in order, then new ones allocated or the rest freed. `indexed`: the first block
  /// is the root of a hash tree.
  void write_directory(uint32_t inode, std::vector<std::byte>& blocks, bool indexed, uint32_t links);

  bool has_checksums() const;
  bool has_directory_index() const;
  uint8_t hash_version() const;  // as stored in the root of a hash tree
  /// The hash of a name in this filesystem (major, minor).
  std::pair<uint32_t, uint32_t> hash_name(std::string_view name) const;

 private:
  class Impl;
  explicit Filesystem(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Whether Linux takes an attribute of that name on ext4, from a file of that type.
bool is_storable_xattr(std::string_view name, FileType type);

}  // namespace obd::blockfs
