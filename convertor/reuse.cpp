#include "convertor/reuse.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "blockfs/layer_trailer.h"
#include "blockfs/lsmt_format.h"
#include "common/error.h"
#include "common/log.h"

namespace obd::convertor {
namespace {

constexpr size_t kMaxNameBytes = 255;  // of a database's columns
/// The same may stand in thousands of repositories: a few that cannot be used say enough.
constexpr size_t kMaxTries = 4;

/// A name that fits a column: one that is too long is represented by its digest.
std::string fitting(std::string name) {
  return name.size() <= kMaxNameBytes ? name : Digest::of(name).text();
}

/// A layout is a host of its own with one repository.
dedupdb::Place place_of(const registry::Repository& repository) {
  if (const auto location = repository.location()) {
    return {.host = fitting(location->authority), .repo = fitting(location->path)};
  }
  const std::string name = repository.name();
  const size_t colon = name.find(':');
  const auto path = std::filesystem::weakly_canonical(name.substr(colon + 1));
  return {.host = fitting(name.substr(0, colon + 1) + path.string()), .repo = "layout"};
}

dedupdb::Key key_of(const LayerIdentity& identity) {
  const std::string made_of = fmt::format("layer\n{}\n{}", identity.source_digest.text(), identity.lineage);
  return {identity.chain_id, std::string(Digest::of(made_of).hex())};
}

dedupdb::Key manifest_key(const Digest& source, const std::string& recipe) {
  return {source, std::string(Digest::of("manifest\n" + recipe).hex())};
}

}  // namespace

Reuse::Reuse(dedupdb::RecordStore& store, registry::Repository& target, bool required)
    : store_(store), target_(target), required_(required), place_(place_of(target)) {}

template <class Ask>
auto Reuse::consult(Ask ask) -> std::optional<decltype(ask())> {
  if (out_of_reach_) {
    ++failed_lookups_;
    return std::nullopt;
  }
  try {
    return ask();
  } catch (const DbError& error) {
    if (required_) throw;
    ++failed_lookups_;
    if (!out_of_reach_.exchange(true)) {
      log::warn("going on without {}: nothing more is reused or recorded. {}", store_.name(), error.what());
    }
    return std::nullopt;
  }
}

void Reuse::forget_layer(const dedupdb::Place& place, const dedupdb::Key& key, const Digest& digest,
                         const std::stop_token& stop) {
  {
    const std::lock_guard lock(mutex_);
    refused_.insert(digest);
  }
  const auto removed = consult([&] {
    store_.remove_layer(place, key, digest, stop);
    return true;
  });
  if (!removed) return;
  ++stale_rows_;
  log::info("stale row removed repo={} key={} digest={}", place.repo, key.digest.brief(), digest.brief());
}

bool Reuse::was_refused(const Digest& blob) const {
  const std::lock_guard lock(mutex_);
  return refused_.contains(blob);
}

bool Reuse::is_layer(const LayerIdentity& identity, const registry::BlobId& blob,
                     const std::stop_token& stop) {
  try {
    const blockfs::LsmtHeader trailer = blockfs::read_layer_trailer(*target_.open_blob(blob));
    return trailer.user_tag == identity.lineage && trailer.uuid == blockfs::lsmt_uuid(identity.chain_id) &&
           trailer.parent_uuid == identity.parent_uuid && trailer.virtual_bytes == identity.virtual_bytes;
  } catch (const DataError& error) {
    log::info("not reused blob={} cause=\"{}\"", blob.digest.brief(), error.what());
  } catch (const IoError& error) {  // a layout that lacks it
    log::info("not reused blob={} cause=\"{}\"", blob.digest.brief(), error.what());
  } catch (const NetworkError& error) {
    // A registry that is asked for what is beyond the end of a blob may break off instead of saying so.
    const bool is_missing = error.http_status() == 404 || error.http_status() == 410;
    if (!is_missing && target_.has_blob(blob, stop)) throw;
    log::info("not reused blob={} cause=\"{}\"", blob.digest.brief(), error.what());
  }
  return false;
}

/// Where that fails the layer can still be made.
bool Reuse::mount(const registry::BlobId& blob, const std::string& repo, const std::stop_token& stop) {
  try {
    return target_.mount_blob(blob, repo, stop);
  } catch (const NetworkError& error) {
    log::info("not mounted blob={} from={} cause=\"{}\"", blob.digest.brief(), repo, error.what());
    return false;
  }
}

bool Reuse::try_record(const LayerIdentity& identity, const dedupdb::LayerRecord& record,
                       const std::stop_token& stop) {
  const registry::BlobId blob{record.digest, record.size};
  const dedupdb::Key key = key_of(identity);
  if (record.repo != place_.repo && !mount(blob, record.repo, stop)) return false;
  if (!is_layer(identity, blob, stop)) {
    forget_layer({place_.host, record.repo}, key, record.digest, stop);
    return false;
  }
  if (record.repo != place_.repo) record_layer(identity, blob, stop);
  return true;
}

std::optional<registry::BlobId> Reuse::find_layer(const LayerIdentity& identity,
                                                  const std::function<bool()>& source_has_it,
                                                  const std::stop_token& stop) {
  const auto records = consult([&] { return store_.find_layers(place_, key_of(identity), stop); });
  if (!records || records->empty() || !source_has_it()) return std::nullopt;
  for (size_t i = 0; i < std::min(records->size(), kMaxTries); ++i) {
    const dedupdb::LayerRecord& record = (*records)[i];
    if (!try_record(identity, record, stop)) continue;
    ++layers_;
    return registry::BlobId{record.digest, record.size};
  }
  return std::nullopt;
}

std::optional<registry::BlobId> Reuse::recorded_layer(const LayerIdentity& identity, const std::string& repo,
                                                      const std::stop_token& stop) {
  const dedupdb::Place there{.host = place_.host, .repo = repo};  // whose record is the first
  const auto records = consult([&] { return store_.find_layers(there, key_of(identity), stop); });
  if (!records || records->empty() || records->front().repo != repo) return std::nullopt;
  return registry::BlobId{records->front().digest, records->front().size};
}

void Reuse::record_layer(const LayerIdentity& identity, const registry::BlobId& blob,
                         const std::stop_token& stop) {
  target_.keep_blob(blob.digest);
  consult([&] {
    store_.put_layer(place_, key_of(identity), blob.digest, blob.size, stop);
    return true;
  });
}

std::unique_ptr<dedupdb::Lease> Reuse::lease_layer(const Digest& chain_id, const std::string& options,
                                                   bool wait, const std::stop_token& stop) {
  const std::string name = fmt::format("{}\n{}\n{}", place_.host, chain_id.text(), options);
  auto lease = consult([&] { return store_.acquire(name, false, stop); });
  if (!lease || *lease || !wait) return lease ? std::move(*lease) : nullptr;
  log::warn("another converter makes the layer with chain ID {}: waiting for it", chain_id.brief());
  lease = consult([&] { return store_.acquire(name, true, stop); });
  return lease ? std::move(*lease) : nullptr;
}

std::vector<dedupdb::ManifestRecord> Reuse::find_manifests(const Digest& source, const std::string& recipe,
                                                           const std::string& media_type,
                                                           const std::stop_token& stop) {
  auto records =
      consult([&] { return store_.find_manifests(place_, manifest_key(source, recipe), media_type, stop); });
  if (!records) return {};
  records->resize(std::min(records->size(), kMaxTries));
  return std::move(*records);
}

void Reuse::record_manifest(const Digest& source, const std::string& recipe, const Descriptor& manifest,
                            const std::stop_token& stop) {
  consult([&] {
    store_.put_manifest(
        place_, manifest_key(source, recipe),
        {.repo = {}, .digest = manifest.digest, .size = manifest.size, .media_type = manifest.media_type},
        stop);
    return true;
  });
}

void Reuse::forget_manifest(const Digest& source, const std::string& recipe, const Descriptor& manifest,
                            const std::stop_token& stop) {
  const auto removed = consult([&] {
    store_.remove_manifest(place_, manifest_key(source, recipe), manifest.media_type, manifest.digest, stop);
    return true;
  });
  if (!removed) return;
  ++stale_rows_;
  log::info("stale row removed source={} manifest={}", source.brief(), manifest.digest.brief());
}

void Reuse::save(const std::stop_token& stop) {
  if (out_of_reach_) return;  // that was said and counted
  consult([&] {
    store_.save(stop);
    return true;
  });
}

ReuseCounts Reuse::counts() const {
  return {.layers = layers_,
          .manifests = manifests_,
          .stale_rows = stale_rows_,
          .failed_lookups = failed_lookups_};
}

}  // namespace obd::convertor
