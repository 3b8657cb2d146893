#include "blockfs/lsmt_sink.h"

#include <algorithm>
#include <cstring>

namespace obd::blockfs {

void LsmtSink::flush_partial() {
  if (partial_bytes_ == 0) return;
  std::memset(&partial_[partial_bytes_], 0, kBlockBytes - partial_bytes_);
  writer_.write(partial_block_ * kSectorsPerBlock, partial_);
  partial_bytes_ = 0;
}

void LsmtSink::file_data(uint64_t disk_offset, uint64_t /*tar_offset*/, std::span<const std::byte> data) {
  while (!data.empty()) {
    const uint64_t block = disk_offset / kBlockBytes;
    const size_t within = disk_offset % kBlockBytes;
    if (partial_bytes_ > 0 && block != partial_block_) flush_partial();
    if (within == 0 && partial_bytes_ == 0 && data.size() >= kBlockBytes) {
      const auto whole = data.first(data.size() / kBlockBytes * kBlockBytes);
      writer_.write(block * kSectorsPerBlock, whole);
      data = data.subspan(whole.size());
      disk_offset += whole.size();
      continue;
    }
    const size_t take = std::min<size_t>(data.size(), kBlockBytes - within);
    if (within > partial_bytes_) std::memset(&partial_[partial_bytes_], 0, within - partial_bytes_);
    std::memcpy(&partial_[within], data.data(), take);
    partial_block_ = block;
    partial_bytes_ = within + take;
    if (partial_bytes_ == kBlockBytes) flush_partial();
    data = data.subspan(take);
    disk_offset += take;
  }
}

void LsmtSink::metadata_block(uint64_t block, std::span<const std::byte> data) {
  flush_partial();
  writer_.write(block * kSectorsPerBlock, data);
}

}  // namespace obd::blockfs
