#include "blockfs/tar_header.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr size_t kUid = 108;
constexpr size_t kSize = 124;
constexpr size_t kMtime = 136;

TarHeader with(size_t at, std::string_view text) {
  TarHeader header;
  std::memcpy(&header.bytes()[at], text.data(), text.size());
  return header;
}

/// 12 bytes of base-256: the marker and 88 bits of a number.
std::string base256(int64_t value) {
  std::string field(12, value < 0 ? '\xFF' : '\0');
  if (value >= 0) field[0] = '\x80';
  for (size_t i = 0; i < 8; ++i) field[11 - i] = static_cast<char>(value >> (8 * i));
  return field;
}

TEST(TarHeader, OctalNumbersMayBePaddedAndEndWithSpaceOrNulOrTheField) {
  for (const std::string_view text :
       {std::string_view("00000000017\0", 12), std::string_view("17 ", 3), std::string_view("   17\0", 6),
        std::string_view("17\0\0 \0", 6), std::string_view("000000000017"), std::string_view("17 \0 ", 5)}) {
    EXPECT_EQ(with(kSize, text).size("x"), 15u) << text;
  }
  EXPECT_EQ(with(kSize, "777777777777").size("x"), (uint64_t{1} << 36) - 1);
  EXPECT_EQ(with(kUid, "77777777").uid("x"), (1u << 24) - 1);
}

TEST(TarHeader, EmptyFieldIsZero) {
  EXPECT_EQ(TarHeader().size("x"), 0u);
  EXPECT_EQ(with(kSize, "            ").size("x"), 0u);
}

TEST(TarHeader, FieldThatIsNoNumberIsRefusedByName) {
  for (const std::string_view text :
       {std::string_view("8"), std::string_view("0x1f"), std::string_view("-1"), std::string_view("1 1"),
        std::string_view("17\0x", 4), std::string_view("\x1f", 1)}) {
    try {
      with(kSize, text).size("here");
      ADD_FAILURE() << text;
    } catch (const DataError& error) {
      EXPECT_EQ(std::string(error.what()), "here: the field size is no valid number") << text;
    }
  }
}

TEST(TarHeader, Base256HoldsEverySignedNumberOf64Bits) {
  for (const int64_t value : {int64_t{0}, int64_t{1}, int64_t{255}, int64_t{256}, int64_t{1} << 40, INT64_MAX,
                              int64_t{-1}, int64_t{-256}, int64_t{-257}, -(int64_t{1} << 40), INT64_MIN}) {
    EXPECT_EQ(with(kMtime, base256(value)).mtime("x"), value);
  }
}

TEST(TarHeader, Base256BeyondSixtyFourBitsIsRefused) {
  for (size_t at = 1; at < 4; ++at) {
    std::string positive = base256(5);
    positive[at] = '\1';
    EXPECT_THROW(with(kMtime, positive).mtime("x"), DataError) << at;
    std::string negative = base256(-5);
    negative[at] = '\xFE';
    EXPECT_THROW(with(kMtime, negative).mtime("x"), DataError) << at;
  }
  std::string positive = base256(0);
  positive[4] = '\x80';  // 2^63
  EXPECT_THROW(with(kMtime, positive).mtime("x"), DataError);
  std::string negative = base256(-1);
  negative[4] = '\x7F';
  EXPECT_THROW(with(kMtime, negative).mtime("x"), DataError);
  std::string marker = base256(0);
  marker[0] = '\x81';  // bits beside the marker count
  EXPECT_THROW(with(kMtime, marker).mtime("x"), DataError);
}

TEST(TarHeader, NumbersOutOfTheirRangeAreRefused) {
  EXPECT_THROW(with(kSize, base256(-1)).size("x"), DataError);
  EXPECT_EQ(with(kSize, base256(INT64_MAX)).size("x"), static_cast<uint64_t>(INT64_MAX));
  const std::string four_gib("\x80\0\0\1\0\0\0\0", 8);
  EXPECT_THROW(with(kUid, four_gib).uid("x"), DataError);
  const std::string largest("\x80\0\0\0\xFF\xFF\xFF\xFF", 8);
  EXPECT_EQ(with(kUid, largest).uid("x"), UINT32_MAX);
  EXPECT_THROW(with(kUid, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF").uid("x"), DataError);
}

TEST(TarHeader, PrefixCountsInUstarOnlyAndIsShorterInStar) {
  const auto make = [](std::string_view magic, std::string_view end, std::string_view prefix) {
    TarHeader header = with(0, "name");
    std::memcpy(&header.bytes()[257], magic.data(), magic.size());
    std::memcpy(&header.bytes()[345], prefix.data(), prefix.size());
    std::memcpy(&header.bytes()[508], end.data(), end.size());
    return header.path();
  };
  EXPECT_EQ(make(std::string_view("ustar\0", 6), "", "some/dir"), "some/dir/name");
  EXPECT_EQ(make("ustar ", "", "some/dir"), "name");
  EXPECT_EQ(make("", "", "some/dir"), "name");
  const std::string full(155, 'p');
  EXPECT_EQ(make(std::string_view("ustar\0", 6), "", full), full + "/name");
  EXPECT_EQ(make(std::string_view("ustar\0", 6), std::string_view("tar\0", 4), full),
            full.substr(0, 131) + "/name");
}

TEST(TarHeader, NamesMayFillTheirFieldsWithoutAnEnd) {
  const std::string name(100, 'n');
  EXPECT_EQ(with(0, name + "x").path(), name);
  EXPECT_EQ(with(157, name + "x").link_target(), name);
}

TEST(TarHeader, ChecksumOfSignedBytesIsAcceptedToo) {
  const auto sealed = [](int sum) {
    TarHeader header = with(0, "\xE4\xF6");
    const std::string digits = std::to_string(sum / 512 % 8) + std::to_string(sum / 64 % 8) +
                               std::to_string(sum / 8 % 8) + std::to_string(sum % 8);
    std::memcpy(&header.bytes()[148], digits.data(), digits.size());
    return header.checksum_matches();
  };
  const int blanks = 8 * ' ';
  EXPECT_TRUE(sealed(blanks + 0xE4 + 0xF6));
  EXPECT_TRUE(sealed(blanks + 0xE4 + 0xF6 - 512));
  EXPECT_FALSE(sealed(blanks + 0xE4 + 0xF6 - 256));
  EXPECT_FALSE(with(0, "x").checksum_matches()) << "no digits at all";
}

}  // namespace
}  // namespace obd::blockfs
