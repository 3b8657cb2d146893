#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "dedupdb/session.h"

namespace obd::dedupdb {

/// A database in a file that this program made, shared with other processes of this machine. Journal: WAL,
/// synced at checkpoints only, so a power failure may lose the last rows but never harms the database.
class SqliteBackend : public Backend {
 public:
  explicit SqliteBackend(std::filesystem::path path) : path_(std::move(path)) {}

  std::string name() const override { return "sqlite:" + path_.string(); }
  std::unique_ptr<Session> connect() override;
  std::unique_ptr<Session> connect_existing() override;
  void create_tables(Session& session) override;
  TableShape shape(Session& session, const std::string& table) override;
  std::unique_ptr<Lease> acquire(const std::string& name, bool wait, std::stop_token stop) override;
  std::string on_conflict(const std::vector<std::string>& key,
                          const std::vector<std::string>& columns) const override;
  std::string behind(const std::vector<std::string>& key) const override;
  Parameters behind_parameters(const std::vector<std::string>& position) const override;

 private:
  std::unique_ptr<Session> open(bool create);

  const std::filesystem::path path_;
};

}  // namespace obd::dedupdb
