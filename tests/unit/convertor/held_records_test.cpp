// Targets in which nothing stays before all of it does.

#include <gmock/gmock.h>

#include "common/error.h"
#include "convertor/held_records.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/farm.h"

namespace obd::convertor {
namespace {

namespace fs = std::filesystem;
using test::TarBuilder;

/// A store that refuses to be told anything after so many records.
class FullStore final : public dedupdb::RecordStore {
 public:
  std::string name() const override { return "full"; }
  std::vector<dedupdb::LayerRecord> find_layers(const dedupdb::Place&, const dedupdb::Key&,
                                                std::stop_token) override {
    return {};
  }
  void put_layer(const dedupdb::Place&, const dedupdb::Key&, const Digest& digest, uint64_t,
                 std::stop_token) override {
    if (digests.size() == room) throw DbError("full");
    digests.push_back(digest);
  }
  void remove_layer(const dedupdb::Place&, const dedupdb::Key&, const Digest&, std::stop_token) override {}
  std::vector<dedupdb::ManifestRecord> find_manifests(const dedupdb::Place&, const dedupdb::Key&,
                                                      const std::string&, std::stop_token) override {
    return {};
  }
  void put_manifest(const dedupdb::Place&, const dedupdb::Key&, const dedupdb::ManifestRecord& record,
                    std::stop_token stop) override {
    put_layer({}, {}, record.digest, 0, std::move(stop));
  }
  void remove_manifest(const dedupdb::Place&, const dedupdb::Key&, const std::string&, const Digest&,
                       std::stop_token) override {}
  std::unique_ptr<dedupdb::Lease> acquire(const std::string&, bool, std::stop_token) override {
    return nullptr;
  }

  size_t room = 0;
  std::vector<Digest> digests = {};
};

class HeldRecordsTest : public testing::Test {
 protected:
  static dedupdb::Key key(const std::string& of) { return {Digest::of(of), std::string(16, 'a')}; }

  const dedupdb::Place place_{.host = "h", .repo = "r"};
  const Digest one_ = Digest::of("one");
  const Digest two_ = Digest::of("two");
  FullStore store_;
  HeldRecords held_{store_};
};

TEST_F(HeldRecordsTest, OnlyTheRecordThatIsMeantIsRemoved) {
  held_.put_layer(place_, key("a"), two_, 2, {});
  held_.remove_layer(place_, key("a"), one_, {});
  ASSERT_EQ(held_.find_layers(place_, key("a"), {}).size(), 1u);
  EXPECT_EQ(held_.find_layers(place_, key("a"), {})[0].digest, two_);
  held_.remove_layer(place_, key("a"), two_, {});
  EXPECT_TRUE(held_.find_layers(place_, key("a"), {}).empty());
}

TEST_F(HeldRecordsTest, WhatCouldNotBeToldIsToldTheNextTime) {
  held_.put_layer(place_, key("a"), one_, 1, {});
  held_.put_layer(place_, key("b"), two_, 2, {});
  held_.put_manifest(place_, key("a"), {.repo = {}, .digest = two_, .size = 3, .media_type = "type"}, {});
  EXPECT_TRUE(store_.digests.empty());
  store_.room = 1;
  EXPECT_THROW(held_.save({}), DbError);
  EXPECT_EQ(store_.digests.size(), 1u);
  store_.room = 9;
  held_.save({});
  EXPECT_EQ(store_.digests.size(), 3u) << "each once";
}

class ArchiveTarget : public testing::Test {
 protected:
  ConvertResult convert(const std::string& reference) {
    const auto target = registry::open_repository("oci-archive:" + file().string(),
                                                  {.work_directory = work_.path() / "work"});
    const auto records = memory_->open();
    blockfs::WorkerPool pool(2);
    ProgressBoard progress;
    const Workshop workshop{.source = source_.repository(),
                            .target = *target,
                            .pool = pool,
                            .progress = progress,
                            .options = {.vsize_gib = 1, .work_directory = work_.path() / "work"},
                            .records = records.get()};
    return convert_reference(workshop, reference, "out", {});
  }
  fs::path file() const { return work_.path() / "out.tar"; }

  LayoutImages source_;
  const SourceLayer lower_{TarBuilder().file("a", "1").end().bytes(), {}};
  const SourceLayer upper_{TarBuilder().file("b", "2").end().bytes(), {}};
  const SourceLayer other_{TarBuilder().file("c", "3").end().bytes(), {}};
  test::TemporaryDirectory work_;
  std::unique_ptr<Memory> memory_ = make_database_memory(work_.path());
};

TEST_F(ArchiveTarget, RunThatFailsLeavesNoRows) {
  SourceLayer broken = upper_;
  broken.diff_id = Digest::of("something else");
  source_.add_image({lower_, broken}, "broken");
  EXPECT_THROW(convert("broken"), DataError);
  EXPECT_FALSE(fs::exists(file()));
  EXPECT_TRUE(memory_->rows().empty());
}

TEST_F(ArchiveTarget, RowsAreThereOnceTheArchiveIs) {
  source_.add_image({lower_, upper_}, "image");
  const ConvertResult first = convert("image");
  EXPECT_EQ(memory_->rows().size(), 3u);
  const ConvertResult again = convert("image");
  EXPECT_EQ(again.root.digest, first.root.digest);
  EXPECT_EQ(again.reuse.manifests, 1u);
}

TEST_F(ArchiveTarget, ImagesOfOneRunShareTheirLayers) {
  const Descriptor image = source_.add_image({lower_, upper_});
  const Descriptor arm = source_.add_image({lower_, other_}, {}, {.os = "linux", .architecture = "arm64"});
  source_.add_index({image, arm}, "index");
  const ConvertResult result = convert("index");
  EXPECT_EQ(result.reuse.layers, 1u);
  EXPECT_EQ(memory_->rows().size(), 5u) << "three layers, two manifests";
}

}  // namespace
}  // namespace obd::convertor
