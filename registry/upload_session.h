#pragma once

#include <cstdint>
#include <optional>

#include "registry/client.h"

namespace obd::registry {

/// One upload session of a registry: made by POST, moved on by PATCH, ended by PUT, cancelled if it is
/// destroyed before that. The registry says after each step where the next one goes.
///
/// Nothing here is retried: what to do after a failure depends on how far the upload had come.
///
/// Source: distribution specification, "Pushing blobs". One thread at a time.
class UploadSession {
 public:
  /// `client` must outlive this.
  UploadSession(RegistryClient& client, const std::stop_token& stop);
  /// The session that `opened` offers.
  UploadSession(RegistryClient& client, const HttpResponse& opened);
  ~UploadSession();
  UploadSession(const UploadSession&) = delete;
  UploadSession& operator=(const UploadSession&) = delete;

  /// No chunk may be shorter but the last (OCI-Chunk-Min-Length); 0: all may.
  uint64_t min_chunk_bytes() const { return min_chunk_bytes_; }
  /// Sends bytes [begin, end) of `content` in one request.
  void send(uint64_t begin, uint64_t end, const RequestBody& content, const std::stop_token& stop);
  /// After a failed send(): how much of the content the registry has. None if the session cannot
  /// be gone on with; what is retryable is thrown.
  std::optional<uint64_t> received(const std::stop_token& stop);
  /// Ends the session: what was sent becomes the blob `digest`.
  void commit(const BlobId& blob, const std::stop_token& stop);
  /// Sends all of the content and ends the session in one request.
  void put(const BlobId& blob, const RequestBody& content, const std::stop_token& stop);

 private:
  void move_to(const HttpResponse& response);
  void finish(const BlobId& blob, const std::optional<RequestBody>& content, const std::stop_token& stop);
  void cancel() noexcept;

  RegistryClient& client_;
  uint64_t min_chunk_bytes_ = 0;
  std::optional<Url> location_;  // none once there is nothing to cancel
};

}  // namespace obd::registry
