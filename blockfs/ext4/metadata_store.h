#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "blockfs/lsmt_format.h"
#include "common/byte_source.h"
#include "common/error.h"

namespace obd::blockfs {

/// The metadata that one layer changes does not fit the budget: a larger one would do.
class MetadataBudgetExceeded : public CapacityError {
 public:
  explicit MetadataBudgetExceeded(uint64_t budget_bytes);
};

/// The filesystem's metadata blocks in memory: what the layers below hold, read once, and what the current
/// layer changes on top. File data never comes here.
///
/// Blocks that were not touched for long are kept compressed; blocks that the layers below can give back are
/// dropped when the budget is reached, and what cannot be dropped and does not fit is refused.
///
/// Owns:    its pages. `below` outlives it.
/// Threads: one at a time.
/// Errors:  what `below` throws; MetadataBudgetExceeded.
class MetadataStore {
 public:
  using Page = std::array<std::byte, kBlockBytes>;
  using Emit = std::function<void(uint64_t block, std::span<const std::byte> data)>;

  /// `below`: the disk that the finished layers make. It may grow between layers.
  MetadataStore(const ByteSource& below, uint64_t budget_bytes);
  ~MetadataStore();

  void read(uint64_t block, std::span<std::byte, kBlockBytes> out);
  void write(uint64_t block, std::span<const std::byte, kBlockBytes> data);
  /// The block's content no longer matters (it was freed).
  void forget(uint64_t block);
  /// Hands every block whose content differs from what lies below to `emit`, in ascending order; with
  /// `even_unchanged` every block that was written. Afterwards all blocks count as unchanged, so `below` must
  /// show them before anything is dropped again.
  void flush(const Emit& emit, bool even_unchanged = false);

  /// Memory that others hold for the same purpose counts against the same budget.
  void charge(uint64_t bytes);
  void release(uint64_t bytes) { charged_bytes_ -= bytes; }
  /// In use now: pages, compressed pages, and what was charged.
  uint64_t memory_bytes() const;

 private:
  /// Pages come in slabs: one by one they would cost a system call each while the heap grows.
  class PagePool {
   public:
    struct Return {
      PagePool* pool;
      void operator()(Page* page) const noexcept { pool->free_.push_back(page); }
    };
    std::unique_ptr<Page, Return> take();

   private:
    std::vector<std::unique_ptr<Page[]>> slabs_;
    std::vector<Page*> free_;
  };
  using PagePointer = std::unique_ptr<Page, PagePool::Return>;
  struct Content;
  struct Entry;

  Entry& load(uint64_t block);
  Page& make_hot(Entry& entry, uint64_t block);
  void shrink_hot();
  void shrink();
  void compress(Entry& entry);
  bool drop(uint64_t block);
  void require_budget();
  PagePointer new_page();
  void release_page(PagePointer& page);
  void read_below(uint64_t block, Page& page) const;

  const ByteSource& below_;
  const uint64_t budget_bytes_;
  const uint64_t hot_limit_pages_;
  PagePool pages_;  // outlives the entries
  std::unordered_map<uint64_t, Entry> entries_;
  std::deque<uint64_t> hot_queue_;   // blocks in the order in which they became hot; some are no more
  std::deque<uint64_t> cold_queue_;  // likewise, compressed
  uint64_t hot_pages_ = 0;
  uint64_t compressed_bytes_ = 0;
  uint64_t charged_bytes_ = 0;
};

}  // namespace obd::blockfs
