#include "tools/check_device.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "common/error.h"

namespace obd::tools {
namespace {

constexpr size_t kSlots = 4096;

}  // namespace

StackDevice::StackDevice(const blockfs::LayerStack& stack) : stack_(stack), slots_(kSlots) {
  manager_.magic = EXT2_ET_MAGIC_IO_MANAGER;
  manager_.name = "layer stack";
  manager_.open = open;
  // The device outlives the filesystem, so there is nothing to close.
  manager_.close = [](io_channel) noexcept -> errcode_t { return 0; };
  manager_.set_blksize = [](io_channel channel, int bytes) noexcept -> errcode_t {
    auto& device = *static_cast<StackDevice*>(channel->private_data);
    channel->block_size = bytes;
    for (Slot& slot : device.slots_) slot.block = UINT64_MAX;
    return 0;
  };
  manager_.read_blk = [](io_channel channel, unsigned long block, int count,
                         void* data) noexcept -> errcode_t { return read(channel, block, count, data); };
  manager_.read_blk64 = read;
  manager_.write_blk = [](io_channel, unsigned long, int, const void*) noexcept -> errcode_t {
    return EXT2_ET_RO_FILSYS;
  };
  manager_.write_blk64 = [](io_channel, unsigned long long, int, const void*) noexcept -> errcode_t {
    return EXT2_ET_RO_FILSYS;
  };
  manager_.flush = [](io_channel) noexcept -> errcode_t { return 0; };
  channel_.magic = EXT2_ET_MAGIC_IO_CHANNEL;
  channel_.manager = &manager_;
  channel_.name = channel_name_.data();
  channel_.block_size = 1024;
  channel_.refcount = 1;
  channel_.private_data = this;
}

// libext2fs hands nothing but a name to open(), so the name is the device's address.
std::string StackDevice::name() const {
  return fmt::format("{:x}", reinterpret_cast<uintptr_t>(this));
}

errcode_t StackDevice::open(const char* name, int /*flags*/, io_channel* channel) noexcept {
  uintptr_t address = 0;
  std::from_chars(name, name + std::strlen(name), address, 16);
  *channel = &reinterpret_cast<StackDevice*>(address)->channel_;
  return 0;
}

errcode_t StackDevice::read(io_channel channel, unsigned long long block, int count, void* data) noexcept {
  auto& device = *static_cast<StackDevice*>(channel->private_data);
  return device.guard_.run(errcode_t{EXT2_ET_SHORT_READ}, [&] {
    device.read_blocks(block, count, static_cast<std::byte*>(data));
    return errcode_t{0};
  });
}

void StackDevice::read_blocks(uint64_t block, int count, std::byte* out) {
  const auto block_bytes = static_cast<uint64_t>(channel_.block_size);
  if (block > stack_.size() / block_bytes)
    throw DataError(fmt::format("block {} lies beyond the disk", block));
  if (count != 1) {  // a negative count is a number of bytes
    const uint64_t bytes = count < 0 ? static_cast<uint64_t>(-static_cast<int64_t>(count))
                                     : static_cast<uint64_t>(count) * block_bytes;
    return stack_.read_at(block * block_bytes, {out, bytes});
  }
  Slot& slot = slots_[block % slots_.size()];
  if (slot.block != block) {
    slot.block = UINT64_MAX;
    slot.bytes.resize(block_bytes);
    stack_.read_at(block * block_bytes, slot.bytes);
    slot.block = block;
  }
  std::memcpy(out, slot.bytes.data(), block_bytes);
}

void StackDevice::check(errcode_t code, std::string_view doing) const {
  guard_.rethrow();
  if (code != 0) throw DataError(fmt::format("{}: {}", doing, ::error_message(code)));
}

}  // namespace obd::tools
