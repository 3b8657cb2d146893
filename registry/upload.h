#pragma once

#include <atomic>
#include <memory>

#include "common/byte_source.h"
#include "registry/client.h"

namespace obd::registry {

class HashingReader;
class UploadSession;

/// Pushes blobs to one repository.
///
/// Threads: any number at once.
/// Errors:  as RegistryClient; a session that did not end in a blob is cancelled.
class BlobUploader {
 public:
  explicit BlobUploader(std::shared_ptr<RegistryClient> client) : client_(std::move(client)) {}

  /// Reads `content` once, hashing it while it is sent; where the registry takes a blob only in one request
  /// that names its digest, twice.
  Digest push(const ByteSource& content, const std::stop_token& stop);

  /// Pushes content whose digest is known, in one request.
  void push_known(const ByteSource& content, const Digest& digest, const std::stop_token& stop);

  bool has(const BlobId& blob, const std::stop_token& stop);

 private:
  /// None if the session was lost: the next one begins from the start.
  std::optional<Digest> push_in_pieces(HashingReader& reader, Retries& retries, const std::stop_token& stop);
  void commit(UploadSession& session, const BlobId& blob, Retries& retries, const std::stop_token& stop);
  bool has_once(const BlobId& blob, const std::stop_token& stop);
  void put(const ByteSource& content, const Digest& digest, const std::stop_token& stop);

  const std::shared_ptr<RegistryClient> client_;
  std::atomic<bool> pieces_refused_ = false;  // the registry wants blobs whole
};

}  // namespace obd::registry
