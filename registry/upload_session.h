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
  ~UploadSession();
  UploadSession(const UploadSession&) = delete;
  UploadSession& operator=(const UploadSession&) = delete;

  /// Sends bytes [offset, size) of `content`, in one request: the shortest chunk that a registry
  /// may demand (OCI-Chunk-Min-Length) does not bind the last one.
  void send_from(uint64_t offset, const RequestBody& content, const std::stop_token& stop);
  /// After a failed send_from(): how much of the content the registry has. None if the session cannot
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
  std::optional<Url> location_;  // none once there is nothing to cancel
};

}  // namespace obd::registry
