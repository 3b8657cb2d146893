#include "tools/check_inode.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "common/c_handle.h"
#include "common/endian.h"
#include "common/error.h"
#include "tools/sparse_file.h"

namespace obd::tools {
namespace {

constexpr size_t kBlockBytes = 4096;

}  // namespace

std::string Fingerprint::text() const {
  return fmt::format("{:016x}{:016x}", high, low);
}

bool Inode::is_directory() const {
  return S_ISDIR(mode);
}
bool Inode::is_regular() const {
  return S_ISREG(mode);
}
bool Inode::is_symlink() const {
  return S_ISLNK(mode);
}
bool Inode::is_device() const {
  return S_ISCHR(mode) || S_ISBLK(mode);
}

const std::string& Inode::link_target() const {
  static const std::string kNone;
  return extra ? extra->link_target : kNone;
}

const Inode::Xattrs& Inode::xattrs() const {
  static const Xattrs kNone;
  return extra ? extra->xattrs : kNone;
}

Inode::Extra& Inode::make_extra() {
  if (!extra) extra = std::make_unique<Extra>();
  return *extra;
}

std::string canonical_xattr(const std::string& name, std::string value) {
  // posix_acl_xattr: u32 version 2, then entries of u16 tag, u16 permissions, u32 ID.
  constexpr size_t kHeader = 4;
  constexpr size_t kEntry = 8;
  constexpr unsigned kUser = 2;
  constexpr unsigned kGroup = 8;
  if (!name.starts_with("system.posix_acl_") || value.size() < kHeader) return value;
  for (size_t at = kHeader; at + kEntry <= value.size(); at += kEntry) {
    const auto tag = static_cast<unsigned char>(value[at]);
    if (tag != kUser && tag != kGroup) std::fill_n(value.begin() + static_cast<ptrdiff_t>(at) + 4, 4, '\xFF');
  }
  return value;
}

struct ContentHash::State {
  CHandle<XXH3_state_t, XXH3_freeState> hash{XXH3_createState()};
  std::array<std::byte, kBlockBytes> partial{};  // of the block `partial_index`
  uint64_t partial_index = 0;
  bool has_partial = false;

  void add_block(uint64_t index, std::span<const std::byte> block) {
    if (is_zero(block)) return;
    std::array<std::byte, 8> number;
    store_le<uint64_t>(number.data(), index);
    XXH3_128bits_update(hash.get(), number.data(), number.size());
    XXH3_128bits_update(hash.get(), block.data(), block.size());
  }

  void flush() {
    if (!has_partial) return;
    add_block(partial_index, partial);
    partial.fill(std::byte{0});
    has_partial = false;
  }
};

ContentHash::ContentHash() : state_(std::make_unique<State>()) {
  OBD_CHECK(state_->hash && XXH3_128bits_reset(state_->hash.get()) == XXH_OK);
}
ContentHash::~ContentHash() = default;

void ContentHash::add(uint64_t offset, std::span<const std::byte> data) {
  State& state = *state_;
  while (!data.empty()) {
    const uint64_t index = offset / kBlockBytes;
    const size_t within = offset % kBlockBytes;
    if (state.has_partial && state.partial_index != index) state.flush();
    const size_t take = std::min(data.size(), kBlockBytes - within);
    if (take == kBlockBytes) {
      state.add_block(index, data.first(take));
    } else {
      std::memcpy(&state.partial[within], data.data(), take);
      state.partial_index = index;
      state.has_partial = true;
    }
    offset += take;
    data = data.subspan(take);
  }
}

Fingerprint ContentHash::finish() {
  state_->flush();
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->hash.get());
  OBD_CHECK(XXH3_128bits_reset(state_->hash.get()) == XXH_OK);
  return {.low = hash.low64, .high = hash.high64};
}

}  // namespace obd::tools
