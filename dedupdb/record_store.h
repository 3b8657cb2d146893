#pragma once

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"

namespace obd::dedupdb {

/// What a converted layer or manifest was made of: which digest of the source, made in which way.
struct Key {
  Digest digest;        // chain ID, or digest of the source manifest
  std::string variant;  // hash of format version, options and lineage: [0-9a-f]{16,64}
  /// "sha256:…+variant", as the key column holds it; OBD_CHECKs the form.
  std::string text() const;
  /// Whether `text` is what text() of some key gives.
  static bool is_valid(std::string_view text);
};

/// Where a converted blob is. Each of 1 to 255 bytes without control characters; others are a DbError.
struct Place {
  std::string host = {};  // "registry-1.docker.io"
  std::string repo = {};  // "library/ubuntu"
};

struct LayerRecord {
  std::string repo = {};
  Digest digest = {};
  uint64_t size = 0;  // bytes
};

struct ManifestRecord {
  std::string repo = {};
  Digest digest = {};
  uint64_t size = 0;  // bytes
  std::string media_type = {};
};

/// The right to do a named piece of work alone. Destruction gives it back, in the thread that it happens in;
/// so does the system, or the server, when the process dies.
///
/// Threads: any, one at a time. Must not outlive its RecordStore.
class Lease {
 public:
  virtual ~Lease() = default;
  /// False once it is lost (the connection to the server broke, the lease file was deleted): somebody else
  /// may have it then. May ask the server; never throws.
  virtual bool held() = 0;
};

/// What a conversion asks and tells: which converted blob stands for which source, and where. A record is a
/// hint: what it names may be gone from the registry since.
///
/// Threads: any, at the same time.
/// Errors:  DbError: the store is out of reach, or refuses. Its text holds no secret. Cancelled when the
///          stop token fires while waiting.
class RecordStore {
 public:
  /// A lookup returns no more: a base layer may stand in thousands of repositories.
  static constexpr size_t kMaxRecords = 256;

  virtual ~RecordStore() = default;
  /// For messages; without secrets: "sqlite:/var/lib/obd.db", "mysql:tcp(db:3306)/dedup".
  virtual std::string name() const = 0;

  /// Records of the host with that key, the place's own repo first. None is an answer: a miss.
  virtual std::vector<LayerRecord> find_layers(const Place& place, const Key& key, std::stop_token stop) = 0;
  /// Adds the record or replaces what it says.
  virtual void put_layer(const Place& place, const Key& key, const Digest& digest, uint64_t size,
                         std::stop_token stop) = 0;
  /// Removes the record if it still says `digest`: another converter may have replaced it.
  virtual void remove_layer(const Place& place, const Key& key, const Digest& digest,
                            std::stop_token stop) = 0;

  virtual std::vector<ManifestRecord> find_manifests(const Place& place, const Key& key,
                                                     const std::string& media_type, std::stop_token stop) = 0;
  /// The record's repo is ignored: the place says it.
  virtual void put_manifest(const Place& place, const Key& key, const ManifestRecord& record,
                            std::stop_token stop) = 0;
  virtual void remove_manifest(const Place& place, const Key& key, const std::string& media_type,
                               const Digest& digest, std::stop_token stop) = 0;

  /// Waits until no other holder has the lease `name` (any text): in this process, or in any other that the
  /// store knows of. Null where it is taken and `wait` is false. Not recursive, not fair.
  virtual std::unique_ptr<Lease> acquire(const std::string& name, bool wait, std::stop_token stop) = 0;

  /// Makes lasting what was put and removed, where that does not happen at once. For the end of the work.
  virtual void save(std::stop_token /*stop*/) {}
};

}  // namespace obd::dedupdb
