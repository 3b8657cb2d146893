#pragma once

#include <ext2fs/ext2fs.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "blockfs/layer_stack.h"
#include "registry/callback_guard.h"

// For check_ext4.cpp alone: the headers of libext2fs stay out of the others.

namespace obd::tools {

/// A stack of layers as a read-only device of libext2fs.
///
/// Owns:   nothing but memory; must outlive filesystems that are opened on it. Keeps the blocks that were
/// read
///         one by one, as metadata is.
/// Errors: what reading the stack throws is parked; check() lets it go on.
class StackDevice {
 public:
  explicit StackDevice(const blockfs::LayerStack& stack);
  StackDevice(const StackDevice&) = delete;
  StackDevice& operator=(const StackDevice&) = delete;

  struct_io_manager* manager() { return &manager_; }
  /// What ext2fs_open2() takes as the device's name.
  std::string name() const;
  /// Throws what was parked, else DataError "<doing>: <reason>" unless `code` is 0.
  void check(errcode_t code, std::string_view doing) const;

 private:
  struct Slot {
    uint64_t block = UINT64_MAX;
    std::vector<std::byte> bytes;
  };

  static errcode_t open(const char* name, int flags, io_channel* channel) noexcept;
  static errcode_t read(io_channel channel, unsigned long long block, int count, void* data) noexcept;
  void read_blocks(uint64_t block, int count, std::byte* out);

  const blockfs::LayerStack& stack_;
  struct_io_manager manager_{};
  struct_io_channel channel_{};
  std::string channel_name_ = "layer stack";
  std::vector<Slot> slots_;  // block n in slot n % size
  registry::CallbackGuard guard_;
};

}  // namespace obd::tools
