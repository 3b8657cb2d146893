#include "registry/upload.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "common/error.h"
#include "common/log.h"
#include "registry/upload_session.h"

namespace obd::registry {

/// Knows how far content was read.
class TrackedReader {
 public:
  explicit TrackedReader(const ByteSource& content) : content_(content) {}

  void read_at(uint64_t offset, std::span<std::byte> out) {
    content_.read_at(offset, out);
    read_ = std::max(read_, offset + out.size());
  }
  /// Up to which byte.
  uint64_t read() const { return read_; }
  uint64_t size() const { return content_.size(); }

 private:
  const ByteSource& content_;
  uint64_t read_ = 0;
};

namespace {

/// The first chunk size after a request was refused as too large, and the last: what storage services behind
/// registries take as a part of an upload.
constexpr uint64_t kLargestChunk = 64 << 20;
constexpr uint64_t kSmallestChunk = 5 << 20;

/// Statuses by which registries say that they know no uploads in pieces.
bool refuses_pieces(int status) {
  return status == 400 || status == 404 || status == 405 || status == 411 || status == 415 || status == 416 ||
         status == 501;
}

/// Statuses by which they say that an upload is not, or no longer, where we believe it to be.
bool is_lost(int status) {
  return status == 400 || status == 404 || status == 416;
}

/// Counts as a failure what a new session may mend. False: it should be given up.
bool may_start_anew(const NetworkError& error, Retries& retries) {
  return is_lost(error.http_status()) &&
         retries.wait_after(NetworkError(error.what(), error.http_status(), true));
}

}  // namespace

void BlobUploader::push(const ByteSource& content, const Digest& digest, const std::stop_token& stop) {
  TrackedReader reader(content);
  Retries retries(client_->retry_policy(), stop);
  while (!pieces_refused_) {
    try {
      if (push_in_pieces(reader, digest, retries, stop)) return;
    } catch (const NetworkError& error) {
      if (!retries.wait_after(error)) throw;
    }
  }
  push_whole(content, digest, stop);
}

bool BlobUploader::push_in_pieces(TrackedReader& reader, const Digest& digest, Retries& retries,
                                  const std::stop_token& stop) {
  UploadSession session(*client_, stop);
  if (!send_pieces(session, reader, retries, stop)) return false;
  return commit(session, {digest, reader.size()}, retries, stop);
}

bool BlobUploader::send_pieces(UploadSession& session, TrackedReader& reader, Retries& retries,
                               const std::stop_token& stop) {
  const uint64_t size = reader.size();
  const RequestBody body{.size = size, .read_at = [&](uint64_t offset, std::span<std::byte> out) {
                           reader.read_at(offset, out);
                         }};
  bool broken = false;
  for (uint64_t position = 0; position < size;) {
    const uint64_t chunk = std::max<uint64_t>(chunk_bytes_, session.min_chunk_bytes());
    try {
      if (broken) {
        const auto received = session.received(stop);
        if (!received || *received > reader.read()) return false;
        position = *received;
        retries.reached(position);
        broken = false;
      }
      const uint64_t end = position + std::min(chunk, size - position);
      if (position < end) {
        session.send(position, end, body, stop);
        pieces_taken_ = true;
      }
      position = end;
      retries.reached(position);
    } catch (const NetworkError& error) {
      broken = true;
      const int status = error.http_status();
      if (status == 413 && shrink_chunks(std::min(chunk, size - position), session.min_chunk_bytes()))
        continue;
      if (!pieces_taken_ && refuses_pieces(status)) {
        log::debug("upload in pieces refused cause=\"{}\"", error.what());
        pieces_refused_ = true;
        return false;
      }
      if (may_start_anew(error, retries)) return false;
      if (!error.retryable()) throw;
      if (!retries.wait_after(error)) throw;
    }
  }
  return true;
}

bool BlobUploader::shrink_chunks(uint64_t sent, uint64_t min_chunk_bytes) {
  const uint64_t least = std::max(kSmallestChunk, min_chunk_bytes);
  if (sent <= least) return false;
  const uint64_t smaller = std::max(least, std::min(kLargestChunk, sent / 2));
  uint64_t known = chunk_bytes_;
  while (smaller < known && !chunk_bytes_.compare_exchange_weak(known, smaller)) {
  }
  log::debug("upload of {} bytes refused as too large, chunk={}", sent, std::min(smaller, known));
  return true;
}

bool BlobUploader::commit(UploadSession& session, const BlobId& blob, Retries& retries,
                          const std::stop_token& stop) {
  for (;;) {
    try {
      session.commit(blob, stop);
      return true;
    } catch (const NetworkError& error) {
      if (!error.retryable() && !is_lost(error.http_status())) throw;
      // The answer may have been lost, and the session be gone when it is asked for again.
      const auto found = try_has(blob, retries, stop);
      if (!found) continue;
      if (*found) return true;
      if (may_start_anew(error, retries)) return false;
      if (!retries.wait_after(error)) throw;
    }
  }
}

std::optional<bool> BlobUploader::try_has(const BlobId& blob, Retries& retries, const std::stop_token& stop) {
  try {
    return find_once(blob, Access::kPush, stop) == Presence::kThere;
  } catch (const NetworkError& error) {
    if (!retries.wait_after(error)) throw;
  }
  return std::nullopt;
}

/// Why a registry does not mount is of no use: it may not know how, not have the blob there, or not let us
/// see it.
bool BlobUploader::mount(const BlobId& blob, const std::string& from, const std::stop_token& stop) {
  Call call{.request = {.method = "POST",
                        .url = client_->url("blobs/uploads/", stop)
                                   .with_query("mount", blob.digest.text())
                                   .with_query("from", from),
                        .body = body_of("")},
            .access = Access::kPush,
            .mount_from = from};
  try {
    const HttpResponse response = client_->send(call, stop);
    if (response.status == 202) {
      const UploadSession unwanted(*client_, response);  // cancels it
    }
    if (response.status != 201) return false;
    const auto stored = response.header("docker-content-digest");
    return !stored || *stored == blob.digest.text();
  } catch (const NetworkError& error) {
    const int status = error.http_status();
    const bool refused =
        error.exit_code() == ExitCode::kAuth || (status >= 200 && status < 500) || status == 501;
    if (!refused || error.retryable()) throw;
    log::debug("not mounted blob={} from={} cause=\"{}\"", blob.digest.brief(), from, error.what());
    return false;
  }
}

void BlobUploader::push_whole(const ByteSource& content, const Digest& digest, const std::stop_token& stop) {
  with_retries(client_->retry_policy(), stop, [&] { put(content, digest, stop); });
}

void BlobUploader::put(const ByteSource& content, const Digest& digest, const std::stop_token& stop) {
  const RequestBody body{.size = content.size(), .read_at = [&](uint64_t offset, std::span<std::byte> out) {
                           content.read_at(offset, out);
                         }};
  UploadSession session(*client_, stop);
  session.put({digest, content.size()}, body, stop);
}

BlobUploader::Presence BlobUploader::find(const BlobId& blob, Access access, const std::stop_token& stop) {
  return with_retries(client_->retry_policy(), stop, [&] { return find_once(blob, access, stop); });
}

BlobUploader::Presence BlobUploader::find_once(const BlobId& blob, Access access,
                                               const std::stop_token& stop) {
  const Url url = client_->url(fmt::format("blobs/{}", blob.digest.text()), stop);
  const auto enough = [](const HttpResponse&, std::span<const std::byte>) { return false; };
  // Some know no HEAD, or are wrong in it about the size, and a URL that is signed for GET is refused to it.
  bool is_other_size = false;
  for (const char* method : {"HEAD", "GET"}) {
    try {
      const HttpResponse response =
          client_->send_once({.request = {.method = method, .url = url, .sink = enough},
                              .access = access,
                              .answers = {403, 404}},
                             stop);
      if (response.status == 404) return Presence::kMissing;
      if (!response.ok()) continue;
      const auto length = response.header("content-length");
      if (length ? *length == std::to_string(blob.size) : !is_other_size) return Presence::kThere;
      is_other_size = true;
    } catch (const StatusError& error) {
      if (error.retryable()) throw;
      log::debug("blob={} may be there cause=\"{}\"", blob.digest.brief(), error.what());
    }
  }
  return is_other_size ? Presence::kOtherSize : Presence::kMissing;
}

}  // namespace obd::registry
