#pragma once

#include <atomic>
#include <limits>
#include <memory>

#include "common/byte_source.h"
#include "registry/client.h"

namespace obd::registry {

class TrackedReader;
class UploadSession;

/// Pushes blobs to one repository.
///
/// Threads: any number at once.
/// Errors:  as RegistryClient; a session that did not end in a blob is cancelled.
class BlobUploader {
 public:
  explicit BlobUploader(std::shared_ptr<RegistryClient> client) : client_(std::move(client)) {}

  /// Pushes content in as large pieces as the registry takes, and goes on where a connection broke; in one
  /// request where it takes no pieces.
  void push(const ByteSource& content, const Digest& digest, const std::stop_token& stop);

  /// Pushes content in one request: for small content.
  void push_whole(const ByteSource& content, const Digest& digest, const std::stop_token& stop);

  /// As Repository::mount_blob().
  bool mount(const BlobId& blob, const std::string& from, const std::stop_token& stop);

  /// What the registry says of a blob. One of another size is damaged there; some registries keep it so, even
  /// if it is pushed again.
  enum class Presence { kMissing, kOtherSize, kThere };
  /// `access`: what the requests that follow will need, so that one token serves all of them.
  Presence find(const BlobId& blob, Access access, const std::stop_token& stop);

 private:
  /// False if the session was lost, or pieces are refused: what follows begins from the start.
  bool push_in_pieces(TrackedReader& reader, const Digest& digest, Retries& retries,
                      const std::stop_token& stop);
  bool send_pieces(UploadSession& session, TrackedReader& reader, Retries& retries,
                   const std::stop_token& stop);
  bool commit(UploadSession& session, const BlobId& blob, Retries& retries, const std::stop_token& stop);
  /// After a request of `sent` bytes was too large. False if smaller ones cannot be made.
  bool shrink_chunks(uint64_t sent, uint64_t min_chunk_bytes);
  /// Once the registry has refused to tell, the blob counts as missing: an upload will say what is wrong.
  Presence find_once(const BlobId& blob, Access access, const std::stop_token& stop);
  /// None if nobody could be asked: that has been waited for.
  std::optional<bool> try_has(const BlobId& blob, Retries& retries, const std::stop_token& stop);
  void put(const ByteSource& content, const Digest& digest, const std::stop_token& stop);

  const std::shared_ptr<RegistryClient> client_;
  std::atomic<bool> pieces_refused_ = false;  // the registry wants blobs whole
  std::atomic<bool> pieces_taken_ = false;    // it has taken one
  std::atomic<uint64_t> chunk_bytes_ = std::numeric_limits<uint64_t>::max();  // the largest that is sent
};

}  // namespace obd::registry
