#include "blockfs/tar_wrapper.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/unit/blockfs/blob_builder.h"

namespace obd::blockfs {
namespace {

using test::Bytes;

Bytes wrap(const Bytes& content) {
  const auto header = encode_tar_wrapper_header(content.size());
  const auto end = encode_tar_wrapper_end(content.size());
  Bytes out(header.begin(), header.end());
  out.insert(out.end(), content.begin(), content.end());
  out.insert(out.end(), end.begin(), end.end());
  return out;
}

/// The header of a member with the checksum that it needs.
Bytes ustar_header(std::string_view name, char type, std::string_view octal_size) {
  Bytes block(512);
  const auto put = [&](size_t at, std::string_view text) {
    std::transform(text.begin(), text.end(), block.begin() + static_cast<ptrdiff_t>(at),
                   [](char c) { return static_cast<std::byte>(c); });
  };
  put(0, name);
  put(124, octal_size);
  put(156, std::string_view(&type, 1));
  put(257, "ustar");
  put(263, "00");
  put(148, "        ");
  unsigned sum = 0;
  for (const std::byte b : block) sum += std::to_integer<unsigned>(b);
  put(148, fmt::format("{:06o}", sum));
  return block;
}

TEST(TarWrapper, GivesBackTheContentWhateverItsLength) {
  for (const size_t length : {0, 1, 511, 512, 513, 100'000}) {
    const Bytes content = mixed_bytes(length, length);
    const Bytes wrapped = wrap(content);
    EXPECT_EQ(wrapped.size() % 512, 0U);
    const auto opened = open_tar_wrapper(test::source_of(wrapped));
    ASSERT_TRUE(opened);
    EXPECT_EQ(test::read_all(*opened), content) << length;
  }
}

TEST(TarWrapper, StatesTheSizeInItsPaxRecord) {
  const auto header = encode_tar_wrapper_header(uint64_t{20} << 30);
  const std::string record(reinterpret_cast<const char*>(&header[512]), 20);
  EXPECT_EQ(record, "20 size=21474836480\n");
  const std::string name(reinterpret_cast<const char*>(&header[1024]));
  EXPECT_EQ(name, "overlaybd.commit");
}

TEST(TarWrapper, APlainUstarHeaderIsAWrapperToo) {
  Bytes file = ustar_header("overlaybd.commit", '0', "00000000005");
  const Bytes content = test::to_bytes("hello");
  file.insert(file.end(), content.begin(), content.end());
  const auto opened = open_tar_wrapper(test::source_of(file));
  ASSERT_TRUE(opened);
  EXPECT_EQ(test::read_all(*opened), content);
}

TEST(TarWrapper, WhatIsNoTarIsNotUnwrapped) {
  EXPECT_EQ(open_tar_wrapper(test::source_of({})), nullptr);
  EXPECT_EQ(open_tar_wrapper(test::source_of(Bytes(511))), nullptr);
  EXPECT_EQ(open_tar_wrapper(test::source_of(mixed_bytes(5000, 1))), nullptr);
}

TEST(TarWrapper, EveryTruncationIsFound) {
  const Bytes wrapped = wrap(mixed_bytes(700, 1));
  for (size_t length = 512; length < kTarWrapperHeaderBytes + 700; ++length) {
    const Bytes cut(wrapped.begin(), wrapped.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_THROW(open_tar_wrapper(test::source_of(cut)), DataError) << length;
  }
}

TEST(TarWrapper, OtherMembersAndDamagedHeadersAreRefused) {
  Bytes directory = ustar_header("etc/", '5', "00000000000");
  EXPECT_THROW(open_tar_wrapper(test::source_of(directory)), DataError);
  Bytes damaged = ustar_header("overlaybd.commit", '0', "00000000000");
  damaged[5] ^= std::byte{1};
  EXPECT_THROW(open_tar_wrapper(test::source_of(damaged)), DataError);
  Bytes lying = ustar_header("overlaybd.commit", '0', "77777777777");
  EXPECT_THROW(open_tar_wrapper(test::source_of(lying)), DataError);
  Bytes long_pax = ustar_header("overlaybd.pax", 'x', "00000002000");
  long_pax.resize(4096);
  EXPECT_THROW(open_tar_wrapper(test::source_of(long_pax)), DataError);
}

}  // namespace
}  // namespace obd::blockfs
