// Images with layers that the repository need not have.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/compression.h"
#include "tests/support/fake_registry.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {
namespace {

using testing::HasSubstr;
using testing::Not;

class ForeignLayer : public testing::Test {
 protected:
  ForeignLayer()
      : tar_(test::TarBuilder().file("a", std::string(10'000, 'a')).end().bytes()),
        blob_(test::gzip(tar_)),
        foreign_({.work_directory = work_.path()}) {
    host_.put_blob(Digest::of(blob_).text(), test::to_text(blob_));
  }

  std::string url() const {
    return fmt::format("http://{}/v2/layers/blobs/{}?signature=s3cret", host_.authority(),
                       Digest::of(blob_).text());
  }
  ConvertResult convert(registry::ForeignBlobs* foreign, bool merge_index = false) {
    return convertor::convert({.source = source_,
                               .target = target_,
                               .work_directory = work_.path() / "work",
                               .options = {.oci = true, .merge_index = merge_index},
                               .foreign = foreign});
  }
  std::string refusal() {
    try {
      convert(nullptr);
    } catch (const DataError& error) {
      return error.what();
    }
    ADD_FAILURE() << "it was converted";
    return {};
  }

  test::TemporaryDirectory work_;
  test::FakeRegistry host_;
  LayoutImages source_;
  LayoutImages target_;
  const test::Bytes tar_;
  const test::Bytes blob_;
  registry::ForeignBlobs foreign_;
};

TEST_F(ForeignLayer, IsRefusedByDefaultAndNobodyIsAsked) {
  source_.add_image({{.tar = tar_, .blob = {}, .urls = {url(), "https://elsewhere.example/x"}}}, "in");
  const std::string message = refusal();
  EXPECT_THAT(message, HasSubstr("foreign layer"));
  EXPECT_THAT(message, HasSubstr("from 127.0.0.1, elsewhere.example;"));
  EXPECT_THAT(message, HasSubstr("--allow-foreign-layers"));
  EXPECT_THAT(message, Not(HasSubstr("s3cret")));
  EXPECT_TRUE(host_.requests().empty());
}

TEST_F(ForeignLayer, BecomesAnOrdinaryOne) {
  source_.add_image({{.tar = tar_, .blob = {}}}, "in");
  const auto ordinary = convert(nullptr);
  source_.add_image({{.tar = tar_, .blob = {}, .urls = {url()}}}, "in");
  const auto foreign = convert(&foreign_);
  EXPECT_EQ(foreign.images.at(0).layers.at(0).converted.digest,
            ordinary.images.at(0).layers.at(0).converted.digest);
  const std::string manifest = target_.manifest("out");
  for (const char* word : {"urls", "foreign", "nondistributable", "s3cret"})
    EXPECT_THAT(manifest, Not(HasSubstr(word)));
}

TEST_F(ForeignLayer, ThatTheRepositoryHasIsReadThere) {
  source_.add_blob("layer", blob_);
  source_.add_image({{.tar = tar_, .blob = {}, .urls = {url()}}}, "in");
  refusal();
  convert(&foreign_);
  EXPECT_TRUE(host_.requests().empty());
}

TEST_F(ForeignLayer, StaysWhereItIsWhenAnIndexIsMerged) {
  source_.add_image({{.tar = tar_, .blob = {}, .urls = {url()}}}, "in");
  convert(&foreign_, true);
  EXPECT_FALSE(target_.repository().has_blob({Digest::of(blob_), blob_.size()}, {}));
  EXPECT_EQ(host_.requests().size(), 1u);
}

TEST_F(ForeignLayer, FailureSaysWhichLayerAndTagsNothing) {
  host_.inject("GET", "", {.status = 404}, 9);
  source_.add_image({{.tar = tar_, .blob = {}, .urls = {url()}}}, "in");
  try {
    convert(&foreign_);
    ADD_FAILURE() << "it was converted";
  } catch (const NetworkError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("layer 1 of 1"));
    EXPECT_THAT(error.what(), HasSubstr("status 404"));
  }
  EXPECT_THROW(target_.manifest("out"), IoError);
}

}  // namespace
}  // namespace obd::convertor
