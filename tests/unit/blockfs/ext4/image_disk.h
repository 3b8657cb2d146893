#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "blockfs/ext4/filesystem.h"
#include "blockfs/ext4/layer_applier.h"
#include "tests/support/memory.h"
#include "tests/unit/blockfs/ext4/tree_listing.h"

namespace obd::blockfs {

inline constexpr uint64_t kGiB = uint64_t{1} << 30;

/// Blocks by number.
using Blocks = std::map<uint64_t, test::Bytes>;

/// A disk in memory. What was never written is zero.
class SparseDisk final : public ByteSource {
 public:
  explicit SparseDisk(uint64_t bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_; }
  std::string name() const override { return "sparse disk"; }
  void put(uint64_t block, std::span<const std::byte> data);
  void put(const Blocks& blocks);
  const Blocks& blocks() const { return blocks_; }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override;

 private:
  const uint64_t bytes_;
  Blocks blocks_;
};

/// What one layer changed: each call in order, and the blocks as they end up.
class LayerCapture final : public DeltaSink {
 public:
  struct Call {
    uint64_t at = 0;  // byte of the disk, or block
    uint64_t tar_offset = UINT64_MAX;
    size_t hash = 0;
    bool operator==(const Call&) const = default;
  };

  void file_data(uint64_t disk_offset, uint64_t tar_offset, std::span<const std::byte> data) override;
  void metadata_block(uint64_t block, std::span<const std::byte> data) override;

  std::vector<Call> calls;
  Blocks blocks;
  AppliedLayer applied;
};

/// An ext4 filesystem on a disk in memory, to which layers are applied one after another.
class ImageDisk {
 public:
  struct Options {
    uint64_t gib = 1;
    uint64_t budget_bytes = 64 << 20;
    /// Close the filesystem after each layer and read it back from the disk.
    bool reopen = false;
    /// The tar comes in pieces of that many bytes.
    size_t piece_bytes = SIZE_MAX;
  };

  ImageDisk() : ImageDisk(Options{}) {}
  explicit ImageDisk(const Options& options);
  ~ImageDisk();

  LayerCapture apply(const test::Bytes& tar);
  LayerCapture apply(ChunkStream& stream);
  void reopen();

  Filesystem& filesystem() { return *filesystem_; }
  MetadataStore& store() { return *store_; }
  SparseDisk& disk() { return disk_; }

  /// The inode of a path without symlinks; 0 if it is not there.
  uint32_t inode(const std::string& path);
  TreeListing listing();
  /// What `e2fsck -fn` has to say; empty if it finds nothing wrong or is not installed.
  std::string complaints() const;

 private:
  const Options options_;
  SparseDisk disk_;
  std::unique_ptr<MetadataStore> store_;
  std::unique_ptr<Filesystem> filesystem_;
};

}  // namespace obd::blockfs
