#include "registry/upload_session.h"

#include <fmt/format.h>

#include <charconv>

#include "common/error.h"
#include "common/log.h"

namespace obd::registry {
namespace {

constexpr std::chrono::milliseconds kCancelDeadline{3000};

RequestBody part_of(const RequestBody& content, uint64_t begin, uint64_t end) {
  return {.size = end - begin, .read_at = [content, begin](uint64_t at, std::span<std::byte> out) {
            content.read_at(begin + at, out);
          }};
}

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

HttpResponse open_session(RegistryClient& client, const std::stop_token& stop) {
  return client.send_once(
      {.request = {.method = "POST", .url = client.url("blobs/uploads/", stop), .body = body_of("")},
       .access = Access::kPush},
      stop);
}

/// LAST of "0-LAST", which some registries spell "bytes=0-LAST".
std::optional<uint64_t> last_of_range(std::string_view text) {
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  return parse_number(text.substr(dash + 1));
}

}  // namespace

UploadSession::UploadSession(RegistryClient& client, const std::stop_token& stop)
    : UploadSession(client, open_session(client, stop)) {}

UploadSession::UploadSession(RegistryClient& client, const HttpResponse& opened)
    : client_(client),
      min_chunk_bytes_(parse_number(opened.header("oci-chunk-min-length").value_or("")).value_or(0)) {
  move_to(opened);
  if (!location_) {
    throw NetworkError(fmt::format("POST {}: status {} without a Location for the upload",
                                   opened.url->redacted(), opened.status),
                       opened.status);
  }
}

UploadSession::~UploadSession() {
  cancel();
}

void UploadSession::move_to(const HttpResponse& response) {
  if (auto next = response.location()) location_ = std::move(next);
}

void UploadSession::send(uint64_t begin, uint64_t end, const RequestBody& content,
                         const std::stop_token& stop) {
  Call call{.request = {.method = "PATCH", .url = *location_}, .access = Access::kPush};
  call.request.body = part_of(content, begin, end);
  call.request.headers.push_back({"Content-Type", "application/octet-stream"});
  // Some registries know Content-Range only from uploads in several pieces, and older ones not at all.
  if (begin > 0 || end < content.size) {
    call.request.headers.push_back({"Content-Range", fmt::format("{}-{}", begin, end - 1)});
  }
  const HttpResponse response = client_.send_once(call, stop);
  move_to(response);
  const auto last = last_of_range(response.header("range").value_or(""));
  if (last && *last + 1 != end) {
    throw NetworkError(fmt::format("PATCH {}: the registry says that it has {} bytes after {} were sent",
                                   response.url->redacted(), *last + 1, end),
                       response.status, true);
  }
}

std::optional<uint64_t> UploadSession::received(const std::stop_token& stop) {
  try {
    const HttpResponse response =
        client_.send_once({.request = {.method = "GET", .url = *location_}, .access = Access::kPush}, stop);
    move_to(response);
    const auto last = last_of_range(response.header("range").value_or(""));
    if (last && *last > 0) return *last + 1;  // "0-0" may mean nothing as well as one byte
  } catch (const NetworkError& error) {
    if (error.retryable()) throw;
    log::debug("upload cannot go on cause=\"{}\"", error.what());
  }
  return std::nullopt;
}

void UploadSession::finish(const BlobId& blob, const std::optional<RequestBody>& content,
                           const std::stop_token& stop) {
  Call call{.request = {.method = "PUT", .url = location_->with_query("digest", blob.digest.text())},
            .access = Access::kPush};
  call.request.body = content ? *content : body_of("");
  call.request.headers.push_back({"Content-Type", "application/octet-stream"});
  call.request.stall_timeout = client_.transport_options().commit_timeout;
  const HttpResponse response = client_.send_once(call, stop);
  const auto digest = response.header("docker-content-digest");
  if (digest && Digest::is_valid(*digest) && *digest != blob.digest.text()) {
    throw DataError(fmt::format("PUT {}: the registry stored {} instead of {}", response.url->redacted(),
                                *digest, blob.digest.text()));
  }
  location_.reset();
}

void UploadSession::commit(const BlobId& blob, const std::stop_token& stop) {
  finish(blob, std::nullopt, stop);
}

void UploadSession::put(const BlobId& blob, const RequestBody& content, const std::stop_token& stop) {
  finish(blob, content, stop);
}

/// A token that was stopped would stop this as well: it has a deadline instead.
void UploadSession::cancel() noexcept {
  if (!location_) return;
  try {
    client_.send_once({.request = {.method = "DELETE", .url = *location_, .deadline = kCancelDeadline},
                       .access = Access::kPush},
                      {});
  } catch (const std::exception& error) {  // the registry will forget the session by itself
    log::debug("upload not cancelled cause=\"{}\"", error.what());
  }
}

}  // namespace obd::registry
