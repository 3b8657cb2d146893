#include "blockfs/ext4/extent_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

// Kernel documentation, filesystems/ext4, "Extent Tree": a node is a header and entries of 12 bytes each.
constexpr uint16_t kMagic = 0xF30A;
constexpr size_t kHeaderBytes = 12;
constexpr size_t kEntryBytes = 12;
constexpr size_t kRootEntries = 4;
constexpr size_t kBlockEntries = (kBlockBytes - kHeaderBytes) / kEntryBytes;
constexpr uint64_t kMaxExtentBlocks = 32768;
constexpr unsigned kMaxDepth = 5;

/// An extent in a leaf, or the first logical block of a child and where the child lies.
struct Entry {
  uint32_t logical;
  uint64_t physical;
  uint32_t count;
};

void encode_node(std::span<std::byte> out, std::span<const Entry> entries, size_t capacity, unsigned depth) {
  store_le<uint16_t>(&out[0], kMagic);
  store_le<uint16_t>(&out[2], static_cast<uint16_t>(entries.size()));
  store_le<uint16_t>(&out[4], static_cast<uint16_t>(capacity));
  store_le<uint16_t>(&out[6], static_cast<uint16_t>(depth));
  for (size_t i = 0; i < entries.size(); ++i) {
    std::byte* at = &out[kHeaderBytes + i * kEntryBytes];
    const Entry& entry = entries[i];
    const auto high = static_cast<uint16_t>(entry.physical >> 32);
    store_le<uint32_t>(at, entry.logical);
    if (depth == 0) {
      store_le<uint16_t>(at + 4, static_cast<uint16_t>(entry.count));
      store_le<uint16_t>(at + 6, high);
      store_le<uint32_t>(at + 8, static_cast<uint32_t>(entry.physical));
    } else {
      store_le<uint32_t>(at + 4, static_cast<uint32_t>(entry.physical));
      store_le<uint16_t>(at + 8, high);
    }
  }
}

std::vector<Entry> leaf_entries(const std::vector<FileExtent>& extents) {
  std::vector<Entry> entries;
  for (const FileExtent& extent : extents) {
    for (uint64_t done = 0; done < extent.physical.count;) {
      const uint64_t part = std::min(extent.physical.count - done, kMaxExtentBlocks);
      OBD_CHECK(extent.logical + done + part <= UINT32_MAX);
      entries.push_back({static_cast<uint32_t>(extent.logical + done), extent.physical.first + done,
                         static_cast<uint32_t>(part)});
      done += part;
    }
  }
  return entries;
}

[[noreturn]] void damaged(std::string_view what) {
  throw DataError(fmt::format("the ext4 filesystem below is damaged: extent tree: {}", what));
}

void walk_node(std::span<const std::byte> node, size_t capacity, unsigned depth, const ExtentTreeIo& io,
               WalkedTree& out) {
  if (load_le<uint16_t>(&node[0]) != kMagic) damaged("no magic number");
  const size_t count = load_le<uint16_t>(&node[2]);
  if (count > capacity) damaged("too many entries in a node");
  if (load_le<uint16_t>(&node[6]) != depth) damaged("wrong depth");
  for (size_t i = 0; i < count; ++i) {
    const std::byte* at = &node[kHeaderBytes + i * kEntryBytes];
    const uint64_t logical = load_le<uint32_t>(at);
    if (depth > 0) {
      const uint64_t child = load_le<uint32_t>(at + 4) | (uint64_t{load_le<uint16_t>(at + 8)} << 32);
      if (child == 0 || child >= io.block_count) damaged("a node outside the disk");
      if (out.tree_blocks.size() > io.block_count / kBlockEntries + kMaxDepth * kRootEntries)
        damaged("a loop");
      out.tree_blocks.push_back(child);
      MetadataStore::Page page;
      io.read(child, page);
      walk_node(page, kBlockEntries, depth - 1, io, out);
      continue;
    }
    uint64_t length = load_le<uint16_t>(at + 4);
    if (length > kMaxExtentBlocks) length -= kMaxExtentBlocks;  // allocated, but never written
    const uint64_t physical = load_le<uint32_t>(at + 8) | (uint64_t{load_le<uint16_t>(at + 6)} << 32);
    if (length == 0 || physical == 0 || physical >= io.block_count || length > io.block_count - physical) {
      damaged("an extent outside the disk");
    }
    if (!out.extents.empty() && logical < out.extents.back().logical + out.extents.back().physical.count) {
      damaged("extents overlap");
    }
    out.extents.push_back({logical, {physical, length}});
  }
}

}  // namespace

BuiltTree build_extent_tree(const std::vector<FileExtent>& extents, const ExtentTreeIo& io) {
  BuiltTree built;
  std::vector<Entry> level = leaf_entries(extents);
  unsigned depth = 0;
  while (level.size() > kRootEntries) {
    std::vector<Entry> parents;
    for (size_t at = 0; at < level.size(); at += kBlockEntries) {
      const auto part = std::span(level).subspan(at, std::min(kBlockEntries, level.size() - at));
      MetadataStore::Page page{};
      encode_node(page, part, kBlockEntries, depth);
      const uint64_t block = io.allocate();
      io.write(block, page);
      ++built.tree_blocks;
      parents.push_back({part.front().logical, block, 0});
    }
    level = std::move(parents);
    ++depth;
  }
  encode_node(built.root, level, kRootEntries, depth);
  return built;
}

WalkedTree walk_extent_tree(const ExtentRoot& root, const ExtentTreeIo& io) {
  const unsigned depth = load_le<uint16_t>(&root[6]);
  if (depth > kMaxDepth) damaged("too deep");
  WalkedTree out;
  walk_node(root, kRootEntries, depth, io, out);
  return out;
}

}  // namespace obd::blockfs
