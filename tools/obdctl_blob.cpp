#include "tools/obdctl_blob.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "blockfs/tar_wrapper.h"
#include "common/error.h"
#include "tools/cli.h"

namespace obd::tools {
namespace {

using blockfs::LsmtHeader;
using blockfs::ZFileHeader;

constexpr uint64_t kReadBytes = 4 << 20;

void read_in_order(const ByteSource& source, const std::stop_token& stop,
                   const std::function<void(std::span<const std::byte>)>& consume) {
  std::vector<std::byte> buffer(std::min<uint64_t>(kReadBytes, source.size()));
  for (uint64_t offset = 0; offset < source.size();) {
    if (stop.stop_requested()) throw Cancelled();
    const std::span piece(buffer.data(), std::min<uint64_t>(buffer.size(), source.size() - offset));
    source.read_at(offset, piece);
    consume(piece);
    offset += piece.size();
  }
}

/// A reader takes either the header or the trailer; a sound ZFile says the same in both.
void verify_zfile_ends(const ByteSource& zfile) {
  std::array<std::byte, ZFileHeader::kBytes> bytes;
  zfile.read_at(0, bytes);
  const ZFileHeader header = ZFileHeader::decode(bytes, fmt::format("{}: ZFile header", zfile.name()));
  const uint64_t trailer_at = zfile.size() - ZFileHeader::kBytes;
  zfile.read_at(trailer_at, bytes);
  const std::string where = fmt::format("{}: ZFile trailer at byte {}", zfile.name(), trailer_at);
  const ZFileHeader trailer = ZFileHeader::decode(bytes, where);
  if (trailer.block_bytes != header.block_bytes || trailer.algorithm != header.algorithm) {
    throw DataError(fmt::format("{}: it contradicts the header", where));
  }
  if ((header.flags & ZFileHeader::kFlagHeaderOverwritten) == 0) return;
  if (trailer.index_offset != header.index_offset || trailer.index_entries != header.index_entries ||
      trailer.original_bytes != header.original_bytes || trailer.index_crc != header.index_crc) {
    throw DataError(fmt::format("{}: it contradicts the header", where));
  }
}

void verify_lsmt_header(const ByteSource& lsmt, const LsmtHeader& trailer) {
  std::array<std::byte, LsmtHeader::kBytes> bytes;
  lsmt.read_at(0, bytes);
  const std::string where = fmt::format("{}: LSMT header", lsmt.name());
  const LsmtHeader header = LsmtHeader::decode(bytes, where);
  if ((header.flags & LsmtHeader::kFlagHeader) == 0) throw DataError(where + ": it is not marked as one");
  if (header.uuid != trailer.uuid || header.parent_uuid != trailer.parent_uuid ||
      header.virtual_bytes != trailer.virtual_bytes) {
    throw DataError(where + ": it contradicts the trailer");
  }
}

std::string or_none(const std::string& text) {
  return text.empty() ? "none" : printable(text);
}

}  // namespace

double BlobFacts::ratio() const {
  return lsmt_bytes == 0 ? 1 : static_cast<double>(blob_bytes) / static_cast<double>(lsmt_bytes);
}

std::string BlobFacts::wrappers() const {
  std::string text = in_tar ? "tar, " : "";
  if (compression) {
    text += fmt::format("ZFile ({} level {}, blocks of {} bytes, {} CRCs), ", compression->algorithm,
                        compression->level, compression->block_bytes, compression->checksums ? "with" : "no");
  }
  return text + "LSMT";
}

std::string BlobFacts::text(const std::string& indent) const {
  const auto bytes = [](uint64_t count) { return fmt::format("{} bytes ({})", count, human_bytes(count)); };
  std::string out;
  const auto line = [&](std::string_view key, const std::string& value) {
    out += fmt::format("{}{:<13} {}\n", indent, key, value);
  };
  line("wrappers", wrappers());
  line("size", bytes(blob_bytes));
  line("uncompressed", fmt::format("{}, ratio {:.3f}", bytes(lsmt_bytes), ratio()));
  line("disk", bytes(virtual_bytes));
  line("uuid", or_none(uuid));
  line("parent uuid", or_none(parent_uuid));
  line("segments", fmt::format("{}, of which {} zeroed", segments, zeroed_segments));
  line("mapped", bytes(mapped_bytes));
  line("zeroed", bytes(zeroed_bytes));
  if (tagged_bytes != 0) line("in source", bytes(tagged_bytes));
  line("user_tag", or_none(user_tag));
  return out;
}

nlohmann::ordered_json BlobFacts::json() const {
  nlohmann::ordered_json out = {{"blob_bytes", blob_bytes},
                                {"lsmt_bytes", lsmt_bytes},
                                {"virtual_bytes", virtual_bytes},
                                {"ratio", ratio()},
                                {"tar", in_tar},
                                {"compression", nullptr},
                                {"uuid", printable(uuid)},
                                {"parent_uuid", printable(parent_uuid)},
                                {"segments", segments},
                                {"zeroed_segments", zeroed_segments},
                                {"mapped_bytes", mapped_bytes},
                                {"zeroed_bytes", zeroed_bytes},
                                {"tagged_bytes", tagged_bytes},
                                {"user_tag", printable(user_tag)}};
  if (compression) {
    out["compression"] = {{"algorithm", compression->algorithm},
                          {"level", compression->level},
                          {"block_bytes", compression->block_bytes},
                          {"checksums", compression->checksums},
                          {"stored_bytes", compression->stored_bytes}};
  }
  return out;
}

BlobFacts collect_facts(const blockfs::LayerBlob& blob, uint64_t blob_bytes) {
  const LsmtHeader& header = blob.layer->header();
  BlobFacts facts{.blob_bytes = blob_bytes,
                  .lsmt_bytes = blob.lsmt->size(),
                  .virtual_bytes = header.virtual_bytes,
                  .in_tar = blob.in_tar,
                  .compression = std::nullopt,
                  .uuid = header.uuid,
                  .parent_uuid = header.parent_uuid,
                  .user_tag = header.user_tag};
  if (blob.zfile) {
    const ZFileHeader& zfile = blob.zfile->header();
    facts.compression = {.algorithm = std::string(blockfs::algorithm_name(zfile.algorithm)),
                         .level = zfile.level,
                         .block_bytes = zfile.block_bytes,
                         .checksums = zfile.verify,
                         .stored_bytes = blob.zfile->stored_bytes()};
  }
  for (const blockfs::LsmtEntry& entry : blob.layer->index()) {
    const uint64_t bytes = uint64_t{entry.sectors} * blockfs::kSectorBytes;
    ++facts.segments;
    if (entry.zeroed) ++facts.zeroed_segments;
    (entry.zeroed ? facts.zeroed_bytes : entry.tag != 0 ? facts.tagged_bytes : facts.mapped_bytes) += bytes;
  }
  return facts;
}

void verify_blob_content(const blockfs::LayerBlob& blob, std::shared_ptr<const ByteSource> source,
                         std::stop_token stop) {
  if (blob.zfile) {
    const auto member = blockfs::open_tar_wrapper(source);
    verify_zfile_ends(member ? *member : *source);
  }
  verify_lsmt_header(*blob.lsmt, blob.layer->header());
  read_in_order(*blob.lsmt, stop, [](std::span<const std::byte>) {});
}

Digest digest_of(const ByteSource& source, std::stop_token stop) {
  Sha256 hash;
  read_in_order(source, stop, [&](std::span<const std::byte> piece) { hash.update(piece); });
  return hash.finish();
}

}  // namespace obd::tools
