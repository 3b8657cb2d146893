#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const std::string kManifestType(media_type::kOciManifest);

class Layout : public testing::Test {
 protected:
  Layout() : path_(directory_.path() / "layout"), repository_(open()) {}

  std::unique_ptr<Repository> open() const { return open_repository("oci:" + path_.string(), {}); }
  Json index() const { return Json::parse(std::ifstream(path_ / "index.json")); }
  void write_index(const std::string& text) const { std::ofstream(path_ / "index.json") << text; }

  TemporaryDirectory directory_;
  const fs::path path_;
  std::unique_ptr<Repository> repository_;
};

TEST_F(Layout, IsMadeByTheFirstPushAndNotBefore) {
  EXPECT_THROW(repository_->pull_manifest("x", {}), IoError);
  EXPECT_FALSE(repository_->has_blob(id_of("x"), {}));
  EXPECT_FALSE(fs::exists(path_));
  repository_->push_bytes("x", {});
  EXPECT_EQ(Json::parse(std::ifstream(path_ / "oci-layout"))["imageLayoutVersion"], "1.0.0");
  EXPECT_EQ(index()["schemaVersion"], 2);
}

TEST_F(Layout, MissingLayoutIsNamed) {
  EXPECT_THAT(
      message_of<IoError>([&] { repository_->pull_manifest("x", {}); }),
      testing::AllOf(testing::HasSubstr(path_.string()), testing::HasSubstr("not an OCI image layout")));
}

TEST_F(Layout, MarkerThatAKilledProcessLeftEmptyIsRepaired) {
  fs::create_directories(path_);
  std::ofstream(path_ / "oci-layout").close();
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  EXPECT_EQ(repository_->pull_manifest("t", {}).bytes, sample_manifest());
}

TEST_F(Layout, IsWholeForAReaderFromTheMomentItIsThere) {
  constexpr int kRounds = 50;
  for (int round = 0; round < kRounds; ++round) {
    fs::remove_all(path_);
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] { open()->push_bytes("x", {}); });
        threads.emplace_back([&] {
          for (int tries = 0; tries < 20; ++tries) {
            try {
              open()->pull_manifest("t", {});
            } catch (const Error& error) {  // nothing there yet, or no such tag
              const bool is_whole =
                  dynamic_cast<const IoError*>(&error) != nullptr &&
                  std::string_view(error.what()).find("index.json") == std::string_view::npos;
              EXPECT_TRUE(is_whole) << error.what();
            }
          }
        });
      }
    }
    EXPECT_EQ(index()["schemaVersion"], 2);
  }
}

TEST_F(Layout, VersionFromTheFutureIsRefused) {
  repository_->push_bytes("x", {});
  std::ofstream(path_ / "oci-layout") << R"({"imageLayoutVersion":"2.0.0"})";
  EXPECT_THAT(message_of<DataError>([&] { repository_->pull_manifest("t", {}); }),
              testing::HasSubstr("2.0.0"));
}

TEST_F(Layout, UntaggedManifestIsNotListed) {
  repository_->push_manifest(std::nullopt, kManifestType, sample_manifest(), {});
  EXPECT_TRUE(index()["manifests"].empty());
}

TEST_F(Layout, TagKeepsEverythingElseInTheIndex) {
  repository_->push_bytes("x", {});
  const std::string digest = Digest::of("elsewhere").text();
  write_index(fmt::format(
      R"({{"zebra":1,"schemaVersion":2,"manifests":[{{"digest":"{}","size":7,"mediaType":"a/b","custom":{{"k":[1,2.5]}},)"
      R"("annotations":{{"org.opencontainers.image.ref.name":"other","more":"yes"}}}}],"annotations":{{"n":"ä"}}}})",
      digest));
  const Json before = index();
  repository_->push_manifest("mine", kManifestType, sample_manifest(), {});
  Json after = index();
  ASSERT_EQ(after["manifests"].size(), 2u);
  EXPECT_EQ(after["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"], "mine");
  after["manifests"].erase(1);
  EXPECT_EQ(after.dump(), before.dump());
}

TEST_F(Layout, ReplacedTagStandsOnceAndInItsPlace) {
  for (const char* tag : {"a", "b", "c"})
    repository_->push_manifest(tag, kManifestType, sample_manifest(tag), {});
  repository_->push_manifest("b", kManifestType, sample_manifest("new"), {});
  const Json manifests = index()["manifests"];
  ASSERT_EQ(manifests.size(), 3u);
  EXPECT_EQ(manifests[1]["digest"], Digest::of(sample_manifest("new")).text());
  EXPECT_EQ(manifests[1]["size"], sample_manifest("new").size());
}

TEST_F(Layout, AmbiguousTagIsAnErrorUntilItIsPushedAgain) {
  repository_->push_manifest("a", kManifestType, sample_manifest("a"), {});
  repository_->push_manifest("b", kManifestType, sample_manifest("b"), {});
  Json changed = index();
  changed["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"] = "a";
  write_index(changed.dump());
  EXPECT_THAT(message_of<DataError>([&] { repository_->pull_manifest("a", {}); }),
              testing::HasSubstr("several manifests"));
  repository_->push_manifest("a", kManifestType, sample_manifest("c"), {});
  EXPECT_EQ(repository_->pull_manifest("a", {}).bytes, sample_manifest("c"));
}

TEST_F(Layout, UnknownTagIsAnsweredWithThoseThatAreThere) {
  repository_->push_manifest("1.4", kManifestType, sample_manifest(), {});
  EXPECT_THAT(message_of<IoError>([&] { repository_->pull_manifest("1.5", {}); }), testing::HasSubstr("1.4"));
}

TEST_F(Layout, ManifestWithoutTagIsOfferedByDigest) {
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  Json changed = index();
  changed["manifests"][0].erase("annotations");
  write_index(changed.dump());
  EXPECT_THAT(message_of<IoError>([&] { repository_->pull_manifest("t", {}); }),
              testing::HasSubstr(Digest::of(sample_manifest()).text()));
}

TEST_F(Layout, MediaTypeOfAnUnlistedManifestIsFoundInIt) {
  const std::string index_bytes = R"({"schemaVersion":2,"manifests":[]})";
  const std::string docker =
      fmt::format(R"({{"mediaType":"{}","layers":[],"config":{{}}}})", media_type::kDockerManifest);
  repository_->push_bytes(index_bytes, {});
  repository_->push_bytes(docker, {});
  EXPECT_EQ(repository_->pull_manifest(Digest::of(index_bytes).text(), {}).media_type, media_type::kOciIndex);
  EXPECT_EQ(repository_->pull_manifest(Digest::of(docker).text(), {}).media_type,
            media_type::kDockerManifest);
}

TEST_F(Layout, MalformedIndexIsRefused) {
  repository_->push_bytes("x", {});
  for (const char* text : {"", "{", "[]", "{}", R"({"manifests":{}})",
                           R"({"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"t"}}]})",
                           R"({"manifests":[{"size":1,"digest":"sha256:../../x","annotations":)"
                           R"({"org.opencontainers.image.ref.name":"t"}}]})"}) {
    write_index(text);
    EXPECT_THROW(repository_->pull_manifest("t", {}), DataError) << text;
  }
  for (const char* text : {"", "[]", R"({"manifests":{}})"}) {
    write_index(text);
    EXPECT_THROW(repository_->push_manifest("t", kManifestType, sample_manifest(), {}), DataError) << text;
  }
}

TEST_F(Layout, SpoolIsRenamedAndNotCopied) {
  const std::shared_ptr<Spool> spool = repository_->new_spool();
  const std::string content = noise(100'000);
  spool->append(std::as_bytes(std::span(content)));
  const Digest digest = repository_->push_spool(spool, {});
  EXPECT_FALSE(fs::exists(path_ / "blobs" / "sha256" / digest.hex())) << "before a manifest names it";
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  EXPECT_EQ(fs::file_size(path_ / "blobs" / "sha256" / digest.hex()), content.size());
}

TEST_F(Layout, NothingTemporaryStays) {
  push_text(*repository_, noise(100'000));
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  {
    const auto dropped = repository_->new_spool();
    dropped->append(std::as_bytes(std::span("never pushed")));
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {
    if (entry.is_regular_file()) names.push_back(entry.path().filename());
  }
  EXPECT_EQ(names.size(), 4u) << testing::PrintToString(names);
}

TEST_F(Layout, WhatAKilledProcessLeftIsRemovedByTheNextPush) {
  repository_->push_bytes("x", {});
  const fs::path stale[] = {path_ / ".obd-tmp-1-0", path_ / "blobs" / "sha256" / ".obd-tmp-1-1"};
  for (const fs::path& path : stale) std::ofstream(path) << "half a blob";
  open()->push_bytes("y", {});
  for (const fs::path& path : stale) EXPECT_FALSE(fs::exists(path));
}

TEST_F(Layout, NamesOfTemporariesMayBeTaken) {
  repository_->push_bytes("x", {});
  // Another process with the same id, in another container that shares this directory.
  for (int i = 0; i < 2000; ++i) std::ofstream(path_ / fmt::format(".obd-tmp-{}-{}", ::getpid(), i)) << "";
  repository_->push_manifest("t", kManifestType, sample_manifest(), {});
  EXPECT_EQ(repository_->pull_manifest("t", {}).bytes, sample_manifest());
}

TEST_F(Layout, ConcurrentProcessesLoseNoTag) {
  constexpr int kProcesses = 4;
  constexpr int kTags = 10;
  const auto push_all = [&](int process) {
    for (int i = 0; i < kTags; ++i) {  // a new repository each time: each looks for what killed ones left
      const std::string tag = fmt::format("p{}-{}", process, i);
      open()->push_manifest(tag, kManifestType, sample_manifest(tag), {});
    }
  };
  std::vector<pid_t> children;
  for (int process = 0; process < kProcesses; ++process) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        push_all(process);
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
  EXPECT_EQ(index()["manifests"].size(), size_t{kProcesses * kTags});
}

TEST_F(Layout, RepositoriesOfOneProcessLoseNoTag) {
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        open()->push_manifest(fmt::format("t{}", i), kManifestType, sample_manifest(std::to_string(i)), {});
      });
    }
  }
  EXPECT_EQ(index()["manifests"].size(), 8u);
}

TEST(OpenRepository, LayoutNeedsADirectory) {
  EXPECT_THROW(open_repository("oci:", {}), UsageError);
}

TEST(OpenRepository, NamesWhatItOpened) {
  EXPECT_EQ(open_repository("ubuntu", {})->name(), "docker.io/library/ubuntu");
  EXPECT_EQ(open_repository("oci:/a/b", {})->name(), "oci:/a/b");
}

}  // namespace
}  // namespace obd::registry::test
