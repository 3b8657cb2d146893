#include "convertor/layer_source.h"

#include <gmock/gmock.h>

#include <functional>
#include <random>

#include "tests/support/compression.h"
#include "tests/support/streams.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {
namespace {

using test::Bytes;
using testing::HasSubstr;

/// Noise, so that it is as large compressed.
Bytes noise(size_t bytes) {
  std::mt19937_64 random(21);
  Bytes out(bytes);
  for (std::byte& b : out) b = static_cast<std::byte>(random());
  return out;
}

class Source : public testing::Test {
 protected:
  std::unique_ptr<LayerSource> open(const Bytes& blob, const Digest& diff_id) {
    layer_ = images_.add_blob("layer", blob);
    images_.add_manifest(registry::media_type::kOciManifest, "{}", "tag");  // blobs get their names with it
    return reopen(diff_id);
  }
  std::unique_ptr<LayerSource> reopen(const Digest& diff_id) {
    return std::make_unique<LayerSource>(SourcePlace{images_.repository()}, layer_, diff_id, "layer 1 of 1",
                                         pool_, board_.add("", 1, "", layer_.size), stop_.get_token());
  }
  static Bytes read_all(LayerSource& source) {
    Bytes all;
    for (auto piece = source.next(); !piece.empty(); piece = source.next())
      all.insert(all.end(), piece.begin(), piece.end());
    return all;
  }
  static std::string failure_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing went wrong";
    return {};
  }

  LayoutImages images_;
  Descriptor layer_;
  blockfs::ChunkPool pool_;
  ProgressBoard board_;
  std::stop_source stop_;
};

TEST_F(Source, GivesTheUncompressedLayerWhateverItsCompression) {
  const Bytes content = noise(3 << 20);
  for (const Bytes& blob : {content, test::gzip(content), test::zstd(content)}) {
    const auto source = open(blob, Digest::of(content));
    EXPECT_TRUE(read_all(*source) == content);
    EXPECT_NO_THROW(source->verify());
    EXPECT_EQ(board_.layers().back()->fetched_bytes, blob.size());
    EXPECT_EQ(board_.layers().back()->applied_bytes, content.size());
  }
}

TEST_F(Source, EmptyLayerIsOne) {
  const auto source = open(test::gzip({}), Digest::of(""));
  EXPECT_TRUE(source->next().empty());
  EXPECT_NO_THROW(source->verify());
}

TEST_F(Source, ContentOfAnotherDiffIdIsRefusedWithBoth) {
  const auto source = open(test::gzip(test::to_bytes("content")), Digest::of("other"));
  EXPECT_THAT(failure_of([&] {
                read_all(*source);
                source->verify();
              }),
              testing::AllOf(HasSubstr("layer 1 of 1"), HasSubstr(Digest::of("content").text()),
                             HasSubstr(Digest::of("other").text())));
}

TEST_F(Source, BlobOfAnotherDigestIsRefused) {
  const Bytes content = noise(1 << 20);
  open(content, Digest::of(content));
  Bytes damaged = content;
  damaged[1000] ^= std::byte{1};
  test::write_file(images_.blob_path(layer_.digest), test::to_text(damaged));
  const auto source = reopen(Digest::of(damaged));
  EXPECT_THAT(failure_of([&] {
                read_all(*source);
                source->verify();
              }),
              testing::AllOf(HasSubstr("layer 1 of 1"), HasSubstr(layer_.digest.text())));
}

TEST_F(Source, MissingBlobIsToldByTheReader) {
  layer_ = {
      .media_type = "layer", .digest = Digest::of("none"), .size = 4, .annotations = {}, .platform = {}};
  images_.add_manifest(registry::media_type::kOciManifest, "{}", "tag");
  const auto source = reopen(Digest::of("none"));
  EXPECT_THAT(failure_of([&] { read_all(*source); }), HasSubstr("layer 1 of 1"));
}

TEST_F(Source, StreamThatIsCutOffIsRefused) {
  Bytes blob = test::gzip(noise(1 << 20));
  blob.resize(blob.size() / 2);
  const auto source = open(blob, Digest::of("x"));
  EXPECT_THAT(failure_of([&] {
                read_all(*source);
                source->verify();
              }),
              HasSubstr("cut off"));
}

TEST_F(Source, MayBeDroppedAtAnyTime) {
  const Bytes content = noise(12 << 20);  // more than its queues hold
  { const auto source = open(test::gzip(content, nullptr, 1), Digest::of(content)); }
  {
    const auto source = reopen(Digest::of(content));
    source->next();
  }
}

TEST_F(Source, StopEndsTheReaderWithCancelled) {
  const Bytes content = noise(12 << 20);
  const auto source = open(content, Digest::of(content));
  source->next();
  stop_.request_stop();
  EXPECT_THROW(
      {
        read_all(*source);
        source->verify();
      },
      Cancelled);
}

}  // namespace
}  // namespace obd::convertor
