#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "common/error.h"
#include "dedupdb/mysql_dsn.h"

namespace {

using obd::dedupdb::MysqlDsn;

// Not even a half of it can be in an error for another reason: what these repeat has no such marks in it.
const std::string kFirstHalf = "Zq7#kW";
const std::string kSecondHalf = "vJ9!xR";
const std::string kPassword = kFirstHalf + kSecondHalf;

bool tells(const std::string& text) {
  return text.find(kFirstHalf) != std::string::npos || text.find(kSecondHalf) != std::string::npos;
}

std::optional<MysqlDsn> parse(const std::string& text, std::string& error) {
  try {
    return obd::dedupdb::parse_mysql_dsn(text);
  } catch (const obd::UsageError& refusal) {
    error = refusal.what();
    return std::nullopt;
  }
}

/// Whatever is wrong with a text that has the password in it, or a part of that, the error does not say it.
void check_secrecy(const std::string& text) {
  std::string error;
  parse(text, error);
  OBD_CHECK(!tells(error));
}

}  // namespace

/// Any text is parsed or refused. Of one that parses, the password can be another; what then becomes of the
/// text when it is cut off, or lacks a byte, shows that password in no error.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  const std::string text(reinterpret_cast<const char*>(data), size);
  obd::dedupdb::looks_like_mysql_dsn(text);
  std::string error;
  const auto dsn = parse(text, error);
  if (!dsn || dsn->password.empty()) return 0;
  std::string marked = text;
  marked.replace(dsn->user.size() + 1, dsn->password.size(), kPassword);
  const auto again = parse(marked, error);
  OBD_CHECK(again && again->password == kPassword && again->user == dsn->user &&
            again->database == dsn->database);
  OBD_CHECK(again->place() == dsn->place());
  for (size_t at = 0; at < marked.size(); ++at) {
    check_secrecy(marked.substr(0, at));
    check_secrecy(marked.substr(0, at) + marked.substr(at + 1));
  }
  return 0;
}
