#include "blockfs/ext4/metadata_store.h"

#include <fmt/format.h>
#include <lz4.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "blockfs/block_codec.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

/// What an entry costs beside its content: the hash table's node and the queues.
constexpr uint64_t kEntryBytes = 96;

/// Has the kernel give all of this memory at once, which costs it less than a page at a time; as it will do
/// if it knows no such advice.
void touch(std::span<std::byte> memory) {
  void* first = memory.data();
  size_t bytes = memory.size();
  if (std::align(kBlockBytes, kBlockBytes, first, bytes)) {
    ::madvise(first, bytes / kBlockBytes * kBlockBytes, MADV_POPULATE_WRITE);
  }
}

void decompress(const std::vector<std::byte>& compressed, MetadataStore::Page& page) {
  OBD_CHECK(decompress_block(Algorithm::kLz4, compressed, page));
}

}  // namespace

/// A block's bytes: as a page, or compressed.
struct MetadataStore::Content {
  PagePointer page{nullptr, {nullptr}};
  std::vector<std::byte> compressed;

  bool present() const { return page || !compressed.empty(); }
};

struct MetadataStore::Entry {
  Content current;
  Content original;  // what lies below, kept from the first change on; absent: ask below
  bool dirty = false;
  bool recently_used = false;
};

MetadataBudgetExceeded::MetadataBudgetExceeded(uint64_t budget_bytes)
    : CapacityError(
          fmt::format("the filesystem metadata that one layer changes needs more than the budget of {} MiB; "
                      "raise it with --metadata-budget",
                      budget_bytes >> 20)) {}

MetadataStore::MetadataStore(const ByteSource& below, uint64_t budget_bytes)
    : below_(below),
      budget_bytes_(budget_bytes),
      hot_limit_pages_(std::max<uint64_t>(16, budget_bytes / 4 / kBlockBytes)) {}
MetadataStore::~MetadataStore() = default;

uint64_t MetadataStore::memory_bytes() const {
  return hot_pages_ * kBlockBytes + compressed_bytes_ + entries_.size() * kEntryBytes + charged_bytes_;
}

std::unique_ptr<MetadataStore::Page, MetadataStore::PagePool::Return> MetadataStore::PagePool::take() {
  constexpr size_t kSlabPages = 64;
  if (free_.empty()) {
    Page* slab = slabs_.emplace_back(std::make_unique_for_overwrite<Page[]>(kSlabPages)).get();
    touch(std::as_writable_bytes(std::span(slab, kSlabPages)));
    free_.reserve(slabs_.size() * kSlabPages);  // so that giving back cannot fail
    for (size_t i = kSlabPages; i > 0; --i) free_.push_back(&slab[i - 1]);
  }
  Page* page = free_.back();
  free_.pop_back();
  return {page, Return{this}};
}

MetadataStore::PagePointer MetadataStore::new_page() {
  ++hot_pages_;
  return pages_.take();
}

void MetadataStore::release_page(PagePointer& page) {
  if (!page) return;
  --hot_pages_;
  page.reset();
}

void MetadataStore::read_below(uint64_t block, Page& page) const {
  const uint64_t offset = block * kBlockBytes;
  if (offset >= below_.size()) {
    page.fill(std::byte{0});
    return;
  }
  below_.read_at(offset, page);
}

MetadataStore::Entry& MetadataStore::load(uint64_t block) {
  const auto [at, is_new] = entries_.try_emplace(block);
  Entry& entry = at->second;
  if (is_new) {
    entry.current.page = new_page();
    hot_queue_.push_back(block);
    try {
      read_below(block, *entry.current.page);
    } catch (...) {
      forget(block);
      throw;
    }
  }
  entry.recently_used = true;
  return entry;
}

/// The page of an entry, decompressed if it was not hot. Nothing else may be loaded while it is used.
MetadataStore::Page& MetadataStore::make_hot(Entry& entry, uint64_t block) {
  if (!entry.current.page) {
    entry.current.page = new_page();
    decompress(entry.current.compressed, *entry.current.page);
    compressed_bytes_ -= entry.current.compressed.size();
    entry.current.compressed = {};
    hot_queue_.push_back(block);
  }
  return *entry.current.page;
}

void MetadataStore::read(uint64_t block, std::span<std::byte, kBlockBytes> out) {
  const Page& page = make_hot(load(block), block);
  std::copy(page.begin(), page.end(), out.begin());
  shrink();
}

void MetadataStore::write(uint64_t block, std::span<const std::byte, kBlockBytes> data) {
  const auto [at, is_new] = entries_.try_emplace(block);
  Entry& entry = at->second;
  if (!entry.dirty && entry.current.present()) entry.original = std::move(entry.current);
  if (!entry.current.present()) {
    entry.current = {};
    entry.current.page = new_page();
    hot_queue_.push_back(block);
  }
  Page& page = make_hot(entry, block);
  std::copy(data.begin(), data.end(), page.begin());
  entry.dirty = true;
  entry.recently_used = true;
  shrink();
}

void MetadataStore::forget(uint64_t block) {
  const auto at = entries_.find(block);
  if (at == entries_.end()) return;
  for (Content* content : {&at->second.current, &at->second.original}) {
    release_page(content->page);
    compressed_bytes_ -= content->compressed.size();
  }
  entries_.erase(at);
}

void MetadataStore::compress(Entry& entry) {
  std::array<std::byte, kBlockBytes> room;  // what does not become smaller stays a page's size
  for (Content* content : {&entry.current, &entry.original}) {
    if (!content->page) continue;
    const auto* source = reinterpret_cast<const char*>(content->page->data());
    int size = LZ4_compress_default(source, reinterpret_cast<char*>(room.data()), kBlockBytes,
                                    static_cast<int>(room.size()));
    if (size <= 0) {
      content->compressed.resize(static_cast<size_t>(LZ4_compressBound(kBlockBytes)));
      size = LZ4_compress_default(source, reinterpret_cast<char*>(content->compressed.data()), kBlockBytes,
                                  static_cast<int>(content->compressed.size()));
      content->compressed.resize(static_cast<size_t>(size));
      content->compressed.shrink_to_fit();
    } else {
      content->compressed.assign(room.begin(), room.begin() + size);
    }
    compressed_bytes_ += content->compressed.size();
    release_page(content->page);
  }
}

/// Whether the block could be dropped: it was unchanged and is there to be dropped.
bool MetadataStore::drop(uint64_t block) {
  const auto at = entries_.find(block);
  if (at == entries_.end() || at->second.dirty) return false;
  forget(block);
  return true;
}

/// Compresses what was not used since its last turn, until few enough pages are hot.
void MetadataStore::shrink_hot() {
  while (hot_pages_ > hot_limit_pages_ && !hot_queue_.empty()) {
    const uint64_t block = hot_queue_.front();
    hot_queue_.pop_front();
    const auto at = entries_.find(block);
    if (at == entries_.end() || !at->second.current.page) continue;
    if (at->second.recently_used) {
      at->second.recently_used = false;
      hot_queue_.push_back(block);
      continue;
    }
    compress(at->second);
    cold_queue_.push_back(block);
  }
}

void MetadataStore::shrink() {
  shrink_hot();
  if (memory_bytes() > budget_bytes_) require_budget();
}

void MetadataStore::require_budget() {
  // Somewhat below the budget, so that the next block does not search the queues again.
  const uint64_t target = budget_bytes_ / 8 * 7;
  for (std::deque<uint64_t>* queue : {&cold_queue_, &hot_queue_}) {
    for (size_t n = queue->size(); n > 0 && memory_bytes() > target; --n) {
      const uint64_t block = queue->front();
      queue->pop_front();
      if (!drop(block) && entries_.contains(block)) queue->push_back(block);
    }
  }
  if (memory_bytes() > budget_bytes_) {
    throw MetadataBudgetExceeded(budget_bytes_);
  }
}

void MetadataStore::charge(uint64_t bytes) {
  charged_bytes_ += bytes;
  if (memory_bytes() > budget_bytes_) require_budget();
}

void MetadataStore::flush(const Emit& emit, bool even_unchanged) {
  std::vector<uint64_t> dirty;
  for (const auto& [block, entry] : entries_) {
    if (entry.dirty) dirty.push_back(block);
  }
  std::sort(dirty.begin(), dirty.end());
  const auto below = std::make_unique<Page>();
  for (const uint64_t block : dirty) {
    Entry& entry = entries_.at(block);
    const Page& now = make_hot(entry, block);
    if (entry.original.present()) {
      Content old = std::move(entry.original);
      entry.original = {};
      if (old.page) {
        *below = *old.page;
        release_page(old.page);
      } else {
        decompress(old.compressed, *below);
        compressed_bytes_ -= old.compressed.size();
      }
    } else {
      read_below(block, *below);
    }
    if (even_unchanged || now != *below) emit(block, now);
    entry.dirty = false;
    shrink_hot();
  }
}

}  // namespace obd::blockfs
