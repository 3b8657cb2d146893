#include "registry/http_repository.h"

#include <fmt/format.h>

#include <cstring>

#include "common/error.h"
#include "registry/async_hash.h"
#include "registry/blob_reader.h"
#include "registry/http_error.h"
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

void require_tag(const std::optional<std::string>& tag) {
  if (tag && !is_valid_tag(*tag)) throw UsageError(fmt::format("'{}' is not a tag", tag->substr(0, 129)));
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
  return uploader_.find(blob, Access::kPull, stop) == BlobUploader::Presence::kThere;
}

bool HttpRepository::mount_blob(const BlobId& blob, const std::string& from_repository_path,
                                std::stop_token stop) {
  return uploader_.mount(blob, from_repository_path, stop);
}

std::unique_ptr<Spool> HttpRepository::new_spool() {
  return std::make_unique<Spool>(
      Spool::Options{.directory = work_directory_, .memory_limit = spool_memory_bytes_});
}

/// A registry may keep what it has under a digest, damaged as that is, when the blob is sent again.
void HttpRepository::push_unless_there(const BlobId& blob, const std::function<void()>& push,
                                       const std::stop_token& stop) {
  const BlobUploader::Presence found = uploader_.find(blob, Access::kPush, stop);
  if (found == BlobUploader::Presence::kThere) return;
  push();
  const auto is_damaged = [&] {
    return uploader_.find(blob, Access::kPull, stop) == BlobUploader::Presence::kOtherSize;
  };
  if (found == BlobUploader::Presence::kMissing || !is_damaged()) return;
  const auto refuse = [&](const Error& cause) {
    throw DataError(
        fmt::format("{} is damaged in {}, and is kept though it was sent again: have the registry's operator "
                    "restore it, or delete it from its storage, then try again ({})",
                    blob.digest.text(), name(), cause.what()));
  };
  try {
    pull_blob(
        blob, [](auto) {}, stop);
  } catch (const DataError& error) {
    refuse(error);
  } catch (const NetworkError& error) {
    if (error.http_status() != 0 || !is_damaged()) throw;
    refuse(error);  // the registry is within reach, but what it sends is too short
  }
}

Digest HttpRepository::push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) {
  Digest digest = spool->digest(stop);
  push_unless_there(
      {digest, spool->size()}, [&] { uploader_.push(*spool, digest, stop); }, stop);
  return digest;
}

Digest HttpRepository::push_bytes(std::string_view content, std::stop_token stop) {
  Digest digest = Digest::of(content);
  push_unless_there(
      {digest, content.size()}, [&] { uploader_.push_whole(BytesSource(content), digest, stop); }, stop);
  return digest;
}

/// None where the tag is no longer in the state `if_match`.
std::optional<HttpResponse> HttpRepository::put_manifest(const std::string& reference, const Digest& digest,
                                                         const std::string& media_type,
                                                         std::string_view bytes,
                                                         const std::optional<std::string>& if_match,
                                                         const std::stop_token& stop) {
  Call call{.request = {.method = "PUT", .url = client_->url("manifests/" + reference, stop)},
            .access = Access::kPush};
  call.request.headers.push_back({"Content-Type", media_type});
  if (if_match) {
    call.request.headers.push_back({"If-Match", *if_match});
    call.answers = {412};
  }
  call.request.body = body_of(bytes);
  HttpResponse response = client_->send(call, stop);
  if (!response.ok()) return std::nullopt;
  const auto stored = response.header("docker-content-digest");
  if (stored && Digest::is_valid(*stored) && *stored != digest.text()) {
    throw DataError(fmt::format("PUT {}: the registry stored {} instead of {}", response.url->redacted(),
                                *stored, digest.text()));
  }
  return response;
}

/// A registry that knows subjects says so; for others, clients keep the list.
void HttpRepository::add_to_referrers(const std::optional<Referral>& referral, const HttpResponse& response,
                                      const std::stop_token& stop) {
  if (referral && !response.header("oci-subject")) ReferrersClient(*client_).add(*referral, stop);
}

Digest HttpRepository::push_manifest(const std::optional<std::string>& tag, const std::string& media_type,
                                     std::string_view bytes, std::stop_token stop) {
  require_tag(tag);
  Digest digest = Digest::of(bytes);
  const auto referral = find_referral(bytes, media_type);
  // The tag comes last: it stands for the whole.
  if (!tag || referral) {
    const auto response = put_manifest(digest.text(), digest, media_type, bytes, std::nullopt, stop);
    add_to_referrers(referral, response.value(), stop);
  }
  if (tag) put_manifest(*tag, digest, media_type, bytes, std::nullopt, stop);
  return digest;
}

bool HttpRepository::replace_manifest(const std::string& tag, const std::optional<Manifest>& expected,
                                      const std::string& media_type, std::string_view bytes,
                                      std::stop_token stop) {
  require_tag(tag);
  const auto referral = find_referral(bytes, media_type);
  const auto if_match = expected ? expected->etag : std::nullopt;
  const auto response = put_manifest(tag, Digest::of(bytes), media_type, bytes, if_match, stop);
  if (!response) return false;
  add_to_referrers(referral, *response, stop);
  return true;
}

std::vector<Referrer> HttpRepository::list_referrers(const Digest& subject, std::stop_token stop) {
  return ReferrersClient(*client_).list(subject, stop);
}

}  // namespace obd::registry
