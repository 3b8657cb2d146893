#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "common/digest.h"

namespace obd::dedupdb {

/// What a converted layer or manifest was made of: which digest of the source, made in which way.
struct Key {
  Digest digest;        // chain ID, or digest of the source manifest
  std::string variant;  // hash of format version, options and lineage: [0-9a-f]{16,64}
  /// "sha256:…+variant", as the key column holds it; OBD_CHECKs the form.
  std::string text() const;
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
/// Threads: any, one at a time. Must not outlive its DedupDb.
class Lease {
 public:
  virtual ~Lease() = default;
  /// False once it is lost (the connection to the server broke, the lease file was deleted): somebody else
  /// may have it then. May ask the server; never throws.
  virtual bool held() = 0;
};

enum class Table { kLayers, kManifests };

/// One row as it stands, unparsed: for people to look at.
struct Row {
  Table table = Table::kLayers;
  Place place = {};
  std::string key = {};
  std::string digest = {};
  int64_t size = 0;
  std::string media_type = {};  // empty for a layer
};

/// Which rows; an empty text is no condition.
struct RowFilter {
  std::string host = {};
  std::string repo = {};
};

struct TableStatus {
  std::string name = {};
  bool present = false;
  std::string problem = {};     // what is wrong with its columns or keys; empty: nothing
  uint64_t rows = 0;            // ours
  uint64_t reference_rows = 0;  // with a bare digest: the reference convertor's
  uint64_t hosts = 0;           // distinct ones among our rows
  uint64_t repos = 0;           // likewise, distinct (host, repo)
};

struct Status {
  TableStatus layers = {};
  TableStatus manifests = {};
  bool ok() const;  // both are present and without a problem
};

struct PruneTotals {
  uint64_t layers = 0;
  uint64_t manifests = 0;
};

/// The conversion database: which converted blob stands for which source, and where. A row is a hint: what it
/// names may be gone from the registry since. Rows whose key is a bare digest are the reference convertor's:
/// they are counted and otherwise neither returned nor changed.
///
/// Threads: any, at the same time; each call takes a connection from a pool of at most kMaxConnections.
/// Errors:  DbError: the database is out of reach for all tries of the retry policy, or refuses. Its text
///          never holds the password. Cancelled when the stop token fires while waiting (for a retry, a
///          connection, a lease); a statement that runs is not interrupted, timeouts bound it.
class DedupDb {
 public:
  static constexpr size_t kMaxConnections = 16;
  /// A lookup returns no more: a base layer may stand in thousands of repositories.
  static constexpr size_t kMaxRecords = 256;

  virtual ~DedupDb() = default;
  /// For messages; without secrets: "sqlite:/var/lib/obd.db", "mysql:tcp(db:3306)/dedup".
  virtual std::string name() const = 0;

  /// Rows of the host with that key, the place's own repo first. None is an answer: a miss.
  virtual std::vector<LayerRecord> find_layers(const Place& place, const Key& key, std::stop_token stop) = 0;
  /// Adds the row or replaces what it says.
  virtual void put_layer(const Place& place, const Key& key, const Digest& digest, uint64_t size,
                         std::stop_token stop) = 0;
  /// Removes the row if it still says `digest`: another converter may have replaced it.
  virtual void remove_layer(const Place& place, const Key& key, const Digest& digest,
                            std::stop_token stop) = 0;

  virtual std::vector<ManifestRecord> find_manifests(const Place& place, const Key& key,
                                                     const std::string& media_type, std::stop_token stop) = 0;
  /// The record's repo is ignored: the place says it.
  virtual void put_manifest(const Place& place, const Key& key, const ManifestRecord& record,
                            std::stop_token stop) = 0;
  virtual void remove_manifest(const Place& place, const Key& key, const std::string& media_type,
                               const Digest& digest, std::stop_token stop) = 0;

  /// Waits until no other holder, in this process or any other that shares the database, has the lease `name`
  /// (any text). Null where it is taken and `wait` is false. Not recursive, not fair.
  virtual std::unique_ptr<Lease> acquire(const std::string& name, bool wait, std::stop_token stop) = 0;

  /// Makes the tables that are missing. DbError if one is there and has another form.
  virtual void create_tables(std::stop_token stop) = 0;
  /// Changes nothing; a database that does not exist yet has no tables.
  virtual Status status(std::stop_token stop) = 0;
  /// Shows our rows, in no particular order but all of a table together; rows that others add or remove
  /// meanwhile may be missed. No transaction is open while `show` runs.
  virtual void list(const RowFilter& filter, const std::function<void(const Row&)>& show,
                    std::stop_token stop) = 0;
  /// Removes our rows, in transactions of at most kPruneBatch rows; what is done stays done when it fails.
  virtual PruneTotals prune(const RowFilter& filter, std::stop_token stop) = 0;
  static constexpr size_t kPruneBatch = 500;
};

struct RetryPolicy {
  int tries = 5;  // including the first
  /// Doubles with each failure; a random part of up to a half is taken off.
  std::chrono::milliseconds first_delay{200};
  std::chrono::milliseconds max_delay{5'000};
};

struct Options {
  std::string type = "sqlite";  // or "mysql"
  /// A file's path, or user:password@tcp(host:port)/database?parameters (see README.md).
  std::string location = {};
  RetryPolicy retry = {};
};

/// Connects on first use. Throws UsageError for an unknown type and an empty or malformed location.
std::unique_ptr<DedupDb> open_dedup_db(const Options& options);

}  // namespace obd::dedupdb
