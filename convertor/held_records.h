#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "dedupdb/record_store.h"

namespace obd::convertor {

/// A store that is told what was put only by save(): for a target in which nothing that is pushed stays
/// before all of it does. A layer that was put is found here at once; leases say nothing of it to others.
/// What save() could not tell is kept for the next one.
///
/// Threads and errors: as the store.
class HeldRecords final : public dedupdb::RecordStore {
 public:
  /// `store` must outlive this.
  explicit HeldRecords(dedupdb::RecordStore& store) : store_(store) {}

  std::string name() const override { return store_.name(); }
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
  std::unique_ptr<dedupdb::Lease> acquire(const std::string& name, bool wait, std::stop_token stop) override {
    return store_.acquire(name, wait, std::move(stop));
  }
  void save(std::stop_token stop) override;

 private:
  struct Held {
    dedupdb::Place place;
    dedupdb::Key key;
    dedupdb::ManifestRecord record;  // without a media type: a layer
  };
  using Name = std::pair<std::string, std::string>;  // key and media type; one run has one place

  void drop(const Name& name, const Digest& digest);

  dedupdb::RecordStore& store_;
  std::mutex mutex_;  // guards held_
  std::map<Name, Held> held_;
};

}  // namespace obd::convertor
