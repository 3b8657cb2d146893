#include "tests/unit/blockfs/ext4/image_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "blockfs/ext4/directory.h"
#include "common/unique_fd.h"
#include "tests/support/streams.h"
#include "tests/support/temporary_directory.h"

namespace obd::blockfs {
namespace {

size_t hash_of(std::span<const std::byte> data) {
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(data.data()), data.size()});
}

}  // namespace

void SparseDisk::put(uint64_t block, std::span<const std::byte> data) {
  blocks_[block].assign(data.begin(), data.end());
}

void SparseDisk::put(const Blocks& blocks) {
  for (const auto& [block, data] : blocks) put(block, data);
}

void SparseDisk::do_read_at(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const uint64_t within = offset % kBlockBytes;
    const auto part = out.first(std::min<uint64_t>(out.size(), kBlockBytes - within));
    const auto at = blocks_.find(offset / kBlockBytes);
    if (at == blocks_.end()) {
      std::fill(part.begin(), part.end(), std::byte{0});
    } else {
      std::copy_n(at->second.begin() + static_cast<ptrdiff_t>(within), part.size(), part.begin());
    }
    offset += part.size();
    out = out.subspan(part.size());
  }
}

void LayerCapture::file_data(uint64_t disk_offset, uint64_t tar_offset, std::span<const std::byte> data) {
  calls.push_back({disk_offset, tar_offset, hash_of(data)});
  while (!data.empty()) {
    const uint64_t within = disk_offset % kBlockBytes;
    const auto part = data.first(std::min<uint64_t>(data.size(), kBlockBytes - within));
    test::Bytes& block = blocks[disk_offset / kBlockBytes];
    block.resize(kBlockBytes);
    std::copy(part.begin(), part.end(), block.begin() + static_cast<ptrdiff_t>(within));
    disk_offset += part.size();
    data = data.subspan(part.size());
  }
}

void LayerCapture::metadata_block(uint64_t block, std::span<const std::byte> data) {
  calls.push_back({.at = block, .hash = hash_of(data)});
  blocks[block].assign(data.begin(), data.end());
}

ImageDisk::ImageDisk(const Options& options)
    : options_(options),
      disk_(options.gib * kGiB),
      store_(std::make_unique<MetadataStore>(disk_, options.budget_bytes)),
      filesystem_(Filesystem::create(*store_, options.gib * kGiB)) {}

ImageDisk::~ImageDisk() = default;

void ImageDisk::reopen() {
  filesystem_.reset();
  store_ = std::make_unique<MetadataStore>(disk_, options_.budget_bytes);
  filesystem_ = Filesystem::open(*store_);
}

LayerCapture ImageDisk::apply(const test::Bytes& tar) {
  test::PieceStream stream(tar, options_.piece_bytes);
  return apply(stream);
}

LayerCapture ImageDisk::apply(ChunkStream& stream) {
  LayerTar reader("layer", stream);
  LayerCapture capture;
  capture.applied = apply_layer(*filesystem_, *store_, reader, capture);
  disk_.put(capture.blocks);
  if (options_.reopen) reopen();
  return capture;
}

uint32_t ImageDisk::inode(const std::string& path) {
  uint32_t inode = Filesystem::kRootInode;
  for (size_t at = 0; at < path.size() && inode != 0;) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const Directory directory = Directory::load(*filesystem_, inode);
    const Directory::Index found = directory.find(std::string_view(path).substr(at, slash - at));
    inode = found == Directory::kNone ? 0 : directory.entry(found).inode;
    at = slash + 1;
  }
  return inode;
}

TreeListing ImageDisk::listing() {
  return list_tree(*filesystem_);
}

std::string ImageDisk::complaints() const {
  const test::TemporaryDirectory directory;
  const std::string path = (directory.path() / "disk").string();
  {
    const UniqueFd file(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    OBD_CHECK(file && ::ftruncate(file.get(), static_cast<off_t>(disk_.size())) == 0);
    for (const auto& [block, data] : disk_.blocks()) write_fully(file.get(), block * kBlockBytes, data, path);
  }
  const std::string command =
      "PATH=$PATH:/usr/sbin:/sbin; command -v e2fsck >/dev/null || exit 0; e2fsck -fn " + path + " 2>&1";
  std::string output;
  FILE* pipe = ::popen(command.c_str(), "r");
  OBD_CHECK(pipe != nullptr);
  std::array<char, 4096> buffer;
  while (const size_t got = ::fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), got);
  return ::pclose(pipe) == 0 ? std::string() : "e2fsck: " + output;
}

}  // namespace obd::blockfs
