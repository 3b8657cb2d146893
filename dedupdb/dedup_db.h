#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "dedupdb/record_store.h"

namespace obd::dedupdb {

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

/// The conversion database: a RecordStore in tables, which many converters share. Rows whose key is a bare
/// digest are the reference convertor's: they are counted and otherwise neither returned nor changed.
///
/// Threads: any, at the same time; each call takes a connection from a pool of at most kMaxConnections.
/// Errors:  DbError: the database is out of reach for all tries of the retry policy, or refuses. Its text
///          never holds the password. Cancelled when the stop token fires while waiting (for a retry, a
///          connection, a lease); a statement that runs is not interrupted, timeouts bound it.
class DedupDb : public RecordStore {
 public:
  static constexpr size_t kMaxConnections = 16;

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
