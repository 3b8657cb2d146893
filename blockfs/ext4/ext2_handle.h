#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

struct struct_ext2_filsys;
struct struct_io_manager;

namespace obd::blockfs {

class MetadataStore;

/// libext2fs's handle, without its header.
using Ext2Fs = ::struct_ext2_filsys*;

/// Connects libext2fs to a MetadataStore: what libext2fs takes for a device is our memory.
///
/// What the store throws must not unwind through C: it is parked here and rethrown by check().
class Ext2Bridge {
 public:
  explicit Ext2Bridge(MetadataStore& store) : store_(store) {}
  Ext2Bridge(const Ext2Bridge&) = delete;
  Ext2Bridge& operator=(const Ext2Bridge&) = delete;

  static struct_io_manager* manager();
  /// The name under which the manager finds this bridge again; valid while the bridge lives.
  std::string device_name() const;
  /// Throws what was parked, or DataError with libext2fs's message if `code` is not 0.
  void check(long code, std::string_view doing);

  MetadataStore& store() { return store_; }
  void park(std::exception_ptr failure) noexcept { parked_ = std::move(failure); }

 private:
  MetadataStore& store_;
  std::exception_ptr parked_;
};

}  // namespace obd::blockfs
