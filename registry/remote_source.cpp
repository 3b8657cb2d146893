#include "registry/remote_source.h"

#include <algorithm>

#include "registry/range.h"

namespace obd::registry {
namespace {

constexpr uint64_t kBlockBytes = 16 << 10;
constexpr size_t kMaxBlocks = 256;
constexpr uint64_t kMaxRequestBlocks = 64;

}  // namespace

RemoteSource::RemoteSource(std::shared_ptr<RegistryClient> client, BlobId blob)
    : client_(std::move(client)), blob_(std::move(blob)) {}

RemoteSource::Block RemoteSource::find(uint64_t index) const {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(index);
  if (found == blocks_.end()) return nullptr;
  used_.splice(used_.begin(), used_, found->second.second);
  return found->second.first;
}

void RemoteSource::keep(uint64_t index, Block block) const {
  const std::lock_guard lock(mutex_);
  if (blocks_.contains(index)) return;
  used_.push_front(index);
  blocks_.emplace(index, std::pair(std::move(block), used_.begin()));
  if (blocks_.size() > kMaxBlocks) {
    blocks_.erase(used_.back());
    used_.pop_back();
  }
}

uint64_t RemoteSource::plan_fetch(uint64_t first, uint64_t last) const {
  const std::lock_guard lock(mutex_);
  window_ = first == expected_ ? std::min(2 * window_, kMaxRequestBlocks) : 1;
  const uint64_t blob_last = (blob_.size - 1) / kBlockBytes;
  const uint64_t end =
      std::min({std::max(last, first + window_ - 1), first + kMaxRequestBlocks - 1, blob_last});
  uint64_t count = 1;
  while (first + count <= end && !blocks_.contains(first + count)) ++count;
  expected_ = first + count;
  return count;
}

std::vector<RemoteSource::Block> RemoteSource::fetch(uint64_t first, uint64_t count) const {
  const uint64_t begin = first * kBlockBytes;
  const uint64_t end = std::min(blob_.size, (first + count) * kBlockBytes);
  std::vector<std::vector<std::byte>> blocks;
  RangeReader reader(*client_, blob_, begin, end, [&](std::span<const std::byte> data) {
    while (!data.empty()) {
      if (blocks.empty() || blocks.back().size() == kBlockBytes) blocks.emplace_back().reserve(kBlockBytes);
      auto& block = blocks.back();
      const size_t take = std::min<size_t>(data.size(), kBlockBytes - block.size());
      block.insert(block.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
      data = data.subspan(take);
    }
  });
  reader.run({});
  std::vector<Block> result;
  for (auto& block : blocks)
    result.push_back(std::make_shared<const std::vector<std::byte>>(std::move(block)));
  return result;
}

void RemoteSource::do_read_at(uint64_t offset, std::span<std::byte> out) const {
  const uint64_t last = (offset + out.size() - 1) / kBlockBytes;
  const auto copy = [&](const Block& block) {
    const uint64_t within = offset % kBlockBytes;
    const uint64_t take = std::min<uint64_t>(out.size(), block->size() - within);
    std::copy_n(block->begin() + static_cast<ptrdiff_t>(within), take, out.begin());
    offset += take;
    out = out.subspan(take);
  };
  while (!out.empty()) {
    const uint64_t index = offset / kBlockBytes;
    if (const Block held = find(index)) {
      copy(held);
      continue;
    }
    uint64_t fetched = index;
    for (const Block& block : fetch(index, plan_fetch(index, last))) {
      keep(fetched++, block);
      if (!out.empty()) copy(block);
    }
  }
}

}  // namespace obd::registry
