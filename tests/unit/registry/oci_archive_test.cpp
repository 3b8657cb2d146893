#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/support/compression.h"
#include "tests/support/tar_builder.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

namespace fs = std::filesystem;
using obd::test::Bytes;
using obd::test::TarBuilder;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

const std::string kManifestType(media_type::kOciManifest);
constexpr const char* kMarker = R"({"imageLayoutVersion":"1.0.0"})";

class OciArchive : public testing::Test {
 protected:
  OciArchive() : path_(directory_.path() / "images.tar"), repository_(open()) {}

  std::unique_ptr<Repository> open() const { return open_at(path_); }
  std::unique_ptr<Repository> open_at(const fs::path& path) const {
    return open_repository("oci-archive:" + path.string(), {.work_directory = directory_.path() / "work"});
  }
  void write(const Bytes& bytes) const { obd::test::write_file(path_, text_of(bytes)); }
  std::string bytes() const { return obd::test::read_file(path_); }

  TemporaryDirectory directory_;
  const fs::path path_;
  std::unique_ptr<Repository> repository_;
};

TEST_F(OciArchive, AppearsWithTheFirstTagAndNotBefore) {
  push_text(*repository_, noise(100'000));
  repository_->push_manifest(std::nullopt, kManifestType, sample_manifest("child"), {});
  EXPECT_FALSE(fs::exists(path_));
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  const auto other = open();
  EXPECT_EQ(other->pull_manifest("t", {}).bytes, sample_manifest());
  EXPECT_EQ(other->pull_manifest(Digest::of(sample_manifest("child")).text(), {}).bytes,
            sample_manifest("child"));
  EXPECT_EQ(pull_text(*other, id_of(noise(100'000))), noise(100'000));
}

TEST_F(OciArchive, BytesDependOnTheContentAlone) {
  const auto fill = [&](const fs::path& path, std::vector<std::string> layers) {
    const auto repository = open_at(path);
    for (const std::string& layer : layers) push_text(*repository, layer);
    repository->push_manifest("t", kManifestType, sample_manifest(), {});
    return obd::test::read_file(path);
  };
  EXPECT_EQ(fill(directory_.path() / "1", {"a", "b", "c"}), fill(directory_.path() / "2", {"c", "a", "b"}));
}

TEST_F(OciArchive, ArchiveThatIsThereKeepsItsImages) {
  const std::string unknown = "a file that a later version of the layout may know";
  const Digest old = Digest::of(sample_manifest("old"));
  write(TarBuilder()
            .directory("blobs/")
            .file("blobs/sha256/" + std::string(old.hex()), sample_manifest("old"))
            .file("new-in-1.2", unknown)
            .file("oci-layout", kMarker)
            .file("index.json",
                  fmt::format(
                      R"({{"schemaVersion":2,"x-unknown":1,"manifests":[{{"mediaType":"{}","digest":"{}",)"
                      R"("size":{},"annotations":{{"org.opencontainers.image.ref.name":"old"}}}}]}})",
                      kManifestType, old.text(), sample_manifest("old").size()))
            .end()
            .bytes());
  push_text(*repository_, "layer");
  repository_->push_manifest("new", kManifestType, sample_manifest("new"), {});
  const auto other = open();
  EXPECT_EQ(other->pull_manifest("old", {}).bytes, sample_manifest("old"));
  EXPECT_EQ(other->pull_manifest("new", {}).bytes, sample_manifest("new"));
  EXPECT_EQ(pull_text(*other, id_of("layer")), "layer");
  EXPECT_THAT(bytes(), HasSubstr(unknown));
  EXPECT_THAT(bytes(), HasSubstr("x-unknown"));
}

TEST_F(OciArchive, WhatIsBeingReadStaysReadable) {
  const std::string content = noise(2 << 20);
  push_text(*repository_, content);
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  const auto source = open()->open_blob(id_of(content));
  const auto reader = open();
  uint64_t offset = 0;
  reader->pull_blob(id_of(content),
                    [&](std::span<const std::byte> piece) {
                      if (offset == 0)
                        repository_->push_manifest("u", kManifestType, sample_manifest("u"), {});
                      EXPECT_EQ(text_of(piece), std::string_view(content).substr(offset, piece.size()));
                      offset += piece.size();
                    },
                    {});
  EXPECT_EQ(offset, content.size());
  std::string again(content.size(), '\0');
  source->read_at(0, std::as_writable_bytes(std::span(again)));
  EXPECT_EQ(again, content);
  EXPECT_EQ(reader->pull_manifest("u", {}).bytes, sample_manifest("u")) << "what is new is seen by all";
}

TEST_F(OciArchive, FailedPushLeavesTheOldArchiveAndNothingElse) {
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  const std::string before = bytes();
  push_text(*repository_, noise(1 << 20));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(repository_->push_manifest("u", kManifestType, sample_manifest("u"), stop.get_token()),
               Cancelled);
  repository_.reset();
  EXPECT_EQ(bytes(), before);
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(directory_.path()))
    files += entry.is_regular_file();
  EXPECT_EQ(files, 1u);
}

TEST_F(OciArchive, NewArchiveTakesOverPermissionsAndStaysBehindALink) {
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
  const fs::path link = directory_.path() / "link.tar";
  fs::create_symlink("images.tar", link);
  open_at(link)->push_manifest("u", kManifestType, sample_manifest("u"), {});
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(repository_->pull_manifest("u", {}).bytes, sample_manifest("u"));
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(OciArchive, ConcurrentProcessesLoseNoTag) {
  constexpr int kProcesses = 3;
  constexpr int kTags = 4;
  std::vector<pid_t> children;
  for (int process = 0; process < kProcesses; ++process) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        for (int i = 0; i < kTags; ++i) {
          const std::string tag = fmt::format("p{}-{}", process, i);
          const auto repository = open();
          push_text(*repository, "layer of " + tag);
          repository->push_manifest(tag, kManifestType, sample_manifest(tag), {});
        }
        ::_exit(0);
      } catch (const std::exception& error) {
        fmt::print(stderr, "child: {}\n", error.what());
        ::_exit(1);
      }
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  for (int process = 0; process < kProcesses; ++process) {
    for (int i = 0; i < kTags; ++i) {
      const std::string tag = fmt::format("p{}-{}", process, i);
      EXPECT_EQ(repository_->pull_manifest(tag, {}).bytes, sample_manifest(tag));
      EXPECT_EQ(pull_text(*repository_, id_of("layer of " + tag)), "layer of " + tag);
    }
  }
}

TEST_F(OciArchive, BlobThatIsReliedUponIsKeptThoughTheFileIsGone) {
  push_text(*repository_, "shared");
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  const auto other = open();
  EXPECT_TRUE(other->has_blob(id_of("shared"), {}));  // so it is not pushed
  fs::remove(path_);
  other->push_manifest("u", kManifestType, sample_manifest("u"), {});
  EXPECT_EQ(pull_text(*open(), id_of("shared")), "shared");
}

TEST_F(OciArchive, ReferrerWithoutATagIsWrittenAtOnce) {
  const Digest subject = repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  const std::string referrer = fmt::format(
      R"({{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"a/b"}},"layers":[],"subject":{{"mediaType":"{}",)"
      R"("digest":"{}","size":{}}}}})",
      kManifestType, kManifestType, subject.text(), sample_manifest().size());
  const Digest digest = repository_->push_manifest(std::nullopt, kManifestType, referrer, {});
  const auto found = open()->list_referrers(subject, {});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].manifest.digest, digest);
  EXPECT_TRUE(open()->list_referrers(digest, {}).empty());
}

TEST_F(OciArchive, CompressedArchiveIsReadButNotWritten) {
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  const Bytes plain = obd::test::to_bytes(bytes());
  for (const Bytes& packed : {obd::test::gzip(plain), obd::test::zstd(plain)}) {
    write(packed);
    const auto other = open();
    EXPECT_EQ(other->pull_manifest("t", {}).bytes, sample_manifest());
    EXPECT_THAT(
        message_of<UsageError>([&] { other->push_manifest("u", kManifestType, sample_manifest("u"), {}); }),
        HasSubstr("unpack it"));
  }
  write(obd::test::to_bytes("BZh91AY"));
  EXPECT_THAT(message_of<UsageError>([&] { open()->pull_manifest("t", {}); }), HasSubstr("bzip2"));
}

TEST_F(OciArchive, MalformedArchivesAreRefused) {
  const std::string index = R"({"manifests":[]})";
  const std::vector<std::pair<Bytes, std::string>> cases = {
      {obd::test::to_bytes("no archive"), "tar archive"},
      {TarBuilder().end().bytes(), "no member oci-layout"},
      {TarBuilder().file("x", "y").end().bytes(), "no member oci-layout"},
      {TarBuilder().file("manifest.json", "[]").end().bytes(), "looks like a docker-archive"},
      {TarBuilder().file("oci-layout", kMarker).end().bytes(), "no member 'index.json'"},
      {TarBuilder()
           .file("oci-layout", R"({"imageLayoutVersion":"2.0.0"})")
           .file("index.json", index)
           .end()
           .bytes(),
       "2.0.0"},
      {TarBuilder().file("oci-layout", std::string(100'000, ' ')).file("index.json", index).end().bytes(),
       "more than"},
      {TarBuilder().file("oci-layout", kMarker).file("index.json", "[]").end().bytes(),
       "no list of manifests"},
      {TarBuilder().file("oci-layout", kMarker).symlink("index.json", "../x").end().bytes(),
       "out of the archive"},
  };
  for (const auto& [archive, part] : cases) {
    write(archive);
    EXPECT_THAT(message_of<DataError>([&] { open()->pull_manifest("t", {}); }), HasSubstr(part));
    EXPECT_THROW(open()->push_manifest("t", kManifestType, sample_manifest(), {}), DataError) << part;
    EXPECT_EQ(bytes(), text_of(archive)) << "it stays as it was";
  }
}

TEST_F(OciArchive, HostileNamesAreNotWrittenAgain) {
  write(TarBuilder()
            .file("oci-layout", kMarker)
            .file("index.json", R"({"manifests":[]})")
            .file("../../etc/cron.d/x", "evil")
            .end()
            .bytes());
  EXPECT_THAT(message_of<IoError>([&] { repository_->pull_manifest("t", {}); }), HasSubstr("it is empty"));
  EXPECT_THAT(
      message_of<DataError>([&] { repository_->push_manifest("t", kManifestType, sample_manifest(), {}); }),
      HasSubstr("not written again"));
}

TEST_F(OciArchive, TagBehindTheFileIsPointedOut) {
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  EXPECT_THAT(message_of<UsageError>([&] { open_at(path_.string() + ":t"); }), HasSubstr("give it apart"));
  const fs::path odd = directory_.path() / "odd:name.tar";
  open_at(odd)->push_manifest("t", kManifestType, sample_manifest(), {});
  EXPECT_TRUE(fs::exists(odd));
}

TEST(OpenRepository, ArchivesNeedAFile) {
  EXPECT_THROW(open_repository("oci-archive:", {}), UsageError);
  EXPECT_THROW(open_repository("docker-archive:", {}), UsageError);
  EXPECT_EQ(open_repository("oci-archive:a/b.tar", {})->name(), "oci-archive:a/b.tar");
}

}  // namespace
}  // namespace obd::registry::test
