#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "dedupdb/session.h"

namespace obd::dedupdb {

/// One connection to an SQLite file.
class SqliteSession : public Session {
 public:
  /// Opens the file; `create` makes an empty one where there is none. Does not read it yet.
  SqliteSession(const std::filesystem::path& path, bool create);
  ~SqliteSession() override;

  std::vector<TextRow> query(const std::string& sql, const Parameters& parameters) override;
  uint64_t execute(const std::string& sql, const Parameters& parameters) override;
  void begin() override;
  void commit() override;

  /// The first value of a PRAGMA's answer.
  int64_t pragma(const std::string& name);
  /// Statements without parameters, not kept.
  void run_script(const std::string& sql);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace obd::dedupdb
