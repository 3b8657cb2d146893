#include "convertor/cache_document.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "registry/registry.h"

namespace obd::convertor {
namespace {

using cache_document::kMaxRecords;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kManifest(registry::media_type::kOciManifest);

std::string key(size_t number) {
  return fmt::format("{}+{}", Digest::of(std::to_string(number)).text(), std::string(64, 'a'));
}

CacheRecord record(size_t number, const std::string& content = "") {
  return {.key = key(number),
          .media_type = {},
          .digest = Digest::of(fmt::format("{} {}", number, content)),
          .size = number};
}

CacheRecords records(size_t first, size_t count) {
  CacheRecords all;
  for (size_t i = first; i < first + count; ++i) all.push_back(record(i));
  return all;
}

TEST(CacheDocument, GivesBackWhatWasPrinted) {
  CacheRecords all = records(0, 3);
  all[1].media_type = kManifest;
  EXPECT_EQ(cache_document::parse(cache_document::print(all), "cache"), all);
  EXPECT_TRUE(cache_document::parse(cache_document::print({}), "cache").empty());
}

TEST(CacheDocument, RecordsStayWithinTheirBound) {
  const CacheRecord longest{.key = key(0),
                            .media_type = std::string(registry::media_type::kDockerManifest),
                            .digest = Digest::of(""),
                            .size = ~uint64_t{0}};
  EXPECT_LE(cache_document::print({longest}).size(), cache_document::kMaxRecordBytes);
}

TEST(CacheDocument, NamesTheVersionThatItDoesNotKnow) {
  try {
    cache_document::parse(R"({"version":2,"records":"in another form"})", "cache of x");
    FAIL();
  } catch (const CacheVersionError& error) {
    EXPECT_STREQ(error.what(), "cache of x: its format has version 2, and this program knows 1");
  }
}

TEST(CacheDocument, WhatIsMalformedIsRefused) {
  const std::string digest = Digest::of("").text();
  const auto with = [&](const std::string& fields) {
    return fmt::format(R"({{"version":1,"records":[{}]}})", fields);
  };
  const std::string good = fmt::format(R"({{"key":"{}","digest":"{}","size":1}})", key(0), digest);
  ASSERT_EQ(cache_document::parse(with(good), "cache").size(), 1u);
  const std::vector<std::string> cases = {
      "",
      "null",
      "[]",
      "{",
      "{}",
      R"({"version":"1","records":[]})",
      R"({"version":-1,"records":[]})",
      R"({"version":1})",
      R"({"version":1,"records":{}})",
      with("1"),
      with("{}"),
      with("null"),
      with("[[]]"),
      with(good + "," + good),
      with(fmt::format(R"({{"key":"{}","digest":"{}"}})", key(0), digest)),
      with(fmt::format(R"({{"key":"{}","digest":"{}","size":-1}})", key(0), digest)),
      with(fmt::format(R"({{"key":"{}","digest":"{}","size":1e3}})", key(0), digest)),
      with(fmt::format(R"({{"key":"{}","digest":"sha256:../../x","size":1}})", key(0))),
      with(fmt::format(R"({{"key":"{}","digest":"{}","size":1}})", digest, digest)),
      with(fmt::format(R"({{"key":"{}+short","digest":"{}","size":1}})", digest, digest)),
      with(fmt::format(R"({{"key":"{}","digest":"{}","size":1,"mediaType":"text/html"}})", key(0), digest)),
      with(fmt::format(R"({{"key":"{}","digest":"{}","size":1,"mediaType":"{}"}})", key(0), digest,
                       registry::media_type::kOciIndex)),
      std::string(100'000, '['),
      "\xff\xfe{}",
  };
  for (const std::string& text : cases) {
    EXPECT_THROW(cache_document::parse(text, "cache"), DataError) << text.substr(0, 200);
  }
}

TEST(CacheChanges, NewAndUsedRecordsComeFirst) {
  CacheChanges changes;
  const CacheRecords current = records(0, 3);
  EXPECT_TRUE(changes.settled_in(current));
  changes.used(record(2));
  EXPECT_TRUE(changes.settled_in(current)) << "the order alone is not worth a push";
  changes.made(record(9));
  EXPECT_FALSE(changes.settled_in(current));
  const CacheRecords merged = changes.applied_to(current);
  EXPECT_THAT(merged, ElementsAre(record(9), record(2), record(0), record(1)));
  EXPECT_EQ(changes.applied_to(merged), merged);
  EXPECT_TRUE(changes.settled_in(merged));
}

TEST(CacheChanges, WhatIsGoneStaysGoneUnlessOthersMadeItAnew) {
  CacheChanges changes;
  changes.gone(record(1));
  EXPECT_FALSE(changes.settled_in(records(0, 3)));
  EXPECT_THAT(changes.applied_to(records(0, 3)), ElementsAre(record(0), record(2)));
  EXPECT_FALSE(changes.find(records(0, 3), key(1), ""));
  const CacheRecords anew = {record(1, "made by others")};
  EXPECT_TRUE(changes.settled_in(anew));
  EXPECT_EQ(changes.find(anew, key(1), ""), anew[0]);
  changes.made(record(1, "ours"));
  EXPECT_THAT(changes.applied_to(anew), ElementsAre(record(1, "ours")));
  changes.used(record(1, "ours"));
  EXPECT_FALSE(changes.settled_in({})) << "it is ours, found or not";
}

TEST(CacheChanges, UsedRecordsThatOthersDroppedDoNotComeBack) {
  CacheChanges changes;
  changes.used(record(1));
  EXPECT_TRUE(changes.settled_in({}));
  EXPECT_TRUE(changes.applied_to({}).empty());
}

TEST(CacheChanges, ALayerAndAManifestOfOneKeyAreDifferent) {
  CacheRecord manifest = record(1, "manifest");
  manifest.media_type = kManifest;
  CacheChanges changes;
  changes.made(record(1));
  EXPECT_THAT(changes.applied_to({manifest}), ElementsAre(record(1), manifest));
  EXPECT_EQ(changes.find({manifest}, key(1), kManifest), manifest);
}

TEST(CacheChanges, TheLeastRecentlyUsedAreDropped) {
  CacheChanges changes;
  const CacheRecords full = records(0, kMaxRecords);
  changes.made(record(kMaxRecords));
  changes.used(record(kMaxRecords - 1));
  const CacheRecords merged = changes.applied_to(full);
  ASSERT_EQ(merged.size(), kMaxRecords);
  EXPECT_EQ(merged[0], record(kMaxRecords - 1));
  EXPECT_EQ(merged[1], record(kMaxRecords));
  EXPECT_EQ(merged.back(), record(kMaxRecords - 3));
  EXPECT_TRUE(changes.settled_in(merged));
}

TEST(CacheChanges, WhatIsUsedIsMovedBeforeItIsDropped) {
  const CacheRecords full = records(0, kMaxRecords);
  CacheChanges young;
  young.used(record(kMaxRecords / 2 - 1));
  EXPECT_TRUE(young.settled_in(full));
  CacheChanges old;
  old.used(record(kMaxRecords / 2));
  EXPECT_FALSE(old.settled_in(full));
  EXPECT_TRUE(old.settled_in(old.applied_to(full)));
}

TEST(CacheChanges, ARunThatMakesMoreThanFitsSettles) {
  CacheChanges changes;
  for (const CacheRecord& one : records(0, kMaxRecords + 100)) changes.made(one);
  const CacheRecords merged = changes.applied_to(records(9000, 10));
  EXPECT_EQ(merged.size(), kMaxRecords);
  EXPECT_EQ(merged[0], record(kMaxRecords + 99));
  EXPECT_TRUE(changes.settled_in(merged));
}

}  // namespace
}  // namespace obd::convertor
