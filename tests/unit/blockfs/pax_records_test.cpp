#include "blockfs/pax_records.h"

#include <gtest/gtest.h>

#include "blockfs/layer_tar.h"

namespace obd::blockfs {
namespace {

std::string record(const std::string& text) {
  size_t length = text.size() + 3;
  while (std::to_string(length).size() + text.size() + 2 != length) ++length;
  return std::to_string(length) + " " + text + "\n";
}

PaxRecords parsed(const std::string& text) {
  PaxRecords records;
  records.parse(text, "here");
  return records;
}

std::pair<int64_t, uint32_t> mtime(const std::string& text) {
  return *parsed(record("mtime=" + text)).mtime;
}

TEST(PaxRecords, TimesBeforeTheEpochKeepTheirFraction) {
  using Time = std::pair<int64_t, uint32_t>;
  EXPECT_EQ(mtime("0"), Time(0, 0));
  EXPECT_EQ(mtime("1.5"), Time(1, 500'000'000));
  EXPECT_EQ(mtime("1."), Time(1, 0));
  EXPECT_EQ(mtime("-1"), Time(-1, 0));
  EXPECT_EQ(mtime("-0.5"), Time(-1, 500'000'000));
  EXPECT_EQ(mtime("-1.000000001"), Time(-2, 999'999'999));
  EXPECT_EQ(mtime("1.0000000019"), Time(1, 1)) << "what is below nanoseconds goes towards the past";
  EXPECT_EQ(mtime("-1.0000000001"), Time(-2, 999'999'999)) << "likewise";
  EXPECT_EQ(mtime("-1.9999999999"), Time(-2, 0)) << "likewise, over the second";
  EXPECT_EQ(mtime("9223372036854775807"), Time(INT64_MAX, 0));
  EXPECT_EQ(mtime("-9223372036854775808"), Time(INT64_MIN, 0));
}

TEST(PaxRecords, WhatIsNoTimeIsRefused) {
  for (const std::string text : {"x", "1x", "1.x", ".5", "-", "-.5", "1e9", "--1", "1.-5", "+1", " 1",
                                 "9223372036854775808", "-9223372036854775809"}) {
    EXPECT_THROW(mtime(text), TarError) << text;
  }
}

TEST(PaxRecords, TheEarliestTimeWithAFractionDoesNotOverflow) {
  EXPECT_THROW(mtime("-9223372036854775808.5"), TarError);
}

TEST(PaxRecords, WrongLengthsAreRefused) {
  for (const std::string text : {"x", "5", "5 ", "7 a=b\n", "5 a=b\n", "99999999999999999999 a=b\n",
                                 "0 a=b\n", "-6 a=b\n", "6 a=bx", "4 =\n", "3 \n", "2 ", "06 =ab\n"}) {
    EXPECT_THROW(parsed(text), TarError) << text;
  }
  EXPECT_NO_THROW(parsed("6 a=b\n"));
  EXPECT_NO_THROW(parsed(std::string("6 a=b\n\0\0\0", 9))) << "padded";
}

TEST(PaxRecords, ValuesMayHoldAnyByteWhereNoNameIsMeant) {
  const std::string value("a\0\n=b\xFF", 6);
  EXPECT_EQ(parsed(record("SCHILY.xattr.user.x=" + value)).xattrs.at("user.x"), value);
  EXPECT_EQ(*parsed(record("path=a\nb=c")).path, "a\nb=c");
  EXPECT_THROW(parsed(record(std::string("path=a\0b", 8))), TarError);
  EXPECT_THROW(parsed(record(std::string("linkpath=a\0b", 12))), TarError);
}

TEST(PaxRecords, LaterRecordsReplaceAndEmptyOnesRemove) {
  EXPECT_EQ(*parsed(record("path=a") + record("path=b")).path, "b");
  EXPECT_FALSE(parsed(record("path=a") + record("path=")).path);
  EXPECT_FALSE(parsed(record("mtime=1") + record("mtime=")).mtime);
  EXPECT_FALSE(parsed(record("size=1") + record("size=")).size);
}

TEST(PaxRecords, NumbersOutOfRangeAreRefused) {
  EXPECT_EQ(*parsed(record("uid=4294967295")).uid, UINT32_MAX);
  EXPECT_THROW(parsed(record("uid=4294967296")), TarError);
  EXPECT_THROW(parsed(record("gid=-1")), TarError);
  EXPECT_EQ(*parsed(record("size=9223372036854775807")).size, static_cast<uint64_t>(INT64_MAX));
  EXPECT_THROW(parsed(record("size=9223372036854775808")), TarError);
  EXPECT_THROW(parsed(record("size=1 ")), TarError);
}

TEST(PaxRecords, SchilyAttributesWinOverLibarchivesInAnyOrder) {
  const std::string schily = record("SCHILY.xattr.user.x=plain");
  const std::string libarchive = record("LIBARCHIVE.xattr.user.x=b3RoZXI=");
  EXPECT_EQ(parsed(schily + libarchive).xattrs.at("user.x"), "plain");
  EXPECT_EQ(parsed(libarchive + schily).xattrs.at("user.x"), "plain");
  EXPECT_EQ(parsed(libarchive).xattrs.at("user.x"), "other");
}

TEST(PaxRecords, LibarchiveAttributesAreDecoded) {
  EXPECT_EQ(parsed(record("LIBARCHIVE.xattr.user.a%3Db=YQ")).xattrs.at("user.a=b"), "a");
  EXPECT_EQ(parsed(record("LIBARCHIVE.xattr.user.n=AP8=")).xattrs.at("user.n"), std::string("\0\xFF", 2));
  for (const std::string text : {"user.a%3=YQ", "user.a%=YQ", "user.a%zz=YQ", "user.a=Y*", "user.a=Y Q"}) {
    EXPECT_THROW(parsed(record("LIBARCHIVE.xattr." + text)), TarError) << text;
  }
}

TEST(PaxRecords, AttributesWithoutANameAreRefused) {
  EXPECT_THROW(parsed(record("SCHILY.xattr.=x")), TarError);
  EXPECT_THROW(parsed(record("LIBARCHIVE.xattr.=YQ==")), TarError);
}

TEST(PaxRecords, SparsePiecesBeyondTheLimitAreRefused) {
  std::string map = "GNU.sparse.map=";
  for (size_t i = 0; i <= LayerTar::kMaxSegments; ++i) map += "1,1,";
  EXPECT_THROW(parsed(record(map)), TarError);
  EXPECT_THROW(parsed(record("GNU.sparse.map=1")), TarError);
  EXPECT_THROW(parsed(record("GNU.sparse.numbytes=1")), TarError);
}

TEST(PaxRecords, UnknownKeywordsArePassedOver) {
  EXPECT_NO_THROW(parsed(record("comment=x") + record("VENDOR.thing=y") + record("GNU.sparse.later=z")));
}

}  // namespace
}  // namespace obd::blockfs
