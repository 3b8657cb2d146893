#include "blockfs/zfile_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "blockfs/crc32c.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr size_t kCrcBytes = 4;
/// Compressed bytes fetched at once; one read for neighbouring blocks.
constexpr uint64_t kMaxFetchBytes = 1 << 20;

ZFileHeader read_header(const ByteSource& source, uint64_t offset, std::string_view which) {
  std::array<std::byte, ZFileHeader::kBytes> bytes;
  source.read_at(offset, bytes);
  return ZFileHeader::decode(bytes, fmt::format("{}: ZFile {} at byte {}", source.name(), which, offset));
}

}  // namespace

ZFileReader::ZFileReader(std::shared_ptr<const ByteSource> source) : source_(std::move(source)) {
  if (source_->size() < ZFileHeader::kBytes) {
    throw DataError(fmt::format("{}: {} bytes are too few for a ZFile", source_->name(), source_->size()));
  }
  header_ = read_header(*source_, 0, "header");
  if (!(header_.flags & ZFileHeader::kFlagHeaderOverwritten)) {
    if (source_->size() < 2 * ZFileHeader::kBytes) {
      throw DataError(fmt::format("{}: the ZFile has no trailer", source_->name()));
    }
    header_ = read_header(*source_, source_->size() - ZFileHeader::kBytes, "trailer");
  }
  read_index();
}

void ZFileReader::read_index() {
  const auto fail = [&](std::string_view what) {
    throw DataError(fmt::format("{}: ZFile jump table at byte {}: {}", name(), header_.index_offset, what));
  };
  const uint64_t end = source_->size();
  const uint64_t first_block = ZFileHeader::kBytes + uint64_t{header_.dictionary_bytes};
  const uint64_t blocks = header_.original_bytes / header_.block_bytes +
                          (header_.original_bytes % header_.block_bytes != 0 ? 1 : 0);
  if (header_.index_entries != blocks) {
    fail(fmt::format("{} entries, but {} bytes are {} blocks", header_.index_entries, header_.original_bytes,
                     blocks));
  }
  if (header_.index_offset < first_block || header_.index_offset > end ||
      header_.index_entries > (end - header_.index_offset) / 4) {
    fail(fmt::format("{} entries do not lie within the {} bytes", header_.index_entries, end));
  }
  std::vector<std::byte> table(header_.index_entries * 4);
  source_->read_at(header_.index_offset, table);
  if ((header_.flags & ZFileHeader::kFlagDigest) && crc32c_raw(0, table) != header_.index_crc) {
    fail("its CRC does not match");
  }
  offsets_.reserve(header_.index_entries + 1);
  offsets_.push_back(first_block);
  const size_t crc_bytes = header_.verify ? kCrcBytes : 0;
  for (size_t at = 0; at < table.size(); at += 4) {
    const auto stored = load_le<uint32_t>(&table[at]);
    if (stored <= crc_bytes || stored > 2 * header_.block_bytes + 1024) {
      fail(fmt::format("entry {} has the impossible size {}", at / 4, stored));
    }
    offsets_.push_back(offsets_.back() + stored);
  }
  if (offsets_.back() > header_.index_offset) fail("the blocks run into it");
}

size_t ZFileReader::block_length(uint64_t index) const {
  const uint64_t start = index * header_.block_bytes;
  return static_cast<size_t>(std::min<uint64_t>(header_.block_bytes, header_.original_bytes - start));
}

void ZFileReader::decode_block(uint64_t index, std::span<const std::byte> stored,
                               std::span<std::byte> out) const {
  const auto fail = [&](std::string_view what) {
    throw DataError(fmt::format("{}: ZFile block {} at byte {}: {}", name(), index, offsets_[index], what));
  };
  if (header_.verify) {
    const auto body = stored.first(stored.size() - kCrcBytes);
    const auto expected = load_le<uint32_t>(stored.data() + body.size());
    if (crc32c_raw(ZFileHeader::kDataSeed, body) != expected) fail("its CRC does not match");
    stored = body;
  }
  if (!decompress_block(header_.algorithm, stored, out)) fail("it does not decompress");
}

void ZFileReader::do_read_at(uint64_t offset, std::span<std::byte> out) const {
  const uint64_t block_bytes = header_.block_bytes;
  const uint64_t last = (offset + out.size() - 1) / block_bytes;
  std::vector<std::byte> fetched;
  std::vector<std::byte> whole;
  for (uint64_t index = offset / block_bytes; index <= last;) {
    uint64_t stop = index + 1;
    while (stop <= last && offsets_[stop + 1] - offsets_[index] <= kMaxFetchBytes) ++stop;
    fetched.resize(offsets_[stop] - offsets_[index]);
    source_->read_at(offsets_[index], fetched);
    const uint64_t base = offsets_[index];
    for (; index < stop; ++index) {
      const auto stored = std::span<const std::byte>(fetched).subspan(offsets_[index] - base,
                                                                      offsets_[index + 1] - offsets_[index]);
      const size_t length = block_length(index);
      const uint64_t start = index * block_bytes;
      const size_t skip = offset > start ? static_cast<size_t>(offset - start) : 0;
      const size_t take = std::min(length - skip, out.size());
      if (skip == 0 && take == length) {
        decode_block(index, stored, out.first(take));
      } else {
        whole.resize(length);
        decode_block(index, stored, whole);
        std::memcpy(out.data(), whole.data() + skip, take);
      }
      out = out.subspan(take);
      offset += take;
    }
  }
}

}  // namespace obd::blockfs
