#include "blockfs/zfile_format.h"

#include <gtest/gtest.h>

#include "blockfs/crc32c.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

ZFileHeader sample() {
  return ZFileHeader{
      .flags = ZFileHeader::kFlagDataFile | ZFileHeader::kFlagSealed | ZFileHeader::kFlagDigest,
      .index_offset = 0x1122334455,
      .index_entries = 0x66778899,
      .original_bytes = 0xAABBCCDDEE,
      .index_crc = 0xDEADBEEF,
      .block_bytes = 16384,
      .algorithm = Algorithm::kZstd,
      .level = 3,
      .dictionary_bytes = 0,
      .verify = true};
}

/// `bytes` with a correct digest.
std::array<std::byte, ZFileHeader::kBytes> resealed(std::array<std::byte, ZFileHeader::kBytes> bytes) {
  store_le<uint32_t>(&bytes[28], 0);
  store_le<uint32_t>(&bytes[28], crc32c_raw(0, bytes));
  return bytes;
}

TEST(ZFileHeader, StandsAtTheOffsetsOfTheFormat) {
  const auto bytes = sample().encode();
  EXPECT_EQ(load_le<uint64_t>(&bytes[0]), 0x0001'0065'6C69'465AU);  // "ZFile\0\1\0"
  EXPECT_EQ(load_le<uint32_t>(&bytes[24]), 96U);
  EXPECT_EQ(load_le<uint64_t>(&bytes[32]), 0b10110U);
  EXPECT_EQ(load_le<uint64_t>(&bytes[40]), 0x1122334455U);
  EXPECT_EQ(load_le<uint64_t>(&bytes[48]), 0x66778899U);
  EXPECT_EQ(load_le<uint64_t>(&bytes[56]), 0xAABBCCDDEEU);
  EXPECT_EQ(load_le<uint32_t>(&bytes[64]), 0xDEADBEEFU);
  EXPECT_EQ(load_le<uint32_t>(&bytes[72]), 16384U);
  EXPECT_EQ(bytes[76], std::byte{2});
  EXPECT_EQ(bytes[77], std::byte{3});
  EXPECT_EQ(bytes[88], std::byte{1});
}

TEST(ZFileHeader, DecodesWhatItEncodes) {
  const ZFileHeader header = ZFileHeader::decode(sample().encode(), "test");
  EXPECT_EQ(header.flags, sample().flags);
  EXPECT_EQ(header.index_offset, sample().index_offset);
  EXPECT_EQ(header.index_entries, sample().index_entries);
  EXPECT_EQ(header.original_bytes, sample().original_bytes);
  EXPECT_EQ(header.index_crc, sample().index_crc);
  EXPECT_EQ(header.block_bytes, sample().block_bytes);
  EXPECT_EQ(header.algorithm, sample().algorithm);
  EXPECT_EQ(header.level, sample().level);
  EXPECT_TRUE(header.verify);
}

TEST(ZFileHeader, EveryFlippedBitIsFound) {
  const auto good = sample().encode();
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    if (bit / 8 >= 32 && bit / 8 < 40) continue;  // the flags: bit 4 decides whether there is a digest
    auto bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    EXPECT_THROW(ZFileHeader::decode(bad, "test"), DataError) << "bit " << bit;
  }
}

TEST(ZFileHeader, GarbageAboveTheFlagsIsToleratedWhereNoDigestIs) {
  ZFileHeader header = sample();
  header.flags = ZFileHeader::kFlagDataFile | ZFileHeader::kFlagSealed | 0xABCDEF00'00000000;
  auto bytes = header.encode();
  store_le<uint32_t>(&bytes[28], 0x12345678);
  bytes[500] = std::byte{0x55};
  EXPECT_EQ(ZFileHeader::decode(bytes, "test").original_bytes, header.original_bytes);
}

TEST(ZFileHeader, RefusesWhatItCannotRead) {
  const auto refused = [](size_t at, uint32_t value, size_t width) {
    auto bytes = sample().encode();
    if (width == 4) store_le<uint32_t>(&bytes[at], value);
    if (width == 1) bytes[at] = static_cast<std::byte>(value);
    EXPECT_THROW(ZFileHeader::decode(resealed(bytes), "test"), DataError) << at << " " << value;
  };
  for (const uint32_t size : {0U, 2048U, 4097U, 12288U, 131072U}) refused(72, size, 4);
  for (const uint32_t algorithm : {0U, 3U, 255U}) refused(76, algorithm, 1);
  refused(78, 1, 1);                                         // a dictionary
  refused(32, ZFileHeader::kFlagIndexCompressed | 0x10, 4);  // a compressed index
  refused(24, 95, 4);
}

TEST(ZFileHeader, WritableBlockSizesAreThoseThatTheReferenceReadsBack) {
  for (const uint64_t size : {4096, 8192, 16384, 32768}) EXPECT_TRUE(is_writable_block_size(size));
  for (const uint64_t size : {0, 512, 2048, 5000, 65536, 131072}) EXPECT_FALSE(is_writable_block_size(size));
}

}  // namespace
}  // namespace obd::blockfs
