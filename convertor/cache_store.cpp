#include "convertor/cache_store.h"

#include <fmt/format.h>

#include "common/error.h"
#include "common/log.h"
#include "common/waiting.h"
#include "convertor/cache_artifact.h"

namespace obd::convertor {
namespace {

constexpr int kMaxUpdates = 10;

/// Held by the process alone, so never lost.
class TurnLease final : public dedupdb::Lease {
 public:
  explicit TurnLease(std::unique_ptr<Turns::Turn> turn) : turn_(std::move(turn)) {}
  bool held() override { return true; }

 private:
  std::unique_ptr<Turns::Turn> turn_;
};

}  // namespace

CacheStore::CacheStore(registry::Repository& repository, Options options)
    : repository_(repository), options_(std::move(options)), saved_at_(options_.now()) {}

std::string CacheStore::name() const {
  return fmt::format("cache '{}' of {}", options_.tag, repository_.name());
}

/// Requires exchange_.
CacheStore::State CacheStore::pull(const std::stop_token& stop) {
  State found{.manifest = registry::find_manifest(repository_, options_.tag, stop)};
  if (!found.manifest) return found;
  if (state_ && state_->manifest && state_->manifest->digest == found.manifest->digest) {
    found.records = state_->records;
    return found;
  }
  if (!is_cache(*found.manifest)) {
    throw UsageError(fmt::format(
        "--cache-tag {}: {} has something else under that tag ({} {}), which is not "
        "overwritten; choose another tag",
        options_.tag, repository_.name(), found.manifest->media_type, found.manifest->digest.text()));
  }
  try {
    found.records = std::make_shared<CacheRecords>(pull_cache(repository_, *found.manifest, stop));
  } catch (const CacheVersionError&) {
    throw;
  } catch (const DataError& error) {
    log::warn("{} cannot be read and is begun anew: {}", name(), error.what());
  }
  return found;
}

void CacheStore::load(const std::stop_token& stop) {
  {
    const std::lock_guard lock(mutex_);
    if (state_) return;
  }
  const std::lock_guard exchange(exchange_);
  if (state_) return;
  try {
    State found = pull(stop);
    const std::lock_guard lock(mutex_);
    state_ = std::move(found);
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    throw DbError(fmt::format("reading {}: {}", name(), error.what()));
  }
}

std::optional<CacheRecord> CacheStore::find(const dedupdb::Key& key, const std::string& media_type,
                                            const std::stop_token& stop) {
  load(stop);
  const std::lock_guard lock(mutex_);
  auto record = changes_.find(*state_->records, key.text(), media_type);
  if (record) changes_.used(*record);
  return record;
}

void CacheStore::put(const CacheRecord& record, const std::stop_token& stop) {
  {
    const std::lock_guard lock(mutex_);
    changes_.made(record);
    if (options_.now() - saved_at_ < options_.save_every) return;
    saved_at_ = options_.now();
  }
  try {
    const std::lock_guard exchange(exchange_);
    update(stop);
  } catch (const Error& error) {  // what is not saved now is saved later
    log::debug("{} not updated for now: {}", name(), error.what());
  }
}

void CacheStore::remove(const dedupdb::Key& key, const std::string& media_type, const Digest& digest,
                        const std::stop_token& stop) {
  load(stop);
  const std::lock_guard lock(mutex_);
  const auto record = changes_.find(*state_->records, key.text(), media_type);
  if (record && record->digest == digest) changes_.gone(*record);
}

/// Requires exchange_.
bool CacheStore::has_news() {
  const std::lock_guard lock(mutex_);
  return !changes_.settled_in(state_ ? *state_->records : CacheRecords());
}

/// One round: reads, merges, writes. Requires exchange_.
CacheStore::Update CacheStore::update(const std::stop_token& stop) {
  State found = pull(stop);
  std::optional<CacheRecords> records;
  {
    const std::lock_guard lock(mutex_);
    if (!changes_.settled_in(*found.records)) records = changes_.applied_to(*found.records);
    state_ = found;
  }
  is_unproven_ = false;
  if (!records) return Update::kNotNeeded;
  const std::string type(registry::media_type::kOciManifest);
  const std::string manifest = push_cache_blobs(repository_, *records, stop);
  if (!repository_.replace_manifest(options_.tag, found.manifest, type, manifest, stop))
    return Update::kOvertaken;
  is_unproven_ = repository_.location().has_value();  // a layout is locked meanwhile
  const std::lock_guard lock(mutex_);
  state_ = State{.manifest = registry::Manifest{type, manifest, Digest::of(manifest)},
                 .records = std::make_shared<CacheRecords>(std::move(*records))};
  return Update::kDone;
}

void CacheStore::update_until_settled(const std::stop_token& stop) {
  for (int tries = 0; tries < kMaxUpdates; ++tries) {
    // Until others who were at it have come to an end. A registry that sends an ETag may yet not heed
    // If-Match: so looking again is never left out.
    // Of converters that overtook one another none shall wait as long as the next.
    if (tries > 0 || !has_news()) wait_for(random_delay(options_.settle, 2 * options_.settle), stop);
    const Update outcome = update(stop);
    if (outcome == Update::kNotNeeded || (outcome == Update::kDone && !is_unproven_)) return;
  }
  throw DbError(fmt::format("{} was changed by others {} times while it was updated", name(), kMaxUpdates));
}

void CacheStore::save(std::stop_token stop) {
  const std::lock_guard exchange(exchange_);
  if (!is_unproven_ && !has_news()) return;
  try {
    update_until_settled(stop);
  } catch (const DbError&) {
    throw;
  } catch (const Error& error) {
    throw DbError(fmt::format("updating {}: {}", name(), error.what()));
  }
}

std::vector<dedupdb::LayerRecord> CacheStore::find_layers(const dedupdb::Place& place,
                                                          const dedupdb::Key& key, std::stop_token stop) {
  const auto record = find(key, "", stop);
  if (!record) return {};
  return {{.repo = place.repo, .digest = record->digest, .size = record->size}};
}

void CacheStore::put_layer(const dedupdb::Place& /*place*/, const dedupdb::Key& key, const Digest& digest,
                           uint64_t size, std::stop_token stop) {
  put({.key = key.text(), .media_type = {}, .digest = digest, .size = size}, stop);
}

void CacheStore::remove_layer(const dedupdb::Place& /*place*/, const dedupdb::Key& key, const Digest& digest,
                              std::stop_token stop) {
  remove(key, "", digest, stop);
}

std::vector<dedupdb::ManifestRecord> CacheStore::find_manifests(const dedupdb::Place& place,
                                                                const dedupdb::Key& key,
                                                                const std::string& media_type,
                                                                std::stop_token stop) {
  const auto record = find(key, media_type, stop);
  if (!record) return {};
  return {{.repo = place.repo, .digest = record->digest, .size = record->size, .media_type = media_type}};
}

void CacheStore::put_manifest(const dedupdb::Place& /*place*/, const dedupdb::Key& key,
                              const dedupdb::ManifestRecord& record, std::stop_token stop) {
  put({.key = key.text(), .media_type = record.media_type, .digest = record.digest, .size = record.size},
      stop);
}

void CacheStore::remove_manifest(const dedupdb::Place& /*place*/, const dedupdb::Key& key,
                                 const std::string& media_type, const Digest& digest, std::stop_token stop) {
  remove(key, media_type, digest, stop);
}

std::unique_ptr<dedupdb::Lease> CacheStore::acquire(const std::string& name, bool wait,
                                                    std::stop_token stop) {
  auto turn = leases_.take(name, wait, stop);
  return turn ? std::make_unique<TurnLease>(std::move(turn)) : nullptr;
}

}  // namespace obd::convertor
