#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "blockfs/lsmt_layer.h"
#include "common/byte_source.h"

namespace obd::blockfs {

/// The virtual disk that a stack of layers makes: the topmost layer that maps a sector gives it, and what no
/// layer maps is zero. Its size is that of the top layer.
///
/// Threads: reads from any number; push() only while nobody reads.
/// Errors:  DataError when a layer does not fit on those below (parent UUID), or from the layers' sources.
class LayerStack final : public ByteSource {
 public:
  /// A run of sectors and the layer that gives it.
  struct Extent {
    LsmtEntry entry;
    uint32_t layer = 0;  // 0 is the lowest
  };

  LayerStack() = default;
  explicit LayerStack(const std::vector<std::shared_ptr<const LsmtLayer>>& bottom_first);

  /// Adds a layer on top.
  void push(std::shared_ptr<const LsmtLayer> layer);

  uint64_t size() const override { return layers_.empty() ? 0 : layers_.back()->header().virtual_bytes; }
  std::string name() const override { return "layer stack"; }
  const std::vector<std::shared_ptr<const LsmtLayer>>& layers() const { return layers_; }
  /// What is mapped, sorted by sector; zeroed runs included.
  const std::vector<Extent>& extents() const { return extents_; }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override;

 private:
  void read_sectors(uint64_t sector, std::span<std::byte> out) const;

  std::vector<std::shared_ptr<const LsmtLayer>> layers_;
  std::vector<Extent> extents_;
};

}  // namespace obd::blockfs
