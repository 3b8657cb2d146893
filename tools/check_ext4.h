#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockfs/layer_stack.h"
#include "tools/check_inode.h"

namespace obd::tools {

/// Reads the ext4 filesystem on a stack of layers with nothing but libext2fs.
///
/// Threads: one at a time.
/// Errors:  DataError that says what could not be read; what the layers' sources throw.
class Ext4Reader {
 public:
  static constexpr uint32_t kRoot = 2;

  struct Entry {
    std::string name;
    uint32_t inode = 0;
  };
  /// An inode, and what only this side has.
  struct Status {
    Inode inode;
    uint32_t links = 0;
  };

  explicit Ext4Reader(std::shared_ptr<const blockfs::LayerStack> stack);
  ~Ext4Reader();

  /// A directory's entries without "." and "..", sorted by name.
  std::vector<Entry> list(uint32_t directory);
  /// Without the content.
  Status status(uint32_t inode);
  /// Of a regular file; reads all of it.
  Fingerprint fingerprint(uint32_t inode);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace obd::tools
