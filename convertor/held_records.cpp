#include "convertor/held_records.h"

namespace obd::convertor {

using dedupdb::Key;
using dedupdb::LayerRecord;
using dedupdb::ManifestRecord;
using dedupdb::Place;

std::vector<LayerRecord> HeldRecords::find_layers(const Place& place, const Key& key, std::stop_token stop) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = held_.find({key.text(), ""});
    if (found != held_.end()) return {{place.repo, found->second.record.digest, found->second.record.size}};
  }
  return store_.find_layers(place, key, std::move(stop));
}

void HeldRecords::put_layer(const Place& place, const Key& key, const Digest& digest, uint64_t size,
                            std::stop_token /*stop*/) {
  const std::lock_guard lock(mutex_);
  held_.insert_or_assign({key.text(), ""}, Held{place, key, {.digest = digest, .size = size}});
}

void HeldRecords::drop(const Name& name, const Digest& digest) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(name);
  if (found != held_.end() && found->second.record.digest == digest) held_.erase(found);
}

void HeldRecords::remove_layer(const Place& place, const Key& key, const Digest& digest,
                               std::stop_token stop) {
  drop({key.text(), ""}, digest);
  store_.remove_layer(place, key, digest, std::move(stop));
}

std::vector<ManifestRecord> HeldRecords::find_manifests(const Place& place, const Key& key,
                                                        const std::string& media_type, std::stop_token stop) {
  return store_.find_manifests(place, key, media_type, std::move(stop));
}

void HeldRecords::put_manifest(const Place& place, const Key& key, const ManifestRecord& record,
                               std::stop_token /*stop*/) {
  const std::lock_guard lock(mutex_);
  held_.insert_or_assign({key.text(), record.media_type}, Held{place, key, record});
}

void HeldRecords::remove_manifest(const Place& place, const Key& key, const std::string& media_type,
                                  const Digest& digest, std::stop_token stop) {
  drop({key.text(), media_type}, digest);
  store_.remove_manifest(place, key, media_type, digest, std::move(stop));
}

void HeldRecords::save(std::stop_token stop) {
  std::map<Name, Held> held;
  {
    const std::lock_guard lock(mutex_);
    held = held_;
  }
  for (const auto& [name, one] : held) {
    if (one.record.media_type.empty()) {
      store_.put_layer(one.place, one.key, one.record.digest, one.record.size, stop);
    } else {
      store_.put_manifest(one.place, one.key, one.record, stop);
    }
    drop(name, one.record.digest);
  }
  store_.save(std::move(stop));
}

}  // namespace obd::convertor
