// Several images of an index at a time.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>

#include "blockfs/ext4/metadata_store.h"
#include "tests/support/compression.h"
#include "tests/support/fake_registry.h"
#include "tests/support/noise.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {
namespace {

using test::TarBuilder;

class AtOnce : public testing::Test {
 protected:
  void add_index(const std::vector<std::vector<SourceLayer>>& images) {
    std::vector<Descriptor> manifests;
    for (size_t i = 0; i < images.size(); ++i) {
      manifests.push_back(
          source_.add_image(images[i], {}, {.os = "linux", .architecture = fmt::format("arch{}", i)}));
    }
    source_.add_index(manifests, "in");
  }
  ConvertResult convert(const ConvertOptions& options, registry::ForeignBlobs* foreign = nullptr) {
    return convertor::convert({.source = source_,
                               .target = target_,
                               .work_directory = work_.path() / "work",
                               .options = options,
                               .foreign = foreign});
  }

  test::TemporaryDirectory work_;
  LayoutImages source_;
  LayoutImages target_;
};

/// Answers each request only once as many have come as there are to be, or after a long while.
class Gathering {
 public:
  explicit Gathering(size_t expected) : expected_(expected) {}
  void arrive() {
    std::unique_lock lock(mutex_);
    most_ = std::max(most_, ++waiting_);
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return most_ >= expected_; });
    changed_.wait_for(lock, std::chrono::milliseconds(50), [] { return false; });  // for more than expected
    --waiting_;
  }
  size_t most() const {
    const std::lock_guard lock(mutex_);
    return most_;
  }

 private:
  const size_t expected_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  size_t waiting_ = 0;
  size_t most_ = 0;
};

/// Layers that come from a host which sees how many are asked for at a time.
class AtOnceFrom : public AtOnce, public testing::WithParamInterface<std::pair<uint64_t, size_t>> {};

TEST_P(AtOnceFrom, AsManyAsTheLimitSays) {
  const auto [limit, expected] = GetParam();
  Gathering gathering(expected);
  test::FakeRegistry host;
  host.on_request([&](const auto&) { gathering.arrive(); });
  std::vector<std::vector<SourceLayer>> images;
  for (int i = 0; i < 6; ++i) {
    const test::Bytes tar = TarBuilder().file("a", fmt::format("image {}", i)).end().bytes();
    const test::Bytes blob = test::gzip(tar);
    const std::string digest = Digest::of(blob).text();
    host.put_blob(digest, test::to_text(blob));
    images.push_back({{.tar = tar,
                       .blob = blob,
                       .urls = {fmt::format("http://{}/v2/layers/blobs/{}", host.authority(), digest)}}});
  }
  add_index(images);
  registry::ForeignBlobs foreign({.work_directory = work_.path()});
  EXPECT_EQ(convert({.concurrency_limit = limit}, &foreign).images.size(), 6u);
  EXPECT_EQ(gathering.most(), expected);
}

INSTANTIATE_TEST_SUITE_P(Limits, AtOnceFrom,
                         testing::Values(std::pair(1, 1), std::pair(4, 4), std::pair(0, 6),
                                         std::pair(100, 6)),
                         [](const auto& instance) { return fmt::format("Limit{}", instance.param.first); });

/// What needs more memory than its share is converted with all of it.
TEST_F(AtOnce, ALargeImageIsConvertedAlone) {
  TarBuilder many;
  for (unsigned i = 0; i < 6000; ++i) {  // a block each, which does not compress
    const std::string value = test::noise(3000, i + 1);
    many.add({.name = fmt::format("file{}", i), .pax = {{"SCHILY.xattr.user.noise", value}}});
  }
  const test::Bytes large = many.end().bytes();
  const test::Bytes small = TarBuilder().file("a", "b").end().bytes();
  add_index({{{large, large}}, {{small, {}}}, {{small, {}}, {large, large}}});
  const auto digests = [](const ConvertResult& result) {
    std::vector<Digest> all;
    for (const ConvertedImage& image : result.images) all.push_back(image.manifest.digest);
    return all;
  };
  const auto expected = digests(convert({.concurrency_limit = 1}));
  EXPECT_EQ(expected.size(), 3u);
  constexpr uint64_t kEnoughForTwo = 84 << 20;
  constexpr uint64_t kShare = 16 << 20;
  EXPECT_EQ(digests(convert({.concurrency_limit = 2, .metadata_budget_bytes = kEnoughForTwo})), expected);
  EXPECT_THROW(convert({.concurrency_limit = 1, .metadata_budget_bytes = kShare}),
               blockfs::MetadataBudgetExceeded);
}

}  // namespace
}  // namespace obd::convertor
