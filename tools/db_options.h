#pragma once

#include <optional>

#include "dedupdb/dedup_db.h"
#include "tools/cli.h"

namespace obd::tools {

/// Names the conversion database where no option does. A password does not show in the process list there.
inline constexpr const char* kDbEnvironment = "OBD_DB_STR";

struct DbChoice {
  dedupdb::Options options = {};
  /// --db-str holds a password, which other users of this machine can see.
  bool password_on_command_line = false;
};

/// --db-type, --db-str and --db-str-file.
void add_db_options(cxxopts::Options& options, const char* group);

/// The database that the options name, or else the environment; none where neither does. Throws UsageError
/// for what cannot be one, IoError for a file that cannot be read. Never repeats a location that may hold a
/// password.
std::optional<DbChoice> parse_db_options(const cxxopts::ParseResult& parsed);

/// Logs a warning if there is reason to; for after logging is configured.
void warn_of_db_password(const DbChoice& choice);

}  // namespace obd::tools
