#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "common/byte_source.h"
#include "registry/client.h"

namespace obd::registry {

/// A blob in a registry, read where it is asked for. Holds the blocks that were read last, at most 4 MiB.
/// What is read of a layer is its metadata: small pieces, some alone, some in long runs. So little is fetched
/// at first, and twice as much each time that reading goes on where it ended.
///
/// Unverified: a block is what the registry says it is.
class RemoteSource final : public ByteSource {
 public:
  RemoteSource(std::shared_ptr<RegistryClient> client, BlobId blob);
  uint64_t size() const override { return blob_.size; }
  std::string name() const override { return blob_.digest.text(); }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override;

 private:
  using Block = std::shared_ptr<const std::vector<std::byte>>;

  Block find(uint64_t index) const;
  void keep(uint64_t index, Block block) const;
  /// Blocks [first, first + count), in one request.
  std::vector<Block> fetch(uint64_t first, uint64_t count) const;
  /// How many blocks to fetch from `first` on, none of which is held; `last` is the last one that is needed.
  uint64_t plan_fetch(uint64_t first, uint64_t last) const;

  const std::shared_ptr<RegistryClient> client_;
  const BlobId blob_;
  mutable std::mutex mutex_;          // guards all below
  mutable std::list<uint64_t> used_;  // the block used last in front
  mutable std::map<uint64_t, std::pair<Block, std::list<uint64_t>::iterator>> blocks_;
  mutable uint64_t expected_ = 0;  // the block that a reader who goes on straight ahead needs next
  mutable uint64_t window_ = 1;    // blocks
};

}  // namespace obd::registry
