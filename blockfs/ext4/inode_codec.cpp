#include "blockfs/ext4/inode_codec.h"

#include <algorithm>
#include <cstring>

#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

enum Offset : size_t {
  kMode = 0,
  kUidLow = 2,
  kSizeLow = 4,
  kAtime = 8,
  kCtime = 12,
  kMtime = 16,
  kDtime = 20,
  kGidLow = 24,
  kLinks = 26,
  kBlocksLow = 28,
  kFlags = 32,
  kContent = 40,
  kXattrBlockLow = 104,
  kSizeHigh = 108,
  kBlocksHigh = 116,
  kXattrBlockHigh = 118,
  kUidHigh = 120,
  kGidHigh = 122,
  kExtraSize = 128,
  kCtimeExtra = 132,
  kMtimeExtra = 136,
  kAtimeExtra = 140,
  kCrtime = 144,
  kCrtimeExtra = 148,
};

constexpr uint32_t kFlagIndex = 0x1000;
constexpr uint32_t kFlagHugeFile = 0x40000;
constexpr uint32_t kFlagExtents = 0x80000;
constexpr uint16_t kExtraBytes = 32;
constexpr uint32_t kXattrMagic = 0xEA020000;
constexpr int64_t kMinSeconds = -(int64_t{1} << 31);
constexpr int64_t kMaxSeconds = (int64_t{1} << 34) - (int64_t{1} << 31) - 1;

struct TypeMode {
  FileType type;
  uint16_t mode;
};
constexpr std::array<TypeMode, 7> kTypeModes = {{{FileType::kFile, 0x8000},
                                                 {FileType::kDirectory, 0x4000},
                                                 {FileType::kCharDevice, 0x2000},
                                                 {FileType::kBlockDevice, 0x6000},
                                                 {FileType::kFifo, 0x1000},
                                                 {FileType::kSocket, 0xC000},
                                                 {FileType::kSymlink, 0xA000}}};

uint16_t mode_of(FileType type) {
  for (const auto& entry : kTypeModes) {
    if (entry.type == type) return entry.mode;
  }
  OBD_CHECK(false);
  return 0;
}

FileType type_of(uint16_t mode) {
  for (const auto& entry : kTypeModes) {
    if (entry.mode == (mode & 0xF000)) return entry.type;
  }
  return FileType::kUnknown;
}

}  // namespace

template <class T>
T InodeBytes::get(size_t at) const {
  return load_le<T>(&bytes_[at]);
}
template <class T>
void InodeBytes::set(size_t at, T value) {
  store_le<T>(&bytes_[at], value);
}

void InodeBytes::initialise(const InodeAttributes& attributes) {
  bytes_.fill(std::byte{0});
  set<uint16_t>(kExtraSize, kExtraBytes);
  set_attributes(attributes);
  set_links(1);
  if (attributes.type == FileType::kFile || attributes.type == FileType::kDirectory) {
    set_extent_root(build_extent_tree({}, {}).root);
  }
}

/// Two bits of the extra field continue the seconds beyond 2038, the rest are nanoseconds.
void InodeBytes::set_time(size_t at, size_t extra_at, int64_t seconds, uint32_t nanoseconds) {
  const int64_t clamped = std::clamp(seconds, kMinSeconds, kMaxSeconds);
  if (clamped != seconds) nanoseconds = 0;
  const auto low = static_cast<uint32_t>(clamped);
  const auto epoch = static_cast<uint32_t>((clamped - static_cast<int32_t>(low)) >> 32) & 3;
  set<uint32_t>(at, low);
  set<uint32_t>(extra_at, (nanoseconds << 2) | epoch);
}

void InodeBytes::set_attributes(const InodeAttributes& attributes) {
  set<uint16_t>(kMode, static_cast<uint16_t>(mode_of(attributes.type) | (attributes.permissions & 07777)));
  set<uint16_t>(kUidLow, static_cast<uint16_t>(attributes.uid));
  set<uint16_t>(kUidHigh, static_cast<uint16_t>(attributes.uid >> 16));
  set<uint16_t>(kGidLow, static_cast<uint16_t>(attributes.gid));
  set<uint16_t>(kGidHigh, static_cast<uint16_t>(attributes.gid >> 16));
  for (const auto& [at, extra] : {std::pair<size_t, size_t>{kAtime, kAtimeExtra},
                                  {kCtime, kCtimeExtra},
                                  {kMtime, kMtimeExtra},
                                  {kCrtime, kCrtimeExtra}}) {
    set_time(at, extra, attributes.mtime_seconds, attributes.mtime_nanoseconds);
  }
}

InodeAttributes InodeBytes::attributes() const {
  const auto extra = get<uint32_t>(kMtimeExtra);
  return {.type = type_of(get<uint16_t>(kMode)),
          .permissions = get<uint16_t>(kMode) & 07777u,
          .uid = get<uint16_t>(kUidLow) | (uint32_t{get<uint16_t>(kUidHigh)} << 16),
          .gid = get<uint16_t>(kGidLow) | (uint32_t{get<uint16_t>(kGidHigh)} << 16),
          .mtime_seconds = static_cast<int32_t>(get<uint32_t>(kMtime)) + (int64_t{extra & 3} << 32),
          .mtime_nanoseconds = extra >> 2};
}

void InodeBytes::clear() {
  bytes_.fill(std::byte{0});
  set<uint32_t>(kDtime, static_cast<uint32_t>(Filesystem::kSuperblockTime));
}

uint64_t InodeBytes::size() const {
  return get<uint32_t>(kSizeLow) | (uint64_t{get<uint32_t>(kSizeHigh)} << 32);
}
void InodeBytes::set_size(uint64_t bytes) {
  set<uint32_t>(kSizeLow, static_cast<uint32_t>(bytes));
  set<uint32_t>(kSizeHigh, static_cast<uint32_t>(bytes >> 32));
}
uint32_t InodeBytes::links() const {
  return get<uint16_t>(kLinks);
}
void InodeBytes::set_links(uint32_t links) {
  set<uint16_t>(kLinks, static_cast<uint16_t>(links));
}

void InodeBytes::set_block_count(uint64_t blocks) {
  uint64_t units = blocks * kSectorsPerBlock;
  auto flags = get<uint32_t>(kFlags) & ~kFlagHugeFile;
  if (units >> 48) {  // then counted in blocks
    units = blocks;
    flags |= kFlagHugeFile;
  }
  set<uint32_t>(kFlags, flags);
  set<uint32_t>(kBlocksLow, static_cast<uint32_t>(units));
  set<uint16_t>(kBlocksHigh, static_cast<uint16_t>(units >> 32));
}

void InodeBytes::set_indexed(bool indexed) {
  const auto flags = get<uint32_t>(kFlags);
  set<uint32_t>(kFlags, indexed ? flags | kFlagIndex : flags & ~kFlagIndex);
}

bool InodeBytes::has_extents() const {
  return (get<uint32_t>(kFlags) & kFlagExtents) != 0;
}
void InodeBytes::use_extents() {
  set<uint32_t>(kFlags, get<uint32_t>(kFlags) | kFlagExtents);
}

ExtentRoot InodeBytes::extent_root() const {
  ExtentRoot root;
  std::memcpy(root.data(), &bytes_[kContent], root.size());
  return root;
}

void InodeBytes::set_extent_root(const ExtentRoot& root) {
  std::memcpy(&bytes_[kContent], root.data(), root.size());
  use_extents();
}

uint64_t InodeBytes::xattr_block() const {
  return get<uint32_t>(kXattrBlockLow) | (uint64_t{get<uint16_t>(kXattrBlockHigh)} << 32);
}

bool InodeBytes::has_xattrs() const {
  const size_t at = 128 + size_t{get<uint16_t>(kExtraSize)};
  const bool in_inode =
      at + 4 <= static_cast<size_t>(kBytes) && load_le<uint32_t>(&bytes_[at]) == kXattrMagic;
  return in_inode || xattr_block() != 0;
}

void InodeBytes::set_device(uint32_t major, uint32_t minor) {
  OBD_CHECK(major < (1u << 12) && minor < (1u << 20));
  if (major < 256 && minor < 256) {
    set<uint32_t>(kContent, (major << 8) | minor);
  } else {
    set<uint32_t>(kContent + 4, (minor & 0xFF) | (major << 8) | ((minor & ~0xFFu) << 12));
  }
}

void InodeBytes::set_inline_target(const std::string& target) {
  OBD_CHECK(target.size() < kInlineBytes);
  std::memcpy(&bytes_[kContent], target.data(), target.size());
  set_size(target.size());
}

std::optional<std::string> InodeBytes::inline_target() const {
  if (has_extents() || size() >= kInlineBytes) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(&bytes_[kContent]), size());
}

}  // namespace obd::blockfs
