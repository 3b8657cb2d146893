#include "tools/check_inode.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/memory.h"

namespace obd::tools {
namespace {

using test::Bytes;

Fingerprint of(const Bytes& content) {
  ContentHash hash;
  hash.add(0, content);
  return hash.finish();
}

TEST(ContentHash, DoesNotDependOnHowTheContentArrives) {
  std::mt19937_64 random(11);
  Bytes content(100'000);
  for (auto& b : content) b = static_cast<std::byte>(random());
  const Fingerprint whole = of(content);
  for (int i = 0; i < 50; ++i) {
    ContentHash hash;
    for (size_t at = 0; at < content.size();) {
      const size_t take = std::min<size_t>(content.size() - at, 1 + random() % 9000);
      hash.add(at, std::span(content).subspan(at, take));
      at += take;
    }
    ASSERT_EQ(hash.finish(), whole);
  }
}

TEST(ContentHash, HolesAreZeroes) {
  Bytes content(50'000);
  content[20'001] = std::byte{7};
  content[45'000] = std::byte{8};
  ContentHash sparse;
  sparse.add(20'001, std::span(content).subspan(20'001, 1));
  sparse.add(45'000, std::span(content).subspan(45'000, 1));
  EXPECT_EQ(sparse.finish(), of(content));
}

TEST(ContentHash, TellsContentAtAnotherPlaceApart) {
  Bytes early(20'000);
  Bytes late(20'000);
  early[100] = late[100 + 4096] = std::byte{1};
  EXPECT_NE(of(early), of(late));
  early[100] = std::byte{0};
  EXPECT_NE(of(early), of(late));
}

TEST(ContentHash, CanBeUsedAgain) {
  ContentHash hash;
  hash.add(0, test::to_bytes("first"));
  const Fingerprint first = hash.finish();
  hash.add(0, test::to_bytes("second"));
  EXPECT_NE(hash.finish(), first);
  hash.add(0, test::to_bytes("first"));
  EXPECT_EQ(hash.finish(), first);
}

}  // namespace
}  // namespace obd::tools
