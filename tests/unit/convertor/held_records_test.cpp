// Targets in which nothing stays before all of it does.

#include <gmock/gmock.h>

#include "tests/support/tar_builder.h"
#include "tests/unit/convertor/farm.h"

namespace obd::convertor {
namespace {

namespace fs = std::filesystem;
using test::TarBuilder;

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
