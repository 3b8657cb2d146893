#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stop_token>
#include <string>

#include "blockfs/layer_blob.h"
#include "common/digest.h"

namespace obd::tools {

/// What can be said of a layer blob from its headers and its index.
struct BlobFacts {
  struct Compression {
    std::string algorithm;
    int level = 0;
    uint64_t block_bytes = 0;
    bool checksums = false;
    uint64_t stored_bytes = 0;  // of the blocks
  };

  uint64_t blob_bytes = 0;
  uint64_t lsmt_bytes = 0;
  uint64_t virtual_bytes = 0;
  bool in_tar = false;
  std::optional<Compression> compression;
  std::string uuid;
  std::string parent_uuid;
  std::string user_tag;
  uint64_t segments = 0;
  uint64_t zeroed_segments = 0;
  uint64_t mapped_bytes = 0;  // to data
  uint64_t zeroed_bytes = 0;
  uint64_t tagged_bytes = 0;  // held by the source layer (TurboOCI)

  /// Of the blob to what it maps and what describes that; 1 where nothing is compressed.
  double ratio() const;
  std::string wrappers() const;
  /// Lines that start with `indent`.
  std::string text(const std::string& indent) const;
  nlohmann::ordered_json json() const;
};

BlobFacts collect_facts(const blockfs::LayerBlob& blob, uint64_t blob_bytes);

/// Reads all of an opened blob: decompresses every block and compares its CRC, and compares the headers with
/// the trailers. Throws DataError.
void verify_blob_content(const blockfs::LayerBlob& blob, std::shared_ptr<const ByteSource> source,
                         std::stop_token stop);

/// Reads all of `source` in order.
Digest digest_of(const ByteSource& source, std::stop_token stop);

}  // namespace obd::tools
