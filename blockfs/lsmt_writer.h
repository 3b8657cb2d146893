#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "blockfs/lsmt_format.h"

namespace obd::blockfs {

/// Appends one sealed LSMT layer to a stream.
///
/// Threads: one thread at a time.
/// Errors:  what `out` throws; CapacityError when the layer has more runs than the format's readers accept.
/// Bytes:   depend on the calls alone.
class LsmtWriter {
 public:
  using Output = std::function<void(std::span<const std::byte>)>;

  /// Writes the header. `out` takes the next bytes of the layer. UUIDs have the form 8-4-4-4-12; an empty
  /// parent is that of the lowest layer.
  LsmtWriter(Output out, uint64_t virtual_bytes, std::string uuid, std::string parent_uuid);

  /// Maps whole sectors of `data` at `sector`; a later call wins on overlap.
  void write(uint64_t sector, std::span<const std::byte> data);
  /// Maps `sectors` to zeroes without storing data.
  void write_zeroes(uint64_t sector, uint64_t sectors);
  /// Writes the index; nothing can be mapped afterwards. Returns it, sorted and without overlaps.
  std::vector<LsmtEntry> finish_index();
  /// Writes the trailer, after finish_index(). `user_tag` stands only here, because what it says (which blob
  /// lies below) may not be known before; at most LsmtHeader::kMaxUserTagBytes.
  void finish(const std::string& user_tag);

  uint64_t data_bytes() const {
    return (next_data_sector_ - LsmtHeader::kBytes / kSectorBytes) * kSectorBytes;
  }

 private:
  void add(uint64_t sector, uint64_t sectors, bool zeroed);

  Output out_;
  LsmtHeader trailer_;
  uint64_t next_data_sector_ = LsmtHeader::kBytes / kSectorBytes;
  std::vector<LsmtEntry> entries_;  // in the order of the calls
};

/// Sorts runs that were mapped in the given order, cutting away what later ones cover.
std::vector<LsmtEntry> resolve_overlaps(std::vector<LsmtEntry> in_order);

}  // namespace obd::blockfs
