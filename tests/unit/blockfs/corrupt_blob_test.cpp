#include <fmt/format.h>
#include <gtest/gtest.h>

#include "blockfs/layer_blob.h"
#include "blockfs/layer_stack.h"
#include "blockfs/tar_wrapper.h"
#include "blockfs/zfile_reader.h"
#include "common/endian.h"
#include "tests/unit/blockfs/blob_builder.h"

namespace obd::blockfs {
namespace {

using test::Bytes;

constexpr size_t kDiskBytes = 256 << 10;

Bytes lsmt_layer() {
  std::mt19937_64 random(4);
  ModelledLayer layer(Bytes(kDiskBytes), kUuidB, kUuidA);
  layer.scribble(random, 20);
  layer.finish("a layer to be damaged");
  return layer.file();
}

Bytes tar_of(const Bytes& content) {
  const auto header = encode_tar_wrapper_header(content.size());
  const auto end = encode_tar_wrapper_end(content.size());
  Bytes out(header.begin(), header.end());
  out.insert(out.end(), content.begin(), content.end());
  out.insert(out.end(), end.begin(), end.end());
  return out;
}

/// All that a reader takes from a blob: the bytes of the layer and those of the disk.
std::pair<Bytes, Bytes> read_everything(const Bytes& blob) {
  const LayerBlob opened = open_layer_blob(test::source_of(blob));
  // A damaged size of the disk is not the reader's fault; nobody allocates a disk at once.
  const LayerStack stack({opened.layer});
  Bytes disk(std::min<uint64_t>(stack.size(), kDiskBytes));
  stack.read_at(0, disk);
  return {test::read_all(*opened.lsmt), disk};
}

/// Damaged input is refused, or it makes no difference to what is read.
void expect_refused_or_harmless(const Bytes& damaged, const std::pair<Bytes, Bytes>& good,
                                const std::string& what) {
  try {
    EXPECT_EQ(read_everything(damaged), good) << what;
  } catch (const DataError&) {
  } catch (const std::exception& error) {
    ADD_FAILURE() << what << ": " << error.what();
  }
}

/// `damaged` may be read as something else, but only within its bounds: no crash, no other error.
void expect_bounded(const Bytes& damaged, const std::string& what) {
  try {
    read_everything(damaged);
  } catch (const DataError&) {
  } catch (const std::exception& error) {
    ADD_FAILURE() << what << ": " << error.what();
  }
}

TEST(CorruptBlob, EveryFlippedBitOfACompressedLayerIsRefusedOrHarmless) {
  const Bytes blob = tar_of(compress(lsmt_layer(), {}));
  const auto good = read_everything(blob);
  std::mt19937_64 random(77);
  const auto flip = [&](size_t byte, unsigned bit) {
    Bytes damaged = blob;
    damaged[byte] ^= static_cast<std::byte>(1U << bit);
    expect_refused_or_harmless(damaged, good, fmt::format("bit {} of byte {}", bit, byte));
  };
  const size_t zfile_header = kTarWrapperHeaderBytes;
  for (size_t byte = zfile_header; byte < zfile_header + 96; ++byte) {
    // Without its digest flag a header may say anything that is consistent; see the next test.
    if (byte >= zfile_header + 32 && byte < zfile_header + 40) continue;
    for (unsigned bit = 0; bit < 8; ++bit) flip(byte, bit);
  }
  for (int i = 0; i < 400; ++i)
    flip(zfile_header + 512 + random() % (blob.size() - zfile_header - 1536), random() % 8);
}

TEST(CorruptBlob, FlagsOfAZFileThatLieAreBounded) {
  const Bytes blob = compress(lsmt_layer(), {});
  for (size_t bit = 0; bit < 64; ++bit) {
    Bytes damaged = blob;
    damaged[32 + bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    expect_bounded(damaged, fmt::format("flag bit {}", bit));
  }
}

TEST(CorruptBlob, FieldsOfAZFileWithoutDigestAreBounded) {
  Bytes blob = compress(lsmt_layer(), {});
  store_le<uint64_t>(
      &blob[32], ZFileHeader::kFlagHeader | ZFileHeader::kFlagDataFile | ZFileHeader::kFlagHeaderOverwritten);
  store_le<uint32_t>(&blob[28], 0);
  std::mt19937_64 random(3);
  const uint64_t interesting[] = {
      0,         1, 511, 512, 4096, blob.size() - 1, blob.size(), UINT32_MAX, INT64_MAX, UINT64_MAX - 511,
      UINT64_MAX};
  for (size_t at = 40; at <= 88; at += 4) {
    for (const uint64_t value : interesting) {
      Bytes damaged = blob;
      store_le<uint64_t>(&damaged[at], value);
      expect_bounded(damaged, fmt::format("byte {} = {}", at, value));
    }
  }
}

TEST(CorruptBlob, EveryTruncationOfEveryFormIsRefusedUnlessOnlyPaddingIsLost) {
  const Bytes bare = lsmt_layer();
  const auto truncate = [](const Bytes& blob, size_t needed) {
    const auto good = read_everything(blob);
    for (size_t length = 0; length < blob.size(); length += length < 8192 ? 61 : 509) {
      const Bytes cut(blob.begin(), blob.begin() + static_cast<ptrdiff_t>(length));
      if (length < needed) {
        EXPECT_THROW(read_everything(cut), DataError) << length << " of " << blob.size();
      } else {
        expect_refused_or_harmless(cut, good, fmt::format("{} of {} bytes", length, blob.size()));
      }
    }
  };
  const Bytes zfile = compress(bare, {});
  truncate(bare, bare.size());
  // A ZFile's header says all that its trailer says.
  truncate(zfile, zfile.size() - ZFileHeader::kBytes);
  truncate(tar_of(bare), kTarWrapperHeaderBytes + bare.size());
  truncate(tar_of(zfile), kTarWrapperHeaderBytes + zfile.size());
}

TEST(CorruptBlob, FlippedBitsInHeaderIndexAndTrailerOfABareLayerAreBounded) {
  const Bytes blob = lsmt_layer();
  const LsmtLayer layer(test::source_of(blob));
  const size_t trailer = blob.size() - LsmtHeader::kBytes;
  const auto flip = [&](size_t byte) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes damaged = blob;
      damaged[byte] ^= static_cast<std::byte>(1U << bit);
      expect_bounded(damaged, fmt::format("bit {} of byte {}", bit, byte));
    }
  };
  for (size_t byte = 0; byte < 134; ++byte) flip(byte);
  for (size_t byte = trailer; byte < trailer + 134; ++byte) flip(byte);
  const size_t index = layer.header().index_offset;
  for (size_t byte = index; byte < index + layer.index().size() * LsmtEntry::kBytes; ++byte) flip(byte);
}

TEST(CorruptBlob, AnIndexThatOverlapsOrLeavesItsDataIsRefused) {
  const Bytes blob = lsmt_layer();
  const LsmtLayer layer(test::source_of(blob));
  const size_t index = layer.header().index_offset;
  const auto with_first = [&](LsmtEntry entry) {
    Bytes damaged = blob;
    entry.encode(&damaged[index]);
    return damaged;
  };
  const LsmtEntry first = layer.index()[0];
  const LsmtEntry second = layer.index()[1];
  LsmtEntry empty = first;
  empty.sectors = 0;
  LsmtEntry overlapping = first;
  overlapping.sector = second.sector;
  overlapping.sectors = 1;
  LsmtEntry far_away = first;
  far_away.zeroed = false;
  far_away.data_sector = index / kSectorBytes;
  LsmtEntry in_header = first;
  in_header.zeroed = false;
  in_header.data_sector = 7;
  for (const LsmtEntry& entry : {empty, overlapping, far_away, in_header}) {
    EXPECT_THROW(read_everything(with_first(entry)), DataError) << entry.sector << " " << entry.data_sector;
  }
}

TEST(CorruptBlob, WhatIsNoLayerSaysSo) {
  EXPECT_THROW(open_layer_blob(test::source_of({})), DataError);
  EXPECT_THROW(open_layer_blob(test::source_of(mixed_bytes(100'000, 8))), DataError);
  EXPECT_THROW(open_layer_blob(test::source_of(tar_of(mixed_bytes(100'000, 8)))), DataError);
}

}  // namespace
}  // namespace obd::blockfs
