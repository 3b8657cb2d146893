#include "registry/upload.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/error.h"
#include "registry/async_hash.h"
#include "registry/upload_session.h"

namespace obd::registry {

/// Hashes content while it is read in order; what is read again is not hashed again.
class HashingReader {
 public:
  explicit HashingReader(const ByteSource& content) : content_(content) {}

  void read_at(uint64_t offset, std::span<std::byte> out) {
    OBD_CHECK(offset <= hashed_);
    content_.read_at(offset, out);
    const uint64_t known = std::min<uint64_t>(out.size(), hashed_ - offset);
    hash_.update(out.subspan(known));
    hashed_ += out.size() - known;
  }
  uint64_t hashed() const { return hashed_; }
  /// Whether more was read than when this was asked last. Restarts cannot make it true for ever.
  bool advanced() { return std::exchange(seen_, hashed_) < hashed_; }
  const ByteSource& content() const { return content_; }

  /// Reads what nobody has read yet.
  const Digest& digest(const std::stop_token& stop) {
    if (digest_) return *digest_;
    std::vector<std::byte> buffer(std::min<uint64_t>(kPieceBytes, content_.size() - hashed_));
    while (hashed_ < content_.size()) {
      if (stop.stop_requested()) throw Cancelled();
      read_at(hashed_, std::span(buffer).first(std::min<uint64_t>(buffer.size(), content_.size() - hashed_)));
    }
    return digest_.emplace(hash_.finish());
  }

 private:
  static constexpr uint64_t kPieceBytes = 256 << 10;

  const ByteSource& content_;
  AsyncSha256 hash_;
  uint64_t hashed_ = 0;
  uint64_t seen_ = 0;
  std::optional<Digest> digest_;
};

namespace {

/// Statuses by which registries say that they know no uploads in pieces.
bool refuses_pieces(const NetworkError& error) {
  const int status = error.http_status();
  return status == 400 || status == 404 || status == 405 || status == 411 || status == 415 || status == 416 ||
         status == 501;
}

}  // namespace

Digest BlobUploader::push(const ByteSource& content, const std::stop_token& stop) {
  HashingReader reader(content);
  Retries retries(client_->retry_policy(), stop);
  while (!pieces_refused_) {
    try {
      if (auto digest = push_in_pieces(reader, retries, stop)) return *digest;
    } catch (const NetworkError& error) {
      if (refuses_pieces(error)) {
        spdlog::debug("upload in pieces refused cause=\"{}\"", error.what());
        pieces_refused_ = true;
      } else if (!retries.wait_after(error)) {
        throw;
      }
    }
  }
  Digest digest = reader.digest(stop);
  push_known(content, digest, stop);
  return digest;
}

std::optional<Digest> BlobUploader::push_in_pieces(HashingReader& reader, Retries& retries,
                                                   const std::stop_token& stop) {
  const uint64_t size = reader.content().size();
  const RequestBody body{.size = size, .read_at = [&](uint64_t offset, std::span<std::byte> out) {
                           reader.read_at(offset, out);
                         }};
  UploadSession session(*client_, stop);
  bool broken = false;
  for (uint64_t position = 0; position < size;) {
    try {
      if (broken) {
        const auto received = session.received(stop);
        if (!received || *received > reader.hashed()) return std::nullopt;
        position = *received;
        broken = false;
      }
      if (position < size) session.send_from(position, body, stop);
      position = size;
    } catch (const NetworkError& error) {
      if (!error.retryable()) throw;
      if (reader.advanced()) retries.made_progress();
      if (!retries.wait_after(error)) throw;
      broken = true;
    }
  }
  if (reader.advanced()) retries.made_progress();
  Digest digest = reader.digest(stop);
  commit(session, {digest, size}, retries, stop);
  return digest;
}

void BlobUploader::commit(UploadSession& session, const BlobId& blob, Retries& retries,
                          const std::stop_token& stop) {
  for (;;) {
    try {
      return session.commit(blob, stop);
    } catch (const NetworkError& error) {
      if (!error.retryable() && error.http_status() != 404) throw;
      // The answer may have been lost, and the session be gone when it is asked for again.
      if (has_once(blob, stop)) return;
      if (!retries.wait_after(error)) throw;
    }
  }
}

void BlobUploader::push_known(const ByteSource& content, const Digest& digest, const std::stop_token& stop) {
  with_retries(client_->retry_policy(), stop, [&] { put(content, digest, stop); });
}

void BlobUploader::put(const ByteSource& content, const Digest& digest, const std::stop_token& stop) {
  const RequestBody body{.size = content.size(), .read_at = [&](uint64_t offset, std::span<std::byte> out) {
                           content.read_at(offset, out);
                         }};
  UploadSession session(*client_, stop);
  session.put({digest, content.size()}, body, stop);
}

bool BlobUploader::has(const BlobId& blob, const std::stop_token& stop) {
  return with_retries(client_->retry_policy(), stop, [&] { return has_once(blob, stop); });
}

bool BlobUploader::has_once(const BlobId& blob, const std::stop_token& stop) {
  const Url url = client_->url(fmt::format("blobs/{}", blob.digest.text()), stop);
  HttpResponse response =
      client_->send_once({.request = {.method = "HEAD", .url = url}, .answers = {404, 405}}, stop);
  if (response.status == 405) {
    const auto enough = [](const HttpResponse&, std::span<const std::byte>) { return false; };
    response = client_->send_once(
        {.request = {.method = "GET", .url = url, .sink = enough}, .answers = {404}}, stop);
  }
  if (!response.ok()) return false;
  const auto length = response.header("content-length");
  return !length || *length == std::to_string(blob.size);
}

}  // namespace obd::registry
