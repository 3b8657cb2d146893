#include "tools/check_device.h"

#include <ext2fs/ext2fs.h>
#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <vector>

#include "common/error.h"
#include "registry/callback_guard.h"

namespace obd::tools {
namespace {

constexpr size_t kSlots = 4096;

}  // namespace

struct StackDevice::State {
  struct Slot {
    uint64_t block = UINT64_MAX;
    std::vector<std::byte> bytes;
  };

  explicit State(const blockfs::LayerStack& layers) : stack(layers), slots(kSlots) {
    set_manager();
    channel.magic = EXT2_ET_MAGIC_IO_CHANNEL;
    channel.manager = &manager;
    channel.name = channel_name.data();
    channel.block_size = 1024;
    channel.refcount = 1;
    channel.private_data = this;
  }

  static State& of(io_channel channel) { return *static_cast<State*>(channel->private_data); }

  void set_manager() {
    manager.magic = EXT2_ET_MAGIC_IO_MANAGER;
    manager.name = "layer stack";
    manager.open = open;
    // The device outlives the filesystem, so there is nothing to close.
    manager.close = [](io_channel) noexcept -> errcode_t { return 0; };
    manager.set_blksize = [](io_channel to, int bytes) noexcept -> errcode_t {
      to->block_size = bytes;
      for (Slot& slot : of(to).slots) slot.block = UINT64_MAX;
      return 0;
    };
    manager.read_blk = [](io_channel from, unsigned long block, int count, void* data) noexcept -> errcode_t {
      return read(from, block, count, data);
    };
    manager.read_blk64 = read;
    manager.write_blk = [](io_channel, unsigned long, int, const void*) noexcept -> errcode_t {
      return EXT2_ET_RO_FILSYS;
    };
    manager.write_blk64 = [](io_channel, unsigned long long, int, const void*) noexcept -> errcode_t {
      return EXT2_ET_RO_FILSYS;
    };
    manager.flush = [](io_channel) noexcept -> errcode_t { return 0; };
  }

  static errcode_t open(const char* name, int /*flags*/, io_channel* out) noexcept {
    uintptr_t address = 0;
    std::from_chars(name, name + std::strlen(name), address, 16);
    *out = &reinterpret_cast<State*>(address)->channel;
    return 0;
  }

  static errcode_t read(io_channel from, unsigned long long block, int count, void* data) noexcept {
    State& state = of(from);
    return state.guard.run(errcode_t{EXT2_ET_SHORT_READ}, [&] {
      state.read_blocks(block, count, static_cast<std::byte*>(data));
      return errcode_t{0};
    });
  }

  void read_blocks(uint64_t block, int count, std::byte* out) {
    const auto block_bytes = static_cast<uint64_t>(channel.block_size);
    if (block > stack.size() / block_bytes)
      throw DataError(fmt::format("block {} lies beyond the disk", block));
    if (count != 1) {  // a negative count is a number of bytes
      const uint64_t bytes = count < 0 ? static_cast<uint64_t>(-static_cast<int64_t>(count))
                                       : static_cast<uint64_t>(count) * block_bytes;
      return stack.read_at(block * block_bytes, {out, bytes});
    }
    Slot& slot = slots[block % slots.size()];
    if (slot.block != block) {
      slot.block = UINT64_MAX;
      slot.bytes.resize(block_bytes);
      stack.read_at(block * block_bytes, slot.bytes);
      slot.block = block;
    }
    std::memcpy(out, slot.bytes.data(), block_bytes);
  }

  const blockfs::LayerStack& stack;
  struct_io_manager manager{};
  struct_io_channel channel{};
  std::string channel_name = "layer stack";
  std::vector<Slot> slots;  // block n in slot n % size
  registry::CallbackGuard guard;
};

StackDevice::StackDevice(const blockfs::LayerStack& stack) : state_(std::make_unique<State>(stack)) {}
StackDevice::~StackDevice() = default;

struct_io_manager* StackDevice::manager() {
  return &state_->manager;
}

// libext2fs hands nothing but a name to open(), so the name is the device's address.
std::string StackDevice::name() const {
  return fmt::format("{:x}", reinterpret_cast<uintptr_t>(state_.get()));
}

void StackDevice::check(long code, std::string_view doing) const {
  state_->guard.rethrow();
  if (code != 0) throw DataError(fmt::format("{}: {}", doing, ::error_message(code)));
}

}  // namespace obd::tools
