#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "blockfs/ext4/directory.h"
#include "blockfs/ext4/filesystem.h"

namespace obd::blockfs {

/// The part of an image's tree that one layer touches: names in memory over the inodes of a filesystem.
///
/// Owns:    the directories it loaded; `filesystem` and `store` outlive it. Their memory counts against the
///          store's budget.
/// Threads: one at a time.
/// Errors:  DataError for paths that cannot be resolved; what filesystem and store throw.
class Tree {
 public:
  /// What a directory that is only implied by the path of something in it looks like.
  static constexpr InodeAttributes kImpliedDirectory{.type = FileType::kDirectory, .permissions = 0755};

  Tree(Filesystem& filesystem, MetadataStore& store);
  ~Tree();

  Directory& root() { return directory(Filesystem::kRootInode); }
  Directory& directory(uint32_t inode);

  /// The directory that `path` (clean components, no whiteouts) leads to, symlinks followed within the root.
  /// What is missing is made as implied directories, or null is returned if `create` is not set.
  Directory* resolve(std::span<const std::string_view> path, bool create);

  /// Adds or replaces a name; what it named before loses a link, or goes with all below it.
  void put(Directory& parent, std::string_view name, uint32_t inode, FileType type);
  /// As put(), for a new directory.
  Directory& make_directory(Directory& parent, std::string_view name, const InodeAttributes& attributes,
                            const Xattrs& xattrs);
  /// Notes that this layer has something in `directory`.
  void touch(Directory& directory);

  /// Hides what the layers below have under that name; what this layer put there stays.
  void hide(Directory& parent, Directory::Index at);
  /// Hides all that the layers below have in it.
  void hide_content(Directory& directory);

  /// Writes every changed directory; the tree must not be used afterwards.
  void write_changed();

 private:
  Directory* hide_entry(Directory& parent, Directory::Index at);
  void remove_target(Directory& parent, Directory::Index at);
  void remove_subtree(uint32_t inode);
  void drop_directory(uint32_t inode);
  void recharge();

  Filesystem& filesystem_;
  MetadataStore& store_;
  std::unordered_map<uint32_t, std::unique_ptr<Directory>> directories_;
  // Neighbours in a tar share their parent: the last path resolved, and where it led.
  std::string last_path_;
  Directory* last_directory_ = nullptr;
  uint64_t charged_bytes_ = 0;
  uint64_t inserted_bytes_ = 0;  // since the last recharge
};

}  // namespace obd::blockfs
