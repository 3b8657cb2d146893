#include "tools/db_options.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>

#include "common/error.h"
#include "common/log.h"
#include "dedupdb/mysql_dsn.h"

namespace obd::tools {
namespace {

constexpr size_t kMaxLocationBytes = 16 << 10;

void check_type(const std::string& type) {
  if (type == "sqlite" || type == "mysql") return;
  const std::string near = did_you_mean(type, {"sqlite", "mysql"});
  throw UsageError(
      fmt::format("--db-type '{}' is unknown: {}", printable(type),
                  near.empty() ? "use sqlite or mysql" : fmt::format("did you mean '{}'?", near)));
}

/// All of a file but the end of its last line.
std::string read_location(const std::string& file) {
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  std::string text(kMaxLocationBytes + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in && !in.eof()) {
    throw IoError::from_errno(fmt::format("reading --db-str-file '{}'", printable(file)), errno);
  }
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxLocationBytes) {
    throw UsageError(
        fmt::format("--db-str-file '{}' is too long for a database's location", printable(file)));
  }
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  if (text.empty()) throw UsageError(fmt::format("--db-str-file '{}' is empty", printable(file)));
  return text;
}

/// Empty if nothing names one.
std::string find_location(const cxxopts::ParseResult& parsed) {
  const bool given = parsed.count("db-str") != 0;
  if (parsed.count("db-str-file") != 0) {
    if (given) throw UsageError("give one of --db-str and --db-str-file");
    return read_location(parsed["db-str-file"].as<std::string>());
  }
  if (given) {
    auto location = parsed["db-str"].as<std::string>();
    if (location.empty()) throw UsageError("--db-str is empty: name a file, or a MySQL database");
    return location;
  }
  const char* environment = std::getenv(kDbEnvironment);
  return environment != nullptr ? environment : "";
}

}  // namespace

void add_db_options(cxxopts::Options& options, const char* group) {
  options.add_options(group)("db-type", "Kind of conversion database: sqlite or mysql",
                             cxxopts::value<std::string>()->default_value("sqlite"), "TYPE")(
      "db-str", "Its file, or USER:PASSWORD@tcp(HOST:PORT)/DATABASE; default: environment OBD_DB_STR",
      cxxopts::value<std::string>(), "LOCATION")("db-str-file", "File that holds what --db-str would say",
                                                 cxxopts::value<std::string>(), "FILE");
}

std::optional<DbChoice> parse_db_options(const cxxopts::ParseResult& parsed) {
  const auto type = parsed["db-type"].as<std::string>();
  check_type(type);
  const std::string location = find_location(parsed);
  if (location.empty()) {
    if (parsed.count("db-type") == 0) return std::nullopt;
    throw UsageError(fmt::format(
        "--db-type needs a database: --db-str, --db-str-file or the environment's {}", kDbEnvironment));
  }
  DbChoice choice{.options = {.type = type, .location = location}};
  // Also finds out early what cannot be a location.
  const auto opened = dedupdb::open_dedup_db(choice.options);
  choice.password_on_command_line =
      type == "mysql" && parsed.count("db-str") != 0 && !dedupdb::parse_mysql_dsn(location).password.empty();
  return choice;
}

void warn_of_db_password(const DbChoice& choice) {
  if (!choice.password_on_command_line) return;
  log::warn(
      "the database's password on the command line can be seen by other users of this machine; "
      "--db-str-file or the environment's {} hide it",
      kDbEnvironment);
}

}  // namespace obd::tools
