#include "blockfs/ext4/ext2_handle.h"

#include <ext2fs/ext2fs.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "blockfs/ext4/metadata_store.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

Ext2Bridge& bridge_of(io_channel channel) {
  return *static_cast<Ext2Bridge*>(channel->private_data);
}

errcode_t open_channel(const char* name, int /*flags*/, io_channel* out) {
  uintptr_t address = 0;
  std::from_chars(name, name + std::strlen(name), address, 16);
  auto* channel = static_cast<io_channel>(std::calloc(1, sizeof(struct struct_io_channel)));
  if (channel == nullptr) return EXT2_ET_NO_MEMORY;
  channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  channel->manager = Ext2Bridge::manager();
  channel->name = ::strdup(name);
  channel->block_size = static_cast<int>(kBlockBytes);
  channel->refcount = 1;
  channel->private_data = reinterpret_cast<void*>(address);
  *out = channel;
  return 0;
}

errcode_t close_channel(io_channel channel) {
  if (--channel->refcount > 0) return 0;
  std::free(channel->name);
  std::free(channel);
  return 0;
}

errcode_t set_block_size(io_channel channel, int bytes) {
  channel->block_size = bytes;
  return 0;
}

/// libext2fs gives a negative count for a number of bytes.
std::pair<uint64_t, uint64_t> byte_range(io_channel channel, unsigned long long block, int count) {
  const auto block_size = static_cast<uint64_t>(channel->block_size);
  const uint64_t bytes = count < 0 ? static_cast<uint64_t>(-static_cast<int64_t>(count))
                                   : static_cast<uint64_t>(count) * block_size;
  return {block * block_size, bytes};
}

errcode_t read_blocks(io_channel channel, unsigned long long block, int count, void* data) noexcept {
  Ext2Bridge& bridge = bridge_of(channel);
  try {
    auto [offset, bytes] = byte_range(channel, block, count);
    auto* out = static_cast<std::byte*>(data);
    MetadataStore::Page page;
    while (bytes > 0) {
      const uint64_t within = offset % kBlockBytes;
      const uint64_t take = std::min(bytes, kBlockBytes - within);
      bridge.store().read(offset / kBlockBytes, page);
      std::memcpy(out, page.data() + within, take);
      out += take;
      offset += take;
      bytes -= take;
    }
    return 0;
  } catch (...) {
    bridge.park(std::current_exception());
    return EXT2_ET_SHORT_READ;
  }
}

errcode_t write_blocks(io_channel channel, unsigned long long block, int count, const void* data) noexcept {
  Ext2Bridge& bridge = bridge_of(channel);
  try {
    auto [offset, bytes] = byte_range(channel, block, count);
    const auto* in = static_cast<const std::byte*>(data);
    MetadataStore::Page page;
    while (bytes > 0) {
      const uint64_t within = offset % kBlockBytes;
      const uint64_t take = std::min(bytes, kBlockBytes - within);
      if (take < kBlockBytes) bridge.store().read(offset / kBlockBytes, page);
      std::memcpy(page.data() + within, in, take);
      bridge.store().write(offset / kBlockBytes, page);
      in += take;
      offset += take;
      bytes -= take;
    }
    return 0;
  } catch (...) {
    bridge.park(std::current_exception());
    return EXT2_ET_SHORT_WRITE;
  }
}

errcode_t read_blocks32(io_channel channel, unsigned long block, int count, void* data) {
  return read_blocks(channel, block, count, data);
}

errcode_t write_blocks32(io_channel channel, unsigned long block, int count, const void* data) {
  return write_blocks(channel, block, count, data);
}

errcode_t flush_channel(io_channel /*channel*/) {
  return 0;
}

struct_io_manager make_manager() {
  struct_io_manager manager{};
  manager.magic = EXT2_ET_MAGIC_IO_MANAGER;
  manager.name = "metadata store";
  manager.open = open_channel;
  manager.close = close_channel;
  manager.set_blksize = set_block_size;
  manager.read_blk = read_blocks32;
  manager.write_blk = write_blocks32;
  manager.flush = flush_channel;
  manager.read_blk64 = read_blocks;
  manager.write_blk64 = write_blocks;
  return manager;
}

}  // namespace

struct_io_manager* Ext2Bridge::manager() {
  static struct_io_manager manager = make_manager();
  return &manager;
}

std::string Ext2Bridge::device_name() const {
  return fmt::format("{:x}", reinterpret_cast<uintptr_t>(this));
}

void Ext2Bridge::check(long code, std::string_view doing) {
  if (parked_) std::rethrow_exception(std::exchange(parked_, nullptr));
  if (code == 0) return;
  if (code == EXT2_ET_NO_MEMORY) throw std::bad_alloc();
  throw DataError(fmt::format("{} in the ext4 filesystem: {}", doing, ::error_message(code)));
}

}  // namespace obd::blockfs
