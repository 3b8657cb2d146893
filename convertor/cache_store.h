#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "common/turns.h"
#include "convertor/cache_document.h"
#include "dedupdb/record_store.h"
#include "registry/registry.h"

namespace obd::convertor {

/// The records of one repository, kept in that repository itself under a tag: for converters that share a
/// registry but no database.
///
/// Read once, at the first question. What is put or removed is told to the tag every `save_every` as more is
/// put, and by save(): read again, merged, pushed. In a registry save() then waits and looks whether all of
/// it is there still, since another converter that had read the tag before us may have written it after us;
/// if so it begins again. So a record is lost only if another converter takes longer than `settle` from its
/// reading to its writing, in a registry that does not heed If-Match; that costs a conversion. In a layout
/// nothing is lost.
///
/// Leases are known to this process alone: converters at work at the same time may make the same layer twice.
///
/// Threads: any.
/// Errors:  UsageError at the first question if the tag holds something that is no cache, which is never
///          overwritten. DbError if the cache cannot be read or written, or is a newer program's, which is
///          not overwritten either. One that is malformed is a warning: nothing is found in it, and it is
///          replaced.
class CacheStore final : public dedupdb::RecordStore {
 public:
  struct Options {
    std::string tag;
    std::chrono::milliseconds settle{500};
    std::chrono::milliseconds save_every{30'000};
    std::function<std::chrono::steady_clock::time_point()> now = [] {
      return std::chrono::steady_clock::now();
    };
  };
  /// `repository` must outlive this. Records are of this one alone: of a Place only the repo counts, as a
  /// name.
  CacheStore(registry::Repository& repository, Options options);

  std::string name() const override;
  std::vector<dedupdb::LayerRecord> find_layers(const dedupdb::Place& place, const dedupdb::Key& key,
                                                std::stop_token stop) override;
  void put_layer(const dedupdb::Place& place, const dedupdb::Key& key, const Digest& digest, uint64_t size,
                 std::stop_token stop) override;
  void remove_layer(const dedupdb::Place& place, const dedupdb::Key& key, const Digest& digest,
                    std::stop_token stop) override;
  std::vector<dedupdb::ManifestRecord> find_manifests(const dedupdb::Place& place, const dedupdb::Key& key,
                                                      const std::string& media_type,
                                                      std::stop_token stop) override;
  void put_manifest(const dedupdb::Place& place, const dedupdb::Key& key,
                    const dedupdb::ManifestRecord& record, std::stop_token stop) override;
  void remove_manifest(const dedupdb::Place& place, const dedupdb::Key& key, const std::string& media_type,
                       const Digest& digest, std::stop_token stop) override;
  std::unique_ptr<dedupdb::Lease> acquire(const std::string& name, bool wait, std::stop_token stop) override;
  void save(std::stop_token stop) override;

 private:
  /// The tag, as it was when we last looked at it or wrote it.
  struct State {
    std::optional<registry::Manifest> manifest = {};
    std::shared_ptr<const CacheRecords> records = std::make_shared<CacheRecords>();
  };
  enum class Update { kNotNeeded, kDone, kOvertaken };

  State pull(const std::stop_token& stop);
  void load(const std::stop_token& stop);
  std::optional<CacheRecord> find(const dedupdb::Key& key, const std::string& media_type,
                                  const std::stop_token& stop);
  void put(const CacheRecord& record, const std::stop_token& stop);
  void remove(const dedupdb::Key& key, const std::string& media_type, const Digest& digest,
              const std::stop_token& stop);
  bool has_news();
  Update update(const std::stop_token& stop);
  void update_until_settled(const std::stop_token& stop);

  registry::Repository& repository_;
  const Options options_;
  Turns leases_;

  std::mutex exchange_;       // held while the tag is read and written
  bool is_unproven_ = false;  // guarded by exchange_: we wrote and have not looked since
  /// None before the first look. Changed under both mutexes, so read under either.
  std::optional<State> state_;
  std::mutex mutex_;  // guards changes_ and saved_at_; locked after exchange_
  CacheChanges changes_;
  std::chrono::steady_clock::time_point saved_at_;
};

}  // namespace obd::convertor
