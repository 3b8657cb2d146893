// What registry.h promises, tried on every implementation of it.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>
#include <thread>

#include "tests/support/tar_builder.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

namespace fs = std::filesystem;

/// An implementation that may be read only.
class ReadableBackend {
 public:
  virtual ~ReadableBackend() = default;
  virtual Repository& repository() = 0;
  /// Makes it hold an image "1.0" of one layer; called before anything is read. The layer's bytes are no tar:
  /// no repository looks into them.
  virtual void add_image(const std::string& layer) = 0;
};

std::string config_with(const std::string& layer) {
  return fmt::format(R"({{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}})", Digest::of(layer).text());
}

/// What `docker save` writes.
class DockerArchiveBackend final : public ReadableBackend {
 public:
  DockerArchiveBackend()
      : repository_(
            open_repository("docker-archive:" + path(), {.work_directory = directory_.path() / "work"})) {}
  Repository& repository() override { return *repository_; }
  void add_image(const std::string& layer) override {
    const obd::test::Bytes archive =
        obd::test::TarBuilder()
            .file("layer.tar", layer)
            .file("config.json", config_with(layer))
            .file("manifest.json",
                  R"([{"Config":"config.json","RepoTags":["app:1.0"],"Layers":["layer.tar"]}])")
            .end()
            .bytes();
    obd::test::write_file(path(), text_of(archive));
  }

 private:
  std::string path() const { return (directory_.path() / "saved.tar").string(); }

  TemporaryDirectory directory_;
  std::unique_ptr<Repository> repository_;
};

/// An implementation, and a way around it.
class Backend : public ReadableBackend {
 public:
  void add_image(const std::string& layer) override {
    const auto descriptor = [](const BlobId& id) {
      return fmt::format(R"({{"mediaType":"x/y","digest":"{}","size":{}}})", id.digest.text(), id.size);
    };
    push_text(repository(), layer);
    repository().push_bytes(config_with(layer), {});
    repository().push_manifest("1.0", std::string(media_type::kOciManifest),
                               fmt::format(R"({{"schemaVersion":2,"config":{},"layers":[{}]}})",
                                           descriptor(id_of(config_with(layer))), descriptor(id_of(layer))),
                               {});
  }
  /// Stores `content` under `digest` whether it has it or not.
  virtual void plant(const Digest& digest, const std::string& content) = 0;
};

class LayoutBackend final : public Backend {
 public:
  LayoutBackend() : repository_(open_repository("oci:" + (directory_.path() / "layout").string(), {})) {
    repository_->push_bytes("{}", {});
  }
  Repository& repository() override { return *repository_; }
  void plant(const Digest& digest, const std::string& content) override {
    std::ofstream(directory_.path() / "layout" / "blobs" / "sha256" / digest.hex()) << content;
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<Repository> repository_;
};

class OciArchiveBackend final : public Backend {
 public:
  OciArchiveBackend()
      : repository_(
            open_repository("oci-archive:" + path(), {.work_directory = directory_.path() / "work"})) {}
  Repository& repository() override { return *repository_; }
  /// Of members with one name the last one counts.
  void plant(const Digest& digest, const std::string& content) override {
    obd::test::TarBuilder tar;
    if (fs::exists(path())) {
      const std::string archive = obd::test::read_file(path());
      tar.raw(std::string_view(archive).substr(0, archive.size() - 1024));  // the end mark
    } else {
      tar.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})").file("index.json", R"({"manifests":[]})");
    }
    tar.file(fmt::format("blobs/sha256/{}", digest.hex()), content).end();
    obd::test::write_file(path(), text_of(tar.bytes()));
  }

 private:
  std::string path() const { return (directory_.path() / "images.tar").string(); }

  TemporaryDirectory directory_;
  std::unique_ptr<Repository> repository_;
};

class HttpBackend final : public Backend {
 public:
  Repository& repository() override { return *fixture_.repository; }
  void plant(const Digest& digest, const std::string& content) override {
    fixture_.registry.put_blob(digest.text(), content);
    fixture_.registry.put_manifest(digest.text(), "application/json", content);
  }

 private:
  HttpFixture fixture_;
};

template <class AnyBackend>
struct Maker {
  std::string name;
  std::function<std::unique_ptr<AnyBackend>()> make;
};
using ReadableImplementation = Maker<ReadableBackend>;
using Implementation = Maker<Backend>;

/// Else the names of the tests would hold addresses.
template <class AnyBackend>
void PrintTo(const Maker<AnyBackend>& implementation, std::ostream* out) {
  *out << implementation.name;
}

class RepositoryReading : public testing::TestWithParam<ReadableImplementation> {
 protected:
  RepositoryReading() : backend_(GetParam().make()), repository_(backend_->repository()) {}

  std::unique_ptr<ReadableBackend> backend_;
  Repository& repository_;
};

class RepositoryConformance : public testing::TestWithParam<Implementation> {
 protected:
  RepositoryConformance() : backend_(GetParam().make()), repository_(backend_->repository()) {}

  std::unique_ptr<Backend> backend_;
  Repository& repository_;
};

constexpr size_t kMegabyte = 1 << 20;

TEST_P(RepositoryReading, ImageIsFoundByTagAndByDigestWithAllThatItNames) {
  const std::string layer = noise(2 * kMegabyte + 17);
  backend_->add_image(layer);
  const Manifest tagged = repository_.pull_manifest("1.0", {});
  EXPECT_EQ(tagged.digest, Digest::of(tagged.bytes));
  EXPECT_EQ(repository_.pull_manifest(tagged.digest.text(), {}).bytes, tagged.bytes);
  EXPECT_EQ(repository_.pull_manifest(tagged.digest.text(), {}).media_type, tagged.media_type);
  for (const std::string& content : {layer, config_with(layer)}) {
    EXPECT_THAT(tagged.bytes, testing::HasSubstr(Digest::of(content).text()));
    EXPECT_TRUE(repository_.has_blob(id_of(content), {}));
    EXPECT_EQ(pull_text(repository_, id_of(content)), content);
  }
}

TEST_P(RepositoryReading, WhatIsMissingIsAnErrorThatNamesIt) {
  backend_->add_image("layer");
  const BlobId missing = id_of("nobody pushed this");
  EXPECT_FALSE(repository_.has_blob(missing, {}));
  EXPECT_THAT(message_of<Error>([&] { pull_text(repository_, missing); }),
              testing::HasSubstr(std::string(missing.digest.hex())));
  EXPECT_THAT(message_of<Error>([&] { repository_.pull_manifest("no-such-tag", {}); }),
              testing::HasSubstr("no-such-tag"));
  EXPECT_THROW(repository_.pull_manifest(missing.digest.text(), {}), Error);
}

TEST_P(RepositoryReading, ReferenceThatIsNeitherTagNorDigestIsRefused) {
  backend_->add_image("layer");
  for (const char* reference :
       {"sha256:../../etc/passwd", "sha256:ABC", "sha512:00", "../x", "a/b", "", ".x"}) {
    EXPECT_THROW(repository_.pull_manifest(reference, {}), Error) << reference;
  }
}

TEST_P(RepositoryReading, StoppedBeforehandDoesNothing) {
  backend_->add_image("layer");
  std::stop_source stopped;
  stopped.request_stop();
  EXPECT_THROW(pull_text(repository_, id_of("layer"), stopped.get_token()), Cancelled);
  EXPECT_THROW(repository_.pull_manifest("1.0", stopped.get_token()), Cancelled);
  EXPECT_THROW(repository_.has_blob(id_of("layer"), stopped.get_token()), Cancelled);
}

TEST_P(RepositoryReading, BlobOfAnotherSizeIsRefused) {
  const std::string content = noise(10'000);
  backend_->add_image(content);
  const Digest digest = Digest::of(content);
  EXPECT_THROW(pull_text(repository_, {digest, 9'999}), DataError);
  EXPECT_THROW(pull_text(repository_, {digest, 10'001}), DataError);
  EXPECT_FALSE(repository_.has_blob({digest, 9'999}, {}));
}

TEST_P(RepositoryReading, RandomAccessSeesTheSameBytes) {
  const std::string content = noise(2 * kMegabyte + 123);
  backend_->add_image(content);
  const Digest digest = Digest::of(content);
  const auto source = repository_.open_blob({digest, content.size()});
  ASSERT_EQ(source->size(), content.size());
  const auto expect_part = [&](uint64_t offset, size_t length) {
    std::string part(length, '\0');
    source->read_at(offset, std::as_writable_bytes(std::span(part)));
    EXPECT_EQ(part, content.substr(offset, length)) << offset << "+" << length;
  };
  expect_part(content.size() - 10, 10);
  expect_part(256 * 1024 - 5, 10);
  expect_part(0, content.size());
  expect_part(7, 0);
  std::string beyond(11, '\0');
  EXPECT_THROW(source->read_at(content.size() - 10, std::as_writable_bytes(std::span(beyond))), DataError);
}

TEST_P(RepositoryReading, ConsumerThatThrowsEndsThePull) {
  const std::string content = noise(kMegabyte);
  backend_->add_image(content);
  const Digest digest = Digest::of(content);
  int calls = 0;
  const auto consume = [&](std::span<const std::byte>) {
    ++calls;
    throw NetworkError("not of the transfer", 0, true);
  };
  EXPECT_THAT(message_of<NetworkError>([&] {
                repository_.pull_blob({digest, content.size()}, consume, {});
              }),
              testing::HasSubstr("not of the transfer"));
  EXPECT_EQ(calls, 1);
}

TEST_P(RepositoryReading, StopDuringAPullEndsIt) {
  const std::string content = noise(4 * kMegabyte);
  backend_->add_image(content);
  const Digest digest = Digest::of(content);
  std::stop_source source;
  uint64_t taken = 0;
  const auto consume = [&](std::span<const std::byte> data) {
    taken += data.size();
    source.request_stop();
  };
  EXPECT_THROW(repository_.pull_blob({digest, content.size()}, consume, source.get_token()), Cancelled);
  EXPECT_LE(taken, kMegabyte);
}

TEST_P(RepositoryReading, OneSourceServesManyThreadsAtOnce) {
  const std::string content = noise(3 * kMegabyte);
  backend_->add_image(content);
  const Digest digest = Digest::of(content);
  const auto source = repository_.open_blob({digest, content.size()});
  std::vector<std::jthread> threads;
  for (uint64_t first = 0; first < 6; ++first) {
    threads.emplace_back([&, first] {
      for (uint64_t offset = first * 1000; offset + 4096 <= content.size(); offset += 300'000) {
        std::string part(4096, '\0');
        source->read_at(offset, std::as_writable_bytes(std::span(part)));
        EXPECT_EQ(part, content.substr(offset, part.size()));
      }
    });
  }
}

TEST_P(RepositoryReading, SmallBlobThatClaimsToBeLargeIsRefusedUnread) {
  backend_->add_image("x");
  EXPECT_THROW(pull_small_blob(repository_, {Digest::of("x"), kMaxManifestBytes + 1}, {}), DataError);
}

INSTANTIATE_TEST_SUITE_P(
    All, RepositoryReading,
    testing::Values(
        ReadableImplementation{"Layout", [] { return std::make_unique<LayoutBackend>(); }},
        ReadableImplementation{"OciArchive", [] { return std::make_unique<OciArchiveBackend>(); }},
        ReadableImplementation{"DockerArchive", [] { return std::make_unique<DockerArchiveBackend>(); }},
        ReadableImplementation{"Http", [] { return std::make_unique<HttpBackend>(); }}),
    [](const auto& instance) { return instance.param.name; });

TEST_P(RepositoryConformance, SpoolComesBackAsItWasPushed) {
  for (const size_t size : {size_t{0}, size_t{1}, 256 * 1024 - size_t{1}, 3 * kMegabyte + 17}) {
    const std::string content = noise(size);
    const BlobId id = id_of(content);
    EXPECT_FALSE(repository_.has_blob(id, {})) << size;
    EXPECT_EQ(push_text(repository_, content), id.digest);
    EXPECT_TRUE(repository_.has_blob(id, {})) << size;
    EXPECT_EQ(pull_text(repository_, id), content);
  }
}

TEST_P(RepositoryConformance, PushingTheSameTwiceIsHarmless) {
  const std::string content = noise(5000);
  push_text(repository_, content);
  push_text(repository_, content);
  EXPECT_EQ(repository_.push_bytes(content, {}), Digest::of(content));
  EXPECT_EQ(pull_text(repository_, id_of(content)), content);
}

TEST_P(RepositoryConformance, SpoolThatWasCorrectedAtItsFrontIsPushedCorrected) {
  const std::shared_ptr<Spool> spool = repository_.new_spool();
  std::string content = noise(2 * kMegabyte);
  spool->append(std::as_bytes(std::span(content)));
  content.replace(0, 4, "head");
  spool->overwrite(0, std::as_bytes(std::span(content)).first(4));
  EXPECT_EQ(repository_.push_spool(spool, {}), Digest::of(content));
  EXPECT_EQ(pull_text(repository_, id_of(content)), content);
}

TEST_P(RepositoryConformance, SmallContentRoundTrips) {
  const std::string content = R"({"os":"linux"})";
  const Digest digest = repository_.push_bytes(content, {});
  EXPECT_EQ(digest, Digest::of(content));
  EXPECT_EQ(pull_small_blob(repository_, {digest, content.size()}, {}), content);
}

TEST_P(RepositoryConformance, ManifestIsFoundByTagAndByDigest) {
  const std::string bytes = sample_manifest();
  const Digest digest = repository_.push_manifest("1.0", std::string(media_type::kOciManifest), bytes, {});
  for (const std::string& reference : {std::string("1.0"), digest.text()}) {
    const Manifest manifest = repository_.pull_manifest(reference, {});
    EXPECT_EQ(manifest.bytes, bytes);
    EXPECT_EQ(manifest.digest, digest);
    EXPECT_EQ(manifest.media_type, media_type::kOciManifest);
  }
}

TEST_P(RepositoryConformance, ManifestWithoutTagIsFoundByDigest) {
  const std::string bytes = sample_manifest();
  const Digest digest =
      repository_.push_manifest(std::nullopt, std::string(media_type::kOciManifest), bytes, {});
  EXPECT_EQ(repository_.pull_manifest(digest.text(), {}).bytes, bytes);
}

TEST_P(RepositoryConformance, TagMovesToTheManifestPushedLast) {
  const std::string type(media_type::kOciManifest);
  const Digest first = repository_.push_manifest("latest", type, sample_manifest("a"), {});
  const Digest second = repository_.push_manifest("latest", type, sample_manifest("b"), {});
  EXPECT_EQ(repository_.pull_manifest("latest", {}).digest, second);
  EXPECT_EQ(repository_.pull_manifest(first.text(), {}).bytes, sample_manifest("a"));
}

TEST_P(RepositoryConformance, ContentWithAnotherDigestIsRefused) {
  const Digest digest = Digest::of("what was meant");
  backend_->plant(digest, "what is there.");
  EXPECT_THAT(message_of<DataError>([&] {
                pull_text(repository_, {digest, 14});
              }),
              testing::HasSubstr(digest.text()));
}

TEST_P(RepositoryConformance, ManifestWithAnotherDigestIsRefused) {
  const Digest digest = Digest::of(sample_manifest("a"));
  backend_->plant(digest, sample_manifest("b"));
  EXPECT_THROW(repository_.pull_manifest(digest.text(), {}), DataError);
}

TEST_P(RepositoryConformance, NothingIsPushedUnderWhatIsNoTag) {
  EXPECT_THROW(repository_.push_manifest("a/b", std::string(media_type::kOciManifest), "{}", {}), UsageError);
}

TEST_P(RepositoryConformance, DocumentThatIsNoManifestIsRefused) {
  for (const std::string bytes : {"not json", "[]", "{}", R"({"manifests":[],"layers":[]})"}) {
    const Digest digest = Digest::of(bytes);
    backend_->plant(digest, bytes);
    EXPECT_THROW(repository_.pull_manifest(digest.text(), {}), DataError) << bytes;
  }
}

TEST_P(RepositoryConformance, DeeplyNestedManifestIsRefused) {
  const std::string bytes = R"({"layers":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  backend_->plant(Digest::of(bytes), bytes);
  EXPECT_THAT(message_of<DataError>([&] { repository_.pull_manifest(Digest::of(bytes).text(), {}); }),
              testing::HasSubstr("nested"));
}

TEST_P(RepositoryConformance, StoppedBeforehandDoesNothing) {
  const BlobId id = id_of(noise(100));
  std::stop_source stopped;
  stopped.request_stop();
  const std::stop_token stop = stopped.get_token();
  EXPECT_THROW(push_text(repository_, noise(100), stop), Cancelled);
  EXPECT_THROW(repository_.push_bytes("content", stop), Cancelled);
  EXPECT_THROW(repository_.push_manifest("t", std::string(media_type::kOciManifest), sample_manifest(), stop),
               Cancelled);
  EXPECT_THROW(pull_text(repository_, id, stop), Cancelled);
  EXPECT_THROW(repository_.pull_manifest("t", stop), Cancelled);
  EXPECT_THROW(repository_.has_blob(id, stop), Cancelled);
  EXPECT_FALSE(repository_.has_blob(id, {}));
}

TEST_P(RepositoryConformance, ServesManyThreadsAtOnce) {
  constexpr unsigned kThreads = 8;
  const auto work = [&](unsigned seed) {
    const std::string content = noise(100'000 + seed, seed);
    const Digest digest = push_text(repository_, content);
    EXPECT_EQ(pull_text(repository_, {digest, content.size()}), content);
    EXPECT_TRUE(repository_.has_blob({digest, content.size()}, {}));
    repository_.push_manifest(fmt::format("t{}", seed), std::string(media_type::kOciManifest),
                              sample_manifest(std::to_string(seed)), {});
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned seed = 1; seed <= kThreads; ++seed) threads.emplace_back(work, seed);
  }
  for (unsigned seed = 1; seed <= kThreads; ++seed) {
    EXPECT_EQ(repository_.pull_manifest(fmt::format("t{}", seed), {}).bytes,
              sample_manifest(std::to_string(seed)));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RepositoryConformance,
    testing::Values(Implementation{"Layout", [] { return std::make_unique<LayoutBackend>(); }},
                    Implementation{"OciArchive", [] { return std::make_unique<OciArchiveBackend>(); }},
                    Implementation{"Http", [] { return std::make_unique<HttpBackend>(); }}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace obd::registry::test
