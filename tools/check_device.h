#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "blockfs/layer_stack.h"

struct struct_io_manager;  // libext2fs

namespace obd::tools {

/// A stack of layers as a read-only device of libext2fs.
///
/// Owns:   nothing but memory; must outlive filesystems that are opened on it. Keeps the blocks that were
///         read one by one, as metadata is.
/// Errors: what reading the stack throws is parked; check() lets it go on.
class StackDevice {
 public:
  explicit StackDevice(const blockfs::LayerStack& stack);
  ~StackDevice();
  StackDevice(const StackDevice&) = delete;
  StackDevice& operator=(const StackDevice&) = delete;

  struct_io_manager* manager();
  /// What ext2fs_open2() takes as the device's name.
  std::string name() const;
  /// Throws what was parked, else DataError "<doing>: <reason>" unless `code`, an errcode_t, is 0.
  void check(long code, std::string_view doing) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace obd::tools
