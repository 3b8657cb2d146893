#include "tests/support/fake_store.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <cstdio>

#include "common/digest.h"

namespace obd::test {
namespace {

std::string etag_of(const FakeStore::Manifest& manifest) {
  return fmt::format("\"{}\"", Digest::of(manifest.content).text());
}

std::optional<std::string> subject_of(const std::string& manifest) {
  const size_t subject = manifest.find("\"subject\"");
  const size_t digest = manifest.find("sha256:", subject);
  if (subject == std::string::npos || digest == std::string::npos) return std::nullopt;
  return manifest.substr(digest, 71);
}

/// "/v2/REPOSITORY/KIND/REST" for the kinds of the distribution specification: the repository and the rest.
std::optional<FakeStore::Key> split(const std::string& path, const std::string& kind) {
  const std::string root = "/v2/";
  const size_t at = path.rfind(kind);
  if (!path.starts_with(root) || at == std::string::npos || at < root.size()) return std::nullopt;
  return FakeStore::Key(path.substr(root.size(), at - root.size()), path.substr(at + kind.size()));
}

}  // namespace

void answer_error(httplib::Response& response, int status, const std::string& code) {
  response.status = status;
  response.set_content(fmt::format(R"({{"errors":[{{"code":"{}","message":"said the fake"}}]}})", code),
                       "application/json");
}

void FakeStore::do_duty(const httplib::Request& request, const RecordedRequest& recorded,
                        httplib::Response& response, const std::optional<Fault>& fault) {
  if (request.body.size() > options_.max_body_bytes) {
    answer_error(response, 413, "SIZE_INVALID");
  } else if (const auto subject = split(request.path, "/referrers/")) {
    handle_referrers(*subject, recorded, response);
  } else if (const auto upload = split(request.path, "/blobs/uploads/")) {
    handle_upload(*upload, request, response, fault);
  } else if (const auto blob = split(request.path, "/blobs/")) {
    handle_blob(*blob, recorded, response, !fault || fault->kind != Fault::Kind::kNoRange);
  } else if (const auto manifest = split(request.path, "/manifests/")) {
    handle_manifest(*manifest, request, response, fault && fault->kind == Fault::Kind::kForget);
  } else {
    answer_error(response, request.path == "/v2/" ? 200 : 404, "UNKNOWN");
  }
}

void FakeStore::handle_blob(const Key& blob, const RecordedRequest& recorded, httplib::Response& response,
                            bool ranges) {
  const auto found = blobs.find(key(blob.first, blob.second));
  if (found == blobs.end()) return answer_error(response, 404, "BLOB_UNKNOWN");
  std::string content = found->second;
  response.status = 200;
  uint64_t first = 0;
  uint64_t last = 0;
  const std::string range = recorded.header("range");
  if (!range.empty() && options_.range_refusal != 0) {
    return answer_error(response, options_.range_refusal, "UNSUPPORTED");
  }
  if (ranges && std::sscanf(range.c_str(), "bytes=%lu-%lu", &first, &last) == 2 && first < content.size()) {
    last = std::min<uint64_t>(last, content.size() - 1);
    response.status = 206;
    response.set_header("Content-Range", fmt::format("bytes {}-{}/{}", first, last, content.size()));
    content = content.substr(first, last - first + 1);
  }
  response.set_content(content, "application/octet-stream");
}

void FakeStore::handle_manifest(const Key& manifest, const httplib::Request& request,
                                httplib::Response& response, bool forget) {
  const auto& [repository, reference] = manifest;
  const Key named = key(repository, reference);
  if (request.method == "PUT") {
    const Manifest stored{request.get_header_value("Content-Type"), request.body};
    const std::string digest = Digest::of(request.body).text();
    const std::string expected = request.get_header_value("If-Match");
    if (!expected.empty() && (!manifests.contains(named) || expected != etag_of(manifests[named]))) {
      return answer_error(response, 412, "MANIFEST_INVALID");
    }
    if (options_.checks_manifests && !has_all_parts(repository, request.body)) {
      return answer_error(response, 400, "MANIFEST_BLOB_UNKNOWN");
    }
    if (!forget) manifests[named] = manifests[key(repository, digest)] = stored;
    response.status = 201;
    const auto subject = subject_of(request.body);
    if (options_.referrers_page > 0 && subject) response.set_header("OCI-Subject", *subject);
    return response.set_header("Docker-Content-Digest", digest);
  }
  const auto found = manifests.find(named);
  if (found == manifests.end()) return answer_error(response, 404, "MANIFEST_UNKNOWN");
  response.status = 200;
  response.set_header("Docker-Content-Digest", Digest::of(found->second.content).text());
  if (reference.starts_with("sha256-")) response.set_header("ETag", etag_of(found->second));
  response.set_content(found->second.content, found->second.media_type.c_str());
}

/// A subject need not be there.
bool FakeStore::has_all_parts(const std::string& repository, const std::string& manifest) const {
  const auto subject = subject_of(manifest);
  for (size_t at = manifest.find("sha256:"); at != std::string::npos; at = manifest.find("sha256:", at + 1)) {
    const Key part = key(repository, manifest.substr(at, 71));
    if (part.second != subject && !blobs.contains(part) && !manifests.contains(part)) return false;
  }
  return true;
}

void FakeStore::handle_referrers(const Key& subject, const RecordedRequest& recorded,
                                 httplib::Response& response) {
  if (options_.referrers_page == 0) return answer_error(response, 404, "UNSUPPORTED");
  size_t skip = 0;
  std::sscanf(recorded.query.c_str(), "skip=%zu", &skip);
  std::string entries;
  size_t count = 0;
  for (const auto& [name, stored] : manifests) {
    const auto& [repository, reference] = name;
    if (name != key(subject.first, reference) || !Digest::is_valid(reference)) continue;
    if (subject_of(stored.content) != subject.second) continue;
    if (count++ < skip || count > skip + options_.referrers_page) continue;
    entries += fmt::format(R"({}{{"mediaType":"{}","digest":"{}","size":{}}})", entries.empty() ? "" : ",",
                           stored.media_type, reference, stored.content.size());
  }
  response.status = 200;
  if (count > skip + options_.referrers_page) {
    response.set_header(
        "Link", fmt::format("<{}?skip={}>; rel=\"next\"", recorded.path, skip + options_.referrers_page));
  }
  response.set_content(fmt::format(R"({{"schemaVersion":2,"manifests":[{}]}})", entries),
                       "application/vnd.oci.image.index.v1+json");
}

void FakeStore::answer_upload(const std::string& id, const httplib::Request& request, int status,
                              httplib::Response& response) {
  const std::string& path = request.path;
  const std::string base = path.substr(0, path.rfind("/uploads/") + std::string("/uploads/").size());
  const std::string host = options_.relative_locations ? "" : "http://" + request.get_header_value("Host");
  response.status = status;
  response.set_header("Location", fmt::format("{}{}{}?_state=s3cret-state", host, base, id));
  const size_t size = uploads[id].size();
  response.set_header("Range", fmt::format("0-{}", size == 0 ? 0 : size - 1));
}

/// A blob that is not there is offered an upload instead.
void FakeStore::handle_mount(const Key& blob, const std::string& from, httplib::Response& response) {
  const auto found = blobs.find(key(from, blob.second));
  if (found == blobs.end()) return;
  blobs[key(blob.first, blob.second)] = found->second;
  response.status = 201;
  response.set_header("Docker-Content-Digest", blob.second);
}

void FakeStore::handle_upload(const Key& upload, const httplib::Request& request, httplib::Response& response,
                              const std::optional<Fault>& fault) {
  const auto& [repository, id] = upload;
  if (request.method == "POST") {
    if (options_.mounts) {
      handle_mount({repository, request.get_param_value("mount")}, request.get_param_value("from"), response);
      if (response.status == 201) return;
    }
    if (options_.min_chunk_bytes > 0)
      response.set_header("OCI-Chunk-Min-Length", std::to_string(options_.min_chunk_bytes));
    const std::string fresh = fmt::format("upload-{}", next_upload_++);
    uploads[fresh] = "";
    return answer_upload(fresh, request, 202, response);
  }
  if (!uploads.contains(id)) return answer_error(response, 404, "BLOB_UPLOAD_UNKNOWN");
  if (request.method == "DELETE") {
    uploads.erase(id);
    response.status = 204;
  } else if (request.method == "GET") {
    answer_upload(id, request, 204, response);
  } else if (request.method == "PATCH") {
    if (!options_.pieces) return answer_error(response, 405, "UNSUPPORTED");
    const bool partial = fault && fault->kind == Fault::Kind::kPartial;
    uploads[id] += partial ? request.body.substr(0, fault->bytes) : request.body;
    answer_upload(id, request, 202, response);
    if (partial) answer_error(response, fault->status, "UNKNOWN");
  } else {
    const std::string content = uploads[id] + request.body;
    const std::string digest = request.get_param_value("digest");
    if (Digest::of(content).text() != digest) return answer_error(response, 400, "DIGEST_INVALID");
    uploads.erase(id);
    blobs[key(repository, digest)] = content;
    response.status = 201;
    response.set_header("Docker-Content-Digest", digest);
  }
}

}  // namespace obd::test
