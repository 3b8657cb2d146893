#include "registry/http_repository.h"

#include <fmt/format.h>

#include <cstring>

#include "common/error.h"
#include "registry/async_hash.h"
#include "registry/blob_reader.h"
#include "registry/manifest_form.h"
#include "registry/referrers.h"
#include "registry/remote_source.h"

namespace obd::registry {
namespace {

std::string accepted_manifests() {
  return fmt::format("{}, {}, {}, {}", media_type::kOciIndex, media_type::kOciManifest,
                     media_type::kDockerIndex, media_type::kDockerManifest);
}

class BytesSource final : public ByteSource {
 public:
  explicit BytesSource(std::string_view bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  std::string name() const override { return "bytes in memory"; }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }

 private:
  std::string_view bytes_;
};

HttpResponse send_manifest(RegistryClient& client, const Call& call, const std::stop_token& stop) {
  try {
    return client.send(call, stop);
  } catch (const NetworkError& error) {
    const bool missing =
        std::string_view(error.what()).find("MANIFEST_BLOB_UNKNOWN") != std::string_view::npos;
    if (missing) throw MissingBlobError(error);
    throw;
  }
}

/// Refuses content that is not what was asked for, or not what the registry says that it sends.
void check_manifest_digest(const Digest& found, const std::string& reference, const HttpResponse& response) {
  const auto check = [&](std::string_view expected, std::string_view who) {
    if (!Digest::is_valid(expected) || expected == found.text()) return;
    throw DataError(fmt::format("GET {}: the content has the digest {}, but {} {}", response.url->redacted(),
                                found.text(), who, expected));
  };
  check(reference, "what was asked for is");
  check(response.header("docker-content-digest").value_or(""), "the registry calls it");
}

}  // namespace

HttpRepository::HttpRepository(RepositoryName name, Options options)
    : client_(std::make_shared<RegistryClient>(std::move(name), std::move(options.client))),
      uploader_(client_),
      work_directory_(std::move(options.work_directory)),
      spool_memory_bytes_(options.spool_memory_bytes) {}

std::string HttpRepository::name() const {
  return client_->name().display;
}

std::optional<RepositoryLocation> HttpRepository::location() const {
  return RepositoryLocation{client_->name().authority, client_->name().path};
}

Manifest HttpRepository::pull_manifest(const std::string& reference, std::stop_token stop) {
  check_reference(reference);
  Call call{.request = {.method = "GET", .url = client_->url(fmt::format("manifests/{}", reference), stop)}};
  call.request.headers.push_back({"Accept", accepted_manifests()});
  call.request.max_body_bytes = kMaxManifestBytes;
  HttpResponse response = client_->send(call, stop);
  Digest digest = Digest::of(response.body);
  check_manifest_digest(digest, reference, response);
  std::string type = manifest_media_type(response.body, response.header("content-type").value_or(""),
                                         fmt::format("GET {}", response.url->redacted()));
  return {std::move(type), std::move(response.body), std::move(digest), response.header("etag")};
}

void HttpRepository::pull_blob(const BlobId& blob, const BlobConsumer& consume, std::stop_token stop) {
  AsyncSha256 hash;
  const auto take = [&](std::span<const std::byte> data) {
    hash.update(data);
    consume(data);
  };
  read_blob(*client_, blob, take, stop);
  const Digest found = hash.finish();
  if (found != blob.digest) {
    throw DataError(
        fmt::format("{}: the content of {} has the digest {}", name(), blob.digest.text(), found.text()));
  }
}

std::unique_ptr<ByteSource> HttpRepository::open_blob(const BlobId& blob) {
  return std::make_unique<RemoteSource>(client_, blob);
}

bool HttpRepository::has_blob(const BlobId& blob, std::stop_token stop) {
  return uploader_.has(blob, stop);
}

bool HttpRepository::mount_blob(const BlobId& blob, const std::string& from_repository_path,
                                std::stop_token stop) {
  return uploader_.mount(blob, from_repository_path, stop);
}

std::unique_ptr<Spool> HttpRepository::new_spool() {
  return std::make_unique<Spool>(
      Spool::Options{.directory = work_directory_, .memory_limit = spool_memory_bytes_});
}

Digest HttpRepository::push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) {
  return uploader_.push(*spool, stop);
}

Digest HttpRepository::push_bytes(std::string_view content, std::stop_token stop) {
  Digest digest = Digest::of(content);
  if (!uploader_.has({digest, content.size()}, stop))
    uploader_.push_known(BytesSource(content), digest, stop);
  return digest;
}

std::optional<Digest> HttpRepository::put_manifest(const std::optional<std::string>& tag,
                                                   const std::string& media_type, std::string_view bytes,
                                                   const std::optional<std::string>& if_match,
                                                   const std::stop_token& stop) {
  if (tag && !is_valid_tag(*tag)) throw UsageError(fmt::format("'{}' is not a tag", tag->substr(0, 129)));
  Digest digest = Digest::of(bytes);
  const auto referral = find_referral(bytes, media_type);
  Call call{.request = {.method = "PUT",
                        .url = client_->url(fmt::format("manifests/{}", tag.value_or(digest.text())), stop)},
            .access = Access::kPush};
  call.request.headers.push_back({"Content-Type", media_type});
  if (if_match) {
    call.request.headers.push_back({"If-Match", *if_match});
    call.answers = {412};
  }
  call.request.body = body_of(bytes);
  const HttpResponse response = send_manifest(*client_, call, stop);
  if (!response.ok()) return std::nullopt;
  const auto stored = response.header("docker-content-digest");
  if (stored && Digest::is_valid(*stored) && *stored != digest.text()) {
    throw DataError(fmt::format("PUT {}: the registry stored {} instead of {}", response.url->redacted(),
                                *stored, digest.text()));
  }
  // A registry that knows subjects says so; for others, clients keep the list.
  if (referral && !response.header("oci-subject")) ReferrersClient(*client_).add(*referral, stop);
  return digest;
}

Digest HttpRepository::push_manifest(const std::optional<std::string>& tag, const std::string& media_type,
                                     std::string_view bytes, std::stop_token stop) {
  return put_manifest(tag, media_type, bytes, std::nullopt, stop).value();
}

bool HttpRepository::replace_manifest(const std::string& tag, const std::optional<Manifest>& expected,
                                      const std::string& media_type, std::string_view bytes,
                                      std::stop_token stop) {
  return put_manifest(tag, media_type, bytes, expected ? expected->etag : std::nullopt, stop).has_value();
}

std::vector<Referrer> HttpRepository::list_referrers(const Digest& subject, std::stop_token stop) {
  return ReferrersClient(*client_).list(subject, stop);
}

}  // namespace obd::registry
