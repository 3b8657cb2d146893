#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dedupdb/dedup_db.h"
#include "dedupdb/schema.h"
#include "dedupdb/session_pool.h"

namespace obd::dedupdb {

/// The DedupDb over any Backend: statements, transactions, retries.
class SqlDedupDb : public DedupDb {
 public:
  SqlDedupDb(std::unique_ptr<Backend> backend, const RetryPolicy& policy);

  std::string name() const override { return backend_->name(); }
  std::vector<LayerRecord> find_layers(const Place& place, const Key& key, std::stop_token stop) override;
  void put_layer(const Place& place, const Key& key, const Digest& digest, uint64_t size,
                 std::stop_token stop) override;
  void remove_layer(const Place& place, const Key& key, const Digest& digest, std::stop_token stop) override;
  std::vector<ManifestRecord> find_manifests(const Place& place, const Key& key,
                                             const std::string& media_type, std::stop_token stop) override;
  void put_manifest(const Place& place, const Key& key, const ManifestRecord& record,
                    std::stop_token stop) override;
  void remove_manifest(const Place& place, const Key& key, const std::string& media_type,
                       const Digest& digest, std::stop_token stop) override;
  std::unique_ptr<Lease> acquire(const std::string& name, bool wait, std::stop_token stop) override;
  void create_tables(std::stop_token stop) override;
  Status status(std::stop_token stop) override;
  void list(const RowFilter& filter, const std::function<void(const Row&)>& show,
            std::stop_token stop) override;
  PruneTotals prune(const RowFilter& filter, std::stop_token stop) override;

 private:
  /// The texts of one table's statements.
  struct Statements {
    Statements(const TableSchema& schema, const Backend& backend);
    const TableSchema& schema;
    std::string find, put, remove, count, places, page;
  };

  const Statements& statements(Table table) const { return table == Table::kLayers ? layers_ : manifests_; }
  /// Runs `work(session)` on a connection of the pool, again after failures that may pass.
  template <class Work>
  auto run(const char* what, const std::stop_token& stop, Work work);
  /// Likewise on a connection that makes no database; `work` gets null where there is none.
  template <class Work>
  auto run_existing(const char* what, const std::stop_token& stop, Work work);
  template <class Attempt>
  auto with_retries(const char* what, const std::stop_token& stop, Attempt attempt);

  std::vector<Row> find(Table table, const Place& place, const Key& key, const std::string& media_type,
                        const std::stop_token& stop);
  void put(const Row& row, const std::stop_token& stop);
  void remove(const Row& row, const std::stop_token& stop);
  TableStatus table_status(Session* session, Table table);
  /// Calls `use` with up to kPruneBatch rows at a time.
  template <class Use>
  void for_each_page(Table table, const RowFilter& filter, const std::stop_token& stop, Use use);

  std::unique_ptr<Backend> backend_;
  const RetryPolicy policy_;
  SessionPool pool_;
  const Statements layers_;
  const Statements manifests_;
};

}  // namespace obd::dedupdb
