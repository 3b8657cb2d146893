#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "convertor/image.h"
#include "convertor/layer_identity.h"
#include "dedupdb/record_store.h"
#include "registry/registry.h"

namespace obd::convertor {

/// What a run found instead of making it.
struct ReuseCounts {
  uint64_t layers = 0;
  uint64_t manifests = 0;
  uint64_t stale_rows = 0;      // removed: what they named was not there, or not what it should be
  uint64_t failed_lookups = 0;  // the store was out of reach
};

/// What earlier conversions left behind for this one: found through the store, proven by the blobs
/// themselves, recorded for the next.
///
/// A record is a hint. A layer is taken only if the end of its blob, read from the registry, says that it is
/// what is needed; a record that leads to anything else is removed. When the store is out of reach the run
/// goes on without it, after one warning, unless `required`.
///
/// Threads: any.
/// Errors:  DbError where `required`; what the registry throws, missing blobs aside.
class Reuse {
 public:
  /// Both must outlive this. `target`: where what is reused has to be.
  Reuse(dedupdb::RecordStore& store, registry::Repository& target, bool required);

  /// The layer's blob, which is in the target then, mounted if need be. `source_has_it`: whether the source
  /// layer can be had where the image is; asked only if there is something to be reused, which is not for who
  /// knows a layer's digest alone.
  std::optional<registry::BlobId> find_layer(const LayerIdentity& identity,
                                             const std::function<bool()>& source_has_it,
                                             const std::stop_token& stop);
  /// The layer's blob in that repository of the target's host, as the store says: it is not looked at.
  std::optional<registry::BlobId> recorded_layer(const LayerIdentity& identity, const std::string& repo,
                                                 const std::stop_token& stop);
  /// Has the target take a blob over from another repository of its host. False where it has to be made.
  bool mount(const registry::BlobId& blob, const std::string& repo, const std::stop_token& stop);
  /// Whether the blob, looked at, is this layer.
  bool is_layer(const LayerIdentity& identity, const registry::BlobId& blob, const std::stop_token& stop);
  /// Whether a record of a layer led to a blob of this digest, in any repository, that was not what it should
  /// be.
  bool was_refused(const Digest& blob) const;
  /// The blob must be in the target.
  void record_layer(const LayerIdentity& identity, const registry::BlobId& blob, const std::stop_token& stop);

  /// The right to make a layer. Waits while another converter makes it, unless `wait` is not set; null then,
  /// and where the store is out of reach.
  std::unique_ptr<dedupdb::Lease> lease_layer(const Digest& chain_id, const std::string& options, bool wait,
                                              const std::stop_token& stop);

  /// `recipe`: all that the result depends on beside the source manifest. The target's own is the first, if
  /// there is one; the others are of other repositories of its host. A few of them.
  std::vector<dedupdb::ManifestRecord> find_manifests(const Digest& source, const std::string& recipe,
                                                      const std::string& media_type,
                                                      const std::stop_token& stop);
  void record_manifest(const Digest& source, const std::string& recipe, const Descriptor& manifest,
                       const std::stop_token& stop);
  void forget_manifest(const Digest& source, const std::string& recipe, const Descriptor& manifest,
                       const std::stop_token& stop);

  /// Makes lasting what was recorded. For the end of the run.
  void save(const std::stop_token& stop);

  bool is_here(const dedupdb::ManifestRecord& record) const { return record.repo == place_.repo; }
  void count_manifest() { ++manifests_; }
  ReuseCounts counts() const;

 private:
  /// Asks the store; none when it is out of reach.
  template <class Ask>
  auto consult(Ask ask) -> std::optional<decltype(ask())>;
  void forget_layer(const dedupdb::Place& place, const dedupdb::Key& key, const Digest& digest,
                    const std::stop_token& stop);
  bool try_record(const LayerIdentity& identity, const dedupdb::LayerRecord& record,
                  const std::stop_token& stop);

  dedupdb::RecordStore& store_;
  registry::Repository& target_;
  const bool required_;
  const dedupdb::Place place_;
  mutable std::mutex mutex_;  // guards refused_
  std::set<Digest> refused_;
  std::atomic<bool> out_of_reach_ = false;
  std::atomic<uint64_t> layers_ = 0;
  std::atomic<uint64_t> manifests_ = 0;
  std::atomic<uint64_t> stale_rows_ = 0;
  std::atomic<uint64_t> failed_lookups_ = 0;
};

}  // namespace obd::convertor
