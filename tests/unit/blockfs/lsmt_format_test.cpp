#include "blockfs/lsmt_format.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/endian.h"
#include "common/error.h"
#include "tests/unit/blockfs/blob_builder.h"

namespace obd::blockfs {
namespace {

TEST(LsmtEntry, PutsItsFieldsIntoTheBitsOfTheFormat) {
  std::byte bytes[LsmtEntry::kBytes];
  LsmtEntry{.sector = 1, .data_sector = 0, .sectors = 0, .zeroed = false, .tag = 0}.encode(bytes);
  EXPECT_EQ(load_le<uint64_t>(bytes), 1U);
  LsmtEntry{.sector = 0, .data_sector = 0, .sectors = 1, .zeroed = false, .tag = 0}.encode(bytes);
  EXPECT_EQ(load_le<uint64_t>(bytes), uint64_t{1} << 50);
  LsmtEntry{.sector = 0, .data_sector = 1, .sectors = 0, .zeroed = true, .tag = 1}.encode(bytes);
  EXPECT_EQ(load_le<uint64_t>(bytes + 8), 1 | (uint64_t{1} << 55) | (uint64_t{1} << 56));
}

TEST(LsmtEntry, DecodesWhatItEncodesAtTheLimits) {
  for (const LsmtEntry& entry :
       {LsmtEntry{}, LsmtEntry{LsmtEntry::kMaxSector, (uint64_t{1} << 55) - 1, 16383, true, 255},
        LsmtEntry{LsmtEntry::kPaddingSector, 0, 0, false, 0},
        LsmtEntry{12345, 678, LsmtEntry::kMaxRunSectors, false, 1}}) {
    std::byte bytes[LsmtEntry::kBytes];
    entry.encode(bytes);
    EXPECT_EQ(LsmtEntry::decode(bytes), entry);
  }
}

LsmtHeader sample() {
  return {.flags = 6,
          .index_offset = 0x1000,
          .index_entries = 256,
          .virtual_bytes = uint64_t{64} << 30,
          .uuid = kUuidB,
          .parent_uuid = kUuidA,
          .user_tag = "made by a test"};
}

TEST(LsmtHeader, StandsAtTheOffsetsOfTheFormat) {
  const auto bytes = sample().encode();
  EXPECT_EQ(load_le<uint64_t>(&bytes[0]), 0x0002'0100'544D'534CU);  // "LSMT\0\1\2\0"
  EXPECT_EQ(load_le<uint32_t>(&bytes[24]), 390U);
  EXPECT_EQ(load_le<uint32_t>(&bytes[28]), 6U);
  EXPECT_EQ(load_le<uint64_t>(&bytes[32]), 0x1000U);
  EXPECT_EQ(load_le<uint64_t>(&bytes[40]), 256U);
  EXPECT_EQ(load_le<uint64_t>(&bytes[48]), uint64_t{64} << 30);
  EXPECT_EQ(std::memcmp(&bytes[56], "66666666-7777-8888-9999-AAAAAAAAAAAA", 37), 0);
  EXPECT_EQ(std::memcmp(&bytes[93], kUuidA, 37), 0);
  EXPECT_EQ(bytes[132], std::byte{1});
  EXPECT_EQ(bytes[133], std::byte{1});
  EXPECT_EQ(std::memcmp(&bytes[134], "made by a test", 15), 0);
}

TEST(LsmtHeader, DecodesWhatItEncodes) {
  const LsmtHeader header = LsmtHeader::decode(sample().encode(), "test");
  EXPECT_EQ(header.flags, 6U);
  EXPECT_EQ(header.index_offset, 0x1000U);
  EXPECT_EQ(header.index_entries, 256U);
  EXPECT_EQ(header.virtual_bytes, uint64_t{64} << 30);
  EXPECT_EQ(header.uuid, kUuidB);
  EXPECT_EQ(header.parent_uuid, kUuidA);
  EXPECT_EQ(header.user_tag, "made by a test");
}

TEST(LsmtHeader, TakesUpperCaseAndTheAllZeroUuidAsTheReferenceWritesThem) {
  LsmtHeader header = sample();
  header.uuid = "66666666-7777-8888-9999-AAAAAAAAAAAA";
  header.parent_uuid = "00000000-0000-0000-0000-000000000000";
  const LsmtHeader read = LsmtHeader::decode(header.encode(), "test");
  EXPECT_EQ(read.uuid, kUuidB);
  EXPECT_EQ(read.parent_uuid, "");
}

TEST(LsmtHeader, RefusesBadMagicSizeVersionAndUuid) {
  for (const size_t at : {size_t{0}, size_t{10}, size_t{24}, size_t{132}, size_t{56}, size_t{64}}) {
    auto bytes = sample().encode();
    bytes[at] ^= std::byte{0x80};
    EXPECT_THROW(LsmtHeader::decode(bytes, "test"), DataError) << at;
  }
}

TEST(LsmtHeader, AUserTagThatFillsItsFieldIsReadWhole) {
  LsmtHeader header = sample();
  header.user_tag = std::string(LsmtHeader::kMaxUserTagBytes, 'x');
  EXPECT_EQ(LsmtHeader::decode(header.encode(), "test").user_tag, header.user_tag);
}

}  // namespace
}  // namespace obd::blockfs
