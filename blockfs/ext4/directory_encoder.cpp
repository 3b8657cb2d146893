#include <algorithm>
#include <cstring>
#include <span>

#include "blockfs/ext4/directory.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

// Kernel documentation, filesystems/ext4, "Directory Entries": linear directories and hash trees.
constexpr size_t kDirentBytes = 8;  // before the name
constexpr size_t kTailBytes = 12;   // the checksum of a linear block
constexpr size_t kRootEntriesAt = 32;
constexpr size_t kNodeEntriesAt = 8;
constexpr size_t kTreeEntryBytes = 8;
constexpr size_t kTreeTailBytes = 8;

/// One name with where it belongs in a hash tree.
struct Item {
  Directory::Index index;
  uint32_t major = 0;
  uint32_t minor = 0;
};

/// Items [begin, end) that fill one leaf.
struct Leaf {
  size_t begin;
  size_t end;
  uint32_t hash;  // the lowest in it; the lowest bit says that the leaf before has the same one
};

size_t record_bytes(size_t name_bytes) {
  return (kDirentBytes + name_bytes + 3) & ~size_t{3};
}

class Encoder {
 public:
  Encoder(const Directory& directory, const Filesystem& filesystem)
      : directory_(directory),
        filesystem_(filesystem),
        linear_room_(kBlockBytes - (filesystem.has_checksums() ? kTailBytes : 0)) {}

  EncodedDirectory encode();

 private:
  void sort_by_name();
  void sort_by_hash();
  std::vector<Leaf> make_leaves(size_t first_room) const;
  void write_dot_entries(std::byte* block, size_t last_record_bytes) const;
  void write_record(std::byte* at, uint32_t inode, std::string_view name, FileType type, size_t bytes) const;
  void write_items(std::byte* block, size_t offset, size_t begin, size_t end) const;
  void write_linear(EncodedDirectory& out, const std::vector<Leaf>& leaves) const;
  void write_tree(EncodedDirectory& out, const std::vector<Leaf>& leaves) const;
  size_t tree_capacity(size_t entries_at) const {
    return (kBlockBytes - entries_at - (filesystem_.has_checksums() ? kTreeTailBytes : 0)) / kTreeEntryBytes;
  }

  const Directory& directory_;
  const Filesystem& filesystem_;
  const size_t linear_room_;
  std::vector<Item> items_;
};

void Encoder::sort_by_name() {
  std::sort(items_.begin(), items_.end(), [this](const Item& a, const Item& b) {
    return directory_.name(a.index) < directory_.name(b.index);
  });
}

void Encoder::sort_by_hash() {
  for (Item& item : items_)
    std::tie(item.major, item.minor) = filesystem_.hash_name(directory_.name(item.index));
  std::sort(items_.begin(), items_.end(), [this](const Item& a, const Item& b) {
    if (a.major != b.major) return a.major < b.major;
    if (a.minor != b.minor) return a.minor < b.minor;
    return directory_.name(a.index) < directory_.name(b.index);
  });
}

/// `first_room`: what "." and ".." leave of the first block.
std::vector<Leaf> Encoder::make_leaves(size_t first_room) const {
  std::vector<Leaf> leaves{{0, 0, 0}};
  size_t room = first_room;
  for (size_t i = 0; i < items_.size(); ++i) {
    const size_t bytes = record_bytes(directory_.entry(items_[i].index).name_bytes);
    if (bytes > room) {
      const bool continues = items_[i - 1].major == items_[i].major;
      leaves.push_back({i, i, items_[i].major | (continues ? 1u : 0u)});
      room = linear_room_;
    }
    room -= bytes;
    leaves.back().end = i + 1;
  }
  return leaves;
}

void Encoder::write_record(std::byte* at, uint32_t inode, std::string_view name, FileType type,
                           size_t bytes) const {
  store_le<uint32_t>(at, inode);
  store_le<uint16_t>(at + 4, static_cast<uint16_t>(bytes));
  at[6] = static_cast<std::byte>(name.size());
  at[7] = static_cast<std::byte>(type);
  std::memcpy(at + kDirentBytes, name.data(), name.size());
}

void Encoder::write_dot_entries(std::byte* block, size_t last_record_bytes) const {
  write_record(block, directory_.inode(), ".", FileType::kDirectory, record_bytes(1));
  write_record(block + record_bytes(1), directory_.parent(), "..", FileType::kDirectory, last_record_bytes);
}

/// The last record takes what is left of the block; the checksum's place looks like an unused record.
void Encoder::write_items(std::byte* block, size_t offset, size_t begin, size_t end) const {
  for (size_t i = begin; i < end; ++i) {
    const Directory::Entry& entry = directory_.entry(items_[i].index);
    const size_t bytes = i + 1 == end ? linear_room_ - offset : record_bytes(entry.name_bytes);
    write_record(block + offset, entry.inode, directory_.name(items_[i].index), entry.type, bytes);
    offset += bytes;
  }
  if (linear_room_ == kBlockBytes) return;
  store_le<uint16_t>(block + linear_room_ + 4, static_cast<uint16_t>(kTailBytes));
  store_le<uint16_t>(block + linear_room_ + 6, 0xDE00);
}

void Encoder::write_linear(EncodedDirectory& out, const std::vector<Leaf>& leaves) const {
  out.blocks.resize(leaves.size() * kBlockBytes);
  for (size_t i = 0; i < leaves.size(); ++i) {
    std::byte* block = &out.blocks[i * kBlockBytes];
    size_t offset = 0;
    if (i == 0) {
      const bool empty = leaves[0].begin == leaves[0].end;
      const size_t dots = 2 * record_bytes(2);
      write_dot_entries(block, empty ? linear_room_ - record_bytes(1) : record_bytes(2));
      offset = dots;
    }
    write_items(block, offset, leaves[i].begin, leaves[i].end);
  }
}

/// Root, then inner nodes if the root cannot hold all leaves, then the leaves.
void Encoder::write_tree(EncodedDirectory& out, const std::vector<Leaf>& leaves) const {
  const size_t root_capacity = tree_capacity(kRootEntriesAt);
  const size_t node_capacity = tree_capacity(kNodeEntriesAt);
  const size_t nodes =
      leaves.size() <= root_capacity ? 0 : (leaves.size() + node_capacity - 1) / node_capacity;
  if (nodes > root_capacity) {
    throw CapacityError("a directory has more names than an ext4 hash tree of two levels holds");
  }
  const size_t first_leaf = 1 + nodes;
  out.blocks.resize((first_leaf + leaves.size()) * kBlockBytes);

  const auto write_entries = [&](std::byte* at, size_t capacity, size_t count, auto&& entry) {
    store_le<uint16_t>(at, static_cast<uint16_t>(capacity));
    store_le<uint16_t>(at + 2, static_cast<uint16_t>(count));
    for (size_t i = 0; i < count; ++i) {
      const auto [hash, block] = entry(i);
      if (i > 0) store_le<uint32_t>(at + i * kTreeEntryBytes, hash);  // the first starts at 0
      store_le<uint32_t>(at + i * kTreeEntryBytes + 4, static_cast<uint32_t>(block));
    }
  };
  const auto leaf_entry = [&](size_t i) { return std::pair(leaves[i].hash, first_leaf + i); };

  std::byte* root = out.blocks.data();
  write_dot_entries(root, kBlockBytes - record_bytes(1));
  root[28] = static_cast<std::byte>(filesystem_.hash_version());
  root[29] = std::byte{8};  // bytes of this information
  root[30] = static_cast<std::byte>(nodes > 0 ? 1 : 0);
  if (nodes == 0) {
    write_entries(root + kRootEntriesAt, root_capacity, leaves.size(), leaf_entry);
  } else {
    write_entries(root + kRootEntriesAt, root_capacity, nodes,
                  [&](size_t i) { return std::pair(leaves[i * node_capacity].hash, 1 + i); });
    for (size_t n = 0; n < nodes; ++n) {
      std::byte* node = &out.blocks[(1 + n) * kBlockBytes];
      store_le<uint16_t>(node + 4, static_cast<uint16_t>(kBlockBytes));  // one unused record
      const size_t from = n * node_capacity;
      write_entries(node + kNodeEntriesAt, node_capacity, std::min(node_capacity, leaves.size() - from),
                    [&](size_t i) { return leaf_entry(from + i); });
    }
  }
  for (size_t i = 0; i < leaves.size(); ++i) {
    write_items(&out.blocks[(first_leaf + i) * kBlockBytes], 0, leaves[i].begin, leaves[i].end);
  }
}

EncodedDirectory Encoder::encode() {
  for (Directory::Index at = 0; at < directory_.end(); ++at) {
    if (directory_.entry(at).inode != 0) items_.push_back({at});
  }
  EncodedDirectory out;
  const size_t dots = 2 * record_bytes(2);
  size_t bytes = dots;
  for (const Item& item : items_) bytes += record_bytes(directory_.entry(item.index).name_bytes);
  if (bytes <= linear_room_ || !filesystem_.has_directory_index()) {
    sort_by_name();
    write_linear(out, make_leaves(linear_room_ - dots));
    return out;
  }
  sort_by_hash();
  out.indexed = true;
  write_tree(out, make_leaves(linear_room_));
  return out;
}

}  // namespace

EncodedDirectory encode_directory(const Directory& directory, const Filesystem& filesystem) {
  return Encoder(directory, filesystem).encode();
}

}  // namespace obd::blockfs
